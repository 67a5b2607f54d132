"""
An index of secrets, which finds them in a text in any single encoding.

Of a secret of twelve characters or more, pieces are found; a shorter one is found only whole.

Pieces are found by grams, which are runs of seven bytes. Every second gram of a secret is in a table, and
every third gram of the text is looked up in it. Two equal runs of twelve bytes share six consecutive grams,
and one of six is always both a second and a third one. So a text costs one look-up per three bytes, however
many secrets there are and however long they are.
"""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from exporter.masking.views import (
    Span,
    View,
    base64_views,
    compact_view,
    escape_views,
    hex_views,
    unwrapped_view,
)

PIECE_CHARS = 12
SHORTEST_CHARS = 4

_GRAM_BYTES = 7
# Their least common multiple is 6, the number of grams in a piece.
_SECRET_STEP = 2
_TEXT_STEP = 3
# Twelve characters of which many are blanks leave few bytes once the blanks are removed.
_GRAM_BYTES_WITHOUT_BLANKS = 4
# A shorter secret would be found across the words of ordinary text: "here" in "the rest".
_WRAPPED_AT_BLANKS_CHARS = 8
_ESCAPES = re.compile(rb"[%&\\+]")
_TO_STANDARD_BASE64 = bytes.maketrans(b"-_", b"+/")


class SecretIndex:
    """All secrets that are searched for. `version` changes whenever they do."""

    def __init__(self) -> None:
        self.version = 0
        self._pieces = _GramTable(_GRAM_BYTES, _SECRET_STEP, _TEXT_STEP)
        # The secrets with blanks, indexed without them.
        self._compact_pieces = _GramTable(_GRAM_BYTES_WITHOUT_BLANKS, 1, 1)
        self._long: dict[str, tuple[_LongSecret, _LongSecret | None]] = {}
        self._short: dict[str, _ShortSecret] = {}

    @property
    def has_short(self) -> bool:
        return bool(self._short)

    def add(self, secret: str) -> None:
        if len(secret) < SHORTEST_CHARS or secret in self._long or secret in self._short:
            return
        self.version += 1
        if len(secret) < PIECE_CHARS:
            self._short[secret] = _ShortSecret(secret)
            return
        whole = _LongSecret.of(secret)
        compact = whole.without_blanks() if len(whole.data.split()) > 1 else None
        self._long[secret] = whole, compact
        self._pieces.add(whole)
        if compact is not None:
            self._compact_pieces.add(compact)

    def discard(self, secret: str) -> None:
        self.version += 1
        self._short.pop(secret, None)
        whole, compact = self._long.pop(secret, (None, None))
        if whole is not None:
            self._pieces.discard(whole)
        if compact is not None:
            self._compact_pieces.discard(compact)

    def find(self, text: bytes) -> list[Span]:
        """Return the ranges of a UTF-8 text that hold secrets: in order, and never adjacent."""
        spans: list[Span] = []
        compact = compact_view(text)
        if self._long:
            spans += (compact.span(*span) for span in self._compact_pieces.find(compact.data))
            views = [
                View(text, lambda start, end: (start, end)),
                compact,
                *escape_views(text),
                *base64_views(compact),
            ]
            views += hex_views(compact)
            # All views at once first: a text without secrets, which is the usual case, costs only this.
            if self._pieces.may_be_in(b"\0".join([view.data for view in views])):
                spans += (view.span(*span) for view in views for span in self._pieces.find(view.data))
        if self._short:
            spans += self._find_short(text, compact)
        merged: list[Span] = []
        for start, end in sorted(spans):
            if merged and start <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(end, merged[-1][1])
            else:
                merged.append((start, end))
        return merged

    def _find_short(self, text: bytes, compact: View) -> Iterator[Span]:
        in_base64, in_hex = compact.data.translate(_TO_STANDARD_BASE64), compact.data.lower()
        unwrapped = unwrapped_view(text)
        # A copy: another thread may add a secret meanwhile.
        for secret in tuple(self._short.values()):
            yield from secret.find(text)
            for digits in secret.base64:
                yield from (compact.span(*span) for span in _occurrences(in_base64, digits))
            yield from (compact.span(*span) for span in _occurrences(in_hex, secret.hex))
            view = compact if secret.wraps_at_blanks else unwrapped
            if view is not None:
                yield from (view.span(*span) for span in secret.find_wrapped(view.data))


@dataclass(frozen=True, slots=True, eq=False)
class _LongSecret:
    """Shape: `chars[k]` is the number of the character that byte k belongs to, with the total at the end."""

    data: bytes
    chars: Sequence[int]

    @classmethod
    def of(cls, secret: str) -> _LongSecret:
        data = secret.encode("utf-8", "surrogatepass")
        if len(data) == len(secret):
            return cls(data, range(len(data) + 1))
        chars = [place for place, char in enumerate(secret) for _ in char.encode("utf-8", "surrogatepass")]
        return cls(data, [*chars, len(secret)])

    def without_blanks(self) -> _LongSecret:
        kept = [place for place, byte in enumerate(self.data) if not bytes([byte]).isspace()]
        data = bytes(self.data[place] for place in kept)
        return _LongSecret(data, [*(self.chars[place] for place in kept), self.chars[-1]])

    def longest_piece(self, text: bytes, at: int, size: int, step: int) -> Span | None:
        """Return the longest piece of this secret around the gram at `at`, if it has twelve characters."""
        gram, best = text[at : at + size], None
        place = self.data.find(gram)
        while place >= 0:
            if place % step == 0:
                left = _common_length(text[:at][::-1], self.data[:place][::-1])
                right = size + _common_length(text[at + size :], self.data[place + size :])
                start, end = place - left, place + right
                # From the end of the character before: removed blanks at the sides count as characters too.
                first_char = self.chars[start - 1] + 1 if start else 0
                is_longer = best is None or left + right > best[1] - best[0]
                if is_longer and self.chars[end] - first_char >= PIECE_CHARS:
                    best = at - left, at + right
                if best is not None and best[1] - best[0] >= len(self.data):
                    break
            place = self.data.find(gram, place + 1)
        return best


def _common_length(some: bytes, other: bytes) -> int:
    """Return how many bytes two texts have in common at their beginning."""
    low, high = 0, min(len(some), len(other))
    if some[:high] == other[:high]:
        return high
    # By bisection, which compares slices: byte by byte is slow for a token of several KB.
    while high - low > 1:
        middle = (low + high) // 2
        if some[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    return low


class _GramTable:
    """The grams of some long secrets."""

    def __init__(self, size: int, secret_step: int, text_step: int) -> None:
        self._size = size
        self._secret_step = secret_step
        self._text_step = text_step
        self._table: dict[bytes, tuple[_LongSecret, ...]] = {}

    def _grams(self, data: bytes, step: int) -> list[bytes]:
        size = self._size
        return [data[at : at + size] for at in range(0, len(data) - size + 1, step)]

    def add(self, secret: _LongSecret) -> None:
        # One tuple for all grams of the secret, which are thousands for a token.
        alone = (secret,)
        for gram in self._grams(secret.data, self._secret_step):
            found = self._table.get(gram)
            if found is None:
                self._table[gram] = alone
            elif secret not in found:
                self._table[gram] = (*found, secret)

    def discard(self, secret: _LongSecret) -> None:
        for gram in self._grams(secret.data, self._secret_step):
            left = tuple(each for each in self._table.get(gram, ()) if each is not secret)
            if left:
                self._table[gram] = left
            else:
                self._table.pop(gram, None)

    def may_be_in(self, text: bytes) -> bool:
        """Return, fast, whether any gram of the text is in the table."""
        return bool(self._table) and not self._table.keys().isdisjoint(self._grams(text, self._text_step))

    def find(self, text: bytes) -> Iterator[Span]:
        """Yield the ranges of pieces; they may overlap."""
        if not self.may_be_in(text):
            return
        size, table = self._size, self._table
        at, last = 0, len(text) - size
        while at <= last:
            until = 0
            for secret in table.get(text[at : at + size], ()):
                span = secret.longest_piece(text, at, size, self._secret_step)
                if span is not None:
                    yield span
                    until = max(until, span[1])
            # Continue inside the found piece, for a piece of another secret that overlaps with it: any run of
            # twelve bytes that goes beyond `until` begins here or later.
            at = max(at + self._text_step, until - PIECE_CHARS + 1)


class _ShortSecret:
    """A secret of four to eleven characters in every form that is searched for."""

    def __init__(self, secret: str) -> None:
        data = secret.encode("utf-8", "surrogatepass")
        self.plain = data
        self.escaped = re.compile(b"".join(map(_any_form, secret)))
        self.compact = b"".join(data.split())
        self.hex = data.hex().encode()
        # In base64 the digits depend on how many bytes stand before: only those that the secret decides.
        self.base64 = tuple(
            b64encode(bytes(before) + data)[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
            for before in range(3)
        )
        self.is_number = secret.isascii() and secret.isdigit()
        self.wraps_at_blanks = len(secret) >= _WRAPPED_AT_BLANKS_CHARS

    def find(self, text: bytes) -> Iterator[Span]:
        """Find the secret as it is or escaped."""
        spans: Iterator[Span]
        if _ESCAPES.search(text):
            spans = (match.span() for match in self.escaped.finditer(text))
        else:
            spans = _occurrences(text, self.plain)
        return (span for span in spans if not self._is_part_of_number(text, span))

    def find_wrapped(self, compact: bytes) -> Iterator[Span]:
        """Find the secret in a text without blanks, or without line ends."""
        wanted = self.compact if self.wraps_at_blanks else self.plain
        return (span for span in _occurrences(compact, wanted) if not self._is_part_of_number(compact, span))

    def _is_part_of_number(self, text: bytes, span: Span) -> bool:
        # A secret such as 1234 must not mask the middle of every time and id.
        start, end = span
        return self.is_number and (text[:start][-1:].isdigit() or text[end : end + 1].isdigit())


def _occurrences(text: bytes, wanted: bytes) -> Iterator[Span]:
    at = text.find(wanted)
    while at >= 0:
        yield at, at + len(wanted)
        at = text.find(wanted, at + 1)


def _any_form(char: str) -> bytes:
    """Make an expression for a character as it is and in every escape that can stand for it."""
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
    # The longest first: of `&amp;` the expression must not take the ampersand only.
    longest_first = sorted(forms, key=len, reverse=True)
    return b"(?:" + b"|".join(longest_first) + b")"


def _either_case(digits: str) -> str:
    return "".join(f"[{each}{each.upper()}]" if each.isalpha() else each for each in digits)
