"""How a problem in the configuration is told: where, what was found, what was expected."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic_core import PydanticCustomError

from exporter.config.secret import MASK, scrub

Location = tuple[str | int, ...]

_PLAIN = re.compile(r"[\w$.,:/+*<>@%={}\[\]?&~-]+", re.ASCII)
_PLAIN_KEY = re.compile(r"[\w-]+", re.ASCII)
_LONGEST_SHOWN = 80
# Everything else below `credentials` is, or may by a slip be, a secret.
_SHOWN_OF_CREDENTIALS = frozenset({"type", "domain", "user", "iam_endpoint"})


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem: `message` is a clause that follows the location."""

    location: Location
    message: str


def expected(what: str) -> PydanticCustomError:
    """Make the error of a value that is something else than `what`."""
    return PydanticCustomError("expected", "expected {what}", {"what": what})


def refused(message: str) -> PydanticCustomError:
    """Make the error that says by itself what was found and what was expected."""
    return PydanticCustomError("refused", "{message}", {"message": message})


def found(location: Location, value: object, expectation: str) -> Problem:
    """Tell that a value is not what is expected, without showing what may be a secret."""
    return Problem(location, f"found {show(location, value)}, {expectation}")


def show(location: Location, value: object) -> str:
    """Write a value for a message: short, on one line, secrets masked."""
    match value:
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case None:
            return "nothing"
    if _is_secret(location):
        return MASK
    return str(value).lower() if isinstance(value, bool) else quote(scrub(str(value)))


def quote(text: str) -> str:
    """Write a text as it is, or in quotes where it would not read as one word."""
    short = text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"
    return short if _PLAIN.fullmatch(short) else json.dumps(short)


def spell(location: Location) -> str:
    """Write a location as a path: `projects[1].workspaces`."""
    spelled = ""
    for part in location:
        if isinstance(part, int):
            spelled += f"[{part}]"
        else:
            key = part if _PLAIN_KEY.fullmatch(part) else json.dumps(part)
            spelled += f".{key}" if spelled else key
    return spelled


def _is_secret(location: Location) -> bool:
    if location[:1] != ("credentials",):
        return False
    key = str(location[2]) if len(location) > 2 else ""
    return key not in _SHOWN_OF_CREDENTIALS and not key.endswith("_file")
