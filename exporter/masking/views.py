"""
The views of a text: as it is, without blanks, and with one encoding decoded.

A view holds the decoded bytes and maps every range of them to its range in the text. Texts are UTF-8 bytes,
because percent, hex and base64 encode bytes.
"""

from __future__ import annotations

import binascii
import html
import re
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

Span = tuple[int, int]

# For the second reading of an escape: how much of the decoded text after it is read again.
_SECOND_READING_BYTES = 64

_BLANKS = frozenset(b" \t\n\r\x0b\x0c")
_LINE_END = re.compile(rb"[ \t]*\r?\n[ \t]*")
_HEX_RUN = re.compile(rb"[0-9A-Fa-f]{24,}")
_DIGITS = string.ascii_letters.encode() + string.digits.encode() + b"+/"
# Maps the URL-safe alphabet to the standard one, and every other byte to some digit.
_BASE64_DIGITS = bytes(
    byte if byte in _DIGITS else {ord("-"): ord("+"), ord("_"): ord("/")}.get(byte, ord("A"))
    for byte in range(256)
)

_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
_FORM = re.compile(rb"%([0-9A-Fa-f]{2})|\+")
_ENTITY = re.compile(rb"&(?:(?:#[0-9]{1,10}|#[xX][0-9a-fA-F]{1,8});?|[A-Za-z][A-Za-z0-9]{1,31};)")
# A character beyond the basic plane is written as a pair of escapes.
_BACKSLASHED = (
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}"
    rb"|[\"'\\/bfnrt])"
)
_BACKSLASH = re.compile(_BACKSLASHED)
# Of several backslashes, the first may belong to the text before the secret.
_BACKSLASH_BUT_THE_FIRST = re.compile(rb"(?<!\\)\\(?=\\)|" + _BACKSLASHED)
_SHORT_ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


@dataclass(frozen=True, slots=True)
class View:
    """One reading of a text. Shape: `span` maps a range of `data`, from start to end, to one of the text."""

    data: bytes
    span: Callable[[int, int], Span]


def compact_view(text: bytes) -> View:
    """Remove blanks and line ends, as in a secret that was wrapped over lines."""

    # Only when needed: most texts hold no secret, and have no range to map.
    @cache
    def places() -> list[int]:
        return [place for place, byte in enumerate(text) if byte not in _BLANKS]

    return View(b"".join(text.split()), lambda start, end: (places()[start], places()[end - 1] + 1))


def unwrapped_view(text: bytes) -> View | None:
    """Remove line ends only, with the blanks around them; None if there are none."""
    return next(_unescaped(text, _LINE_END, lambda match: b""), None)


def base64_views(compact: View) -> Iterator[View]:
    """
    Decode a text as base64, in both alphabets, at each of the four offsets that a group can begin at.

    Bytes that are no digits are decoded as if they were. That makes nonsense of the bytes around them, but
    leaves every run of real digits intact.
    """
    digits = compact.data.translate(_BASE64_DIGITS)
    for skipped in range(4):
        rest = digits[skipped:]
        missing = -len(rest) % 4
        decoded = binascii.a2b_base64(rest + b"A" * missing)
        yield _digits_view(decoded[: len(decoded) - missing], compact, skipped, bits=6)


def hex_views(compact: View) -> Iterator[View]:
    """Decode each run of hexadecimal digits, in either case, at both offsets that a byte can begin at."""
    for run in _HEX_RUN.finditer(compact.data):
        for skipped in range(2):
            rest = run[0][skipped:]
            decoded = binascii.unhexlify(rest[: len(rest) // 2 * 2])
            yield _digits_view(decoded, compact, run.start() + skipped, bits=4)


def _digits_view(decoded: bytes, compact: View, offset: int, bits: int) -> View:
    """Map decoded bytes to their digits, of so many bits each; partly used digits belong to the range too."""
    return View(
        decoded,
        lambda start, end: compact.span(offset + start * 8 // bits, offset - (-end * 8 // bits)),
    )


def escape_views(text: bytes) -> Iterator[View]:
    """Decode each of the encodings that use escapes, if the text has such an escape."""
    if b"%" in text:
        yield from _unescaped(text, _PERCENT, _percent)
    if b"+" in text:
        yield from _unescaped(text, _FORM, _percent)
    if b"&" in text:
        yield from _unescaped(text, _ENTITY, _entity)
    if b"\\" in text:
        yield from _unescaped(text, _BACKSLASH, _backslash)
        if b"\\\\" in text:
            yield from _unescaped(text, _BACKSLASH_BUT_THE_FIRST, _backslash)


def _unescaped(
    text: bytes, escape: re.Pattern[bytes], decode: Callable[[re.Match[bytes]], bytes]
) -> Iterator[View]:
    """
    Decode one encoding; without an escape there is no view.

    The text before a secret and the beginning of the secret may together look like an escape. So each escape
    also gives a view in which it is not decoded, followed by the decoded text.
    """
    # Byte k of `data` was decoded from the bytes of the text from starts[k] up to ends[k].
    data, starts, ends = bytearray(), list[int](), list[int]()
    escapes: list[tuple[re.Match[bytes], int]] = []

    def copy(since: int, until: int) -> None:
        data.extend(text[since:until])
        starts.extend(range(since, until))
        ends.extend(range(since + 1, until + 1))

    at = 0
    for match in escape.finditer(text):
        copy(at, match.start())
        at = match.end()
        decoded = decode(match)
        data.extend(decoded)
        starts.extend([match.start()] * len(decoded))
        ends.extend([at] * len(decoded))
        escapes.append((match, len(data)))
    if not escapes:
        return
    copy(at, len(text))
    whole = bytes(data)
    yield _mapped_view(whole, starts, ends)
    for match, after in escapes:
        # From its second byte on: if the secret begins at the first byte, the escape is part of the secret.
        raw = range(match.start() + 1, match.end())
        until = after + _SECOND_READING_BYTES
        yield _mapped_view(
            match[0][1:] + whole[after:until],
            [*raw, *starts[after:until]],
            [*(place + 1 for place in raw), *ends[after:until]],
        )


def _mapped_view(data: bytes, starts: list[int], ends: list[int]) -> View:
    return View(data, lambda start, end: (starts[start], ends[end - 1]))


def _percent(match: re.Match[bytes]) -> bytes:
    return b" " if match[0] == b"+" else bytes.fromhex(match[1].decode())


def _entity(match: re.Match[bytes]) -> bytes:
    return html.unescape(match[0].decode()).encode("utf-8", "surrogatepass")


def _backslash(match: re.Match[bytes]) -> bytes:
    kind, digits = match[0][1:2], match[0][2:]
    if not kind:
        return match[0]
    if kind == b"u":
        units = b"".join(bytes.fromhex(unit.decode()) for unit in digits.split(b"\\u"))
        return units.decode("utf-16-be", "surrogatepass").encode("utf-8", "surrogatepass")
    if kind == b"x":
        return bytes.fromhex(digits.decode())
    return _SHORT_ESCAPES.get(kind, kind)
