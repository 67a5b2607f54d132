"""From a file of settings to checked settings. A key that the file does not have keeps the shipped value."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from exporter import shipped_path
from exporter.config.document import Document, read_document
from exporter.config.problems import Problem, explain, one_of
from exporter.errors import ConfigError
from exporter.rules.settings import Settings

SETTINGS = shipped_path("prometheus/settings.yaml")


def load_settings(file: Path = SETTINGS) -> Settings:
    """Read settings. Raises: ConfigError, with every problem: where, what was found, what was expected."""
    document = _read(file)
    tree = merged(_mapping(_read(SETTINGS)), _mapping(document))
    settings, problems = None, list(document.problems)
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as exc:
        problems += [_explain(details) for details in exc.errors(include_url=False)]
    if settings is None or problems:
        raise ConfigError(document.lines(problems))
    return settings


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """
    Replace the keys at the top and the keys of each section. A deeper value is replaced as a whole.

    Otherwise a list of statuses or job types could be extended, but no entry of the shipped one removed.
    """
    tree: dict[str, Any] = {**base}
    for key, value in _given(changes).items():
        both_are_sections = isinstance(value, Mapping) and isinstance(tree.get(key), Mapping)
        tree[key] = {**tree[key], **_given(value)} if both_are_sections else value
    return tree


def _given(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out keys without a value, as in a section whose keys are all commented out."""
    return {key: value for key, value in mapping.items() if value is not None}


def _mapping(document: Document) -> Mapping[str, Any]:
    return document.tree if isinstance(document.tree, Mapping) else {}


def _read(file: Path) -> Document:
    return read_document(file, "a mapping with keys of the shipped settings")


def _explain(details: ErrorDetails) -> Problem:
    location = tuple(part for part in details["loc"] if part != "[key]")
    if details["type"] == "missing":
        return Problem(location, "missing, expected a value")
    if details["type"] == "extra_forbidden":
        section: Any = Settings
        for part in location[:-1]:
            section = _fields(section)[str(part)].annotation
        return Problem(location, f"unknown key, expected {one_of(_fields(section))}")
    return explain(details, location, {})


def _fields(section: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in section.model_fields.items()}
