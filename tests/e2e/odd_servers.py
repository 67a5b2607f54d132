"""
One odd server each: what is odd about it, and what the exporter has to make of it.

The letters are those of the issue that collected these faults; "What servers of this kind also do" in the
description of the API says how each answer is to be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Settings = Mapping[str, Any]
# So far ahead of our clock that our clock does not overtake the rows while a test starts, and so little that
# ours is not taken for a wrong one: where the server's is wrong, ours and the rows place the baseline.
NEARLY_NOW = 50.0
# What runs have used, and how long they ran.
USED = ("core_us", "gpu_us", "memory_gib_us")
RAN = ("ran", "running_ms", *USED)
# An old row in the middle of the list, whose run ended long before the first sync.
ROW = 50


@dataclass(frozen=True, slots=True)
class Odd:
    """
    A server, and what is right.

    Shape: `quirks` hold from the start, `later` replaces them after the first sync; `start_in_seconds` sets
    the server's time against ours (None: months back); `orders` create jobs after the first sync. `apart` is
    `octopus_rows_unreadable`; where the target cannot be up, `down_because` is a part of the error's message.
    `has_surplus` says that its totals are too high and that drift shows it; `lumps`, that some values are
    exported as "other". `uncounted` names the figures of the account in which the odd rows cannot appear;
    `recounted`, those that count again once rows show other times: each is another run to whoever reads it.
    `both_clocks_ahead` of the rows show in no row: what was known to run counts from the rows' own time on. A
    clock that `jumps` may cost a full sync in each poll, and no more.
    """

    letter: str
    quirks: Settings = field(default_factory=dict)
    later: Settings | None = None
    jobs: int = 101
    faults: str = ""
    start_in_seconds: float | None = None
    settings: Settings = field(default_factory=dict)
    orders: tuple[Settings, ...] = ()
    apart: int = 0
    down_because: str | None = None
    has_surplus: bool = False
    lumps: bool = False
    uncounted: tuple[str, ...] = ()
    recounted: tuple[str, ...] = ()
    both_clocks_ahead: bool = False
    jumps: bool = False


def row(what: str, **order: Any) -> Settings:
    """Make one row odd, or those the order names."""
    chosen = {"ids": [ROW]} if "every" not in order and "ids" not in order else {}
    return {"odd_rows": [{"what": what, **chosen, **order}]}


def _texts() -> Iterator[tuple[str, Odd]]:
    """A: a text, or a field that decides no count, never costs more than itself."""
    for what in (
        *("text-surrogate", "text-cut", "text-control", "text-long", "text-object"),
        *("nan", "label-long", "code-fraction"),
    ):
        yield what, Odd("A", row(what))
    # All starts and all jobs in flight are counted, but under another spec. What cannot be read adds nothing.
    for what in ("spec-missing", "spec-null", "spec-unreadable", "spec-many"):
        yield what, Odd("A", row(what, every=1), lumps=True, uncounted=USED)
    yield "spec-changes", Odd("A", row("spec-changes", every=1), lumps=True)
    for what in ("text-surrogate", "text-cut", "text-control"):
        yield f"{what}-in-all-failures", Odd("A", row(what, every=1, statuses=["RUN_FAILED"]))
    for charset in ("gbk", "gb18030", "utf-16"):
        yield charset, Odd("A", {"charset": charset, **row("text-chinese", every=1)})
    yield "byte-order-mark", Odd("A", {"bom": True})


def _rows() -> Iterator[tuple[str, Odd]]:
    """A: a row that cannot be read is set apart; too many of them are no answer."""
    for what in (
        *("null-row", "text-row", "no-id", "id-null", "id-text", "id-huge", "no-type", "type-null"),
        *("no-status", "status-null", "no-created", "created-text"),
    ):
        yield what, Odd("A", row(what), apart=1)
    yield "two-null-rows-among-30", Odd("A", row("null-row", ids=[10, 20]), jobs=30, apart=2)
    yield "known-rows-become-odd", Odd("A", later=row("no-type", ids=[20, 50]), apart=2)
    yield "known-rows-become-null", Odd("A", later=row("null-row", ids=[20, 50]), apart=2)
    for name, offset in {"from-0": -1, "beyond-2^53": 2**53, "near-2^63": 2**63 - 1000}.items():
        yield f"ids-{name}", Odd("A", {"id_offset": offset})
    yield "one-row-in-ten-null", Odd("A", row("null-row", every=10), down_because="")
    yield "all-rows-without-status", Odd("A", row("no-status", every=1), down_because="")


def _totals() -> Iterator[tuple[str, Odd]]:
    """B, C: the rows decide; a total is a hint, and what is wrong with it shows as drift at most."""
    yield "total-capped-at-400", Odd("B", {"total_cap": 400}, jobs=700)
    yield "total-capped-at-0", Odd("B", {"total_cap": 0}, jobs=250)
    yield "total-of-the-page", Odd("B", {"total_of_page": True}, jobs=700)
    yield "total-of-the-page-clamped", Odd("B", {"total_of_page": True, "clamp_limit": 100}, jobs=700)
    yield "total-minus-one", Odd("B", {"total_fixed": -1}, jobs=700)
    yield "total-missing-clamped", Odd("B", {"omit_total": True, "clamp_limit": 100}, jobs=700)
    yield "total-too-low-by-three", Odd("B", {"total_surplus": -3}, jobs=210)
    yield "total-lags", Odd("B", {"total_lag_seconds": 4.0}, jobs=210)
    for form in ("string", "float", "null"):
        yield f"total-{form}", Odd("B", {"total_form": form}, jobs=210)
    yield "total-too-high-by-one", Odd("C", {"total_surplus": 1}, has_surplus=True)
    yield "total-too-high-by-one-many-pages", Odd("C", {"total_surplus": 1}, jobs=700, has_surplus=True)
    yield "total-counts-hidden-rows", Odd("C", {"hidden_ids": [20, 50]}, jobs=210, has_surplus=True)


def _none() -> Iterator[tuple[str, Odd]]:
    """D: 0, "" and -1 are none; times at or before 0 are none."""
    for what in ("none-zero", "none-empty", "none-minus-one", "zero-start"):
        yield what, Odd("D", row(what, every=1))
    yield "zero-end", Odd("D", row("zero-end", every=1))
    yield "negative-start", Odd("D", row("negative-start"))
    yield "negative-end", Odd("D", row("negative-end"))
    # Cured, the starts that come to light are no second runs.
    lost = ("started", "submitting_ms", "spec_started", "spec_submitting_ms", *RAN)
    yield "no-row-has-its-start", Odd("D", row("negative-start", every=1), uncounted=lost)
    for what in ("numbers-text", "numbers-float", "times-fraction"):
        yield what, Odd("A", row(what, every=1))


def _clocks() -> Iterator[tuple[str, Odd]]:
    """E: no clock alone decides what happened before the first sync. F: seconds are no milliseconds."""
    ahead = {
        "clock-8-hours-ahead": 28_800,
        "clock-8-hours-behind": -28_800,
        "clock-a-minute-ahead": 60,
        "clock-days-ahead": 259_200,
    }
    for name, seconds in ahead.items():
        yield name, Odd("E", {"clock_ahead_seconds": seconds}, start_in_seconds=NEARLY_NOW)
    for name, text in {
        "year-9999": "9999-12-31T23:59:59Z",
        "year-1": "0001-01-01T00:00:00Z",
        "no-time": "soon",
    }.items():
        yield f"clock-says-{name}", Odd("E", {"clock_text": text}, jobs=60, start_in_seconds=NEARLY_NOW)
    jumps = {"clock_jumps_seconds": [0, 3600, -3600, 90_000]}
    yield "clock-jumps", Odd("E", jumps, start_in_seconds=NEARLY_NOW, jumps=True)
    later = {"clock_ahead_seconds": 28_800}
    yield "clock-turns-wrong-later", Odd("E", later=later, start_in_seconds=NEARLY_NOW)
    yield "rows-30-s-ahead", Odd("E", {"clock_ahead_seconds": -30}, start_in_seconds=30)
    yield "rows-5-min-ahead", Odd("E", {"clock_ahead_seconds": -300}, start_in_seconds=300)
    behind = {"clock_ahead_seconds": 300}
    yield (
        "rows-5-min-behind",
        # No job arrives in the minutes that the clocks are ahead: its past could not be told from history.
        Odd("E", behind, start_in_seconds=-300, settings={"jobs_per_day": 0}, both_clocks_ahead=True),
    )
    future = row("stamped-ahead", seconds=172_800)
    yield "one-row-from-the-future", Odd("E", future, start_in_seconds=0)
    yield "a-first-list-that-is-blank", Odd("E", faults="blank=1")
    yield "seconds-in-one-row", Odd("F", row("seconds"), apart=1)
    yield "seconds-in-all-rows", Odd("F", row("seconds", every=1), down_because="not in milliseconds")


def _answers() -> Iterator[tuple[str, Odd]]:
    """G: a page may be too large. H: an empty list may be none. I: a broken 200 is asked for again."""
    yield "limit-above-100-refused", Odd("G", {"max_limit": 100}, jobs=250)
    yield "limit-above-25-refused", Odd("G", {"max_limit": 25}, jobs=110)
    yield "answers-of-40-MB", Odd("G", {"row_padding_bytes": 200_000}, jobs=205)
    for form in ("null", "missing"):
        yield f"empty-list-{form}", Odd("H", {"empty_list": form}, jobs=0, settings={"jobs_per_day": 0})
        yield f"few-rows-empty-list-{form}", Odd("H", {"empty_list": form})
    yield (
        "empty-list-no-content",
        Odd("H", {"empty_list": "no-content"}, jobs=0, settings={"jobs_per_day": 0}, down_because=""),
    )
    yield "106-pages-5-%-garbled", Odd("I", {"clamp_limit": 20}, jobs=2120, faults="garbled=0.05")


def _values() -> Iterator[tuple[str, Odd]]:
    """J: unknown statuses. K: values in numbers. L: durations. M: smaller ones."""
    archived = {"job_type": "FRAME_EXTRACT", "outcome": "ARCHIVED", "count": 5}
    yield "unknown-status-ends", Odd("J", orders=({**archived, "ends": True},))
    yield "unknown-status-stays", Odd("J", orders=(archived,))
    yield (
        "unknown-status-ends-by-configuration",
        Odd(
            "J",
            row("no-end", every=1, statuses=["SHELVED"]),
            orders=({**archived, "outcome": "SHELVED", "ends": True},),
            uncounted=RAN,
        ),
    )
    many: Settings = {"job_type": "ODD", "outcome": "FINISHED", "count": 300}
    yield "300-job-types", Odd("K", orders=({**many, "numbered": "job_type"},), lumps=True)
    yield (
        "300-statuses",
        Odd("K", orders=({**many, "outcome": "LIMBO", "numbered": "outcome", "ends": True},), lumps=True),
    )
    yield (
        "300-statuses-in-flight",
        Odd("K", orders=({**many, "outcome": "LIMBO", "numbered": "outcome"},), lumps=True),
    )
    yield "100-kB-of-text-in-all-failures", Odd("K", row("text-long", every=1, statuses=["RUN_FAILED"]))
    before = row("end-before-start", every=1)
    yield (
        "end-before-start",
        Odd("L", before, uncounted=RAN, recounted=("ended", "failures", "reruns")),
    )
    yield "year-10000", Odd("M", row("year-10000"))
    for what in ("update-missing", "update-null", "update-constant", "update-jitter"):
        yield what, Odd("A", row(what, every=1, seconds=5))


SERVERS: Mapping[str, Odd] = {
    name: server
    for table in (_texts, _rows, _totals, _none, _clocks, _answers, _values)
    for name, server in table()
}
