"""The secrets that are in use or were a short while ago, and the one function that masks them."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable

from exporter.masking.pieces import PIECE_CHARS, SHORTEST_CHARS, Needles, Span
from exporter.masking.search import find_secrets

MASK = "<secret>"
# A token lives for a day, whatever replaced it; an hour more for clocks that differ.
REMEMBERED_SECONDS = 25 * 3600.0
# A signature is good for one request, for 15 minutes; a server may repeat that of a request before.
_REMEMBERED_SIGNATURES = 256
_MAX_KNOWN_LABELS = 10_000
_CLEANING_SECONDS = 60.0
# Error texts and what the pages show repeat themselves.
_MAX_REMEMBERED_TEXTS = 1000

# A header inside a text: `X-Auth-Token: …`, `'authorization': '…'`, `(b'cookie', b'…')`; and "password": "…".
_HEADER = re.compile(
    r"""((?:\b(?:x[-_](?:auth|subject|security)[-_]token|(?:proxy[-_])?authorization|(?:set[-_])?cookie)"""
    r"""(?:['"]\s*[:=,]|\s*[:=])|(?P<quote>['"])password(?P=quote)\s*[:=,])\s*b?)"""
    r"""(?:'[^']*'|"[^"]*"|[^\s'"{}][^\r\n'"{}]*)""",
    re.IGNORECASE,
)
_HEADER_WORDS = ("token", "authorization", "cookie", "password")
_PLAIN = re.compile(r"[\w.-]*")
# The user and password of a URL, as of a proxy in the environment.
_USERINFO = re.compile(r"(?<=://)[^\s/]+(?=@)")
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)"


class Secrets:
    """
    Knows the secrets and masks them.

    Masked are all secrets of four characters or more, and all pieces of twelve characters or more: as they
    are, wrapped over lines, or in one of the encodings percent, form, HTML, JSON, hex and base64. A secret of
    fewer than four characters masks nothing.
    Never masked are the words of `never_mask`, where they stand by themselves, and times.
    Units: `clock` gives seconds. Every thread may ask; one at a time may add.
    """

    def __init__(self, clock: Callable[[], float] = lambda: 0.0) -> None:
        self._clock = clock
        self._needles = Needles()
        self._last_used: dict[str, float] = {}
        self._kept: set[str] = set()
        self._signatures: deque[str] = deque()
        self._new_signatures: deque[str] = deque(maxlen=_REMEMBERED_SIGNATURES)
        self._cleaned_at = clock()
        self._plain_words: frozenset[str] = frozenset()
        self._unmasked = _unmasked(())
        self._labels: dict[str, str] = {}
        self._texts: dict[str, str] = {}
        self._texts_version = 0

    @classmethod
    def of(cls, *secrets: str) -> Secrets:
        """Know these, for ever."""
        known = cls()
        known.keep(*secrets)
        return known

    def use(self, *secrets: str) -> None:
        """Know these for 25 hours from their last use, which is now."""
        now = self._clock()
        for secret in secrets:
            if secret not in self._last_used:
                self._needles.add(secret)
            self._last_used[secret] = now

    def keep(self, *secrets: str) -> None:
        """Know these for ever."""
        for secret in secrets:
            self._kept.add(secret)
            self._needles.add(secret)

    def use_once(self, signature: str) -> None:
        """Know the signature of a request; only the last few hundred are kept."""
        # Every request has one, and few answers are ever searched for it: that is when it is indexed.
        self._new_signatures.append(signature)

    def never_mask(self, words: Iterable[str]) -> None:
        """
        Leave these words alone, in place of those given before.

        They are what the API documents, and the names and ids that are configured.
        """
        self._plain_words = frozenset(filter(None, words))
        self._unmasked = _unmasked(self._plain_words)
        self._texts = {}

    def known_labels(self, labels: Iterable[str]) -> None:
        """Leave these alone where they are a whole label: they are exported already, and keep their names."""
        for label in labels:
            if len(self._labels) < _MAX_KNOWN_LABELS:
                self._labels.setdefault(label, label)

    def masked(self, text: str) -> str:
        """Mask every secret in a text."""
        self._settle()
        if self._texts_version != self._needles.version or len(self._texts) >= _MAX_REMEMBERED_TEXTS:
            self._texts, self._texts_version = {}, self._needles.version
        texts = self._texts
        found = texts.get(text)
        if found is None:
            found = texts[text] = self._mask(text)
        return found

    def may_be_in(self, texts: Iterable[str]) -> bool:
        """
        Tell whether one of many texts may hold something to mask: never False where one does.

        One search for all of them, and nothing of it is remembered.
        """
        self._settle()
        if not self._needles.short:
            # So few characters hold no piece of a long secret. What may be a header or a URL is looked at.
            texts = (text for text in texts if len(text) >= PIECE_CHARS or not _PLAIN.fullmatch(text))
        together = "\0".join(texts)
        return bool(together) and self._mask(together) != together

    def _mask(self, text: str) -> str:
        lowered = text.lower()
        if any(word in lowered for word in _HEADER_WORDS):
            text = _HEADER.sub(rf"\1{MASK}", text)
        if "@" in text:
            text = _USERINFO.sub(MASK, text)
        if not self._needles:
            return text
        data = text.encode("utf-8", "surrogatepass")
        spans = find_secrets(data, self._needles)
        return self._without(data, spans) if spans else text

    def masked_label(self, label: str) -> str:
        """
        Mask a value that is to be a label's.

        The first answer for a value is kept for as long as the process lives: a change of a secret must not
        rename a series. Numbers are never masked.
        """
        if label in self._plain_words or (label.isascii() and label.isdigit()):
            return label
        known = self._labels.get(label)
        if known is None:
            known = self.masked(label)
            if len(self._labels) < _MAX_KNOWN_LABELS:
                self._labels[label] = known
        return known

    def _without(self, data: bytes, spans: list[Span]) -> str:
        left_alone = [match.span() for match in self._unmasked.finditer(data)]
        parts, at = [], 0
        for start, end in spans:
            if any(first <= start and end <= last for first, last in left_alone):
                continue
            start, end = _whole_characters(data, start, end)  # noqa: PLW2901 - a stretch, corrected
            parts += [data[at:start], MASK.encode()]
            at = end
        return b"".join([*parts, data[at:]]).decode("utf-8", "surrogatepass")

    def _settle(self) -> None:
        """Index the signatures that are new, and forget what was last used too long ago."""
        while self._new_signatures:
            signature = self._new_signatures.popleft()
            self._signatures.append(signature)
            self._needles.add(signature)
        while len(self._signatures) > _REMEMBERED_SIGNATURES:
            self._needles.discard(self._signatures.popleft())
        now = self._clock()
        if now - self._cleaned_at < _CLEANING_SECONDS:
            return
        self._cleaned_at = now
        for secret, used_at in list(self._last_used.items()):
            if now - used_at > REMEMBERED_SECONDS:
                del self._last_used[secret]
                if secret not in self._kept:
                    self._needles.discard(secret)


def _whole_characters(data: bytes, start: int, end: int) -> Span:
    """Widen a stretch to whole characters: a secret may have ended in the middle of one."""
    while data[start] & 0xC0 == 0x80:
        start -= 1
    while end < len(data) and data[end] & 0xC0 == 0x80:
        end += 1
    return start, end


def _unmasked(words: Iterable[str]) -> re.Pattern[bytes]:
    """Make an expression for what is never masked: masks, times, and these words, the longest first."""
    longest_first = sorted((word for word in words if len(word) >= SHORTEST_CHARS), key=len, reverse=True)
    forms = [re.escape(MASK), _TIME]
    if longest_first:
        forms.append(rf"(?<![A-Za-z0-9_])(?:{'|'.join(map(re.escape, longest_first))})(?![A-Za-z0-9_])")
    return re.compile("|".join(forms).encode("utf-8", "surrogatepass"))
