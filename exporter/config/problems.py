"""How a problem in a file is reported: where it is, what was found, and what was expected."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from pydantic_core import ErrorDetails, PydanticCustomError

from exporter.config.secret import MASK, scrub

Location = tuple[str | int, ...]

# ASCII only: a look-alike or an invisible character must show as an escape.
_PLAIN = re.compile(r"[\w$.,:/+*<>@%={}\[\]?&~-]+", re.ASCII)
_PLAIN_KEY = re.compile(r"[\w-]+", re.ASCII)
_LONGEST_SHOWN = 80
# Every other value below `credentials` is a secret, or can be one that was put under the wrong key.
_SHOWN_OF_CREDENTIALS = frozenset({"type", "domain", "user", "iam_endpoint"})
# pydantic's names for a value of the wrong shape.
_SHAPES = {
    "model_type": "expected a mapping",
    "model_attributes_type": "expected a mapping",
    "mapping_type": "expected a mapping",
    "dict_type": "expected a mapping",
    "tuple_type": "expected a list",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem. Shape: `message` is a clause that follows the location."""

    location: Location
    message: str


def expected(what: str) -> PydanticCustomError:
    """Make the error of a value that is not `what`. The message will also show the value."""
    # As a parameter: braces in the text itself would be taken for placeholders.
    return PydanticCustomError("expected", "expected {what}", {"what": what})


def refused(message: str) -> PydanticCustomError:
    """Make an error whose message is complete: it names what was found and what was expected."""
    return PydanticCustomError("refused", "{message}", {"message": message})


def found(location: Location, value: object, expectation: str) -> Problem:
    """Report a value that is not what is expected. A value that may be a secret is masked."""
    return Problem(location, f"found {show(location, value)}, {expectation}")


def explain(details: ErrorDetails, location: Location, keys: Mapping[str, str]) -> Problem:
    """Turn an error of pydantic into a problem. Shape: `keys` are its section's, with what is expected."""
    match details["type"]:
        case "missing":
            return Problem(location, f"missing, expected {keys[str(location[-1])]}")
        case "extra_forbidden":
            close = get_close_matches(str(location[-1]), keys, 1)
            return Problem(location, "unknown key, expected " + (close[0] if close else one_of(keys)))
        case "too_short":
            return Problem(location, "found no entry, expected at least one")
        case "too_long":
            most = details["ctx"]["max_length"]
            return Problem(location, f"found {len(details['input'])} entries, expected at most {most}")
        case "refused":
            return Problem(location, details["msg"])
        case kind:
            return found(location, details["input"], _SHAPES.get(kind, details["msg"]))


def one_of(keys: Iterable[str]) -> str:
    return f"one of {', '.join(keys)}"


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


def _is_secret(location: Location) -> bool:
    if location[:1] != ("credentials",):
        return False
    key = str(location[2]) if len(location) > 2 else ""
    return key not in _SHOWN_OF_CREDENTIALS and not key.endswith("_file")


def quote(text: str) -> str:
    """Write a text as it is, or in quotes if it does not read as one word."""
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
