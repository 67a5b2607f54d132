"""
What OpenSSL can do and Python's ssl cannot ask of it: certificates that are not verified, and several curves.

Both are set on the SSL_CTX inside an SSLContext, through the very library that Python's ssl has loaded. Where
that is not known to work it is refused; nothing is replaced by something weaker.

Source: CPython, Modules/_ssl.c, PySSLContext (its first member is the SSL_CTX, 3.6 to 3.14); OpenSSL,
SSL_CTX_set_verify(3), SSL_CTX_set1_groups_list(3).
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any

_KNOWN = range(11, 15)  # of Python 3
_SET_GROUPS_LIST = 92
_VERIFY = {ssl.CERT_OPTIONAL: 1, ssl.CERT_REQUIRED: 3}


class NotPossible(Exception):
    """This Python's ssl cannot be reached into."""


def accept_any_certificate(context: ssl.SSLContext, mode: ssl.VerifyMode) -> None:
    """
    Ask clients for a certificate, and take whatever they show; that they have its key is proved all the same.

    Shape: `mode` is CERT_OPTIONAL or CERT_REQUIRED. Raises: NotPossible.
    """
    library = _library()
    context.verify_mode = ssl.CERT_NONE
    library.verify(_pointer(context), _VERIFY[mode], library.accept)
    if context.verify_mode != mode:
        raise NotPossible


def set_groups(context: ssl.SSLContext, groups: Sequence[str]) -> None:
    """Use these groups for the key exchange and no others, the preferred one first. Raises: NotPossible."""
    names = ":".join(groups).encode("ascii")
    if _library().control(_pointer(context), _SET_GROUPS_LIST, 0, names) != 1:
        raise NotPossible


class _Library:
    """The OpenSSL that Python's ssl was linked with: names are looked up there, and in no other."""

    def __init__(self) -> None:
        # Here, not above: where memory may not be both written and run, importing ctypes can fail.
        import _ssl  # noqa: PLC0415
        import ctypes as c  # noqa: PLC0415

        library = c.CDLL(_ssl.__file__)
        callback = c.CFUNCTYPE(c.c_int, c.c_int, c.c_void_p)
        # OpenSSL has no more than its address, so it lives as long as the process.
        self.accept: Any = callback(lambda verified, store: 1)
        self.verify: Any = library.SSL_CTX_set_verify
        self.verify.argtypes, self.verify.restype = (c.c_void_p, c.c_int, callback), None
        self.control: Any = library.SSL_CTX_ctrl
        self.control.argtypes, self.control.restype = (c.c_void_p, c.c_int, c.c_long, c.c_char_p), c.c_long


@cache
def _library() -> _Library:
    if sys.implementation.name != "cpython" or sys.version_info.minor not in _KNOWN:
        raise NotPossible
    try:
        return _Library()
    except (ImportError, OSError, AttributeError, MemoryError) as exc:
        raise NotPossible from exc


def _pointer(context: ssl.SSLContext) -> Any:
    import ctypes as c  # noqa: PLC0415 - as above

    return c.c_void_p.from_address(id(context) + object.__basicsize__)
