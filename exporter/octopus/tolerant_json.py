"""
The text of an answer that is not clean JSON: bytes to JSON values, tolerantly.

The normal way to read an answer is a strict decoder; this one is asked where that failed, and is slower.
"""

from __future__ import annotations

import json
import re

# Announced charsets that are read, and as what: as browsers do, the larger set stands in for its parts.
# Source: WHATWG Encoding Standard, "names and labels".
_CHARSETS = {
    **dict.fromkeys(("gbk", "gb2312", "gb18030", "cp936", "x-gbk"), "gb18030"),
    **dict.fromkeys(("big5", "big5-hkscs"), "big5hkscs"),
    **dict.fromkeys(("iso-8859-1", "latin1", "windows-1252", "us-ascii"), "latin-1"),
}
_CHARSET = re.compile(r"""charset\s*=\s*["']?([\w.-]+)""", re.IGNORECASE)
_BYTE_ORDER_MARK = "\ufeff"

_ESCAPE = re.compile(r"""\\(?:(["\\/bfnrt]|u[0-9a-fA-F]{4})|)""")
# More digits than any number of the API has: kept as they are written, since Python reads so many slowly.
_MOST_DIGITS = 25
# Bad escapes are mended one by one, which takes seconds for a body that is made of backslashes.
_MOST_BACKSLASHES = 100_000


class Numeral(str):
    """A number as it was written, where an int does not hold it exactly: 1000.0, 1.7E12."""

    __slots__ = ()


def read_json(body: bytes, content_type: str) -> object:
    """
    Read a body that strict JSON readers refuse.

    Accepts the charset that Content-Type announces, a byte order mark, cut characters (which become U+FFFD),
    raw control characters and bad escapes inside strings; NaN and Infinity become None. Numbers with a
    fraction or an exponent become Numeral. Strings may contain lone surrogates.
    Raises: ValueError (the text is not one whole JSON document); RecursionError (nested too deep).
    """
    text = decode_text(body, content_type)
    try:
        return _parse(text)
    except json.JSONDecodeError:
        if not 0 < text.count("\\") <= _MOST_BACKSLASHES:
            raise
    return _parse(_ESCAPE.sub(_mend_escape, text))


def decode_text(body: bytes, content_type: str) -> str:
    """Decode a body as UTF-8; where it is not UTF-8, as announced. What cannot be decoded becomes U+FFFD."""
    # By a byte order mark, or by the zero bytes that UTF-16 puts between ASCII characters.
    detected = json.detect_encoding(body)
    if not detected.startswith("utf-8"):
        return body.decode(detected, "replace").removeprefix(_BYTE_ORDER_MARK)
    try:
        text = body.decode()
    except UnicodeDecodeError:
        announced = _CHARSET.search(content_type)
        charset = _CHARSETS.get(announced[1].lower(), "utf-8") if announced else "utf-8"
        text = body.decode(charset, "replace")
    return text.removeprefix(_BYTE_ORDER_MARK)


def _parse(text: str) -> object:
    return json.loads(
        text, strict=False, parse_int=_integer, parse_float=Numeral, parse_constant=lambda name: None
    )


def _integer(digits: str) -> int | Numeral:
    return int(digits) if len(digits) <= _MOST_DIGITS else Numeral(digits)


def _mend_escape(found: re.Match[str]) -> str:
    r"""Take a backslash that begins no escape for itself, as in the unescaped path C:\data."""
    return found[0] if found[1] else r"\\"
