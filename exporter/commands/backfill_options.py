"""The options of `backfill`, and whether its files can be written."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from exporter.backfill.plan import LONGEST_STEP_MS, BackfillOptions
from exporter.commands.long_work import mebibytes
from exporter.config import format_duration
from exporter.config.durations import parse_duration
from exporter.errors import ConfigError

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
# Labels of the exporter's own series, which no --label may replace.
_OWN_LABELS = frozenset({"project", "workspace", "job_type", "status", "msg_code", "resource_spec", "le"})


def read_options(
    now_ms: int, *, prometheus: str | None, labels: Sequence[str], since: str, step: str
) -> BackfillOptions:
    """Read the options. Raises: ConfigError, with all problems."""
    problems: list[str] = []
    given = _labels(labels, problems)
    if prometheus is None and not {"job", "instance"} <= given.keys():
        problems.append(
            "--prometheus: missing, expected a URL, or the labels of the live series, as --label job=octopus"
            " --label instance=exporter:10877"
        )
    since_ms = _milliseconds("--from", since, problems)
    step_ms = _milliseconds("--step", step, problems)
    if step_ms is not None and not 1_000 <= step_ms <= LONGEST_STEP_MS:
        longest = format_duration(LONGEST_STEP_MS / 1000)
        problems.append(f"--step: found {step}, expected 1s to {longest}: Prometheus looks back 5m")
    if problems or since_ms is None or step_ms is None:
        raise ConfigError(problems)
    from_ms = (now_ms - since_ms) // step_ms * step_ms
    return BackfillOptions(now_ms, prometheus, given, from_ms, step_ms)


def _labels(labels: Sequence[str], problems: list[str]) -> dict[str, str]:
    given: dict[str, str] = {}
    for label in labels:
        name, equals, value = label.partition("=")
        if not equals or not value or not _LABEL.fullmatch(name) or name.startswith("__"):
            problems.append(f"--label: found {label!r}, expected NAME=VALUE, as job=octopus")
        elif not _is_text(value):
            problems.append(f"--label: found {value!r} for {name}, which is not UTF-8")
        elif given.get(name, value) != value:
            problems.append(f"--label: found {name} twice, as {given[name]!r} and {value!r}")
        elif name in _OWN_LABELS:
            problems.append(f"--label: found {name}, a label that the exporter sets itself")
        else:
            given[name] = value
    return given


def _is_text(text: str) -> bool:
    """Tell whether the bytes of an argument are UTF-8: others come as lone surrogates."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _milliseconds(name: str, text: str, problems: list[str]) -> int | None:
    try:
        found = round(parse_duration(text) * 1000)
    except ValueError as exc:
        problems.append(f"{name}: found {text!r}, {exc}, expected one such as 30d or 4m")
        return None
    if found <= 0:
        problems.append(f"{name}: found {text}, expected more than 0")
        return None
    return found


def check_output(output: Path) -> None:
    """Make sure that the folder is empty or can be made. Raises: ConfigError."""
    try:
        if output.is_dir():
            if any(output.iterdir()):
                raise ConfigError([f"--output: {output} is not empty, expected an empty folder or a new one"])
        elif output.exists() or output.is_symlink():
            raise ConfigError([f"--output: {output} is not a folder"])
        there = _nearest(output)
        if not there.is_dir():
            raise ConfigError([f"--output: {output}: {there} is not a folder"])
        if not os.access(there, os.W_OK | os.X_OK):
            raise ConfigError([f"--output: {output}: {there} is not writable"])
    except OSError as exc:
        raise ConfigError([f"--output: {output}: {exc.strerror or exc}"]) from exc


def check_room(output: Path, size_bytes: int) -> None:
    """Make sure that the disk has room for the files. Raises: ConfigError."""
    free = shutil.disk_usage(_nearest(output)).free
    if size_bytes > free:
        raise ConfigError(
            [f"--output: {output} has {mebibytes(free)} free, and about {mebibytes(size_bytes)} are needed"]
        )


def _nearest(path: Path) -> Path:
    """Give the path if it exists, else the nearest of its parents that exists."""
    return next(one for one in (path, *path.absolute().parents) if one.exists())
