"""From a file of settings to checked settings; what the file leaves out is as shipped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from exporter import shipped_path
from exporter.config.document import Document, read_document
from exporter.config.problems import Location, Problem, found
from exporter.errors import ConfigError
from exporter.rules.settings import Settings

SETTINGS = shipped_path("prometheus/settings.yaml")
_SHAPES = MappingProxyType(
    {
        "model_type": "expected a mapping",
        "dict_type": "expected a mapping",
        "tuple_type": "expected a list",
    }
)


def load_settings(file: Path = SETTINGS) -> Settings:
    """
    Read settings; a key that the file does not have keeps the value of the shipped file.

    Raises: ConfigError, with every problem: `file:line:column: path: what was found, what was expected`.
    """
    document = _read(file)
    tree = merged(_mapping(_read(SETTINGS)), _mapping(document))
    problems = list(document.problems)
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as exc:
        problems += [_explain(details) for details in exc.errors(include_url=False)]
    if problems:
        problems.sort(key=lambda problem: document.mark(problem.location))
        raise ConfigError([document.line(problem) for problem in problems])
    return settings


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Replace keys at the top, and keys of its sections; what is deeper is replaced as a whole."""
    tree: dict[str, Any] = {**base}
    for key, value in _given(changes).items():
        both_are_sections = isinstance(value, Mapping) and isinstance(tree.get(key), Mapping)
        tree[key] = {**tree[key], **_given(value)} if both_are_sections else value
    return tree


def _given(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out keys without a value: they are as shipped."""
    return {key: value for key, value in mapping.items() if value is not None}


def _mapping(document: Document) -> Mapping[str, Any]:
    return document.tree if isinstance(document.tree, Mapping) else {}


def _read(file: Path) -> Document:
    return read_document(file, "a mapping with keys of the shipped settings")


def _explain(details: ErrorDetails) -> Problem:
    location: Location = tuple(part for part in details["loc"] if part != "[key]")
    match details["type"]:
        case "missing":
            return Problem(location, "missing, expected a value")
        case "extra_forbidden":
            return Problem(location, f"unknown key, expected one of {', '.join(_keys(location[:-1]))}")
        case kind:
            return found(location, details["input"], _SHAPES.get(kind, details["msg"]))


def _keys(location: Location) -> list[str]:
    """Give the keys of the section at this place."""
    model: Any = Settings
    for part in location:
        model = model.model_fields[_by_alias(model)[str(part)]].annotation
    return list(_by_alias(model))


def _by_alias(model: type[BaseModel]) -> dict[str, str]:
    return {field.alias or name: name for name, field in model.model_fields.items()}
