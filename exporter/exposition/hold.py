"""
When new series may show their values: contract, rule 2.

A new series shows 0 until every Prometheus that scrapes often enough has seen it at 0. The exporter does not
know how many Prometheus servers scrape it. So the time counts from the first complete response that contained
the series: a server that scrapes more often than `hold_seconds` sees the 0 before the hold ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field

from exporter.model import SeriesKey, TargetKey

Held = Mapping[TargetKey, frozenset[SeriesKey]]
"""The series that show 0 while they are held, by target; a target without any is left out."""

# How long a series waits at least for its first scrape.
UNSEEN_SECONDS = 300.0
# The pause after a release that the ledger could not record.
RETRY_SECONDS = 5.0


@dataclass(slots=True)
class _Times:
    shown: float
    answered: float | None = None


@dataclass(slots=True)
class _HeldTarget:
    keys: frozenset[SeriesKey] = frozenset()
    times: dict[SeriesKey, _Times] = field(default_factory=dict)
    not_before: float = float("-inf")


class Hold:
    """
    The series held now, and when each was first shown and first scraped.

    Units: seconds; every `now` is from one clock that never steps back.
    """

    def __init__(self, hold_seconds: float) -> None:
        self.hold_seconds = hold_seconds
        self._targets: dict[TargetKey, _HeldTarget] = {}

    @property
    def targets(self) -> Set[TargetKey]:
        """The targets that have held series."""
        return self._targets.keys()

    def shown(self, held: Held, now: float) -> None:
        """Note the series that the exposition holds from now on; all others are forgotten."""
        known = self._targets
        self._targets = {target: known.get(target) or _HeldTarget() for target in held}
        for target, found in self._targets.items():
            # Most publications hold the same set as the last one; then the series need not be compared.
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
        """Return the series to be released now."""
        due = {
            target: frozenset(key for key, at in self._release_times(known) if at <= now)
            for target, known in self._targets.items()
        }
        return {target: keys for target, keys in due.items() if keys}

    def next_due(self) -> float | None:
        """Return when the next series is to be released; None while none is held."""
        return min(
            (at for known in self._targets.values() for _, at in self._release_times(known)), default=None
        )

    def _release_times(self, target: _HeldTarget) -> Iterator[tuple[SeriesKey, float]]:
        unseen_seconds = max(UNSEEN_SECONDS, self.hold_seconds)
        for key, times in target.times.items():
            if times.answered is None:
                at = times.shown + unseen_seconds
            else:
                at = times.answered + self.hold_seconds
            yield key, max(at, target.not_before)

    def released(self, target: TargetKey, keys: frozenset[SeriesKey]) -> None:
        """Note that the ledger has recorded a release. A key still shown as held begins a new hold."""
        known = self._targets.get(target)
        if known is not None:
            known.keys = frozenset()
            known.times = {key: times for key, times in known.times.items() if key not in keys}

    def failed(self, target: TargetKey, now: float) -> None:
        """Note that the ledger could not record a release: it is due again a little later."""
        known = self._targets.get(target)
        if known is not None:
            known.not_before = now + RETRY_SECONDS
