"""
Find secrets in bytes: pieces of the long ones, the short ones whole.

A long secret is found by grams, which are runs of seven bytes: every second gram of the secret is in a table,
and every third gram of the text is looked up. Two equal runs of twelve bytes have six grams in common, and of
six in a row one is always both a second and a third one. So a text costs one look-up for three bytes, however
many the secrets are and however long.
"""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

PIECE_CHARS = 12
SHORTEST_CHARS = 4

_GRAM_BYTES = 7
# Six grams in a row hold one that is a multiple of both.
_GRAMS_OF_A_SECRET = 2
_GRAMS_OF_A_TEXT = 3
# A secret with blanks, compared without them, may have few bytes in twelve characters.
_GRAM_BYTES_WITHOUT_BLANKS = 4
# A shorter one would be found across the words of ordinary text ("here" in "the rest").
_WRAPPED_AT_BLANKS_CHARS = 8
_ESCAPES = re.compile(rb"[%&\\+]")

Span = tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class _Long:
    """
    A secret of twelve characters or more.

    Shape: `chars[k]` is the number of the character that byte k belongs to, with the total at the end; None
    where every byte is a character.
    """

    data: bytes
    chars: Sequence[int] | None = None

    def is_enough(self, start: int, end: int) -> bool:
        """Tell whether this stretch is a piece of twelve characters or more, blanks at its sides included."""
        if self.chars is None:
            return end - start >= PIECE_CHARS
        first = self.chars[start - 1] + 1 if start else 0
        return self.chars[end] - first >= PIECE_CHARS

    def grams(self, size: int, every: int) -> Iterator[bytes]:
        return (self.data[at : at + size] for at in range(0, len(self.data) - size + 1, every))

    def longest(self, text: bytes, at: int, size: int, every: int) -> Span | None:
        """Give the longest piece of this secret around the gram at `at`, if it is long enough to be one."""
        gram, best = text[at : at + size], None
        place = self.data.find(gram)
        while place >= 0:
            if place % every == 0:
                left = _common(text[:at][::-1], self.data[:place][::-1])
                right = size + _common(text[at + size :], self.data[place + size :])
                longer = best is None or left + right > best[1] - best[0]
                if longer and self.is_enough(place - left, place + right):
                    best = at - left, at + right
                if best is not None and best[1] - best[0] >= len(self.data):
                    break
            place = self.data.find(gram, place + 1)
        return best


def _common(some: bytes, other: bytes) -> int:
    """Count the bytes that two texts begin with alike."""
    low, high = 0, min(len(some), len(other))
    if some[:high] == other[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if some[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low


class Grams:
    """The table of grams of some secrets."""

    def __init__(self, size: int, of_a_secret: int, of_a_text: int) -> None:
        self._size = size
        self._of_a_secret = of_a_secret
        self._of_a_text = of_a_text
        self._table: dict[bytes, tuple[_Long, ...]] = {}

    def __bool__(self) -> bool:
        return bool(self._table)

    def add(self, secret: _Long) -> None:
        alone = (secret,)  # one tuple for all of its grams: they are many
        for gram in secret.grams(self._size, self._of_a_secret):
            found = self._table.get(gram)
            if found is None:
                self._table[gram] = alone
            elif secret not in found:
                self._table[gram] = (*found, secret)

    def discard(self, secret: _Long) -> None:
        for gram in secret.grams(self._size, self._of_a_secret):
            left = tuple(each for each in self._table.get(gram, ()) if each is not secret)
            if left:
                self._table[gram] = left
            else:
                self._table.pop(gram, None)

    def may_be_in(self, text: bytes) -> bool:
        """Tell, fast, whether there is anything to find."""
        size, last = self._size, len(text) - self._size
        grams = [text[at : at + size] for at in range(0, last + 1, self._of_a_text)]
        return not self._table.keys().isdisjoint(grams)

    def find(self, text: bytes) -> Iterator[Span]:
        """Give where pieces stand; some may be given twice, or as parts of others."""
        if not self.may_be_in(text):
            return
        size, step, table = self._size, self._of_a_text, self._table
        at, last = 0, len(text) - size
        while at <= last:
            until = 0
            for secret in table.get(text[at : at + size], ()):
                span = secret.longest(text, at, size, self._of_a_secret)
                if span is not None:
                    yield span
                    until = max(until, span[1])
            # A piece of another secret that began in this one and goes on behind it has twelve characters
            # from here on.
            at = max(at + step, until - PIECE_CHARS + 1)


@dataclass(frozen=True, slots=True, eq=False)
class Short:
    """A secret of four to eleven characters: nothing less than all of it is found."""

    plain: bytes
    escaped: re.Pattern[bytes]
    compact: bytes
    base64: tuple[bytes, ...]
    hex: bytes
    is_number: bool
    wraps_at_blanks: bool

    @classmethod
    def of(cls, secret: str) -> Short:
        data = secret.encode("utf-8", "surrogatepass")
        return cls(
            plain=data,
            escaped=re.compile(b"".join(map(_any_form, secret))),
            compact=b"".join(data.split()),
            base64=tuple(_in_base64(data, before) for before in range(3)),
            hex=data.hex().encode(),
            is_number=secret.isascii() and secret.isdigit(),
            wraps_at_blanks=len(secret) >= _WRAPPED_AT_BLANKS_CHARS,
        )

    def find(self, text: bytes) -> Iterator[Span]:
        """Find it as it is or in escapes. A number is not found inside of a longer one."""
        spans: Iterator[Span]
        if _ESCAPES.search(text):
            spans = (match.span() for match in self.escaped.finditer(text))
        else:
            spans = occurrences(text, self.plain)
        return (span for span in spans if not self._is_part_of_number(text, span))

    def find_wrapped(self, compact: bytes) -> Iterator[Span]:
        """Find it in a text without blanks, or without line ends."""
        wanted = self.compact if self.wraps_at_blanks else self.plain
        return (span for span in occurrences(compact, wanted) if not self._is_part_of_number(compact, span))

    def _is_part_of_number(self, text: bytes, span: Span) -> bool:
        start, end = span
        return self.is_number and (text[:start][-1:].isdigit() or text[end : end + 1].isdigit())


def occurrences(text: bytes, wanted: bytes) -> Iterator[Span]:
    at = text.find(wanted)
    while at >= 0:
        yield at, at + len(wanted)
        at = text.find(wanted, at + 1)


def _any_form(char: str) -> bytes:
    """Make an expression for a character as it is and in every escape that may stand for it."""
    data = char.encode("utf-8", "surrogatepass")
    units = char.encode("utf-16-be", "surrogatepass").hex()
    digits = f"(?:{ord(char)}|[xX]0*{_either_case(f'{ord(char):x}')})"
    forms: set[bytes] = {
        re.escape(data),
        b"".join(b"%" + _either_case(f"{byte:02x}").encode() for byte in data),
        f"&#0*{digits};?".encode(),
        re.escape(html.escape(char).encode("utf-8", "surrogatepass")),
        re.escape(json.dumps(char)[1:-1].encode()),
        b"".join(rb"\\u" + _either_case(units[at : at + 4]).encode() for at in range(0, len(units), 4)),
        b"".join(rb"\\x" + _either_case(f"{byte:02x}").encode() for byte in data),
    }
    if char == " ":
        forms.add(rb"\+")
    if char in "/'":
        forms.add(rb"\\" + re.escape(data))
    # The longest first: `&amp;` must not be left at its ampersand.
    longest_first = sorted(forms, key=len, reverse=True)
    return b"(?:" + b"|".join(longest_first) + b")"


def _either_case(digits: str) -> str:
    return "".join(f"[{each}{each.upper()}]" if each.isalpha() else each for each in digits)


def _in_base64(data: bytes, before: int) -> bytes:
    """Give the digits that these bytes alone decide where so many bytes stand before them."""
    digits = b64encode(bytes(before) + data)
    return digits[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]


@dataclass(slots=True)
class Needles:
    """All that is looked for."""

    long: Grams = field(default_factory=lambda: Grams(_GRAM_BYTES, _GRAMS_OF_A_SECRET, _GRAMS_OF_A_TEXT))
    # Those with blanks, without them.
    spaced: Grams = field(default_factory=lambda: Grams(_GRAM_BYTES_WITHOUT_BLANKS, 1, 1))
    short: list[Short] = field(default_factory=list)
    # Another number whenever something else is looked for.
    version: int = 0
    _longs: dict[str, tuple[_Long, _Long | None]] = field(default_factory=dict)
    _shorts: dict[str, Short] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._longs or self._shorts)

    def add(self, secret: str) -> None:
        if len(secret) < SHORTEST_CHARS or secret in self._longs or secret in self._shorts:
            return
        self.version += 1
        if len(secret) < PIECE_CHARS:
            self._shorts[secret] = Short.of(secret)
            self.short = list(self._shorts.values())
            return
        whole = _long(secret)
        spaced = _without_blanks(whole) if len(whole.data.split()) > 1 else None
        self._longs[secret] = whole, spaced
        self.long.add(whole)
        if spaced is not None:
            self.spaced.add(spaced)

    def discard(self, secret: str) -> None:
        self.version += 1
        if self._shorts.pop(secret, None) is not None:
            self.short = list(self._shorts.values())
        if secret not in self._longs:
            return
        whole, spaced = self._longs.pop(secret)
        self.long.discard(whole)
        if spaced is not None:
            self.spaced.discard(spaced)


def _long(secret: str) -> _Long:
    data = secret.encode("utf-8", "surrogatepass")
    if len(data) == len(secret):
        return _Long(data)
    chars = [place for place, char in enumerate(secret) for _ in char.encode("utf-8", "surrogatepass")]
    return _Long(data, [*chars, len(secret)])


def _without_blanks(secret: _Long) -> _Long:
    chars = range(len(secret.data) + 1) if secret.chars is None else secret.chars
    kept = [place for place, byte in enumerate(secret.data) if not bytes([byte]).isspace()]
    data = bytes(secret.data[place] for place in kept)
    return _Long(data, [*(chars[place] for place in kept), chars[len(secret.data)]])
