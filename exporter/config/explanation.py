"""Turn what pydantic found into problems as this project tells them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from exporter.config.credentials import CREDENTIALS
from exporter.config.problems import Location, Problem, found
from exporter.config.references import BadReference, Reference, check_references
from exporter.config.settings import SECTIONS, Config, ProjectSettings

_KINDS = "token, password, aksk or chain"
_SHAPES = {
    "model_type": "expected a mapping",
    "model_attributes_type": "expected a mapping",
    "mapping_type": "expected a mapping",
    "tuple_type": "expected a list",
}


def explain(error: ValidationError, tree: object) -> list[Problem]:
    """
    Tell every problem of a document that does not make a Config, one for each location.

    pydantic looks at what holds between projects only once each is right by itself. Since all problems are
    to be told at once, the references are checked here too, on the document as it is.
    """
    problems = {bad.location: bad.as_problem() for bad in _bad_references(tree)}
    for details in error.errors(include_url=False):
        if not _is_consequence(details):
            problem = _explain(details)
            problems[problem.location] = problem
    return list(problems.values())


def _is_consequence(details: ErrorDetails) -> bool:
    """Tell whether pydantic only found this because of another problem, which it tells as well."""
    short_of_good_entries = details["type"] == "too_short" and len(details["input"]) > 0
    return short_of_good_entries or details["type"] == "default_factory_not_called"


def _explain(details: ErrorDetails) -> Problem:  # noqa: PLR0911 - one return for each kind of error
    location, value = _in_file(details["loc"]), details["input"]
    match details["type"]:
        case "missing":
            return Problem(location, f"missing, expected {_keys_beside(details['loc'])[str(location[-1])]}")
        case "extra_forbidden":
            return Problem(location, _unknown_key(str(location[-1]), list(_keys_beside(details["loc"]))))
        case "union_tag_not_found":
            return Problem((*location, "type"), f"missing, expected {_KINDS}")
        case "union_tag_invalid":
            return found((*location, "type"), value["type"], f"expected {_KINDS}")
        case "too_short":
            return Problem(location, "found no entry, expected at least one")
        case "too_long":
            most = details["ctx"]["max_length"]
            return Problem(location, f"found {len(value)} entries, expected at most {most}")
        case "refused":
            return Problem(location, details["msg"])
        case kind:
            return found(location, value, _SHAPES.get(kind, details["msg"]))


def _in_file(location: Location) -> Location:
    """Drop what pydantic puts into a location beside the keys: the type of credentials, and `[key]`."""
    if location[-1:] == ("[key]",):
        return location[:-1]
    return location[:2] + location[3:] if location[:1] == ("credentials",) else location


def _keys_beside(location: Location) -> dict[str, str]:
    match location[:-1]:
        case ("projects", int()):
            return ProjectSettings.keys()
        case ("credentials", str(), str(kind)):
            return CREDENTIALS[kind].keys()
        case (str(section),):
            return SECTIONS[section].keys()
    return Config.keys()


def _unknown_key(key: str, known: list[str]) -> str:
    close = get_close_matches(key, known, 1)
    return "unknown key, expected " + (close[0] if close else f"one of {', '.join(known)}")


def _bad_references(tree: object) -> Iterator[BadReference]:
    match tree:
        case {"projects": list() as projects, "credentials": dict() as known}:
            references = [_reference(index, project) for index, project in enumerate(projects)]
            yield from check_references([reference for reference in references if reference], known)


def _reference(index: int, project: object) -> Reference | None:
    if not isinstance(project, Mapping):
        return None
    name, credentials = project.get("name", project.get("id")), project.get("credentials")
    return Reference(
        index,
        name if isinstance(name, str) else None,
        credentials if credentials is None else str(credentials),
    )
