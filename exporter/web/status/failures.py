"""What the status page makes of failed runs: a headline where they are many, and the groups that it shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from math import sqrt
from typing import Literal

from exporter.runs import FailureGroup, FailureGroups, FailuresOfAnHour

# The page stays light whatever has failed: 10,000 runs with 10,000 messages are 20 groups and a line.
SHOWN_GROUPS, SHOWN_IDS_OF_A_GROUP, SHOWN_IDS = 20, 300, 1_000
# So much is read. One id more than is shown tells that there are more of them.
READ_GROUPS, READ_IDS_OF_A_GROUP = 100, SHOWN_IDS_OF_A_GROUP + 1
# Messages may name what the job worked on: then every run has another one, though all failed alike. So many
# messages of one target, type, status and code stand alone. Where there are more, those of a single run, and
# what is beyond so many, go together.
_MESSAGES_OF_A_KIND = 5

# Failures that come one by one scatter around the usual number of an hour by about its square root. Three
# times that is rare by chance. The floor keeps a quiet target quiet: where nothing ever fails, up to five
# failures are no headline, and where two are usual it takes twelve. Jobs fail in batches, so what is above is
# a warning first, and critical from three times as many on.
_SPREADS, _FLOOR, _CRITICAL_FACTOR = 3, 5, 3
# Before there is a day to tell it from, one run in ten is taken to fail usually.
_USUAL_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Spike:
    """
    More failed runs in the last hour than is usual.

    Shape: `targets` are those it is about, empty for all that the page shows; `usual` is None where it is not
    known of each of them; the most frequent type and code of the runs, and how many they are; `second` is
    another kind of at least half as many.
    """

    severity: Literal["bad", "warn"]
    runs: int
    usual: float | None
    targets: tuple[FailuresOfAnHour, ...]
    job_type: str
    msg_code: str
    of_that_kind: int
    second: tuple[str, str, int] | None = None


@dataclass(frozen=True, slots=True)
class ShownGroup:
    """
    A group as the page shows it.

    Shape: `messages` is how many messages its runs have, of which `group.message` is one; `key` stays the
    same from one page to the next.
    """

    group: FailureGroup
    messages: int
    key: str
    job_ids: Sequence[int]

    @property
    def has_more_ids(self) -> bool:
        return len(self.job_ids) < len(self.group.job_ids)


@dataclass(frozen=True, slots=True)
class FailuresShown:
    """The failed runs of the period that the page is asked for, and what of the rest is folded."""

    groups: list[ShownGroup]
    runs: int
    groups_left: int
    runs_left: int


def warning_above(expected: float) -> float:
    """Give the number of failed runs in an hour that is still ordinary; see the comment above."""
    return expected + _SPREADS * sqrt(expected) + _FLOOR


def spike(hours: Sequence[FailuresOfAnHour]) -> Spike | None:
    """
    Judge the last hour: of all targets together first, else of those that are out of the ordinary themselves.

    In the sum of two hundred targets the spike of one would not show; and many that fail a little more each
    show in the sum only.
    """
    if _is_spike(sum(hour.runs for hour in hours), _expected(hours)):
        return _spike_of(hours, ())
    loud = tuple(hour for hour in hours if _is_spike(hour.runs, _expected([hour])))
    return _spike_of(loud, loud) if loud else None


def _is_spike(runs: int, expected: float) -> bool:
    return runs > warning_above(expected)


def _spike_of(hours: Sequence[FailuresOfAnHour], named: tuple[FailuresOfAnHour, ...]) -> Spike:
    runs, known = sum(hour.runs for hour in hours), [hour.usual for hour in hours if hour.usual is not None]
    kinds: Counter[tuple[str, str]] = Counter()
    for hour in hours:
        kinds.update(hour.kinds)
    none = {("", ""): 0}
    ordered = sorted((kinds or none).items(), key=lambda item: (-item[1], item[0]))
    ((job_type, msg_code), most), *others = ordered
    second = (*others[0][0], others[0][1]) if others and 2 * others[0][1] >= most else None
    return Spike(
        severity="bad" if runs > _CRITICAL_FACTOR * warning_above(_expected(hours)) else "warn",
        runs=runs,
        usual=sum(known) if len(known) == len(hours) else None,
        targets=named,
        job_type=job_type,
        msg_code=msg_code,
        of_that_kind=most,
        second=second,
    )


def _expected(hours: Iterable[FailuresOfAnHour]) -> float:
    """Add up how many failed runs an hour lets expect."""
    return sum(_USUAL_SHARE * hour.ended if hour.usual is None else hour.usual for hour in hours)


def show(chosen: FailureGroups) -> FailuresShown:
    """Choose what is shown: the groups with most runs, and of their ids so many that the page stays light."""
    together, ids_left = _together(chosen.groups), SHOWN_IDS
    shown = []
    for group, messages in together[:SHOWN_GROUPS]:
        ids = group.job_ids[: min(SHOWN_IDS_OF_A_GROUP, ids_left)]
        ids_left -= len(ids)
        shown.append(ShownGroup(group, messages, _key(group, messages), ids))
    return FailuresShown(
        groups=shown,
        runs=chosen.runs,
        groups_left=chosen.left_out + len(chosen.groups) - sum(one.messages for one in shown),
        runs_left=chosen.runs - sum(one.group.runs for one in shown),
    )


def _together(groups: Iterable[FailureGroup]) -> list[tuple[FailureGroup, int]]:
    """Put groups of one kind together that are more than so many; give each with its number of messages."""
    kinds: dict[tuple[str, ...], list[FailureGroup]] = {}
    for group in groups:
        kinds.setdefault(_kind(group), []).append(group)
    result = []
    for alike in kinds.values():
        alone = len(alike)
        if alone > _MESSAGES_OF_A_KIND:
            # The largest come first.
            alone = sum(group.runs > 1 for group in alike[:_MESSAGES_OF_A_KIND])
        result += [(group, 1) for group in alike[:alone]]
        if alike[alone:]:
            result.append((_merged(alike[alone:]), len(alike) - alone))
    return sorted(result, key=lambda one: (-one[0].runs, -one[0].last_ms))


def _merged(groups: Sequence[FailureGroup]) -> FailureGroup:
    ids = dict.fromkeys(job_id for group in groups for job_id in group.job_ids)
    return replace(
        groups[0],
        runs=sum(group.runs for group in groups),
        first_ms=min(group.first_ms for group in groups),
        last_ms=max(group.last_ms for group in groups),
        job_ids=tuple(ids),
    )


def _kind(group: FailureGroup) -> tuple[str, ...]:
    return group.project, group.workspace, group.job_type, group.status, group.msg_code


def _key(group: FailureGroup, messages: int) -> str:
    """Name a group; one of several messages by what they have in common, since the first changes."""
    parts = (*_kind(group), group.message) if messages == 1 else _kind(group)
    return sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:12]


def usual_number(usual: float) -> str:
    """Write a mean: with one decimal below ten, and never 0 for what does happen."""
    if usual >= 9.95:
        return f"{usual:,.0f}"
    return f"{max(usual, 0.1) if usual else 0:.1f}".removesuffix(".0")
