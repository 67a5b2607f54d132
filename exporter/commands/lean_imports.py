"""Imports of libraries without the parts that this program never uses."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def lean_imports() -> Iterator[None]:
    """
    Spare a long-running process what two libraries load at their import, if they are first imported here.

    structlog imports rich where it is installed, for tracebacks in colour; our log has none. aiohttp reads
    all certificate authorities into a context of its own; `octopus/transport.py` has another one. A context
    without authorities trusts no server.
    """
    hides_rich, load_authorities = "rich" not in sys.modules, ssl.SSLContext.load_default_certs
    if hides_rich:
        # None: to import it raises ModuleNotFoundError (Python reference, "The import system").
        sys.modules["rich"] = None  # type: ignore[assignment]
    setattr(ssl.SSLContext, "load_default_certs", lambda *_: None)  # noqa: B010 - mypy knows it as a method
    try:
        yield
    finally:
        setattr(ssl.SSLContext, "load_default_certs", load_authorities)  # noqa: B010 - likewise
        if hides_rich:
            del sys.modules["rich"]
