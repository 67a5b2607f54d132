"""The failed runs on the status page: whether there is a spike, and the groups that are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from math import sqrt
from typing import Literal

from exporter.model import TargetKey
from exporter.runs import FailureGroup, FailureGroups, HourlyFailures
from exporter.web.run_record import Masked, masked_value

# Limits that keep the page small: 10,000 runs with 10,000 messages become 20 groups and a line.
SHOWN_GROUPS, SHOWN_IDS_OF_A_GROUP, SHOWN_IDS = 20, 300, 1_000
# Limits of what is read from the ledger. One more id than is shown is read, to know whether there are more.
READ_GROUPS, READ_IDS_OF_A_GROUP = 100, SHOWN_IDS_OF_A_GROUP + 1
# A message may name the data that a job worked on. Then every run has its own message, although all failed in
# the same way. So at most this many messages of one target, type, status and code are shown one by one. If
# there are more, those of a single run, and all beyond the limit, are shown as one group.
_MESSAGES_OF_A_KIND = 5

# The number of failures in an hour scatters around its mean by about the square root of the mean. Three times
# that is rare by chance. The floor avoids false alarms where few jobs run: where nothing ever fails, up to
# five failures are no spike, and at a mean of two it takes twelve. Jobs fail in batches, so a spike is a
# warning first, and critical at three times the limit.
_SPREADS, _FLOOR, _CRITICAL_FACTOR = 3, 5, 3
# Until a target has one day of counts, assume that one run in ten fails.
_ASSUMED_FAILED_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Spike:
    """
    More failed runs in the last hour than expected.

    Shape: `targets` are those that have a spike themselves, empty if the sum of all has it;
    `mean_per_hour` is None unless it is known of each target; `kinds` has the most frequent job type and code
    with the number of its runs, then the second if it has at least half as many.
    """

    severity: Literal["bad", "warn"]
    runs: int
    mean_per_hour: float | None
    targets: tuple[TargetKey, ...]
    kinds: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True, slots=True)
class PageFailures:
    """
    The failed runs that were read for one page.

    Shape: `hours` of the targets of the page; `groups` are those that the page asks for; `problem` says that
    they could not be read, and `error` why, "" if there is nothing more to say.
    """

    hours: tuple[HourlyFailures, ...] = ()
    spike: Spike | None = None
    groups: FailureGroups = field(default_factory=FailureGroups)
    problem: Literal["busy", "unread"] | None = None
    error: str = ""

    def masked(self, masked: Masked) -> PageFailures:
        """Mask the texts: the process that stored the runs may have known other secrets."""
        groups = tuple(
            replace(
                group,
                job_type=masked_value(group.job_type, masked),
                status=masked_value(group.status, masked),
                msg_code=masked_value(group.msg_code, masked),
                message=masked(group.message),
            )
            for group in self.groups.groups
        )
        spike = self.spike and replace(
            self.spike,
            kinds=tuple(
                (masked_value(job_type, masked), masked_value(msg_code, masked), runs)
                for job_type, msg_code, runs in self.spike.kinds
            ),
        )
        return replace(
            self, spike=spike, groups=replace(self.groups, groups=groups), error=masked(self.error)
        )


def warning_above(expected: float) -> float:
    """Return the highest number of failed runs in an hour that is no spike; see the comment above."""
    return expected + _SPREADS * sqrt(expected) + _FLOOR


def find_spike(hours: Sequence[HourlyFailures]) -> Spike | None:
    """
    Judge the last hour: the sum of all targets first, then each target.

    Both are needed. The spike of one target does not show in the sum of two hundred, and a few more failures
    at each of many targets show in the sum only.
    """
    if _is_spike(hours):
        return _spike(hours, ())
    spiking = [hour for hour in hours if _is_spike([hour])]
    return _spike(spiking, tuple(hour.target for hour in spiking)) if spiking else None


def _is_spike(hours: Iterable[HourlyFailures]) -> bool:
    return sum(hour.runs for hour in hours) > warning_above(_expected(hours))


def _spike(hours: Sequence[HourlyFailures], targets: tuple[TargetKey, ...]) -> Spike:
    runs = sum(hour.runs for hour in hours)
    means = [hour.mean_per_hour for hour in hours if hour.mean_per_hour is not None]
    kinds: Counter[tuple[str, str]] = Counter()
    for hour in hours:
        kinds.update(hour.kinds)
    ordered = sorted(((*kind, count) for kind, count in kinds.items()), key=lambda one: (-one[2], one))
    return Spike(
        severity="bad" if runs > _CRITICAL_FACTOR * warning_above(_expected(hours)) else "warn",
        runs=runs,
        mean_per_hour=sum(means) if len(means) == len(hours) else None,
        targets=targets,
        kinds=tuple(kind for kind in ordered[:2] if 2 * kind[2] >= ordered[0][2]),
    )


def _expected(hours: Iterable[HourlyFailures]) -> float:
    """Add up how many failed runs to expect in an hour."""
    return sum(
        _ASSUMED_FAILED_SHARE * hour.ended if hour.mean_per_hour is None else hour.mean_per_hour
        for hour in hours
    )


def mean_number(mean: float) -> str:
    """Write a mean, below ten with one decimal. Only an exact 0 is written as 0."""
    if mean >= 9.95:
        return f"{mean:,.0f}"
    return f"{max(mean, 0.1) if mean else 0:.1f}".removesuffix(".0")


@dataclass(frozen=True, slots=True)
class ShownGroup:
    """
    A group as the page shows it.

    Shape: `messages` is how many different messages its runs have, of which `group.message` is one; `key`
    stays the same when the page is refreshed.
    """

    group: FailureGroup
    messages: int
    key: str
    job_ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class ShownFailures:
    """The groups of failed runs that are shown, and how many groups and runs are left out."""

    groups: list[ShownGroup]
    groups_left: int
    runs_left: int


def shown_failures(read: FailureGroups) -> ShownFailures:
    """Select the groups with the most runs, and as many of their job ids as the limits allow."""
    kinds: dict[tuple[str, ...], list[FailureGroup]] = {}
    for group in read.groups:
        kinds.setdefault(_kind(group), []).append(group)
    # Each group with its number of messages.
    merged: list[tuple[FailureGroup, int]] = []
    for kind in kinds.values():
        alone = len(kind)
        if alone > _MESSAGES_OF_A_KIND:
            # The largest groups come first.
            alone = sum(group.runs > 1 for group in kind[:_MESSAGES_OF_A_KIND])
        merged += [(group, 1) for group in kind[:alone]]
        rest = kind[alone:]
        if rest:
            group = replace(
                rest[0],
                runs=sum(one.runs for one in rest),
                first_ms=min(one.first_ms for one in rest),
                last_ms=max(one.last_ms for one in rest),
                job_ids=tuple(dict.fromkeys(job_id for one in rest for job_id in one.job_ids)),
            )
            merged.append((group, len(rest)))
    merged.sort(key=lambda one: (-one[0].runs, -one[0].last_ms))
    shown, ids_left = [], SHOWN_IDS
    for group, messages in merged[:SHOWN_GROUPS]:
        ids = group.job_ids[: min(SHOWN_IDS_OF_A_GROUP, ids_left)]
        ids_left -= len(ids)
        # The message of a merged group changes from one refresh to the next, so it is not in the key.
        parts = (*_kind(group), group.message) if messages == 1 else _kind(group)
        key = sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:12]
        shown.append(ShownGroup(group, messages, key, ids))
    return ShownFailures(
        groups=shown,
        groups_left=read.left_out + len(read.groups) - sum(one.messages for one in shown),
        runs_left=read.runs - sum(one.group.runs for one in shown),
    )


def _kind(group: FailureGroup) -> tuple[str, ...]:
    return group.target.project, group.target.workspace, group.job_type, group.status, group.msg_code
