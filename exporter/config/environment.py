"""Environment variables in the configuration: `${VAR}`, `${VAR:-default}`, and `$$` for a dollar."""

from __future__ import annotations

import re
from collections.abc import Mapping

from exporter.config.problems import Location, Problem

# A default ends at the first brace, and holds no further variable.
_REFERENCE = re.compile(r"\$\$|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<default>:-(?:(?!\$\{)[^}])*)?\}|\$\{")


def substitute(text: str, environ: Mapping[str, str]) -> str:
    """
    Put variables into a text. As in a shell, the default also stands in for an empty variable.

    Raises: ValueError (a variable that is not set and has no default; a `${` that is no reference).
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

    return _REFERENCE.sub(value, text)


def expand(tree: object, environ: Mapping[str, str]) -> tuple[object, list[Problem]]:
    """
    Put variables into every string value of a document. Keys and structure stay what they are.

    Shape: where a variable is missing the text is left as it is, and the problem told beside the tree.
    """
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
