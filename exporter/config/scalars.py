"""
What a single value of the configuration may be, as annotations of the models' fields.

Each reads a text (all that YAML and the environment give) or the value itself, says in one phrase what it
expects, and writes the value as the file spells it. In the JSON Schema each also takes a `${VAR}`.
"""

from __future__ import annotations

import math
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from exporter.config.durations import PATTERN, format_duration, parse_duration
from exporter.config.problems import expected

_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
# Control characters, lone surrogates, line and paragraph separators: no name, path or URL has them.
_UNSEEMLY = frozenset({"Cc", "Cs", "Zl", "Zp"})
_VARIABLE: dict[str, object] = {"type": "string", "pattern": r"\$\{"}

ALL = "all"
STREAMS = ("stdout", "stderr")
IN_QUOTES = "in quotes (YAML reads yes, no, on and off as true and false)"


@dataclass(frozen=True)
class Scalar(ABC):
    """A value read from a text."""

    @abstractmethod
    def read(self, value: object) -> Any:
        """Read the value. Raises: PydanticCustomError, saying what is expected."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Give the JSON Schema of the value."""

    def read_at(self, value: object, info: ValidationInfo) -> Any:
        return self.read(value)

    def write(self, value: Any) -> Any:
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        writer = core_schema.plain_serializer_function_ser_schema(self.write)
        return core_schema.with_info_plain_validator_function(self.read_at, serialization=writer)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return self.describe()


@dataclass(frozen=True)
class TextScalar(Scalar):
    """A text that is not empty; a number, which YAML does not tell from a text, is taken as it is written."""

    what: str
    pattern: str = ".+"

    def read(self, value: object) -> str:
        if isinstance(value, bool):
            raise expected(f"{self.what}, {IN_QUOTES}")
        text = str(value) if isinstance(value, str | int) else ""
        if not re.fullmatch(self.pattern, text) or any(unicodedata.category(c) in _UNSEEMLY for c in text):
            raise expected(self.what)
        return text

    def describe(self) -> dict[str, Any]:
        return {"type": ["string", "integer"], "minLength": 1}


@dataclass(frozen=True)
class Whole(Scalar):
    """A whole number from `low` up to `high`."""

    low: int
    high: int | None = None

    def read(self, value: object) -> int:
        number = _whole(value)
        if number is None or number < self.low or (self.high is not None and number > self.high):
            raise expected(self._what)
        return number

    @property
    def _what(self) -> str:
        return f"a whole number from {self.low} " + ("up" if self.high is None else f"to {self.high}")

    def describe(self) -> dict[str, Any]:
        high = {} if self.high is None else {"maximum": self.high}
        return {"anyOf": [{"type": "integer", "minimum": self.low, **high}, _VARIABLE]}


@dataclass(frozen=True)
class Positive(Scalar):
    """A finite number above 0."""

    def read(self, value: object) -> float:
        number = _number(value)
        if number is None or not math.isfinite(number) or number <= 0:
            raise expected("a number above 0")
        return number

    def describe(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, _VARIABLE]}


@dataclass(frozen=True)
class Flag(Scalar):
    """True or false, in YAML's words for it."""

    def read(self, value: object) -> bool:
        if isinstance(value, bool):
            return value
        truth = _TRUTH.get(value.lower()) if isinstance(value, str) else None
        if truth is None:
            raise expected("true or false")
        return truth

    def describe(self) -> dict[str, Any]:
        return {"anyOf": [{"type": "boolean"}, _VARIABLE]}


@dataclass(frozen=True)
class ChoiceScalar(Scalar):
    """One of a few words."""

    words: tuple[str, ...]

    def read(self, value: object) -> str:
        if not isinstance(value, str) or value not in self.words:
            raise expected(f"{', '.join(self.words[:-1])} or {self.words[-1]}")
        return value

    def describe(self) -> dict[str, Any]:
        return {"anyOf": [{"enum": list(self.words)}, _VARIABLE]}


@dataclass(frozen=True)
class Duration(Scalar):
    """
    A duration of at least `minimum`, and at most `maximum`; with `or_all` also `all`, which is None.

    Units: seconds.
    """

    minimum: str = "0s"
    maximum: str | None = None
    or_all: bool = False

    def read(self, value: object) -> float | None:
        if self.or_all and value in (ALL, None):
            return None
        try:
            seconds = parse_duration(str(value))
        except ValueError:
            raise expected(self._what) from None
        most = math.inf if self.maximum is None else parse_duration(self.maximum)
        if not parse_duration(self.minimum) <= seconds <= most:
            raise expected(self._what)
        return seconds

    @property
    def _what(self) -> str:
        least = "" if self.minimum == "0s" else f", at least {self.minimum}"
        most = "" if self.maximum is None else f", at most {self.maximum}"
        either = f", or {ALL}" if self.or_all else ""
        return f"a duration such as 30s, 5m, 1h30m or 30d{least}{most}{either}"

    def write(self, value: float | None) -> str:
        return ALL if value is None else format_duration(value)

    def describe(self) -> dict[str, Any]:
        pattern = re.sub(r"\?P<\w+>", "", PATTERN)
        words = f"{ALL}|" if self.or_all else ""
        text = {"type": "string", "pattern": f"^({words}{pattern})$"}
        return {"anyOf": [text, {"const": 0}, _VARIABLE]}


@dataclass(frozen=True)
class Parsed(Scalar):
    """
    A text that `parse` makes a value of, and str() makes the text of again.

    Shape: `parse` raises ValueError; where that is one of `problems.expected`, it stands instead of `what`.
    """

    what: str
    parse: Callable[[str], Any]

    def read(self, value: object) -> Any:
        if not isinstance(value, str):
            raise expected(self.what)
        try:
            return self.parse(value)
        except PydanticCustomError:
            raise
        except ValueError:
            raise expected(self.what) from None

    def write(self, value: object) -> str | None:
        return None if value is None else str(value)

    def describe(self) -> dict[str, Any]:
        return {"type": "string"}


@dataclass(frozen=True)
class FileName(Scalar):
    """A file; a relative one is taken from the folder of the configuration, where there is one."""

    def read(self, value: object) -> Path:
        if isinstance(value, Path):
            return value
        return Path(TextScalar("a file name").read(value))

    def read_at(self, value: object, info: ValidationInfo) -> Path:
        folder = (info.context or {}).get("folder", Path())
        return Path(folder) / self.read(value)

    def write(self, value: Path | None) -> str | None:
        return None if value is None else str(value)

    def describe(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


@dataclass(frozen=True)
class Output(FileName):
    """Standard output or standard error, by these words, or a file."""

    def read(self, value: object) -> Any:
        if value in STREAMS or isinstance(value, Path):
            return value
        what = f"{', '.join(STREAMS)} or a file name"
        if str(value).lower() in STREAMS:
            raise expected(what)
        return Path(TextScalar(what).read(value))

    def read_at(self, value: object, info: ValidationInfo) -> Any:
        output = self.read(value)
        return super().read_at(output, info) if isinstance(output, Path) else output

    def write(self, value: Any) -> str:
        return str(value)


def _whole(value: object) -> int | None:
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: object) -> float | None:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return None
