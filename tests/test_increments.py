"""Additions to counters and histograms are exact, whatever their order."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.counting.increments import (
    COMPLETED,
    CREATED,
    FAILURES,
    RERUNS,
    RESOURCE_SUBMITTING,
    RUNNING,
    SUBMITTING,
    Increments,
    add_counters,
    add_histograms,
)
from exporter.counting.rules import CountingRules
from exporter.counting.transitions import Baseline, Transition, transition
from exporter.model import OTHER, CounterValue, Exemplar, HistogramValue, SeriesKey
from tests.fake_api import a_job

BOUNDS = (1.0, 10.0)
RULES = CountingRules(BOUNDS, (0.1, 0.2, 0.3), max_msg_codes=1)
TYPE = "FRAME_EXTRACT"


def one(job_id: int, at_ms: int) -> CounterValue:
    return CounterValue(1, Exemplar(job_id, 1.0, at_ms))


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (CounterValue(), CounterValue(), CounterValue()),
        (CounterValue(2, created_ms=7), CounterValue(3, created_ms=9), CounterValue(5, created_ms=7)),
        (CounterValue(2**63), CounterValue(1), CounterValue(2**63 + 1)),
        (one(1, 5), CounterValue(1), CounterValue(2, Exemplar(1, 1.0, 5))),
        (CounterValue(1), one(2, 5), CounterValue(2, Exemplar(2, 1.0, 5))),
        (one(1, 5), one(2, 6), CounterValue(2, Exemplar(2, 1.0, 6))),
        (one(1, 6), one(2, 5), CounterValue(2, Exemplar(1, 1.0, 6))),
        (one(1, 5), one(2, 5), CounterValue(2, Exemplar(2, 1.0, 5))),
    ],
)
def test_counters_add_up(left: CounterValue, right: CounterValue, expected: CounterValue) -> None:
    assert add_counters(left, right) == expected


def test_histograms_add_up_bucket_by_bucket() -> None:
    early, late = Exemplar(1, 0.5, 5), Exemplar(2, 0.6, 6)
    left = HistogramValue(BOUNDS, (1, 2, 3), 100, (early, early, None), created_ms=7)
    right = HistogramValue(BOUNDS, (10, 20, 30), 2**60, (late, None, late), created_ms=9)
    assert add_histograms(left, right) == HistogramValue(
        BOUNDS, (11, 22, 33), 2**60 + 100, (late, early, late), created_ms=7
    )


def test_histograms_of_other_bounds_do_not_add_up() -> None:
    wide, narrow = HistogramValue.empty(BOUNDS), HistogramValue.empty((1.0,))
    for left, right in (
        (wide, narrow),
        (wide, replace(wide, counts=narrow.counts)),
        (wide, replace(wide, exemplars=narrow.exemplars)),
    ):
        with pytest.raises(ValueError, match=r"shorter|longer"):
            add_histograms(left, right)


def tallied(durations_ms: list[int]) -> Increments:
    tally = Increments(RULES, frozenset, frozenset)
    for n, duration_ms in enumerate(durations_ms, start=1):
        job = a_job(
            n, "FINISHED", started_ms=10, ended_ms=20, submitting_ms=duration_ms, running_ms=duration_ms
        )
        change = transition(None, job, Baseline(None))
        assert change is not None
        tally.add(job, change, failed=False)
    return tally


@given(st.lists(st.integers(0, 10**9), max_size=50))
def test_sums_and_buckets_are_exact(durations_ms: list[int]) -> None:
    """Ten runs of 0.1 s are 1 s: nothing is added up as a fraction."""
    histograms = tallied(durations_ms).histograms
    for key, bounds in (
        (SeriesKey(SUBMITTING, TYPE), BOUNDS),
        (SeriesKey(RUNNING, TYPE, "FINISHED"), RULES.running_bounds),
    ):
        found = histograms.get(key, HistogramValue.empty(bounds))
        assert found.sum_ms == sum(durations_ms)
        at_most = [
            sum(ms <= Fraction(str(bound)) * 1000 for ms in durations_ms) for bound in found.bounds
        ] + [len(durations_ms)]
        assert [sum(found.counts[: n + 1]) for n in range(len(at_most))] == at_most


@given(st.lists(st.integers(0, 10**6), max_size=20), st.integers(0, 20))
def test_two_polls_add_up_to_what_one_would_have_counted(durations_ms: list[int], cut: int) -> None:
    whole = tallied(durations_ms)
    first, second = tallied(durations_ms[:cut]), tallied(durations_ms[cut:])
    for key, value in whole.counters.items():
        parts = [part.counters.get(key, CounterValue()) for part in (first, second)]
        assert add_counters(*parts).value == value.value
    for key, histogram in whole.histograms.items():
        both = [part.histograms.get(key, HistogramValue.empty(histogram.bounds)) for part in (first, second)]
        added = add_histograms(*both)
        assert (added.counts, added.sum_ms) == (histogram.counts, histogram.sum_ms)


def test_a_created_job_counts_once() -> None:
    tally = Increments(RULES, frozenset, frozenset)
    for job in (a_job(1), a_job(2)):
        change = transition(None, job, Baseline(None))
        assert change is not None
        tally.add(job, change, failed=False)
    assert tally.counters == {SeriesKey(CREATED, TYPE): CounterValue(2)}


def test_an_exemplar_names_the_job_and_when_it_happened() -> None:
    tally = Increments(RULES, frozenset, frozenset)
    job = a_job(7, "RUN_FAILED", started_ms=3_000, ended_ms=3_200, submitting_ms=1_000, running_ms=200)
    change = transition(None, job, Baseline(None))
    assert change is not None
    tally.add(job, change, failed=True)
    assert tally.counters[SeriesKey(FAILURES, TYPE, "RUN_FAILED")].exemplar == Exemplar(7, 1.0, 3_200)
    assert tally.histograms == {
        SeriesKey(SUBMITTING, TYPE): HistogramValue(
            BOUNDS, (1, 0, 0), 1_000, (Exemplar(7, 1.0, 3_000), None, None)
        ),
        SeriesKey(RESOURCE_SUBMITTING, ""): HistogramValue(
            BOUNDS, (1, 0, 0), 1_000, (Exemplar(7, 1.0, 3_000), None, None)
        ),
        SeriesKey(RUNNING, TYPE, "RUN_FAILED"): HistogramValue(
            RULES.running_bounds, (0, 1, 0, 0), 200, (None, Exemplar(7, 0.2, 3_200), None, None)
        ),
    }


def test_the_first_codes_that_come_have_series_and_keep_them() -> None:
    tally = Increments(RULES, frozenset, frozenset)
    for job_id, code in enumerate(("1", "2", "1"), start=1):
        ended(job_id, "RUN_FAILED", code, failed=True, tally=tally)
    assert tally.counters[SeriesKey(FAILURES, TYPE, "RUN_FAILED", "1")].value == 2
    assert tally.counters[SeriesKey(FAILURES, TYPE, "RUN_FAILED", OTHER)].value == 1


def ended(job_id: int, status: str, code: str, *, failed: bool, tally: Increments) -> None:
    job = a_job(job_id, status, ended_ms=5, msg_code=code)
    change = transition(None, job, Baseline(None))
    assert isinstance(change, Transition)
    tally.add(job, change, failed=failed)


def test_a_failure_counts_in_both_families_whatever_its_label() -> None:
    tally = Increments(RULES, lambda: {"1"}, frozenset)
    ended(1, "RUN_FAILED", "1", failed=True, tally=tally)
    ended(2, "RUN_FAILED", "2", failed=True, tally=tally)
    ended(3, OTHER, "", failed=True, tally=tally)
    ended(4, OTHER, "", failed=False, tally=tally)
    counted = {
        key: value.value for key, value in tally.counters.items() if key.family in (COMPLETED, FAILURES)
    }
    assert counted == {
        SeriesKey(COMPLETED, TYPE, "RUN_FAILED"): 2,
        SeriesKey(COMPLETED, TYPE, OTHER): 2,
        SeriesKey(FAILURES, TYPE, "RUN_FAILED", "1"): 1,
        SeriesKey(FAILURES, TYPE, "RUN_FAILED", OTHER): 1,
        SeriesKey(FAILURES, TYPE, OTHER, ""): 1,
    }


@pytest.mark.parametrize(
    ("spec", "used"),
    [
        ("P100_1Gpu_2.1Core_4.1GiB", {"core_seconds": 2_100, "gpu_seconds": 1_000, "memory_seconds": 4_100}),
        ("2Core_4GiB", {"core_seconds": 2_000, "memory_seconds": 4_000}),
        ("2Core_4MiB", {}),
        ("", {}),
    ],
)
def test_a_run_adds_its_time_times_what_it_asked_for(spec: str, used: dict[str, int]) -> None:
    tally = Increments(RULES, frozenset, frozenset)
    most_ms = 10**12  # the sum is more than 64 bits hold
    for job_id in (1, 2):
        job = a_job(job_id, "FINISHED", started_ms=1, ended_ms=2, running_ms=most_ms, resource_spec=spec)
        change = transition(None, job, Baseline(None))
        assert change is not None
        tally.add(job, change, failed=False)
    assert {key.family: value.value for key, value in tally.resource_seconds.items()} == {
        family: 2 * thousandths * most_ms for family, thousandths in used.items()
    }
    assert list(tally.unreadable_specs) == ["2Core_4MiB"] * (spec == "2Core_4MiB")


def test_the_first_specs_that_come_have_series_and_the_rest_shares_one() -> None:
    rules = CountingRules(BOUNDS, BOUNDS, max_resource_specs=2)
    tally = Increments(rules, frozenset, lambda: {"1Core_4GiB", "", OTHER})
    labels = [
        tally.in_flight(a_job(job_id, resource_spec=spec))
        for job_id, spec in enumerate(("2Core_4GiB", "4Core_8GiB", "1Core_4GiB", "", "2Core_4GiB", OTHER))
    ]
    assert labels == ["2Core_4GiB", OTHER, "1Core_4GiB", "", "2Core_4GiB", OTHER]
    # Of the labels that are in use already, none is made anew.
    assert [key.resource_spec for key in tally.histograms] == ["2Core_4GiB"]


def test_unreadable_specs_are_named_up_to_a_limit() -> None:
    tally = Increments(RULES, frozenset, frozenset)
    for job_id in range(30):
        tally.in_flight(a_job(job_id, resource_spec=f"{job_id + 1}MiB"))
        tally.in_flight(a_job(job_id, resource_spec="2Core_4GiB"))
    assert list(tally.unreadable_specs) == [f"{number}MiB" for number in range(1, 21)]


def test_a_label_that_has_a_series_is_looked_at_once() -> None:
    tally = Increments(RULES, frozenset, frozenset)
    assert [tally.in_flight(a_job(job_id)) for job_id in (1, 2)] == ["", ""]
    job = a_job(3, "RUNNING", started_ms=10)
    change = transition(None, job, Baseline(None))
    assert change is not None
    tally.add(job, change, failed=False)
    tally.in_flight(job)
    assert sum(tally.histograms[SeriesKey(RESOURCE_SUBMITTING, "")].counts) == 1


def test_each_rerun_counts_once() -> None:
    tally = Increments(RULES, frozenset, frozenset)
    for job_id in (1, 2):
        job = a_job(job_id, "RUNNING", started_ms=10)
        change = transition(None, job, Baseline(None))
        assert change is not None
        tally.add(job, replace(change, rerun=True), failed=False)
    assert tally.counters[SeriesKey(RERUNS, TYPE)].value == 2


def test_the_labels_of_before_are_read_once_and_only_where_a_value_needs_them() -> None:
    read: list[str] = []

    def labels(name: str) -> frozenset[str]:
        read.append(name)
        return frozenset()

    tally = Increments(RULES, lambda: labels("codes"), lambda: labels("specs"))
    ended(1, "FINISHED", "", failed=False, tally=tally)
    ended(2, "RUN_FAILED", "", failed=True, tally=tally)
    assert read == []
    for job_id in (3, 4):
        ended(job_id, "RUN_FAILED", "7", failed=True, tally=tally)
        tally.in_flight(a_job(job_id, resource_spec="2Core_4GiB"))
    assert read == ["codes", "specs"]
