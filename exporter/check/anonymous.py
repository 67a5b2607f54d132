"""
Take out of findings whatever may be a name, an id, a secret or a text: pure.

A documented word stays. Another word of the API's stays if it looks like one (capitals, underscores, hardly a
digit) and holds nothing private; else a number stands in for it, so that it can still be told from others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import msgspec

from exporter.check.findings import Findings, Refusal, SeenType
from exporter.check.judge_rows import FIELDS
from exporter.errors import ApiError, PollError
from exporter.octopus.rows import DOCUMENTED_WORDS

# Ids, tokens and hashes have more digits than a word has.
_MOST_DIGITS = 4
_LONGEST = 40
_SHORTEST_PRIVATE = 3
_SHORTEST_NUMBER = 6
_SHORTEST_PART = 4
_WORD = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*")
_CODE = re.compile(r"-?[0-9]{1,8}|(?:octopus|APIGW|APIG|IAM)[._-][0-9]{1,8}", re.ASCII)
_SPEC = re.compile(
    r"(?:[A-Za-z]{1,12}[0-9]{0,4}[A-Za-z]{0,3}_[0-9]{1,3}Gpu_)?"
    r"[0-9]{1,4}(?:\.[0-9]{1,3})?Core_[0-9]{1,5}(?:\.[0-9]{1,3})?GiB",
    re.ASCII,
)
_FIELD = re.compile(r"[a-z][a-z_]{0,39}")


class Anonymiser:
    """
    Replaces what may be private by a number, the same for the same text.

    Shape: `configured` are the names, ids and secrets of the configuration, which show in no part either;
    `answered` are the ids and texts of rows; `masked` masks secrets in whatever encoding.
    """

    def __init__(
        self, configured: Iterable[str], answered: Iterable[str], masked: Callable[[str], str]
    ) -> None:
        self._configured = _private(configured)
        self._private = self._configured | _private(answered)
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
        return (
            self._kept(text, is_fit=bool(_CODE.fullmatch(text))) if _CODE.fullmatch(text) else self.word(text)
        )

    def spec(self, text: str) -> str:
        return self._kept(text, is_fit=bool(_SPEC.fullmatch(text)))

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

    def _kept(self, text: str, *, is_fit: bool) -> str:
        if is_fit and len(text) <= _LONGEST and self._masked(text) == text and not self._is_private(text):
            return text
        return self._numbers.setdefault(text, f"text-{len(self._numbers) + 1}")

    def _is_private(self, text: str) -> bool:
        lowered = text.lower()
        return any(private in lowered for private in self._private) or (
            len(lowered) >= _SHORTEST_PART and any(lowered in private for private in self._configured)
        )


def _private(texts: Iterable[str]) -> frozenset[str]:
    """Leave out what is so short, or so small a number, that it is in every text."""
    lowered = (text.strip().lower() for text in texts)
    return frozenset(
        text for text in lowered if len(text) >= (_SHORTEST_NUMBER if text.isdigit() else _SHORTEST_PRIVATE)
    )


def private_texts(rows: Iterable[object]) -> set[str]:
    """Give what of rows is an id, a name or a text, and no word of the API's own."""
    found: set[str] = set()
    for row in rows:
        if isinstance(row, dict):
            for name in ("id", "data_id", "project_id", "workspace_id", "msg_error"):
                found |= {str(row[name])} if isinstance(row.get(name), str | int) else set()
    return found
