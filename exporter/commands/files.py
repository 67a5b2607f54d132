"""`files`: gives the files that ship beside the code, which an installed wheel has too."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from exporter import shipped_path
from exporter.commands.choices import Kind, RuleFormat
from exporter.errors import ConfigError, ExporterError
from exporter.rules import (
    ALERTMANAGER,
    RULE_OBJECT,
    RULES,
    SETTINGS,
    as_prometheus_rule,
    generate,
    generate_alertmanager,
    load_settings,
)

_DASHBOARDS = "grafana/dashboards"
_PROVISIONING = "grafana/provisioning"
_UNITS = "deploy/systemd"
_MESSAGES = "prometheus/octopus.tmpl"
# Where the shipped unit expects the exporter, and the shipped dashboards its status page.
_PROGRAM = "/opt/octopus-exporter/bin/octopus-exporter"
_STATUS_PAGE = "http://localhost:10877"
_MODE = 0o644


Files = Mapping[str, str]


class WouldOverwrite(ExporterError):
    """Files with another content are in the way."""


def collect(kind: Kind, settings: Path | None = None, rule_format: RuleFormat | None = None) -> Files:
    """
    Return the texts of the files by their path below the output folder, the main one first.

    Raises: ConfigError (wrong settings, or options that do not belong to this kind).
    """
    problems = []
    if settings and kind not in {Kind.RULES, Kind.DASHBOARDS}:
        problems.append(f"--settings: found with {kind}, expected only with rules or dashboards")
    if rule_format and kind is not Kind.RULES:
        problems.append(f"--format: found with {kind}, expected only with rules")
    if problems:
        raise ConfigError(problems)
    match kind:
        case Kind.CONFIG:
            return {"config.yaml": _text(shipped_path("config.example.yaml"))}
        case Kind.RULES:
            return _rules(settings, rule_format or RuleFormat.PROMETHEUS)
        case Kind.DASHBOARDS:
            status_page = load_settings(settings).links.status_page.rstrip("/") if settings else ""
            return {
                name.removeprefix("grafana/"): text.replace(_STATUS_PAGE, status_page or _STATUS_PAGE)
                for folder in (_DASHBOARDS, _PROVISIONING)
                for name, text in _below(folder)
            }
        case Kind.UNITS:
            # The service starts the running program if that is an installed one.
            program = Path(sys.executable).parent / "octopus-exporter"
            start = str(program) if program.is_file() else _PROGRAM
            units = _below(_UNITS)
            return {name.removeprefix(f"{_UNITS}/"): text.replace(_PROGRAM, start) for name, text in units}


def _rules(file: Path | None, rule_format: RuleFormat) -> Files:
    """Return the rules and the example for Alertmanager; without `file` also the shipped settings."""
    settings = load_settings(file or SETTINGS)
    text = generate(settings)[RULES]
    if rule_format is RuleFormat.PROMETHEUS_RULE:
        files = {RULE_OBJECT: as_prometheus_rule(text)}
    else:
        files = {RULES: text}
    # The usual `rule_files: DIR/*.yml` of Prometheus must not match these: neither .yaml nor subfolders.
    if file is None:
        files["octopus-settings.yaml"] = _text(SETTINGS)
    files[f"alertmanager/{ALERTMANAGER}"] = generate_alertmanager(settings)
    files[f"alertmanager/{Path(_MESSAGES).name}"] = _text(shipped_path(_MESSAGES))
    return files


def _below(folder: str) -> Iterable[tuple[str, str]]:
    root = shipped_path(folder)
    for file in sorted(root.rglob("*")):
        if file.is_file():
            yield f"{folder}/{file.relative_to(root).as_posix()}", _text(file)


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def write(files: Files, folder: Path, *, force: bool) -> list[str]:
    """
    Write the files below the folder, all of them or none; return a line for each.

    Raises: WouldOverwrite (without `force`, and a file is there with another content); ExporterError (the
    folder cannot be written).
    """
    try:
        there = {name: _found(folder / name) for name in files}
        differing = [name for name, content in files.items() if there[name] not in {None, content}]
        if differing and not force:
            told = [f"{folder / name}: differs from what would be written" for name in differing]
            raise WouldOverwrite("\n".join([*told, "nothing was written; --force overwrites"]))
        return [_write(folder / name, content, there[name]) for name, content in files.items()]
    except OSError as exc:
        raise ExporterError(f"{exc.filename or folder}: cannot be written ({exc.strerror})") from exc


def _found(file: Path) -> str | None:
    """Return the content of a file, also if it is no UTF-8; None where there is no file."""
    return file.read_bytes().decode("utf-8", "replace") if file.exists() else None


def _write(file: Path, content: str, found: str | None) -> str:
    """Replace the file as a whole, so that no program ever reads half of it."""
    if found == content:
        return f"{file}: is up to date"
    file.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, because a rename to another file system would not be atomic.
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    written = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(content)
        # mkstemp lets only its owner read; Prometheus runs as another user.
        written.chmod(_MODE)
        written.replace(file)
    except OSError:
        written.unlink(missing_ok=True)
        raise
    return f"{file}: {'written' if found is None else 'overwritten'}"
