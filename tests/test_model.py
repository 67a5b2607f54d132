"""What a job's status says, and what else ends a run."""

from __future__ import annotations

import pytest

from exporter.model import FAILED_STATUSES, IN_FLIGHT_STATUSES, TERMINAL_STATUSES, Job, is_failed


def ended(status: str, ended_ms: int | None = None, *, named: bool = False) -> bool:
    return Job(1, "FRAME_EXTRACT", status, 1, 1, ended_ms=ended_ms, named_terminal=named).has_ended


@pytest.mark.parametrize("status", TERMINAL_STATUSES)
@pytest.mark.parametrize("ended_ms", [None, 5])
def test_a_documented_terminal_status_ends_a_run_by_itself(status: str, ended_ms: int | None) -> None:
    assert ended(status, ended_ms)


@pytest.mark.parametrize("status", IN_FLIGHT_STATUSES)
@pytest.mark.parametrize("ended_ms", [None, 5])
def test_a_documented_status_in_flight_ends_none(status: str, ended_ms: int | None) -> None:
    """An end time beside RUNNING is that of the run before."""
    assert not ended(status, ended_ms)


def test_an_undocumented_status_ends_a_run_with_an_end_time_or_by_configuration() -> None:
    assert [ended("ARCHIVED"), ended("ARCHIVED", 5), ended("ARCHIVED", named=True)] == [False, True, True]


def test_every_status_that_says_failed_has_failed() -> None:
    assert all(map(is_failed, (*FAILED_STATUSES, "EXPORT_FAILED")))
    assert not any(map(is_failed, ("FINISHED", "STOPPED", "FAILED", "FAILED_OVER", "ARCHIVED")))
