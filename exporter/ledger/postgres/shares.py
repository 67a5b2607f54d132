"""
How the targets are divided among the replicas that are alive: pure.

All replicas go by the same rows, so each finds out alone what it takes and what it gives back, and the others
find the same. A target is divided evenly among the replicas that have it configured: of ten targets that two
replicas have, the share of each is five. A target moves to another replica only where one has more than its
share and the other has less, or nearly so, and both are nearer to their shares then. Every move makes the
division more even, so moving comes to an end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import fsum

# Shares are sums of fractions, which are not exact.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Division:
    """
    Who holds what, by the ids of targets.

    Shape: `configured` are the targets of each replica that is alive, `held` those that it holds. `free` are
    those that may be taken now, `overdue` those of them that nobody has taken for long.
    """

    configured: Mapping[str, frozenset[int]]
    held: Mapping[str, frozenset[int]]
    free: frozenset[int] = frozenset()
    overdue: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Moves:
    """What a replica is to take, and to give back."""

    take: frozenset[int]
    give: frozenset[int]


def shares(configured: Mapping[str, Collection[int]]) -> dict[str, float]:
    """Give the share of each replica: of a target that three replicas have configured, a third."""
    replicas = Counter(target for targets in configured.values() for target in targets)
    return {name: fsum(1 / replicas[target] for target in targets) for name, targets in configured.items()}


def moves(me: str, division: Division) -> Moves:
    """Find out what a replica is to take and to give back."""
    loads = _Loads(division)
    wanted, held = division.configured.get(me, frozenset()), division.held.get(me, frozenset())
    take = loads.spread(division.free).get(me, set()) | (division.overdue & wanted)
    # A replica gives back what it has not configured (any more): another one takes it soon.
    loads.spread(
        target
        for name, targets in division.held.items()
        for target in targets - division.configured.get(name, frozenset())
    )
    return Moves(frozenset(take), frozenset(held - wanted | loads.even_out(me)))


class _Loads:
    """How many targets each replica has, or will have when it has taken what it is to take."""

    def __init__(self, division: Division) -> None:
        self._configured = division.configured
        self._shares = shares(division.configured)
        self._movable = {
            # Of several targets that could move it is always the same that does: a replica that is asked
            # again before the poll has ended finds the same answer.
            name: sorted(division.held.get(name, frozenset()) & targets)
            for name, targets in division.configured.items()
        }
        self._loads = {name: len(targets) for name, targets in self._movable.items()}

    def spread(self, targets: Iterable[int]) -> dict[str, set[int]]:
        """Give each target to that replica with it configured which has the least of its share."""
        spread: dict[str, set[int]] = {name: set() for name in self._configured}
        for target in sorted(targets):
            takers = [name for name in self._configured if target in self._configured[name]]
            if takers:
                taker = min(takers, key=self._rank)
                spread[taker].add(target)
                self._loads[taker] += 1
        return spread

    def even_out(self, giver: str) -> set[int]:
        """Move targets until the division is even; return those that one replica gives."""
        given = set()
        while move := self._next_move():
            source, taker, target = move
            self._movable[source].remove(target)
            self._loads[source] -= 1
            self._loads[taker] += 1
            if source == giver:
                given.add(target)
        return given

    def _next_move(self) -> tuple[str, str, int] | None:
        ranked = sorted(self._configured, key=self._rank)
        for taker in ranked:
            for source in reversed(ranked):
                # A smaller difference would only be turned round.
                if self._surplus(source) - self._surplus(taker) <= 1 + _ROUNDING:
                    break
                for target in reversed(self._movable[source]):
                    if target in self._configured[taker]:
                        return source, taker, target
        return None

    def _rank(self, name: str) -> tuple[float, str]:
        return self._surplus(name), name

    def _surplus(self, name: str) -> float:
        return self._loads[name] - self._shares[name]
