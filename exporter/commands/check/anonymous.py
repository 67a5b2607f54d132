"""
Take out of findings whatever may be a name, an id, a secret or a text: pure.

A documented word stays. Another word of the API's stays if it looks like one (capitals, underscores, hardly a
digit) and holds nothing private; else a number stands in for it, so that it can still be told from others.

Private texts are compared by their ASCII letters and digits alone, without case: acme-titan is in
ACME_TITAN_NIGHTLY. One of up to three characters would be in every text, so it counts as a whole word only.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

import msgspec

from exporter.commands.check.findings import Findings, Refusal, SeenType
from exporter.commands.check.judge_rows import FIELDS
from exporter.errors import ApiError, PollError
from exporter.octopus.tolerant import DOCUMENTED_WORDS

# Ids, tokens and hashes have more digits than a word has.
_MOST_DIGITS = 4
_LONGEST = 40
# What is shorter, or a shorter number, is in too many texts that have nothing to do with it.
_SHORTEST_PART = 4
_SHORTEST_NUMBER = 6
_WORD = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*")
_CODE = re.compile(r"-?[0-9]{1,8}|(?:octopus|APIGW|APIG|IAM)[._-][0-9]{1,8}", re.ASCII)
_SPEC = re.compile(
    r"(?:[A-Za-z]{1,12}[0-9]{0,4}[A-Za-z]{0,3}_[0-9]{1,3}Gpu_)?"
    r"[0-9]{1,4}(?:\.[0-9]{1,3})?Core_[0-9]{1,5}(?:\.[0-9]{1,3})?GiB",
    re.ASCII,
)
_FIELD = re.compile(r"[a-z][a-z_]{0,39}")
# The words in a name: between separators, without its digits, and as CamelCase has them.
_PIECES = (r"[A-Za-z0-9]+", r"[A-Za-z]+", r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
# A name that has one of these, such as package-7, does not make it private.
_DOCUMENTED_PARTS = frozenset({"octopus", "apigw", "apig", "iam"}).union(
    *(word.lower().split("_") for word in DOCUMENTED_WORDS)
)


class Anonymiser:
    """
    Replaces what may be private by a number, the same for the same text.

    Shape: `configured` are the names, ids and secrets of the configuration, of which no word shows either;
    `answered` are the ids and texts of rows; `masked` masks secrets in whatever encoding.
    """

    def __init__(
        self, configured: Iterable[str], answered: Iterable[str], masked: Callable[[str], str]
    ) -> None:
        names = tuple(configured)
        self._configured = frozenset(filter(None, map(_joined, names)))
        known = self._configured.union(filter(None, map(_joined, answered)))
        pieces = {piece for name in names for piece in _words(name) - _DOCUMENTED_PARTS if _is_long(piece)}
        self._anywhere = frozenset(text for text in known if _is_long(text))
        self._as_words = frozenset(text for text in known if not text.isdigit()) | pieces
        self._masked = masked
        self._numbers: dict[str, str] = {}

    def word(self, text: str) -> str:
        """Give a job type or a status, or what stands in for it."""
        if text in DOCUMENTED_WORDS:
            return text
        is_word = _WORD.fullmatch(text) and sum(map(str.isdigit, text)) <= _MOST_DIGITS
        return self._kept(text, is_fit=bool(is_word))

    def code(self, text: str) -> str:
        """Give an error code; a number of up to eight digits is one, a text is none."""
        if not text:
            return text
        if not _CODE.fullmatch(text):
            return self.word(text)
        # What stands before the number is documented.
        return self._kept(text, is_fit=True, free=re.sub(r"\D", "", text))

    def spec(self, text: str) -> str:
        # The units are documented and the numbers are short: only the name of the accelerator is free.
        free = text.partition("_")[0] if "Gpu" in text else ""
        return self._kept(text, is_fit=bool(_SPEC.fullmatch(text)), free=free)

    def field(self, text: str) -> str:
        """Give a field's name."""
        return text if text in (*FIELDS, "row") else self._kept(text, is_fit=bool(_FIELD.fullmatch(text)))

    def findings(self, findings: Findings) -> Findings:
        """Give the same findings without anything private in them."""
        replaced = msgspec.structs.replace
        rows = findings.rows
        return replaced(
            findings,
            job_types=tuple(self._seen(one) for one in findings.job_types),
            statuses=tuple(self._seen(one) for one in findings.statuses),
            codes=tuple(replaced(one, code=self.code(one.code)) for one in findings.codes),
            resource_specs=tuple(replaced(one, spec=self.spec(one.spec)) for one in findings.resource_specs),
            rows=replaced(rows, other_fields=tuple(self.field(name) for name in rows.other_fields)),
        )

    def refusal(self, error: PollError) -> Refusal:
        """Give what an error says without its words."""
        if not isinstance(error, ApiError):
            return Refusal(reason=error.reason, status=0, code="")
        return Refusal(reason=error.reason, status=error.status, code=self.code(error.code))

    def _seen(self, seen: SeenType) -> SeenType:
        return msgspec.structs.replace(seen, name=self.word(seen.name))

    def _kept(self, text: str, *, is_fit: bool, free: str | None = None) -> str:
        """Give a fit text without anything private, or its number; `free` is its undocumented part."""
        is_private = self._is_private(text if free is None else free)
        if is_fit and len(text) <= _LONGEST and self._masked(text) == text and not is_private:
            return text
        return self._numbers.setdefault(text, f"text-{len(self._numbers) + 1}")

    def _is_private(self, text: str) -> bool:
        joined = _joined(text)
        return (
            any(private in joined for private in self._anywhere)
            or not self._as_words.isdisjoint(_words(text))
            or (_is_long(joined) and any(joined in private for private in self._configured))
        )


def private_texts(rows: Iterable[object]) -> set[str]:
    """Give what of rows is an id, a name or a text, and no word of the API's own."""
    found: set[str] = set()
    for row in rows:
        if isinstance(row, dict):
            for name in ("id", "data_id", "project_id", "workspace_id"):
                found |= {str(row[name])} if isinstance(row.get(name), str | int) else set()
            found.update(_telling(row.get("msg_error")))
    return found


def _telling(message: object) -> Iterator[str]:
    """
    Give a message that says more than documented words and numbers.

    One in another alphabet is in no text that stays, and the few ASCII letters in it are not the message.
    """
    if not isinstance(message, str) or not message.isascii() or not _is_long(_joined(message)):
        return
    if any(not word.isdigit() for word in _words(message) - _DOCUMENTED_PARTS):
        yield message


def _plain(text: str) -> str:
    """Write accented and full-width letters as the ASCII ones."""
    return unicodedata.normalize("NFKD", text)


def _joined(text: str) -> str:
    """Give the ASCII letters and digits of a text: a word of the API has no others besides separators."""
    return re.sub(r"[^a-z0-9]", "", _plain(text).lower())


def _words(text: str) -> set[str]:
    return {word.lower() for pattern in _PIECES for word in re.findall(pattern, _plain(text))}


def _is_long(text: str) -> bool:
    return len(text) >= (_SHORTEST_NUMBER if text.isdigit() else _SHORTEST_PART)
