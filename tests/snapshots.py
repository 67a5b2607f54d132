"""Snapshots to publish: one made by hand, and any that hypothesis generates."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from exporter.errors import REASONS
from exporter.model import (
    AGE_BOUNDS_MS,
    FAILED_STATUSES,
    IN_FLIGHT_STATUSES,
    STATUSES,
    TERMINAL_STATUSES,
    CounterValue,
    Exemplar,
    Fault,
    HistogramValue,
    PollStatus,
    Target,
    TargetSnapshot,
    Totals,
)

TARGET = Target(
    project="perception",
    project_id="0876",
    workspace="0",
    workspace_id=None,
    region="cn-north-11",
    endpoint="https://octopus.example",
    path="system-jobs",
    job_types=("FRAME_EXTRACT",),
    credentials="default",
)
EXEMPLAR = Exemplar(job_id=42, value=12.5, at_ms=1_700_000_000_123)
_WAITED = HistogramValue((1.0, 60.0), (1, 2, 0), 61_001, (None, EXEMPLAR, None))
TOTALS = Totals(
    jobs={("FRAME_EXTRACT", status): 0 for status in STATUSES} | {("FRAME_EXTRACT", "RUNNING"): 3},
    oldest_created_ms={("FRAME_EXTRACT", "RUNNING"): 1_700_000_000_500},
    oldest_started_ms={},
    older_than={("FRAME_EXTRACT", "QUEUING", "1h"): 3},
    created={"FRAME_EXTRACT": CounterValue(7)},
    completed={("FRAME_EXTRACT", status): CounterValue(2) for status in TERMINAL_STATUSES},
    failures={
        ("FRAME_EXTRACT", status, ""): CounterValue(2, replace(EXEMPLAR, value=1.0))
        for status in FAILED_STATUSES
    },
    submitting={"FRAME_EXTRACT": _WAITED},
    running={
        ("FRAME_EXTRACT", status): HistogramValue.empty((10.0, 3_600_000.0)) for status in TERMINAL_STATUSES
    },
    resource_jobs={("2Core_4GiB", status): 3 for status in IN_FLIGHT_STATUSES},
    resource_submitting={
        "2Core_4GiB": HistogramValue((1.0, 60.0), (1, 2, 0), 61_001, (None, EXEMPLAR, None))
    },
    core_seconds={("FRAME_EXTRACT", "FINISHED"): CounterValue(2_000 * 61_001)},
    gpu_seconds={("FRAME_EXTRACT", "FINISHED"): CounterValue(0)},
    memory_seconds={("FRAME_EXTRACT", "FINISHED"): CounterValue(4_100 * 61_001)},
    reruns={"FRAME_EXTRACT": CounterValue(1)},
    drift=dict.fromkeys(STATUSES, 0),
    last_audit_ms=1_700_000_000_000,
    baseline_ms=1_690_000_000_000,
)
POLL = PollStatus(up=True, duration_seconds=1.25, requests=3, last_success_ms=1_700_000_001_000, polls=9)
SNAPSHOT = TargetSnapshot(TARGET, TOTALS, POLL)


def named(project: str, workspace: str = "0", **changes: object) -> TargetSnapshot:
    """The snapshot above, of another target."""
    target = replace(TARGET, project=project, workspace=workspace)
    return replace(SNAPSHOT, target=target, **changes)  # type: ignore[arg-type]  # the caller knows the fields


_text = st.text(
    st.sampled_from('\\"\n\r\t =,{}#aé中🚀\u2028') | st.characters(exclude_categories=["Cs"]), max_size=6
)
_count = st.integers(0, 2**53)
_ms = st.integers(0, 4_102_444_800_000)
_exemplar = st.none() | st.builds(Exemplar, job_id=st.integers(1, 2**63), value=st.floats(0, 1e9), at_ms=_ms)
_counter = st.builds(CounterValue, _count, _exemplar, st.none() | _ms)
# Thousandths of a core, a GPU or a GiB, times milliseconds: more than 64 bits can hold.
_resource_seconds = st.builds(CounterValue, st.integers(0, 2**80), st.none(), st.none() | _ms)


@st.composite
def _histograms(draw: st.DrawFn) -> HistogramValue:
    bounds = sorted(draw(st.sets(st.floats(0.001, 1e12), max_size=3)))
    size = len(bounds) + 1
    counts = draw(st.lists(st.integers(0, 2**40), min_size=size, max_size=size))
    exemplars = draw(st.just([]) | st.lists(_exemplar, min_size=size, max_size=size))
    created_ms = draw(st.none() | _ms)
    return HistogramValue(tuple(bounds), tuple(counts), draw(_count), tuple(exemplars), created_ms)


def _by(*keys: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.tuples(*keys)


_by_status = _by(_text, _text)
_totals = st.builds(
    Totals,
    jobs=st.dictionaries(_by_status, _count, max_size=3),
    oldest_created_ms=st.dictionaries(_by(_text, st.sampled_from(IN_FLIGHT_STATUSES)), _ms, max_size=2),
    oldest_started_ms=st.dictionaries(_by(_text, st.sampled_from(IN_FLIGHT_STATUSES)), _ms, max_size=2),
    older_than=st.dictionaries(
        _by(_text, st.sampled_from(IN_FLIGHT_STATUSES), st.sampled_from(tuple(AGE_BOUNDS_MS))),
        st.integers(1, 2**40),
        max_size=3,
    ),
    created=st.dictionaries(_text, _counter, max_size=2),
    completed=st.dictionaries(_by_status, _counter, max_size=2),
    failures=st.dictionaries(_by(_text, _text, _text), _counter, max_size=3),
    submitting=st.dictionaries(_text, _histograms(), max_size=2),
    running=st.dictionaries(_by_status, _histograms(), max_size=2),
    resource_jobs=st.dictionaries(_by_status, _count, max_size=3),
    resource_submitting=st.dictionaries(_text, _histograms(), max_size=2),
    core_seconds=st.dictionaries(_by_status, _resource_seconds, max_size=2),
    gpu_seconds=st.dictionaries(_by_status, _resource_seconds, max_size=2),
    memory_seconds=st.dictionaries(_by_status, _resource_seconds, max_size=2),
    reruns=st.dictionaries(_text, _counter, max_size=2),
    drift=st.dictionaries(_text, st.integers(-1000, 1000), max_size=2),
    last_audit_ms=st.none() | _ms,
    rows_unreadable=_count,
)
_polls = st.builds(
    PollStatus,
    up=st.none() | st.booleans(),
    duration_seconds=st.none() | st.floats(0, 1e5),
    requests=st.none() | _count,
    last_success_ms=st.none() | _ms,
    polls=_count,
    failures=st.fixed_dictionaries(dict.fromkeys(REASONS, _count)),
    error=st.none() | st.builds(Fault, st.sampled_from(REASONS), _text, _ms),
    began_ms=st.none() | _ms,
)
_targets = st.builds(
    Target,
    project=_text,
    project_id=_text,
    workspace=_text,
    workspace_id=st.none(),
    region=_text,
    endpoint=_text,
    path=st.just("system-jobs"),
    job_types=st.just(()),
    credentials=st.just("default"),
)
snapshots = st.lists(
    st.builds(TargetSnapshot, _targets, st.none() | _totals, _polls, st.booleans(), st.booleans()),
    max_size=3,
    unique_by=lambda snapshot: (snapshot.target.project, snapshot.target.workspace),
)
