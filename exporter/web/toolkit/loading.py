"""From a file to a web configuration that holds, certificates included."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from exporter.config.document import Document, parse_document
from exporter.config.problems import Problem
from exporter.errors import ConfigError
from exporter.web.toolkit.connection import ServerContext
from exporter.web.toolkit.cross_checks import check_together
from exporter.web.toolkit.explanation import explain
from exporter.web.toolkit.settings import WebSettings
from exporter.web.toolkit.tls import BadTls, server_context
from exporter.web.toolkit.watched_files import Sources

_WANTED = "a mapping with tls_server_config, basic_auth_users and such"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a file says; `context` is None where connections are not encrypted."""

    settings: WebSettings
    context: ServerContext | None


def load_web_config(file: Path, sources: Sources) -> Loaded:
    """
    Read and check a web configuration with all the files it names, each of them through `sources`.

    Raises: ConfigError, with every problem: `file:line:column: path: what was found, what was expected`.
    """
    document = parse_document(file, _read(file, sources), _WANTED)
    told = [*check_together(document.tree), *document.problems]
    try:
        settings = WebSettings.model_validate(
            document.tree or {}, context={"folder": file.parent, "sources": sources}
        )
    except ValidationError as exc:
        raise ConfigError(_lines(document, explain(exc) + told)) from None
    if told:
        raise ConfigError(_lines(document, told))
    tls = settings.tls_server_config
    try:
        return Loaded(settings, None if tls is None else server_context(tls))
    except BadTls as exc:
        problem = Problem(("tls_server_config", exc.key), str(exc))
        raise ConfigError(_lines(document, [problem])) from None


def _read(file: Path, sources: Sources) -> bytes:
    try:
        return sources.read(file)
    except OSError as exc:
        problem = f"{file}: cannot be read ({exc.strerror}), expected a web configuration"
        raise ConfigError([problem]) from exc


def _lines(document: Document, problems: Iterable[Problem]) -> list[str]:
    """Write the problems in the order of the file, the last that was told of each place."""
    by_location = {problem.location: problem for problem in problems}
    ordered = sorted(by_location.values(), key=lambda problem: document.mark(problem.location))
    return [document.line(problem) for problem in ordered]
