"""
The readings of a text: as it stands, and with one encoding undone.

A view holds the decoded bytes, and tells for each stretch of them where it stands in the text. Texts are
UTF-8 bytes throughout, since percent, hex and base64 encode bytes.
"""

from __future__ import annotations

import binascii
import html
import re
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

# What one escape may be to the left of a secret, and so much of the text after it, are read a second time.
_SECOND_READING_BYTES = 64

_BLANKS = frozenset(b" \t\n\r\x0b\x0c")
_HEX_RUN = re.compile(rb"[0-9A-Fa-f]{24,}")
_DIGITS = string.ascii_letters.encode() + string.digits.encode() + b"+/"
_BASE64_DIGITS = bytes(
    byte if byte in _DIGITS else {ord("-"): ord("+"), ord("_"): ord("/")}.get(byte, ord("A"))
    for byte in range(256)
)

_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
_FORM = re.compile(rb"%([0-9A-Fa-f]{2})|\+")
_ENTITY = re.compile(rb"&(?:(?:#[0-9]{1,10}|#[xX][0-9a-fA-F]{1,8});?|[A-Za-z][A-Za-z0-9]{1,31};)")
# A pair of escapes beyond the basic plane is one character.
_BACKSLASHED = (
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}"
    rb"|[\"'\\/bfnrt])"
)
_BACKSLASH = re.compile(_BACKSLASHED)
# Of several backslashes the first may belong to what stands before the secret.
_BACKSLASH_BUT_THE_FIRST = re.compile(rb"(?<!\\)\\(?=\\)|" + _BACKSLASHED)
_SHORT_ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


@dataclass(frozen=True, slots=True)
class View:
    """
    One reading of a text.

    Shape: byte k of `data` was made of the text's bytes from `starts[k]` up to `ends[k]`; without the two the
    data is the text itself.
    """

    data: bytes
    starts: Sequence[int] | None = None
    ends: Sequence[int] | None = None

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Say where a stretch of the data stands in the text."""
        if self.starts is None or self.ends is None:
            return start, end
        return self.starts[start], self.ends[end - 1]


class Compact:
    """A text without its blanks and line ends, as a wrapped one reads; where each byte stood, on demand."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._places: list[int] | None = None
        self.data = b"".join(text.split())

    @property
    def places(self) -> list[int]:
        if self._places is None:
            self._places = [place for place, byte in enumerate(self._text) if byte not in _BLANKS]
        return self._places

    def span(self, start: int, end: int) -> tuple[int, int]:
        return self.places[start], self.places[end - 1] + 1


@dataclass(frozen=True, slots=True)
class DecodedRun:
    """A run of digits, decoded from one of the offsets a byte can begin at. `bits` are those of a digit."""

    data: bytes
    compact: Compact
    offset: int
    bits: int

    def span(self, start: int, end: int) -> tuple[int, int]:
        first, last = start * 8 // self.bits, -(-end * 8 // self.bits)
        return self.compact.span(self.offset + first, self.offset + last)


AnyView = View | Compact | DecodedRun


def base64_views(compact: Compact) -> Iterator[DecodedRun]:
    """
    Decode a text as base64, of either alphabet, at each of the four offsets that a group can begin at.

    What is no digit is taken for one: it ends a run, and only what is decoded around it is not meant.
    """
    digits = compact.data.translate(_BASE64_DIGITS)
    for skipped in range(4):
        left = digits[skipped:]
        missing = -len(left) % 4
        decoded = binascii.a2b_base64(left + b"A" * missing)
        yield DecodedRun(decoded[: len(decoded) - missing], compact, skipped, bits=6)


def hex_views(compact: Compact) -> Iterator[DecodedRun]:
    """Decode what may be hexadecimal, in either case, at both offsets that a byte can begin at."""
    for run in _HEX_RUN.finditer(compact.data):
        for skipped in range(2):
            left = run[0][skipped:]
            decoded = binascii.unhexlify(left[: len(left) // 2 * 2])
            yield DecodedRun(decoded, compact, run.start() + skipped, bits=4)


def escape_views(text: bytes) -> Iterator[View]:
    """Undo each of the encodings by escapes, where the text has such an escape."""
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
    Undo one encoding.

    What stands before a secret may look like an escape together with the secret's beginning. So each escape
    is also read as it stands, followed by the decoded text.
    """
    data, starts, ends = bytearray(), list[int](), list[int]()
    escapes: list[tuple[re.Match[bytes], int]] = []

    def keep(until: int, since: int) -> None:
        data.extend(text[since:until])
        starts.extend(range(since, until))
        ends.extend(range(since + 1, until + 1))

    at = 0
    for match in escape.finditer(text):
        keep(match.start(), at)
        at = match.end()
        decoded = decode(match)
        data.extend(decoded)
        starts.extend([match.start()] * len(decoded))
        ends.extend([at] * len(decoded))
        escapes.append((match, len(data)))
    if not escapes:
        return
    keep(len(text), at)
    whole = bytes(data)
    yield View(whole, starts, ends)
    for match, after in escapes:
        # From its second byte on: what begins at the first is no escape cut in two.
        raw = range(match.start() + 1, match.end())
        until = after + _SECOND_READING_BYTES
        yield View(
            match[0][1:] + whole[after:until],
            [*raw, *starts[after:until]],
            [*(place + 1 for place in raw), *ends[after:until]],
        )


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


def without_line_ends(text: bytes) -> View:
    """Read a text whose lines were wrapped in the middle of a word."""
    kept: list[tuple[int, int]] = []
    breaks = [match.span() for match in re.finditer(rb"[ \t]*\r?\n[ \t]*", text)]
    for (_, start), (end, _) in pairwise([(0, 0), *breaks, (len(text), len(text))]):
        kept.append((start, end))
    starts = [place for start, end in kept for place in range(start, end)]
    return View(bytes(text[place] for place in starts), starts, [place + 1 for place in starts])
