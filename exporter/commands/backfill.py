"""`backfill`: writes what the live counters leave out as OpenMetrics files, for Prometheus to load."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from exporter.backfill.plan import LONGEST_STEP_MS, BackfillOptions, BackfillPlan
from exporter.backfill.spool import Spool
from exporter.config import Config, format_duration
from exporter.config.durations import parse_duration
from exporter.errors import ConfigError
from exporter.masking import Secrets

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
# Labels of the exporter's own series, which no --label may replace.
_OWN_LABELS = frozenset({"project", "workspace", "job_type", "status", "msg_code", "resource_spec", "le"})


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan with its moments read; closing it deletes the spool."""

    options: BackfillOptions
    plan: BackfillPlan
    spool: Spool
    notes: Sequence[str]
    stack: ExitStack

    def __enter__(self) -> Prepared:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stack.close()


def options(
    now_ms: int, *, prometheus: str | None, labels: Sequence[str], since: str, step: str
) -> BackfillOptions:
    """Read the options. Raises: ConfigError, with all problems."""
    problems: list[str] = []
    given: dict[str, str] = {}
    for label in labels:
        name, equals, value = label.partition("=")
        if not equals or not _LABEL.fullmatch(name) or name.startswith("__"):
            problems.append(f"--label: found {label!r}, expected NAME=VALUE, as job=octopus")
        elif name in _OWN_LABELS:
            problems.append(f"--label: found {name}, which the exporter's own series have")
        else:
            given[name] = value
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
    if output.is_dir():
        if any(output.iterdir()):
            raise ConfigError([f"--output: {output} is not empty, expected an empty folder or a new one"])
    elif output.exists() or output.is_symlink():
        raise ConfigError([f"--output: {output} is no folder"])


async def prepare(config: Config, secrets: Secrets, options: BackfillOptions) -> Prepared | None:
    """
    Find out what to write, and read it from the API; None where there is nothing to write, which is said.

    In this order: what the ledger says of each target; `prometheus.find_live_series`; the plan;
    `prometheus.check_history`; then the API, into the spool.
    Raises: ConfigError; StartError (no ledger, or one without a baseline); BackfillError; PollError.
    """
    raise NotImplementedError


def write(prepared: Prepared, output: Path, *, dry_run: bool) -> None:
    """
    Say what will be written, and write it: the days, then the files of `script.loading_files`.

    Raises: BackfillError.
    """
    raise NotImplementedError
