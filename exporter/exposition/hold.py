"""
When new series may show their values: contract, rule 2.

A new series shows 0 until every Prometheus that scrapes often enough has seen it at 0. The exporter does not
know how many Prometheus servers scrape it. So the time counts from the first complete response that contained
the series: a server that scrapes more often than `hold_seconds` sees the 0 before the hold ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from math import inf

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
    """
    The held series of a target.

    Shape: `is_new` while some have not been scraped; `first_due` is when the first of them is due, None
    where that is not computed. Both save a look at each series in every round and at every scrape.
    """

    keys: frozenset[SeriesKey] = frozenset()
    times: dict[SeriesKey, _Times] = field(default_factory=dict)
    not_before: float = -inf
    is_new: bool = True
    first_due: float | None = None

    def show(self, keys: frozenset[SeriesKey], now: float) -> None:
        self.keys, self.is_new, self.first_due = keys, True, None
        self.times = {key: self.times.get(key) or _Times(now) for key in keys}

    def answer(self, keys: frozenset[SeriesKey], now: float) -> None:
        for key in keys & self.times.keys():
            if self.times[key].answered is None:
                self.times[key].answered = now
        self.first_due = None
        self.is_new = any(times.answered is None for times in self.times.values())


class Hold:
    """
    The series held now, and when each was first shown and first scraped.

    Units: seconds; every `now` is from one clock that never steps back.
    """

    def __init__(self, hold_seconds: float) -> None:
        self._hold_seconds = hold_seconds
        self._targets: dict[TargetKey, _HeldTarget] = {}

    def hold_for(self, seconds: float) -> None:
        """Change the time that a series is held after its first scrape."""
        self._hold_seconds = seconds
        for target in self._targets.values():
            target.first_due = None

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
                found.show(held[target], now)

    def drop(self, targets: Iterable[TargetKey]) -> None:
        """Forget all that is held of some targets."""
        for target in targets:
            self._targets.pop(target, None)

    def answered(self, held: Held, now: float) -> None:
        """Note that a scrape was answered completely, with an exposition that held these series."""
        for target, found in self._targets.items():
            if found.is_new and target in held:
                found.answer(held[target], now)

    def due(self, now: float) -> dict[TargetKey, frozenset[SeriesKey]]:
        """Return the series to be released now."""
        return {
            target: frozenset(key for key, at in self._release_times(known) if at <= now)
            for target, known in self._targets.items()
            if self._first_due(known) <= now
        }

    def next_due(self) -> float | None:
        """Return when the next series is to be released; None while none is held."""
        first = min(map(self._first_due, self._targets.values()), default=inf)
        return None if first == inf else first

    def _first_due(self, target: _HeldTarget) -> float:
        if target.first_due is None:
            target.first_due = min((at for _, at in self._release_times(target)), default=inf)
        return target.first_due

    def _release_times(self, target: _HeldTarget) -> Iterator[tuple[SeriesKey, float]]:
        unseen_seconds = max(UNSEEN_SECONDS, self._hold_seconds)
        for key, times in target.times.items():
            if times.answered is None:
                at = times.shown + unseen_seconds
            else:
                at = times.answered + self._hold_seconds
            yield key, max(at, target.not_before)

    def released(self, target: TargetKey, keys: frozenset[SeriesKey]) -> None:
        """Note that the ledger has recorded a release. A key still shown as held begins a new hold."""
        known = self._targets.get(target)
        if known is not None:
            known.keys, known.first_due = frozenset(), None
            known.times = {key: times for key, times in known.times.items() if key not in keys}

    def failed(self, target: TargetKey, now: float) -> None:
        """Note that the ledger could not record a release: it is due again a little later."""
        known = self._targets.get(target)
        if known is not None:
            known.not_before, known.first_due = now + RETRY_SECONDS, None
