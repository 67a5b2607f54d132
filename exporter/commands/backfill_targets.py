"""Which targets get a history, with which labels, and until when; what is said of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from exporter.backfill.live import read_live_counting
from exporter.backfill.plan import BackfillOptions, LiveCounting, LiveSeries, TargetPlan, utc_text
from exporter.commands.output import print_line
from exporter.config import Config
from exporter.errors import ConfigError, StartError
from exporter.ledger.opening import opened_to_look
from exporter.model import Target, TargetKey

# Two times that are further apart get a line. A few polls and scrapes always lie between them.
LATE_MS = 600_000


def read_ledger(config: Config) -> Mapping[Target, LiveCounting]:
    """
    Read how each target is counted live. A target with nothing to write is left out, and a line says so.

    Raises: StartError (no ledger to read, or one without any of these targets); LedgerError.
    """
    found, unknown = {}, []
    with opened_to_look(config.ledger) as db:
        for target in config.targets():
            live = read_live_counting(db, target.key)
            if live is None:
                unknown.append(target)
            elif live.baseline_ms is None:
                print_line(
                    f"{target.key.text}: metrics.count_history has counted its history: nothing to write"
                )
            else:
                found[target] = live
    why = "is not in the ledger yet: a backfill ends where the live counters begin, so let"
    how = "`octopus-exporter run` poll it first"
    if unknown and len(unknown) == len(config.targets()):
        raise StartError(f"ledger {config.ledger.url}: {unknown[0].key.text} {why} {how}")
    for target in unknown:
        print_line(f"{target.key.text} {why} {how}, and run this command again for it")
    return found


def plan_targets(
    options: BackfillOptions, counted: Mapping[Target, LiveCounting], series: Mapping[TargetKey, LiveSeries]
) -> tuple[TargetPlan, ...]:
    """Plan what is written of each target, and say what is not. Raises: ConfigError."""
    found = [dict(one.labels) for one in series.values()]
    # What Prometheus adds to all targets, it adds to one that it has not seen yet.
    shared = found[0] if found and all(labels == found[0] for labels in found) else {}
    targets, problems = [], []
    for target, live in counted.items():
        one = series.get(target.key, LiveSeries(shared, None, None))
        labels = {**one.labels, **options.labels}
        if not {"job", "instance"} <= labels.keys():
            problems.append(
                f"--label: {target.key.text} has no live series yet: give its labels job and instance"
            )
            continue
        plan = TargetPlan(target, live, labels, options.from_ms, one.first_ms or live.began_ms)
        if plan.until_ms - options.step_ms <= options.from_ms:
            begun = "its first poll was" if one.first_ms is None else "Prometheus has its series since"
            print_line(
                f"{target.key.text}: {begun} {utc_text(plan.until_ms)}, and the history would begin at"
                f" {utc_text(options.from_ms)}: there is nothing before, or it is loaded already"
            )
            continue
        for note in _seam(plan, one):
            print_line(f"{target.key.text}: {note}")
        targets.append(plan)
    if problems:
        raise ConfigError(problems)
    return tuple(targets)


def _seam(plan: TargetPlan, series: LiveSeries) -> Iterator[str]:
    """Say where the live series do not begin where the history ends, at 0."""
    began_ms, until_ms = plan.live.began_ms, plan.until_ms
    if until_ms - began_ms > LATE_MS:
        yield (
            f"Prometheus has its series since {utc_text(until_ms)} only, the first poll was at"
            f" {utc_text(began_ms)}: increase() does not see what was counted in between"
        )
    if began_ms - until_ms > LATE_MS:
        yield (
            f"Prometheus has its series since {utc_text(until_ms)}, from a history that is loaded or"
            f" from another ledger. This one begins at {utc_text(began_ms)}: nothing is written for the"
            " time between"
        )
    if series.joined_ms is None:
        return
    if series.joined_ms - until_ms > LATE_MS:
        yield (
            f"the series of instance {plan.labels['instance']!r} begin at {utc_text(series.joined_ms)};"
            " another instance exported the target before. What was counted until then is one rise of the"
            " series, and if it is more than the history counts, this rise is too small"
        )
    if added := sorted(plan.labels.keys() - series.labels.keys()):
        yield (
            f"its live series have no label {', '.join(added)}: with it, the history has other series than"
            " the live ones, unless your storage adds it to these"
        )
