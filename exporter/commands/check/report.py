"""
The report of `check --online --report`, to be attached to a bug report: pure.

It has a closed schema without free text. What may be a name, an id, a secret or a text of a row is replaced
by a number: the same text by the same number, so that it can still be told from others. `encoded` reads what
it wrote by the schema, and refuses what does not fit.

A documented word stays. Another word of the API stays if it looks like one (capitals, underscores, few
digits) and contains nothing private. Private texts are compared by their ASCII letters and digits alone,
without case: acme-titan is in ACME_TITAN_NIGHTLY. One of up to three characters would be in every text, so it
counts as a whole word only.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Literal

import msgspec

from exporter.commands.check.findings import FIELD, SPEC, WORD, Cost, Finding, Findings, SeenType, TargetError
from exporter.commands.check.target_findings import FIELDS
from exporter.errors import ApiError, PollError
from exporter.octopus.tolerant import DOCUMENTED_WORDS

# The regions where the API is documented; any other is `other`.
# Source: API reference, "regions and endpoints", read 2026-04.
DOCUMENTED_REGIONS = ("cn-north-11", "cn-south-1", "cn-southwest-2")

# Ids, tokens and hashes have more digits than a word has.
_MOST_DIGITS = 4
_LONGEST = 40
# A shorter text, or a shorter number, is part of too many texts that have nothing to do with it.
_SHORTEST_PART = 4
_SHORTEST_NUMBER = 6
_CODE = re.compile(r"-?[0-9]{1,8}|(?:octopus|APIGW|APIG|IAM)[._-][0-9]{1,8}", re.ASCII)
# The words in a name: between separators, without its digits, and as CamelCase has them.
_PIECES = (r"[A-Za-z0-9]+", r"[A-Za-z]+", r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
# A configured name with one of these in it, such as package-7, does not make the documented word private.
_DOCUMENTED_PARTS = frozenset({"octopus", "apigw", "apig", "iam"}).union(
    *(word.lower().split("_") for word in DOCUMENTED_WORDS)
)


class TargetReport(Finding, frozen=True, kw_only=True):
    """
    One target, by its number in the configuration and that of its project; it is not named.

    Shape: `refusal` says why there are no findings; `other_path` is the documented path that works instead.
    `job_types` is how many the configuration names.
    """

    target: int
    project: int
    region: Literal["cn-north-11", "cn-south-1", "cn-southwest-2", "other", "none"]
    endpoint: Literal["of the region", "another"]
    path: Literal["system-jobs", "system-job", "another"]
    workspace: Literal["none sent", "0", "another"]
    job_types: int
    credentials: Literal["token", "password", "aksk", "chain"]
    refusal: TargetError | None
    other_path: Literal["system-jobs", "system-job"] | None
    findings: Findings | None
    cost: Cost


class Report(Finding, frozen=True, kw_only=True):
    """The whole report. Shape: `version` is the exporter's; `date` is YYYY-MM-DD in UTC."""

    report: Literal["octopus-exporter first contact"] = "octopus-exporter first contact"
    format: Literal[1] = 1
    version: Annotated[str, msgspec.Meta(pattern=r"^[0-9]+(?:\.[0-9]+){1,3}[a-z0-9.+]{0,20}$")]
    date: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
    targets: tuple[TargetReport, ...]


def encoded(report: Report) -> bytes:
    """Write a report as JSON, one key to a line. Raises: ValueError (it does not fit the schema)."""
    written = msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
    # Reading it back checks what msgspec does not check when it writes: the patterns and literals.
    decoded(written)
    return written


def decoded(report: bytes) -> Report:
    """Read a report by its schema. Raises: ValueError (it does not fit)."""
    try:
        return msgspec.json.decode(report, type=Report)
    except msgspec.ValidationError as exc:
        raise ValueError(f"the report does not fit its own schema: {exc}") from exc


class Anonymiser:
    """
    Replaces what may be private by a number, the same for the same text.

    Shape: `configured` are the names, ids and secrets of the configuration, of which no single word may show
    either; `from_rows` are the ids and texts of rows; `masked` masks secrets in any encoding.
    """

    def __init__(
        self, configured: Iterable[str], from_rows: Iterable[str], masked: Callable[[str], str]
    ) -> None:
        names = tuple(configured)
        self._configured = frozenset(filter(None, map(_joined, names)))
        known = self._configured.union(filter(None, map(_joined, from_rows)))
        pieces = {piece for name in names for piece in _words(name) - _DOCUMENTED_PARTS if _is_long(piece)}
        self._anywhere = frozenset(text for text in known if _is_long(text))
        # Not numbers: a workspace 8 would make every text with an 8 in it private.
        self._as_words = frozenset(text for text in known if not text.isdigit()) | pieces
        self._masked = masked
        self._numbers: dict[str, str] = {}

    def word(self, text: str) -> str:
        """Return a job type or a status, or the number in its place."""
        if text in DOCUMENTED_WORDS:
            return text
        is_word = re.fullmatch(WORD, text) and sum(map(str.isdigit, text)) <= _MOST_DIGITS
        return self._kept(text, is_fit=bool(is_word))

    def code(self, text: str) -> str:
        """Return an error code; a number of up to eight digits is one, a longer text is not."""
        if not text:
            return text
        if not _CODE.fullmatch(text):
            return self.word(text)
        # The prefix before the number is documented.
        return self._kept(text, is_fit=True, free=re.sub(r"\D", "", text))

    def spec(self, text: str) -> str:
        # The units are documented and the numbers are short: only the accelerator's name can be private.
        free = text.partition("_")[0] if "Gpu" in text else ""
        return self._kept(text, is_fit=bool(re.fullmatch(SPEC, text)), free=free)

    def field(self, text: str) -> str:
        return text if text in (*FIELDS, "row") else self._kept(text, is_fit=bool(re.fullmatch(FIELD, text)))

    def findings(self, findings: Findings) -> Findings:
        """Return the same findings without anything private in them."""
        replaced = msgspec.structs.replace

        def types(seen: Iterable[SeenType]) -> tuple[SeenType, ...]:
            return tuple(replaced(one, name=self.word(one.name)) for one in seen)

        rows = findings.rows
        return replaced(
            findings,
            job_types=types(findings.job_types),
            statuses=types(findings.statuses),
            codes=tuple(replaced(one, code=self.code(one.code)) for one in findings.codes),
            resource_specs=tuple(replaced(one, spec=self.spec(one.spec)) for one in findings.resource_specs),
            rows=replaced(rows, other_fields=tuple(self.field(name) for name in rows.other_fields)),
        )

    def error(self, error: PollError) -> TargetError:
        if not isinstance(error, ApiError):
            return TargetError(reason=error.reason, status=0, code="")
        return TargetError(reason=error.reason, status=error.status, code=self.code(error.code))

    def _kept(self, text: str, *, is_fit: bool, free: str | None = None) -> str:
        """Return a fit text without anything private, or its number; `free` is its undocumented part."""
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


def private_texts(rows: Iterable[object]) -> Iterator[str]:
    """
    Give the ids, names and messages in rows, which are no words of the API.

    Not a message that consists of documented words and numbers alone. Nor one in another alphabet: it is in
    no text that stays, and the few ASCII letters in it are not the message.
    """
    for row in rows:
        if not isinstance(row, dict):
            continue
        for name in ("id", "data_id", "project_id", "workspace_id"):
            if isinstance(row.get(name), str | int):
                yield str(row[name])
        message = row.get("msg_error")
        if not isinstance(message, str) or not message.isascii() or not _is_long(_joined(message)):
            continue
        if any(not word.isdigit() for word in _words(message) - _DOCUMENTED_PARTS):
            yield message


def _joined(text: str) -> str:
    """Return the ASCII letters and digits of a text: words of the API have only separators besides."""
    # NFKD writes accented and full-width letters as the ASCII ones.
    return re.sub(r"[^a-z0-9]", "", unicodedata.normalize("NFKD", text).lower())


def _words(text: str) -> set[str]:
    plain = unicodedata.normalize("NFKD", text)
    return {word.lower() for pattern in _PIECES for word in re.findall(pattern, plain)}


def _is_long(text: str) -> bool:
    return len(text) >= (_SHORTEST_NUMBER if text.isdigit() else _SHORTEST_PART)
