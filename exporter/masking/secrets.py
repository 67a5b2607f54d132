"""The secrets in use now or until recently, and the function that masks them in texts."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable

from exporter.masking.index import PIECE_CHARS, SHORTEST_CHARS, SecretIndex

MASK = "<secret>"
# A replaced token is still valid: tokens live for a day. One hour more, because clocks differ.
REMEMBERED_SECONDS = 25 * 3600.0
# A signature is valid for 15 minutes, and a server may return the signature of an earlier request.
_REMEMBERED_SIGNATURES = 256
_MAX_KNOWN_LABELS = 10_000
_CLEANING_SECONDS = 60.0
# Results are cached, because error messages and the texts of the status page are masked again and again.
_MAX_CACHED_TEXTS = 1000

# Secrets that are not known are found by what stands before them: a header such as `X-Auth-Token: …`,
# `'authorization': '…'` or `(b'cookie', b'…')`, and "password": "…".
_HEADER = re.compile(
    r"""((?:\b(?:x[-_](?:auth|subject|security)[-_]token|(?:proxy[-_])?authorization|(?:set[-_])?cookie)"""
    r"""(?:['"]\s*[:=,]|\s*[:=])|(?P<quote>['"])password(?P=quote)\s*[:=,])\s*b?)"""
    r"""(?:'[^']*'|"[^"]*"|[^\s'"{}][^\r\n'"{}]*)""",
    re.IGNORECASE,
)
_HEADER_WORDS = ("token", "authorization", "cookie", "password")
_PLAIN = re.compile(r"[\w.-]*")
# The user and password in a URL, such as that of a proxy.
_USERINFO = re.compile(r"(?<=://)[^\s/]+(?=@)")
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)"


class Secrets:
    """
    Keeps the known secrets, and masks them.

    It masks all secrets of four characters or more, and all pieces of twelve characters or more: as they are,
    wrapped over lines, or in one of the encodings percent, form, HTML, JSON, hex and base64. It never masks
    times, nor the words of `never_mask` as whole words.
    Units: `clock` returns seconds. Any thread may mask; only one thread may add secrets.
    """

    def __init__(self, clock: Callable[[], float] = lambda: 0.0) -> None:
        self._clock = clock
        self._index = SecretIndex()
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
        known = cls()
        known.keep(*secrets)
        return known

    def use(self, *secrets: str) -> None:
        """Add secrets, or renew their use: they are known until 25 hours after their last use."""
        now = self._clock()
        for secret in secrets:
            if secret not in self._last_used:
                self._index.add(secret)
            self._last_used[secret] = now

    def keep(self, *secrets: str) -> None:
        """Add secrets that are never forgotten."""
        for secret in secrets:
            self._kept.add(secret)
            self._index.add(secret)

    def use_once(self, signature: str) -> None:
        """Add the signature of a request; only the last few hundred are kept."""
        # Indexed later, when a text is masked: every request has a signature, and few responses are masked.
        self._new_signatures.append(signature)

    def never_mask(self, words: Iterable[str]) -> None:
        """Replace the words that are never masked: documented words, and configured names and ids."""
        self._plain_words = frozenset(filter(None, words))
        self._unmasked = _unmasked(self._plain_words)
        self._texts = {}

    def keep_labels(self, labels: Iterable[str]) -> None:
        """Leave these label values unmasked: they are exported already, and a series must keep its name."""
        for label in labels:
            if len(self._labels) < _MAX_KNOWN_LABELS:
                self._labels.setdefault(label, label)

    def masked(self, text: str) -> str:
        self._update_index()
        if self._texts_version != self._index.version or len(self._texts) >= _MAX_CACHED_TEXTS:
            self._texts, self._texts_version = {}, self._index.version
        texts = self._texts
        found = texts.get(text)
        if found is None:
            found = texts[text] = self._mask(text)
        return found

    def may_be_in(self, texts: Iterable[str]) -> bool:
        """Return whether any of these texts may hold a secret, by one search; never False if one does."""
        self._update_index()
        if not self._index.has_short:
            # Too short for a piece of a long secret. Not skipped if it may be a header or a URL.
            texts = (text for text in texts if len(text) >= PIECE_CHARS or not _PLAIN.fullmatch(text))
        together = "\0".join(texts)
        return bool(together) and self._mask(together) != together

    def masked_label(self, label: str) -> str:
        """
        Mask a label value; numbers are never masked.

        The first result for a value is final: a series must not change its name when a secret changes.
        """
        if label in self._plain_words or (label.isascii() and label.isdigit()):
            return label
        known = self._labels.get(label)
        if known is None:
            known = self.masked(label)
            if len(self._labels) < _MAX_KNOWN_LABELS:
                self._labels[label] = known
        return known

    def _mask(self, text: str) -> str:
        lowered = text.lower()
        if any(word in lowered for word in _HEADER_WORDS):
            text = _HEADER.sub(rf"\1{MASK}", text)
        if "@" in text:
            text = _USERINFO.sub(MASK, text)
        # surrogatepass: a text from outside may hold lone surrogates, which must come out unchanged.
        data = text.encode("utf-8", "surrogatepass")
        spans = self._index.find(data)
        if not spans:
            return text
        unmasked = [match.span() for match in self._unmasked.finditer(data)]
        parts, at = [], 0
        for start, end in spans:
            if any(first <= start and end <= last for first, last in unmasked):
                continue
            first, last = start, end
            # Whole characters only: a piece of a secret can end inside one.
            while data[first] & 0xC0 == 0x80:
                first -= 1
            while last < len(data) and data[last] & 0xC0 == 0x80:
                last += 1
            parts += [data[at:first], MASK.encode()]
            at = last
        return b"".join([*parts, data[at:]]).decode("utf-8", "surrogatepass")

    def _update_index(self) -> None:
        """Add the new signatures to the index, and remove the secrets that were last used too long ago."""
        while self._new_signatures:
            signature = self._new_signatures.popleft()
            self._signatures.append(signature)
            self._index.add(signature)
        while len(self._signatures) > _REMEMBERED_SIGNATURES:
            self._index.discard(self._signatures.popleft())
        now = self._clock()
        if now - self._cleaned_at < _CLEANING_SECONDS:
            return
        self._cleaned_at = now
        for secret, used_at in list(self._last_used.items()):
            if now - used_at > REMEMBERED_SECONDS:
                del self._last_used[secret]
                if secret not in self._kept:
                    self._index.discard(secret)


def _unmasked(words: Iterable[str]) -> re.Pattern[bytes]:
    """Compile an expression for what is never masked: masks, times, and these words."""
    # The longest first: of two alternatives the expression takes the first that fits.
    longest_first = sorted((word for word in words if len(word) >= SHORTEST_CHARS), key=len, reverse=True)
    forms = [re.escape(MASK), _TIME]
    if longest_first:
        forms.append(rf"(?<![A-Za-z0-9_])(?:{'|'.join(map(re.escape, longest_first))})(?![A-Za-z0-9_])")
    return re.compile("|".join(forms).encode("utf-8", "surrogatepass"))
