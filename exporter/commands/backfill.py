"""`backfill`: writes what the live counters leave out as OpenMetrics files, for Prometheus to load."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from exporter.backfill import script
from exporter.backfill.estimate import Estimator, TargetEstimate
from exporter.backfill.openmetrics import write_days
from exporter.backfill.past import LeftOut, PastKind
from exporter.backfill.plan import DAY_MS, BackfillOptions, BackfillPlan, LiveSeries, utc_text
from exporter.backfill.prometheus import (
    check_history,
    find_live_series,
    find_other_workspaces,
    find_rules,
    fit_retention,
)
from exporter.backfill.reader import PastReader, PastRows
from exporter.backfill.rule_history import RecordingRule, rules_of
from exporter.backfill.script import SCRIPT, can_be_loaded_ms, history_of, loading_files
from exporter.backfill.spool import Spool
from exporter.clients import ClientFactory
from exporter.commands.backfill_options import check_room
from exporter.commands.backfill_targets import LATE_MS, plan_targets, read_ledger
from exporter.commands.long_work import mebibytes, work_progress
from exporter.commands.output import print_line
from exporter.config import Config, format_duration
from exporter.config.durations import parse_duration
from exporter.errors import BackfillError
from exporter.ledger.thread import LedgerThread
from exporter.masking import Secrets
from exporter.model import TargetKey
from exporter.octopus.messages import NullObserver
from exporter.octopus.transport import open_session
from exporter.pollers import poll_rules
from exporter.progress import progress_listener
from exporter.rules import RULES, generate, load_settings

_SCRIPT_BODY = Path(script.__file__).with_name("load.sh")
# What a sample takes in a block, with its share of the index: 1.7 to 2 were measured.
_BLOCK_BYTES = 2


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


# -- what to write -------------------------------------------------------------------------------------------


async def read_past(
    config: Config, secrets: Secrets, options: BackfillOptions, spool: Spool
) -> PastRead | None:
    """
    Find out what to write, and read it from the API. None if there is nothing to write: then a line says so.

    Raises: ConfigError; StartError (no ledger, or one without a baseline); BackfillError.
    """
    # First: without a ledger there is nothing to ask for.
    counted = read_ledger(config)
    rules = poll_rules(config)
    plan = BackfillPlan((), rules.counting, options.step_ms, rules.schedule.lookback_ms)
    if counted:
        series: Mapping[TargetKey, LiveSeries] = {}
        if options.prometheus is not None:
            options, notes = await fit_retention(options)
            _print_all(notes)
            series = await find_live_series(options, tuple(counted))
        plan = replace(plan, targets=plan_targets(options, counted, series))
    if not plan.targets:
        print_line("There is nothing to write.")
        return None
    _print_all(await check_history(options, plan))
    recording_rules, notes = await find_recording_rules(options, plan)
    _print_all(notes)
    estimator = Estimator(plan)
    left_out = await _read_targets(config, secrets, plan, spool, estimator)
    return PastRead(plan, recording_rules, estimator.targets(), left_out)


async def find_recording_rules(
    options: BackfillOptions, plan: BackfillPlan
) -> tuple[Sequence[RecordingRule], Sequence[str]]:
    """Give the recording rules that get a history: those of Prometheus, else those that ship."""
    notes = []
    others = [] if options.prometheus is None else await find_other_workspaces(options, plan)
    if others:
        names = ", ".join(sorted(key.text for key in others))
        why = f"they add up all workspaces of a project, and this history has no samples of {names}"
        return (), [f"no history for the recording rules: {why}"]
    until_ms = min(target.until_ms for target in plan.targets)
    if plan.until_ms - until_ms > LATE_MS:
        notes.append(
            f"the history of the recording rules ends at {utc_text(until_ms)}, where the first live series"
            f" begin: no records of later ones until {utc_text(plan.until_ms)}"
        )
    rules = None if options.prometheus is None else await find_rules(options)
    if rules is None or not history_of(rules).stages:
        why = "are not known" if rules is None else "do not read these metrics yet"
        notes.append(
            f"the recording rules of Prometheus {why}: those that ship with the exporter get a history"
        )
        groups = yaml.safe_load(generate(load_settings())[RULES])["groups"]
        rules = rules_of({**group, "interval": parse_duration(group["interval"])} for group in groups)
    if left_out := history_of(rules).left_out:
        notes.append(f"no history for rules that read themselves, or each other: {', '.join(left_out)}")
    return rules, notes


def _print_all(lines: Iterable[str]) -> None:
    for line in lines:
        print_line(line)


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
    if all(estimate.first_ms is None for estimate in past.estimates):
        print_line("There is nothing to write: the API lists no job from before the live series.")
        _print_all(_what_is_left_out(past))
        return
    _print_all(_announcement(past, output))
    check_room(output, sum(estimate.size_bytes for estimate in past.estimates))
    if dry_run:
        print_line(f"The files can be loaded {_when(plan.until_ms - 1)}")
    else:
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
            f"Written in {took}: {_count(len(days), 'file')}, {sum(day.samples for day in days):,} samples,"
            f" {mebibytes(sum(day.size_bytes for day in days))}"
        )
        if days:
            print_line(f"To load them, run {output / SCRIPT} DATA_DIRECTORY, {_when(days[-1].last_ms)}")
    _print_all(_what_is_missing(past))


def _when(last_ms: int) -> str:
    """Say from when on a history with this last sample can be loaded."""
    at_ms = can_be_loaded_ms(last_ms)
    return "now or later" if at_ms * 1_000_000 <= time.time_ns() else f"not before {utc_text(at_ms)}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _announcement(past: PastRead, output: Path) -> Iterator[str]:
    plan = past.plan
    first_ms = min(estimate.first_ms for estimate in past.estimates if estimate.first_ms is not None)
    # There are no samples before the first moment, also where --from is earlier than what the API lists.
    begin_ms = max(plan.from_ms, first_ms - plan.step_ms)
    yield (
        f"From {utc_text(begin_ms)} to {utc_text(plan.until_ms)}, a sample every"
        f" {format_duration(plan.step_ms / 1000)}, to {output}:"
    )
    for target, estimate in zip(plan.targets, past.estimates, strict=True):
        counted = estimate.counted
        yield (
            f"  {target.target.key.text}, until {utc_text(target.until_ms)}:"
            f" {_count(counted[PastKind.CREATED], 'job')} created,"
            f" {_count(counted[PastKind.STARTED], 'run')} started, {counted[PastKind.ENDED]:,} ended;"
            f" about {estimate.series:,} series, {_count(estimate.samples, 'sample')}"
        )
    files = len(range(begin_ms // DAY_MS, -(-plan.until_ms // DAY_MS)))
    size = sum(estimate.size_bytes for estimate in past.estimates)
    samples = sum(estimate.samples for estimate in past.estimates)
    yield f"  in all: {_count(files, 'file')}, one for each UTC day, about {mebibytes(size)}"
    stages = len(history_of(past.rules).stages)
    records = f"; the recording rules add theirs, in {_count(stages, 'stage')}" if stages else ""
    yield f"  to load: about {mebibytes(samples * _BLOCK_BYTES)} of blocks{records}"


def _what_is_missing(past: PastRead) -> Iterator[str]:
    """Say what the files lack, with its number where that is known."""
    yield "Not in the files, or not exact there:"
    yield "  jobs that were deleted, and the runs before the last run of a job"
    yield "  LAUNCHING and UPLOADING: jobs are QUEUING until they start, and RUNNING until they end"
    yield from _what_is_left_out(past)


def _what_is_left_out(past: PastRead) -> Iterator[str]:
    for target, left_out in zip(past.plan.targets, past.left_out, strict=True):
        for count, what in _left_out(left_out):
            if count:
                yield f"  {target.target.key.text}: {what}: {count:,}"


def _left_out(found: LeftOut) -> Iterator[tuple[int, str]]:
    yield found.ran_again, "jobs that have run again since the first poll, whose runs before are not known"
    yield found.unreadable, "rows that cannot be read"
    undecided = "because the ledger does not tell whether they were counted live"
    yield found.counted_late, f"runs that ended just before the first poll, left out {undecided}"
    yield found.started_late, f"runs that started just before the first poll, counted here {undecided}"
    yield (
        found.late,
        "creations, starts and ends between the first live sample and the first poll of their job type",
    )


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
