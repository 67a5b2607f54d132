"""
What the models of the files are made of: the base of every section, and the types of single values.

A type is an annotation of a model's field. It parses the text of the file (YAML and environment variables
give only texts) or takes a value that is parsed already. It says in one phrase what it expects, and it writes
the value as the file does.
"""

from __future__ import annotations

import ast
import inspect
import math
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationInfo, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from exporter.config.durations import format_duration, parse_duration
from exporter.config.problems import expected

# 18 digits fit into 64 bits, and are converted fast. float() alone would also accept inf, nan and 1_000.
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
# Control characters, lone surrogates, line and paragraph separators. No name, path or URL contains them.
_UNPRINTABLE = frozenset({"Cc", "Cs", "Zl", "Zp"})

ALL = "all"
AUTO = "auto"
STREAMS = ("stdout", "stderr")
IN_QUOTES = "in quotes (YAML reads yes, no, on and off as true and false)"


class Section(BaseModel):
    """A mapping of the file. Attributes carry their unit (`interval_seconds`), keys do not (`interval`)."""

    model_config = ConfigDict(
        alias_generator=lambda attribute: attribute.removesuffix("_seconds"),
        extra="forbid",
        frozen=True,
        # pydantic would quote values in its errors, and a value may be a secret.
        hide_input_in_errors=True,
    )

    @classmethod
    def keys(cls) -> dict[str, str]:
        """Give the keys as the file has them, with the description of each, for a message."""
        described = _attribute_docstrings(cls)
        return {key: described.get(name, "a value") for name, key in cls._keys().items()}

    @classmethod
    def _keys(cls) -> dict[str, str]:
        return {name: field.alias or name for name, field in cls.model_fields.items()}

    @model_validator(mode="before")
    @classmethod
    def _drop_empty_keys(cls, data: Any) -> Any:
        """Ignore a known key without a value: a section whose keys are all commented out is such a key."""
        if not isinstance(data, Mapping):
            return data
        known = set(cls._keys().values())
        return {key: value for key, value in data.items() if value is not None or key not in known}


@cache
def _attribute_docstrings(section: type[Section]) -> dict[str, str]:
    """
    Read the text below each attribute of a section from its source.

    pydantic can do it (`use_attribute_docstrings`), but does it for all sections at each start. It takes some
    milliseconds, and each mistake in a file asks for it: so once is enough.
    """
    try:
        source = inspect.getsource(section)
    except OSError:  # installed without sources
        return {}
    return {
        attribute.target.id: inspect.cleandoc(text)
        for statement in ast.parse(source).body
        if isinstance(statement, ast.ClassDef)
        for attribute, below in pairwise(statement.body)
        if isinstance(attribute, ast.AnnAssign) and isinstance(attribute.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if isinstance(text := below.value.value, str)
    }


@dataclass(frozen=True)
class Scalar(ABC):
    """The type of a single value."""

    @abstractmethod
    def read(self, value: object) -> Any:
        """Parse the value. Raises: PydanticCustomError, which says what is expected."""

    def read_at(self, value: object, info: ValidationInfo) -> Any:
        """Parse a value that depends on other fields of its section, or on the folder of the file."""
        return self.read(value)

    def write(self, value: Any) -> Any:
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # A plain validator: `read` sees the value before pydantic has converted it.
        writer = core_schema.plain_serializer_function_ser_schema(self.write)
        return core_schema.with_info_plain_validator_function(self.read_at, serialization=writer)


@dataclass(frozen=True)
class TextScalar(Scalar):
    """A text that is not empty. A number is taken as it is written: YAML does not tell it from a text."""

    what: str
    pattern: str = ".+"

    def read(self, value: object) -> str:
        # YAML has replaced the text already, and `no` cannot be told from `off` any more.
        if isinstance(value, bool):
            raise expected(f"{self.what}, {IN_QUOTES}")
        text = str(value) if isinstance(value, str | int) else ""
        if not re.fullmatch(self.pattern, text) or any(unicodedata.category(c) in _UNPRINTABLE for c in text):
            raise expected(self.what)
        return text


@dataclass(frozen=True)
class Whole(Scalar):
    """A whole number from `low` up to `high`; with `or_auto` also `auto`, which is None."""

    low: int
    high: int | None = None
    or_auto: bool = False

    def read(self, value: object) -> int | None:
        if self.or_auto and value in (AUTO, None):
            return None
        number = int(value) if isinstance(value, str) and _WHOLE.fullmatch(value) else value
        most = math.inf if self.high is None else self.high
        # For Python, True is an int as well.
        if not isinstance(number, int) or isinstance(number, bool) or not self.low <= number <= most:
            either = f", or {AUTO}" if self.or_auto else ""
            raise expected(
                f"a whole number from {self.low} {'up' if self.high is None else f'to {most}'}{either}"
            )
        return number

    def write(self, value: int | None) -> int | str | None:
        return AUTO if value is None and self.or_auto else value


@dataclass(frozen=True)
class Positive(Scalar):
    """A finite number above 0."""

    def read(self, value: object) -> float:
        number = float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
        if isinstance(number, int | float) and not isinstance(number, bool) and 0 < number < math.inf:
            return float(number)
        raise expected("a number above 0")


@dataclass(frozen=True)
class Flag(Scalar):
    """True or false, or YAML's other words for them."""

    def read(self, value: object) -> bool:
        if isinstance(value, bool):
            return value
        truth = _TRUTH.get(value.lower()) if isinstance(value, str) else None
        if truth is None:
            raise expected("true or false")
        return truth


@dataclass(frozen=True)
class ChoiceScalar(Scalar):
    """One of a few words."""

    words: tuple[str, ...]

    def read(self, value: object) -> str:
        if not isinstance(value, str) or value not in self.words:
            raise expected(f"{', '.join(self.words[:-1])} or {self.words[-1]}")
        return value


@dataclass(frozen=True)
class Duration(Scalar):
    """A duration from `minimum` to `maximum`; with `or_all` also `all`, which is None. Units: seconds."""

    minimum: str = "0s"
    maximum: str | None = None
    or_all: bool = False

    def read(self, value: object) -> float | None:
        if self.or_all and value in (ALL, None):
            return None
        least = "" if self.minimum == "0s" else f", at least {self.minimum}"
        most = "" if self.maximum is None else f", at most {self.maximum}"
        either = f", or {ALL}" if self.or_all else ""
        error = expected(f"a duration such as 30s, 5m, 1h30m or 30d{least}{most}{either}")
        try:
            seconds = parse_duration(str(value))
        except ValueError:
            raise error from None
        maximum = math.inf if self.maximum is None else parse_duration(self.maximum)
        if not parse_duration(self.minimum) <= seconds <= maximum:
            raise error
        return seconds

    def write(self, value: float | None) -> str:
        return ALL if value is None else format_duration(value)


@dataclass(frozen=True)
class Parsed(Scalar):
    """
    A text that `parse` turns into a value, and that str() gives back.

    Shape: `parse` raises ValueError. If that is an error of `problems.expected`, its message replaces `what`.
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


@dataclass(frozen=True)
class FileName(Scalar):
    """A file. A relative name is relative to the folder of the configuration; a flag has no such folder."""

    def read(self, value: object) -> Path:
        return value if isinstance(value, Path) else Path(TextScalar("a file name").read(value))

    def read_at(self, value: object, info: ValidationInfo) -> Path:
        folder = (info.context or {}).get("folder", Path())
        return Path(folder) / self.read(value)

    def write(self, value: Path | None) -> str | None:
        return None if value is None else str(value)


@dataclass(frozen=True)
class Output(FileName):
    """The word stdout or stderr, or a file."""

    def read(self, value: object) -> Any:
        if value in STREAMS or isinstance(value, Path):
            return value
        what = f"{', '.join(STREAMS)} or a file name"
        # STDOUT would be taken for the name of a file.
        if str(value).lower() in STREAMS:
            raise expected(what)
        return Path(TextScalar(what).read(value))

    def read_at(self, value: object, info: ValidationInfo) -> Any:
        output = self.read(value)
        return super().read_at(output, info) if isinstance(output, Path) else output

    def write(self, value: Any) -> str:
        return str(value)
