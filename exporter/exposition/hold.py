"""
When new series may show their values: contract, rule 2.

A new series shows 0 until every Prometheus that scrapes often enough has seen it there. Nobody tells how many
scrape, so the time counts from the first complete answer that contained the series: whoever scrapes more
often than `hold_seconds` gets one with the 0 before it is over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field

from exporter.model import SeriesKey, TargetKey

Held = Mapping[TargetKey, frozenset[SeriesKey]]
"""The series that show 0 for being held, by target; a target without any is left out."""

# How long a series waits for its first scrape, at least.
UNSEEN_SECONDS = 300.0
# After a release that the ledger did not take.
RETRY_SECONDS = 5.0


@dataclass(slots=True)
class _Times:
    shown: float
    answered: float | None = None


@dataclass(slots=True)
class _Target:
    keys: frozenset[SeriesKey] = frozenset()
    times: dict[SeriesKey, _Times] = field(default_factory=dict)
    not_before: float = float("-inf")


class Hold:
    """
    The series held now, since when they are shown, and since when a scrape has had them.

    Units: seconds; every `now` is from one clock that never steps back.
    """

    def __init__(self, hold_seconds: float) -> None:
        self.hold_seconds = hold_seconds
        self._targets: dict[TargetKey, _Target] = {}

    @property
    def targets(self) -> Set[TargetKey]:
        """The targets that have held series."""
        return self._targets.keys()

    def shown(self, held: Held, now: float) -> None:
        """Note what the exposition shows from now on: a series that it does not hold is forgotten."""
        known = self._targets
        self._targets = {target: known.get(target) or _Target() for target in held}
        for target, found in self._targets.items():
            if found.keys is not held[target]:
                found.keys = held[target]
                found.times = {key: found.times.get(key) or _Times(now) for key in found.keys}

    def answered(self, held: Held, now: float) -> None:
        """Note that a scrape was answered completely, with an exposition that held these series."""
        for target in held.keys() & self._targets.keys():
            times = self._targets[target].times
            for key in held[target] & times.keys():
                if times[key].answered is None:
                    times[key].answered = now

    def due(self, now: float) -> dict[TargetKey, frozenset[SeriesKey]]:
        """Give what is to be released now."""
        due = {
            target: frozenset(key for key, at in self._release_times(known) if at <= now)
            for target, known in self._targets.items()
        }
        return {target: keys for target, keys in due.items() if keys}

    def next_due(self) -> float | None:
        """Give when something is to be released next; None while nothing is held."""
        return min(
            (at for known in self._targets.values() for _, at in self._release_times(known)), default=None
        )

    def _release_times(self, target: _Target) -> Iterator[tuple[SeriesKey, float]]:
        unseen_seconds = max(UNSEEN_SECONDS, self.hold_seconds)
        for key, times in target.times.items():
            if times.answered is None:
                at = times.shown + unseen_seconds
            else:
                at = times.answered + self.hold_seconds
            yield key, max(at, target.not_before)

    def released(self, target: TargetKey, keys: frozenset[SeriesKey]) -> None:
        """Note that the release of these is recorded. What is still shown as held is then held anew."""
        known = self._targets.get(target)
        if known is not None:
            known.keys = frozenset()
            known.times = {key: times for key, times in known.times.items() if key not in keys}

    def failed(self, target: TargetKey, now: float) -> None:
        """Note that a release could not be recorded: it is due again a little later."""
        known = self._targets.get(target)
        if known is not None:
            known.not_before = now + RETRY_SECONDS
