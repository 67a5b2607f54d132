"""How targets are divided among replicas: even, without flapping, whatever order their heartbeats come in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations
from math import ceil

from hypothesis import given
from hypothesis import strategies as st

from exporter.ledger.postgres.shares import Division, moves, shares


class Replicas:
    """Replicas that take and give back as they find out, one heartbeat after the other."""

    def __init__(self, configured: Mapping[str, Iterable[int]]) -> None:
        self.configured = {name: frozenset(targets) for name, targets in configured.items()}
        self.held: dict[str, set[int]] = {name: set() for name in configured}
        self.targets = frozenset().union(*self.configured.values())
        self.moved = 0

    @property
    def free(self) -> frozenset[int]:
        return self.targets - {target for targets in self.held.values() for target in targets}

    def beat(self, name: str) -> None:
        held = {each: frozenset(targets) for each, targets in self.held.items()}
        found = moves(name, Division(self.configured, held, self.free))
        assert found.take <= self.free & self.configured[name]
        assert found.give <= held[name]
        self.held[name] = (self.held[name] | found.take) - found.give
        self.moved += len(found.give)

    def settle(self, order: Iterable[str] = ()) -> None:
        """Let all send heartbeats, in this order first, until nothing moves."""
        for name in order:
            self.beat(name)
        for _ in range(5 + len(self.targets)):
            before = {name: set(targets) for name, targets in self.held.items()}
            for name in self.configured:
                self.beat(name)
            if self.held == before:
                return
        raise AssertionError("targets move for ever")

    def join(self, name: str, targets: Iterable[int]) -> None:
        self.configured[name], self.held[name] = frozenset(targets), set()
        self.targets |= self.configured[name]

    def die(self, name: str) -> None:
        del self.configured[name], self.held[name]

    @property
    def loads(self) -> list[int]:
        return sorted(map(len, self.held.values()))


NAMES = ["a", "b", "c", "d"]
ORDERS = st.lists(st.sampled_from(NAMES), max_size=12)


def test_the_share_is_the_targets_divided_by_those_who_have_them() -> None:
    assert shares({"a": {1, 2, 3, 4}, "b": {3, 4}}) == {"a": 3.0, "b": 1.0}


def test_one_replica_takes_all() -> None:
    found = moves("a", Division({"a": frozenset({1, 2, 3})}, {}, frozenset({1, 2, 3})))

    assert (found.take, found.give) == ({1, 2, 3}, frozenset())


def test_a_replica_without_targets_gives_back_all() -> None:
    division = Division({"a": frozenset(), "b": frozenset({1, 2})}, {"a": frozenset({1, 2})})

    assert moves("a", division).give == {1, 2}


def test_what_nobody_has_taken_for_long_is_taken_by_anyone() -> None:
    all_of_them = frozenset({1, 2})
    configured = {"a": all_of_them, "b": all_of_them}
    division = Division(configured, {"a": frozenset({1})}, frozenset({2}), overdue=frozenset({2}))

    assert moves("a", division).take == {2}


@given(targets=st.integers(0, 30), replicas=st.integers(1, 4), order=ORDERS)
def test_replicas_with_the_same_targets_hold_the_same_number(
    targets: int, replicas: int, order: list[str]
) -> None:
    names = NAMES[:replicas]
    several = Replicas({name: range(targets) for name in names})

    several.settle(name for name in order if name in names)

    assert not several.free
    assert several.loads[-1] - several.loads[0] <= 1
    assert several.loads[-1] <= ceil(targets / replicas)


@given(targets=st.integers(0, 30), replicas=st.integers(1, 3), order=ORDERS)
def test_a_joiner_gets_its_share_and_no_more_targets_move_than_that(
    targets: int, replicas: int, order: list[str]
) -> None:
    several = Replicas({name: range(targets) for name in NAMES[:replicas]})
    several.settle()
    several.moved = 0
    several.join("d", range(targets))

    several.settle(name for name in order if name in several.configured)

    assert len(several.held["d"]) >= targets // (replicas + 1)
    assert several.moved <= ceil(targets / (replicas + 1))
    assert several.loads[-1] - several.loads[0] <= 1


@given(targets=st.integers(0, 30), replicas=st.integers(2, 4), order=ORDERS)
def test_the_targets_of_a_dead_replica_are_spread_and_no_others_move(
    targets: int, replicas: int, order: list[str]
) -> None:
    several = Replicas({name: range(targets) for name in NAMES[:replicas]})
    several.settle()
    several.moved = 0
    several.die("a")

    several.settle(name for name in order if name in several.configured)

    assert not several.free
    assert several.moved == 0
    assert several.loads[-1] - several.loads[0] <= 1


@given(
    configured=st.dictionaries(st.sampled_from(NAMES), st.frozensets(st.integers(0, 12)), min_size=1),
    order=ORDERS,
)
def test_with_different_configurations_all_is_held_and_no_pair_could_be_more_even(
    configured: dict[str, frozenset[int]], order: list[str]
) -> None:
    several = Replicas(configured)

    several.settle(name for name in order if name in configured)

    assert not several.free
    surplus = {name: len(several.held[name]) - share for name, share in shares(configured).items()}
    for one, other in combinations(configured, 2):
        giver, taker = sorted((one, other), key=surplus.__getitem__, reverse=True)
        if several.held[giver] & configured[taker]:
            assert surplus[giver] - surplus[taker] < 1.001


def test_a_thousand_targets_are_divided_quickly_enough_for_a_heartbeat() -> None:
    """A joiner moves hundreds of targets at once; a heartbeat runs in the thread of the ledger."""
    several = Replicas({"a": range(1000)})
    several.beat("a")
    several.join("b", range(1000))

    several.beat("a")

    assert several.loads == [0, 500]
