"""`backfill`: writes what the live counters leave out as OpenMetrics files, for Prometheus to load."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from exporter.backfill import script
from exporter.backfill.estimate import Estimator, TargetEstimate
from exporter.backfill.live import read_live_counting
from exporter.backfill.openmetrics import write_days
from exporter.backfill.past import LeftOut, PastKind
from exporter.backfill.plan import (
    LONGEST_STEP_MS,
    BackfillOptions,
    BackfillPlan,
    LiveCounting,
    LiveSeries,
    TargetPlan,
)
from exporter.backfill.prometheus import check_history, find_live_series, find_rules, fit_retention
from exporter.backfill.reader import PastReader, PastRows
from exporter.backfill.rule_history import RecordingRule, rules_of
from exporter.backfill.script import SCRIPT, can_be_loaded_ms, history_of, loading_files
from exporter.backfill.spool import Spool
from exporter.clients import ClientFactory
from exporter.commands.long_work import mebibytes, work_progress
from exporter.commands.output import print_line
from exporter.config import Config, format_duration
from exporter.config.durations import parse_duration
from exporter.errors import BackfillError, ConfigError, StartError
from exporter.ledger.opening import opened_to_look
from exporter.ledger.thread import LedgerThread
from exporter.masking import Secrets
from exporter.model import Target, TargetKey
from exporter.octopus.messages import NullObserver
from exporter.octopus.transport import open_session
from exporter.pollers import poll_rules
from exporter.progress import progress_listener
from exporter.rules import RULES, generate, load_settings
from exporter.runs import rfc3339

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
# Labels of the exporter's own series, which no --label may replace.
_OWN_LABELS = frozenset({"project", "workspace", "job_type", "status", "msg_code", "resource_spec", "le"})
# Live series that begin so much later than the first poll have counted before Prometheus saw them.
_LATE_MS = 600_000
_SCRIPT_BODY = Path(script.__file__).with_name("load.sh")
# What a sample takes in a block of two hours, with its share of the index.
_BLOCK_BYTES = 6


@dataclass(slots=True)
class PastRead:
    """
    A plan and what was read for it.

    Shape: `estimates` and `left_out` are by target; `rules` are the recording rules that get a history.
    """

    plan: BackfillPlan
    rules: Sequence[RecordingRule]
    estimates: Sequence[TargetEstimate]
    left_out: Sequence[LeftOut]


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
        elif name in _OWN_LABELS:
            problems.append(f"--label: found {name}, a label that the exporter sets itself")
        else:
            given[name] = value
    return given


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
        there = next(folder for folder in (output, *output.absolute().parents) if folder.is_dir())
        if not os.access(there, os.W_OK | os.X_OK):
            raise ConfigError([f"--output: {output}: {there} is not writable"])
    except OSError as exc:
        raise ConfigError([f"--output: {output}: {exc.strerror or exc}"]) from exc


# -- what to write -------------------------------------------------------------------------------------------


async def read_past(
    config: Config, secrets: Secrets, options: BackfillOptions, spool: Spool
) -> PastRead | None:
    """
    Find out what to write, and read it from the API; None where there is nothing to write, which is said.

    Raises: ConfigError; StartError (no ledger, or one without a baseline); BackfillError.
    """
    # First: without a ledger there is nothing to ask for.
    live = _read_ledger(config)
    counted = {target: one for target, one in live.items() if one.baseline_ms is not None}
    for target in live:
        if target not in counted:
            print_line(f"{_name(target)}: metrics.count_history has counted its history: nothing to write")
    plan = BackfillPlan((), poll_rules(config).counting, options.step_ms, _lookback_ms(config))
    if counted:
        series: Mapping[TargetKey, LiveSeries] = {}
        if options.prometheus is not None:
            options, notes = await fit_retention(options)
            _print_all(notes)
            series = await find_live_series(options, tuple(counted))
        plan = replace(plan, targets=_plan_targets(options, counted, series))
    if not plan.targets:
        print_line("There is nothing to write.")
        return None
    _print_all(await check_history(options, plan))
    rules, notes = await _recording_rules(options)
    _print_all(notes)
    estimator = Estimator(plan)
    left_out = await _read_targets(config, secrets, plan, spool, estimator)
    return PastRead(plan, rules, estimator.targets(), left_out)


def _lookback_ms(config: Config) -> int | None:
    return poll_rules(config).schedule.lookback_ms


def _plan_targets(
    options: BackfillOptions, counted: Mapping[Target, LiveCounting], series: Mapping[TargetKey, LiveSeries]
) -> tuple[TargetPlan, ...]:
    """Plan what is written of each target, and say what is not. Raises: ConfigError."""
    found = [dict(one.labels) for one in series.values()]
    # What Prometheus adds to all targets, it adds to one that it has not seen yet.
    shared = found[0] if found and all(labels == found[0] for labels in found) else {}
    targets, problems = [], []
    for target, live in counted.items():
        one = series.get(target.key, LiveSeries(shared, None))
        labels = {**one.labels, **options.labels}
        if not {"job", "instance"} <= labels.keys():
            problems.append(
                f"--label: {_name(target)} has no live series yet: give its labels job and instance"
            )
            continue
        baseline_ms = (live.baseline_ms or 0) - live.rows_ahead_ms
        until_ms = baseline_ms if one.first_ms is None else one.first_ms
        if until_ms - baseline_ms > _LATE_MS:
            print_line(
                f"{_name(target)}: Prometheus has its series since {rfc3339(until_ms)} only, the first poll"
                f" was at {rfc3339(baseline_ms)}: increase() does not see what was counted in between"
            )
        if until_ms - options.step_ms <= options.from_ms:
            begun = "its first poll was" if one.first_ms is None else "Prometheus has its series since"
            print_line(
                f"{_name(target)}: {begun} {rfc3339(until_ms)}, and the history would begin at"
                f" {rfc3339(options.from_ms)}: there is nothing before, or it is loaded already"
            )
            continue
        targets.append(TargetPlan(target, live, labels, options.from_ms, until_ms))
    if problems:
        raise ConfigError(problems)
    return tuple(targets)


async def _recording_rules(options: BackfillOptions) -> tuple[Sequence[RecordingRule], Sequence[str]]:
    """Give the recording rules that get a history: those of Prometheus, else those that ship."""
    rules = None if options.prometheus is None else await find_rules(options)
    notes = []
    if rules is None or not history_of(rules).stages:
        why = "the rules of Prometheus are not known" if rules is None else "Prometheus has no such rules yet"
        notes.append(f"{why}: those that ship with the exporter get a history")
        groups = yaml.safe_load(generate(load_settings())[RULES])["groups"]
        rules = rules_of({**group, "interval": parse_duration(group["interval"])} for group in groups)
    if left_out := history_of(rules).left_out:
        notes.append(f"no history for rules that read themselves, or each other: {', '.join(left_out)}")
    return rules, notes


def _print_all(lines: Iterable[str]) -> None:
    for line in lines:
        print_line(line)


def _read_ledger(config: Config) -> Mapping[Target, LiveCounting]:
    """Raises: StartError (no ledger to read, or a target that was never polled completely); LedgerError."""
    found = {}
    with opened_to_look(config.ledger) as db:
        for target in config.targets():
            live = read_live_counting(db, target.key)
            if live is None:
                raise StartError(
                    f"ledger {config.ledger.url}: {_name(target)} is not in it yet: a backfill ends where the"
                    " live counters begin, so let `octopus-exporter run` poll it first"
                )
            found[target] = live
    return found


# -- reading -------------------------------------------------------------------------------------------------


async def _read_targets(
    config: Config, secrets: Secrets, plan: BackfillPlan, spool: Spool, estimator: Estimator
) -> list[LeftOut]:
    """Read all targets from the API into the spool."""
    rows = PastRows(await LedgerThread.begin_to_open(None))
    try:
        with progress_listener() as listener:
            async with open_session() as session:
                access = ClientFactory(config, session, NullObserver(), secrets)
                reader = PastReader(
                    rows=rows,
                    rules=poll_rules(config),
                    now_ms=lambda: time.time_ns() // 1_000_000,
                    pause_seconds=config.poll.interval_seconds,
                    listener=listener,
                )
                return await reader.fill(plan, access.client, spool, estimator)
    finally:
        await rows.close()


# -- writing -------------------------------------------------------------------------------------------------


def write(past: PastRead, spool: Spool, output: Path, *, dry_run: bool) -> None:
    """Say what will be written, and write it, all of it or nothing. Raises: BackfillError."""
    plan = past.plan
    _print_all(_announcement(past, output))
    if not dry_run:
        began = time.monotonic()
        progress = work_progress("writing", "days", "days", len(plan.days))
        with _all_or_nothing(output), progress as on_day:
            days = write_days(plan, spool, output, on_day)
            body = _SCRIPT_BODY.read_text(encoding="utf-8")
            files = loading_files(plan, days, past.rules, body) if days else {}
            for name, text in files.items():
                _write_file(output / name, text)
        took = format_duration(max(1, round(time.monotonic() - began)))
        print_line(
            f"Written in {took}: {len(days)} days, {sum(day.samples for day in days):,} samples,"
            f" {mebibytes(sum(day.size_bytes for day in days))}"
        )
        if days:
            when = rfc3339(can_be_loaded_ms(days))
            print_line(f"To load them, run {output / SCRIPT} DATA_DIRECTORY, not before {when}")
    _print_all(_what_is_missing(past))


def _announcement(past: PastRead, output: Path) -> Iterator[str]:
    plan = past.plan
    yield (
        f"From {rfc3339(plan.from_ms)} to {rfc3339(plan.until_ms)}, a sample every"
        f" {format_duration(plan.step_ms / 1000)}, to {output}:"
    )
    for target, estimate in zip(plan.targets, past.estimates, strict=True):
        counted = estimate.counted
        yield (
            f"  {_name(target.target)}: {counted[PastKind.CREATED]:,} jobs created,"
            f" {counted[PastKind.STARTED]:,} runs started, {counted[PastKind.ENDED]:,} ended;"
            f" about {estimate.series:,} series, {estimate.samples:,} samples"
        )
    size = sum(estimate.size_bytes for estimate in past.estimates)
    samples = sum(estimate.samples for estimate in past.estimates)
    yield (
        f"  in all {len(plan.days)} days, about {mebibytes(size)} of files,"
        f" {mebibytes(samples * _BLOCK_BYTES)} of blocks"
    )


def _what_is_missing(past: PastRead) -> Iterator[str]:
    """Say what the files cannot tell, with its number where that is known."""
    yield "Not in the files, since the API does not tell it:"
    yield "  jobs that were deleted, and the runs before the last run of a job"
    yield "  LAUNCHING and UPLOADING: jobs are QUEUING until they start, and RUNNING until they end"
    for target, left_out in zip(past.plan.targets, past.left_out, strict=True):
        for count, what in _left_out(left_out):
            if count:
                yield f"  {_name(target.target)}: {count:,} {what}"


def _left_out(found: LeftOut) -> Iterator[tuple[int, str]]:
    yield found.ran_again, "jobs have run again since the first poll: their runs before are not known"
    yield found.unreadable, "rows cannot be read"
    undecided = "just before the first poll, and the ledger does not tell whether they were counted live:"
    yield found.counted_late, f"runs ended {undecided} they are left out"
    yield found.started_late, f"runs started {undecided} they are counted in the history"
    yield found.late, "creations, starts and ends after the first live sample, of job types that came later"


@contextmanager
def _all_or_nothing(output: Path) -> Iterator[None]:
    """Make the folder; where the block fails, delete all that is in it, and the folder if it is new."""
    made = not output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise BackfillError(f"--output: {output}: {exc.strerror or exc}") from exc
    try:
        yield
    except BaseException:
        # It was empty, so all files are ours.
        with suppress(OSError):
            for path in output.iterdir():
                path.unlink()
            if made:
                output.rmdir()
        raise


def _write_file(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
        if path.suffix == ".sh":
            path.chmod(0o755)
    except OSError as exc:
        raise BackfillError(f"{path}: {exc.strerror or exc}") from exc


def _name(target: Target) -> str:
    return f"{target.project}, workspace {target.workspace}"
