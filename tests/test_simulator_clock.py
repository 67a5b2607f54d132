from __future__ import annotations

import pytest

from exporter.errors import ConfigError
from exporter.simulator.simulator import SimulatedClock


class Watch:
    """Real seconds, turned by hand."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def watch() -> Watch:
    return Watch()


def test_simulated_time_runs_as_fast_as_told(watch: Watch) -> None:
    clock = SimulatedClock(1_000_000, 60, watch)
    assert clock.now_ms() == 1_000_000
    watch.seconds += 2
    assert clock.now_ms() == 1_120_000


def test_another_speed_keeps_what_has_passed(watch: Watch) -> None:
    clock = SimulatedClock(1_000_000, 60, watch)
    watch.seconds += 2
    clock.set_speed(0)
    watch.seconds += 2
    assert clock.now_ms() == 1_120_000
    clock.set_speed(1)
    watch.seconds += 2
    assert clock.now_ms() == 1_122_000


def test_a_jump_adds_to_what_has_passed_even_while_time_stands_still(watch: Watch) -> None:
    clock = SimulatedClock(1_000_000, 10, watch)
    watch.seconds += 1
    clock.set_speed(0)
    clock.jump(90)
    assert clock.now_ms() == 1_100_000


@pytest.mark.parametrize("wrong", [-1.0, float("inf"), float("nan")])
def test_time_neither_goes_back_nor_is_infinite(watch: Watch, wrong: float) -> None:
    clock = SimulatedClock(1_000_000, 1, watch)
    with pytest.raises(ConfigError, match="speed: "):
        clock.set_speed(wrong)
    with pytest.raises(ConfigError, match="advance_seconds: "):
        clock.jump(wrong)
