"""From a file to a checked configuration: replace the variables, validate, report every problem."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from exporter.config.credentials import CREDENTIALS
from exporter.config.document import read_document
from exporter.config.problems import Location, Problem, explain, found, quote
from exporter.config.settings import SECTIONS, Config, ProjectSettings
from exporter.errors import ConfigError

# A default ends at the first brace, and contains no other variable.
_VARIABLE = re.compile(r"\$\$|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-(?:(?!\$\{)[^}])*)?\}|\$\{")
_KINDS = "token, password, aksk or chain"


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """
    Read and check a configuration file. The files that it names are not opened here.

    Raises: ConfigError, with every problem: `file:line:column: path: what was found, what was expected`.
    """
    document = read_document(path, "a mapping with projects and credentials")
    tree, unset = expand(document.tree, environ)
    problems = [*document.problems, *unset]
    # One for each location. What pydantic says of a location is more precise, so it comes last.
    explained = {problem.location: problem for problem in _check_names(tree)}
    config = None
    try:
        config = Config.model_validate(tree, context={"folder": path.parent})
    except ValidationError as exc:
        for details in exc.errors(include_url=False):
            # These two only follow from another error, which pydantic reports too: a list without its bad
            # entries is too short, and a default cannot be computed from a bad value.
            too_short = details["type"] == "too_short" and len(details["input"]) > 0
            if not too_short and details["type"] != "default_factory_not_called":
                problem = _explain(details)
                explained[problem.location] = problem
    # A value that could not be read at all needs no second problem, nor does anything below it.
    located = {problem.location for problem in problems}
    for location, problem in explained.items():
        if not any(location[:length] in located for length in range(len(location) + 1)):
            problems.append(problem)
    if config is None or problems:
        raise ConfigError(document.lines(problems))
    return config


def expand(tree: object, environ: Mapping[str, str]) -> tuple[object, list[Problem]]:
    """Replace variables in all texts but keys. A text with a bad variable stays, and is a problem."""
    problems: list[Problem] = []

    def walk(value: object, location: Location) -> object:
        match value:
            case dict():
                return {key: walk(item, (*location, key)) for key, item in value.items()}
            case list():
                return [walk(item, (*location, index)) for index, item in enumerate(value)]
            case str():
                try:
                    return substitute(value, environ)
                except ValueError as exc:
                    problems.append(Problem(location, str(exc)))
        return value

    return walk(tree, ()), problems


def substitute(text: str, environ: Mapping[str, str]) -> str:
    """
    Replace `${VAR}`, `${VAR:-default}` and `$$`. As in a shell, an empty variable takes the default too.

    Raises: ValueError (a variable that is not set and has no default; a `${` that begins no variable).
    """

    def value(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        if match[0] == "$$":
            return "$"
        if name is None:
            raise ValueError("found a ${ that begins no variable, expected ${VAR}, ${VAR:-default} or $${")
        if default is not None:
            return environ.get(name) or default.removeprefix(":-")
        if name not in environ:
            raise ValueError(f"variable {name} is not set, expected a value for it or ${{{name}:-default}}")
        return environ[name]

    # In one pass, so that a $ in the value of a variable, such as a password, stays as it is.
    return _VARIABLE.sub(value, text)


def _check_names(tree: object) -> Iterator[Problem]:
    """
    Find projects that share a name, and projects whose credentials are unknown or not given.

    This looks at the document, not at the models: a model of the whole exists only if each value is valid,
    and all problems are to be reported at once.
    """
    match tree:
        case {"projects": list() as projects, "credentials": dict() as known}:
            pass
        case _:  # pydantic reports that one of them is missing, or no list or mapping
            return
    first: dict[str, int] = {}
    which = f"expected one of the credentials: {', '.join(map(quote, known))}"
    for index, project in enumerate(projects):
        if not isinstance(project, Mapping):
            continue
        name, credentials = project.get("name"), project.get("credentials")
        name = project.get("id") if name is None else name
        if isinstance(name, str) and first.setdefault(name, index) != index:
            another = f"expected another name than that of projects[{first[name]}]"
            yield found(("projects", index, "name"), name, another)
        location = ("projects", index, "credentials")
        if credentials is None and len(known) > 1:
            yield Problem(location, f"missing, {which}")
        elif credentials is not None and known and str(credentials) not in known:
            yield found(location, str(credentials), which)


def _explain(details: ErrorDetails) -> Problem:
    location = details["loc"]
    # pydantic adds to the keys: "[key]" for a bad key of a mapping, and the type of credentials.
    if location[-1:] == ("[key]",):
        location = location[:-1]
    elif location[:1] == ("credentials",):
        location = location[:2] + location[3:]
    match details["type"]:
        case "union_tag_not_found":
            return Problem((*location, "type"), f"missing, expected {_KINDS}")
        case "union_tag_invalid":
            return found((*location, "type"), details["input"]["type"], f"expected {_KINDS}")
    return explain(details, location, _keys_beside(details["loc"]))


def _keys_beside(location: Location) -> dict[str, str]:
    match location[:-1]:
        case ("projects", int()):
            return ProjectSettings.keys()
        case ("credentials", str(), str(kind)):
            return CREDENTIALS[kind].keys()
        case (str(section),) if section in SECTIONS:
            return SECTIONS[section].keys()
    return Config.keys()
