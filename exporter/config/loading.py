"""From a file to a checked configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from exporter.config.document import Document, read_document
from exporter.config.environment import expand
from exporter.config.explanation import explain
from exporter.config.problems import Location, Problem
from exporter.config.settings import Config
from exporter.errors import ConfigError


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """
    Read and check a configuration file. Files named in it are not opened here.

    Raises: ConfigError, with every problem: `file:line:column: path: what was found, what was expected`.
    """
    document = read_document(path)
    tree, unset = expand(document.tree, environ)
    told = [*document.problems, *unset]
    try:
        config = Config.model_validate(tree, context={"folder": path.parent})
    except ValidationError as exc:
        raise ConfigError(_lines(document, told, explain(exc, tree))) from None
    if told:
        raise ConfigError(_lines(document, told, []))
    return config


def _lines(document: Document, told: list[Problem], explained: list[Problem]) -> list[str]:
    """Write the problems in the order of the file, without those that only follow from one already told."""
    locations = {problem.location for problem in told}
    problems = told + [problem for problem in explained if not _is_below(problem.location, locations)]
    problems.sort(key=lambda problem: document.mark(problem.location))
    return [document.line(problem) for problem in problems]


def _is_below(location: Location, others: set[Location]) -> bool:
    return any(location[:length] in others for length in range(len(location) + 1))
