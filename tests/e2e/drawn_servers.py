"""
Servers drawn by chance for the differential test: how each departs from its documentation, and when.

What is not drawn cannot be exact by nature:

- A list that is blank by a fault is, to whoever reads it, a list whose jobs were all deleted.
- Rows that cannot be read are counted as soon as they can be, and not before: `odd_servers` has them.
- A server months away from our clock whose `current_time` is also wrong leaves nothing to place the baseline
  by. Its clock jumps after the first sync only.
- A clock that is ahead of the rows shows in none of them: where ours and the server's both are, what happens
  until the rows have reached them counts for jobs that were known, and not for others. The rows of a server
  whose clock is wrong are therefore a little ahead of ours.
- Ids beyond 2^53 that are written with a fraction: floats so large are not told apart.
- Rows that are ahead of both clocks, and stamped at times that differ from sight to sight: the newest stamp
  places the baseline.
- Jobs counted in totals and listed nowhere cannot be counted; so no such job may ever run again.
- No list where there is nothing to list, from a server whose `total` does not say 0 either: such an answer is
  none, whatever it means.
- A part of the server that is more than `overlap` (ten minutes) behind: what it leaves out shows at the next
  full sync. It lags by the simulated time of up to three steps, so the steps of such servers are short.
- A token that ends before its time: its project waits up to a minute of our time for the next login.
- More than an hour between two complete polls: a job may end, be reopened and end again in two hours.
- A job that is reopened and ends again between two polls looks like one that has only changed: the next full
  sync sees it. Such servers are `patient`: their numbers have to agree after a full sync, all others after
  two polls.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

from tests.e2e.simulation import START_MS, start_ms

Quirks = dict[str, Any]

FAULTS = "throttle=0.01,errors=0.03,slow=0.02,broken=0.02,garbled=0.05"
# So far ahead of our clock that our clock does not overtake the rows while a test starts, and so little that
# ours is not taken for a wrong one.
_NEARLY_NOW = 50.0
_FILTERS = ("statuses", "start_time", "id", "job_types", "workspace_id")


@dataclass(frozen=True, slots=True)
class Drawn:
    """
    One server.

    Shape: `settings` it starts with, among them the quirks that always hold; `lively` quirks and `faults`
    hold only while time passes. Units: `start_in_seconds` from our clock, None for months back.
    """

    number: int
    settings: dict[str, Any]
    start_in_seconds: float | None
    lively: Quirks
    faults: str
    patient: bool

    @property
    def name(self) -> str:
        return f"server-{self.number}"

    @property
    def quirks(self) -> Quirks:
        quirks: Quirks = self.settings["quirks"]
        return quirks

    @property
    def longest_step_seconds(self) -> int:
        """Give how much simulated time may pass at once."""
        return 180 if any("lag" in name for name in self.lively) else 3600

    def without(self, *names: str) -> Drawn:
        """Take quirks away."""
        kept, lively = (
            {name: value for name, value in quirks.items() if name not in names}
            for quirks in (self.quirks, self.lively)
        )
        return replace(self, settings={**self.settings, "quirks": kept}, lively=lively)

    def started(self) -> dict[str, Any]:
        """Give what the simulator starts with, by our clock."""
        began_ms = START_MS if self.start_in_seconds is None else start_ms(self.start_in_seconds)
        return {**self.settings, "start_ms": began_ms}

    def __str__(self) -> str:
        clock = "months back" if self.start_in_seconds is None else f"{self.start_in_seconds:+g} s"
        settings = {name: value for name, value in self.settings.items() if name != "seed"}
        return f"{settings}, clock {clock}; while time passes: {self.lively}, faults {self.faults!r}"


def draw(rng: Random, number: int) -> Drawn:
    """Draw a server."""
    start = rng.choice((None, 0.0, _NEARLY_NOW, -300.0))
    patient = rng.random() < 0.25
    jobs = rng.choice((0, 12, 60, 130))
    quirks = {
        **_asking(rng),
        **_totals(rng, jobs, patient),
        **_rows(rng, start),
        **(_clock(rng) if start == _NEARLY_NOW else {}),
    }
    if "hidden_ids" in quirks:
        quirks["hidden_ids"] = [number + quirks.get("id_offset", 0) for number in quirks["hidden_ids"]]
    settings = {
        "seed": rng.randrange(1_000_000),
        "jobs": jobs,
        "jobs_per_day": rng.choice((100, 600, 2000)),
        "order": rng.choice(("created-desc", "created-asc", "update-desc")),
        "reopening": patient,
        "quirks": quirks,
    }
    lively = {**_lags(rng), **_moving_rows(rng)}
    if rng.random() < 0.3:
        lively["clock_ahead_seconds"] = rng.choice((-7200, 3600, 28_800))
    return Drawn(number, settings, start, lively, FAULTS if rng.random() < 0.6 else "", patient)


def _asking(rng: Random) -> Quirks:
    """Draw what the server makes of a query."""
    quirks: Quirks = {}
    if rng.random() < 0.35:
        quirks["clamp_limit"] = rng.choice((7, 20, 50))
    if rng.random() < 0.15:
        quirks["max_limit"] = rng.choice((30, 100))
    if rng.random() < 0.3:
        quirks[rng.choice(("first_value_only", "comma_arrays"))] = True
    if rng.random() < 0.3:
        quirks["ignore_filters"] = rng.sample(_FILTERS, rng.randint(1, 2))
    return quirks


def _totals(rng: Random, jobs: int, patient: bool) -> Quirks:
    """Draw how far the server's total may be trusted."""
    kinds: list[Quirks] = [
        *({} for _ in range(5)),
        {"empty_list": rng.choice(("null", "missing"))},
        {"omit_total": True},
        {"total_cap": rng.choice((0, 10, jobs // 2))},
        {"total_of_page": True},
        {"total_fixed": -1},
        {"total_surplus": rng.choice((1, 3))},
        {"total_surplus": -2},
        {"total_form": rng.choice(("string", "float", "null"))},
        {"hidden_ids": [3, 5]} if jobs >= 60 and not patient else {},
    ]
    return rng.choice(kinds)


def _rows(rng: Random, start: float | None) -> Quirks:
    """Draw how rows are written; all of them can be read."""
    quirks: Quirks = {}
    oddities = [
        rng.choice(("none-zero", "none-empty", "none-minus-one", "zero-start")),
        rng.choice(("numbers-text", "numbers-float", "times-fraction")),
        rng.choice(("text-surrogate", "text-cut", "text-control", "nan")),
        rng.choice(
            ("update-missing", "update-constant", *(() if start == _NEARLY_NOW else ("update-jitter",)))
        ),
    ]
    odd = [{"what": what, "seconds": 3} for what in oddities if rng.random() < 0.2]
    if odd:
        quirks["odd_rows"] = odd
    for name in ("null_absent", "growing_durations", "omit_workspace_id", "extra_fields"):
        if rng.random() < 0.2:
            quirks[name] = True
    if rng.random() < 0.3:
        quirks["id_offset"] = rng.choice((-1, 2**53 - 20, 2**62))
        if any(one["what"] == "numbers-float" for one in odd):
            quirks["id_offset"] = -1
    return quirks


def _clock(rng: Random) -> Quirks:
    """Draw a wrong clock for a server whose rows are stamped by nearly the right time."""
    return rng.choice(
        (
            {},
            {"clock_ahead_seconds": rng.choice((28_800, 90, -40, -28_800))},
            {"clock_jumps_seconds": [0, 3600, -3600]},
            {"clock_text": rng.choice(("9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "soon"))},
        )
    )


def _lags(rng: Random) -> Quirks:
    """Draw parts of the server that see an older state than others."""
    return rng.choice(
        (
            {},
            {},
            {},
            {"replica_lags_seconds": [0.0, 0.0, rng.choice((0.7, 2.5))]},
            {"index_lag_seconds": rng.choice((0.7, 2.5)), "index_gives_new_rows": rng.random() < 0.5},
            {"total_lag_seconds": rng.choice((0.7, 2.5))},
        )
    )


def _moving_rows(rng: Random) -> Quirks:
    """Draw rows that come and go between two pages."""
    quirks: Quirks = {}
    if rng.random() < 0.3:
        quirks |= {"shift": rng.choice(("insert", "delete", "both")), "shift_every": rng.randint(3, 6)}
    if rng.random() < 0.15:
        quirks["repeat_rows"] = 3
    return quirks
