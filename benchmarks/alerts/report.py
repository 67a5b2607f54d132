"""The tables of the report, in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import mean, median

from benchmarks.alerts.outcome import ORACLE, OURS, SIMPLE, Outcome
from benchmarks.alerts.project import FLAVOURS, Flavour
from benchmarks.alerts.spikes import SHAPES, Spike
from benchmarks.alerts.verdict import Alert, delays, spelled

# The aims of the project for its pages and warnings, per 1,000 series-days.
FALSE_PAGES: dict[Flavour, float] = {"even": 2, "bursty": 15}
FALSE_WARNINGS: dict[Flavour, float] = {"even": 10, "bursty": 60}
_PAGED, _DIFFUSE, _SLOW, _DELAY, _PAGES = 0.88, 0.6, 0.6, 1.8, 1.2
_RULES = (OURS, "warnings", *SIMPLE.values(), ORACLE)

Row = Sequence[str]
Caught = tuple[Spike, tuple[Alert, ...], float | None]


def markdown(title: str, columns: Row, rows: Iterable[Row]) -> str:
    """Write a table, the first column aligned left, the others right."""
    lines = [f"**{title}**", "", _line(columns), _line(["---", *["--:"] * (len(columns) - 1)])]
    return "\n".join([*lines, *map(_line, rows), ""])


def _line(cells: Row) -> str:
    return "| " + " | ".join(cells) + " |"


def tables(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Write all tables: the aims, the rules, the spikes by shape, the false alerts."""
    yield markdown("Aims", ("aim", "measured", ""), list(_aims(outcomes)))
    yield _of_rules(outcomes)
    yield _by_shape(outcomes)
    yield _false_by_leg(outcomes)


def _calm(outcomes: Iterable[Outcome], flavour: Flavour) -> list[Outcome]:
    return [one for one in outcomes if not one.work.has_spikes and one.work.flavour == flavour]


def _per_thousand(outcomes: Sequence[Outcome], rule: str) -> tuple[int, float]:
    count = sum(len(one.verdicts[rule].false) for one in outcomes)
    return count, 1000 * count / max(sum(one.series_days for one in outcomes), 1.0)


def _caught(outcomes: Iterable[Outcome], rule: str) -> list[Caught]:
    """Return each spike with the alerts about it and the delay of the first."""
    return [
        (spike, about, delay)
        for one in outcomes
        for spike, about, delay in zip(
            one.spikes,
            one.verdicts[rule].about,
            delays(one.spikes, one.verdicts[rule]),
            strict=True,
        )
    ]


def delay_ratio(outcomes: Sequence[Outcome], rule: str) -> tuple[float, float]:
    """Return the median delays of a rule and of the oracle, over the spikes that both found."""
    pairs = zip(_caught(outcomes, rule), _caught(outcomes, ORACLE), strict=True)
    both = [(own, known) for (*_, own), (*_, known) in pairs if own is not None and known is not None]
    return (median(own for own, _ in both), median(known for _, known in both)) if both else (0.0, 0.0)


def pages_per_incident(caught: Iterable[Caught]) -> float:
    return mean([len(about) for _, about, _ in caught if about] or [0])


def _aims(outcomes: Sequence[Outcome]) -> Iterator[Row]:
    for rule, most in ((OURS, FALSE_PAGES), ("warnings", FALSE_WARNINGS)):
        for flavour in FLAVOURS:
            calm = _calm(outcomes, flavour)
            count, rate = _per_thousand(calm, rule)
            days = sum(one.series_days for one in calm)
            what = f"false {rule} per 1,000 series-days, {flavour} lives: at most {most[flavour]:g}"
            yield what, f"{rate:.1f} ({count} in {days:,.0f})", _judged(rate <= most[flavour])
    caught = _caught(outcomes, OURS)
    kinds: list[tuple[str, float, Callable[[Spike], bool]]] = [
        ("spikes paged", _PAGED, lambda _: True),
        ("diffuse ones", _DIFFUSE, lambda spike: spike.is_diffuse),
        ("slow ones", _SLOW, lambda spike: spike.is_slow),
    ]
    for name, least, is_kind in kinds:
        found = [delay is not None for spike, _, delay in caught if is_kind(spike)]
        part = mean(found or [0])
        measured = f"{part:.0%} ({sum(found)} of {len(found)})"
        yield f"{name}: at least {least:.0%}", measured, _judged(part >= least)
    own, known = delay_ratio(outcomes, OURS)
    ratio = own / known if known else 0.0
    measured = f"{ratio:.2f} times ({own:.1f} to {known:.1f} minutes)"
    yield f"median delay: at most {_DELAY} times the oracle's", measured, _judged(ratio <= _DELAY)
    pages = pages_per_incident(caught)
    yield f"pages per incident: at most {_PAGES}", f"{pages:.2f}", _judged(pages <= _PAGES)


def _judged(is_met: bool) -> str:
    return "met" if is_met else "missed"


def _of_rules(outcomes: Sequence[Outcome]) -> str:
    rows = []
    spiked = [one for one in outcomes if one.work.has_spikes]
    for rule in _RULES:
        caught = _caught(spiked, rule)
        found = sum(delay is not None for *_, delay in caught)
        own, known = delay_ratio(spiked, rule)
        rows.append(
            (
                rule,
                *(f"{_per_thousand(_calm(outcomes, flavour), rule)[1]:.1f}" for flavour in FLAVOURS),
                *(
                    f"{_per_thousand([one for one in spiked if one.work.flavour == flavour], rule)[1]:.1f}"
                    for flavour in FLAVOURS
                ),
                f"{found} of {len(caught)}",
                spelled(delay for *_, delay in caught),
                f"{own / known:.2f}" if known else "-",
                f"{pages_per_incident(caught):.2f}" if rule != ORACLE else "-",
            )
        )
    columns = (
        "rule",
        *(f"false, {flavour}" for flavour in FLAVOURS),
        *(f"beside spikes, {flavour}" for flavour in FLAVOURS),
        "found",
        "p50 / p95",
        "to oracle",
        "per incident",
    )
    return markdown("Rules: false alerts per 1,000 series-days, spikes found, minutes", columns, rows)


def _by_shape(outcomes: Sequence[Outcome]) -> str:
    by_rule = {rule: _caught(outcomes, rule) for rule in _RULES}
    rows = []
    for shape in SHAPES:
        row = [shape]
        for rule, caught in by_rule.items():
            these = [delay for spike, _, delay in caught if spike.shape == shape]
            known = sorted(delay for delay in these if delay is not None)
            row.append(f"{len(known)} of {len(these)}" if rule == OURS else f"{len(known)}")
            row.append(f"{median(known):.0f}" if known else "-")
        rows.append(row)
    columns = ("shape", *(cell for rule in _RULES for cell in (rule, "p50")))
    return markdown("Spikes found by shape, median minutes", columns, rows)


def _false_by_leg(outcomes: Sequence[Outcome]) -> str:
    counts: dict[tuple[str, str, str], Counter[str]] = {}
    for one in outcomes:
        place = "beside spikes" if one.work.has_spikes else "calm"
        for rule, legs in one.legs.items():
            for alert, leg in zip(one.verdicts[rule].false, legs, strict=True):
                counts.setdefault((rule, alert.name, leg), Counter())[f"{one.work.flavour} {place}"] += 1
    places = [f"{flavour} {place}" for place in ("calm", "beside spikes") for flavour in FLAVOURS]
    rows = [
        (*key, *(str(count[place]) for place in places))
        for key, count in sorted(counts.items(), key=lambda pair: (pair[0][0], -pair[1].total()))
    ]
    return markdown("What was false, by alert and leg", ("", "alert", "legs", *places), rows)


def listing(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """Write each false page, and each spike without a page."""
    for one in outcomes:
        life = f"{one.work.flavour} {one.work.seed}{'' if one.work.has_spikes else ' calm'}"
        for alert, leg in zip(one.verdicts[OURS].false, one.legs[OURS], strict=True):
            labels = " ".join(alert.labels.get(name, "-") for name in ("job_type", "status"))
            yield f"false page, {life}, minute {alert.begin}: {alert.name} {labels} ({leg})"
        for spike, about in zip(one.spikes, one.verdicts[OURS].about, strict=True):
            if not about:
                series = ", ".join(sorted(" ".join(pair) for pair in spike.series))
                what = f"{spike.shape}, {spike.failures} failures, {series}"
                yield f"missed, {life}, minute {spike.begin:.0f}: {what}"
