"""The lives of benchmarks.alerts: what is drawn, what is scraped of it, and how alerts are judged."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from benchmarks.alerts.life import Life, live
from benchmarks.alerts.oracle import alarms
from benchmarks.alerts.outcome import OURS, RULES, Work, evaluate
from benchmarks.alerts.project import BURSTS, DAY, FLAVOURS, MINUTES, WARM_UP, Flavour, Kind, with_retries
from benchmarks.alerts.report import tables
from benchmarks.alerts.runs import FAILED, draw_runs
from benchmarks.alerts.scrapes import Series, scraped
from benchmarks.alerts.spikes import SHAPES, Spike
from benchmarks.alerts.verdict import Alert, delays, judge, without_pages
from exporter.model import JOB_TYPES, TERMINAL_STATUSES

_SEEDS = range(8)
_cached = cache(live)


@cache
def _scraped(flavour: Flavour, seed: int, has_spikes: bool = True) -> Series:
    return scraped(_cached(flavour, seed, has_spikes))


def _lives(has_spikes: bool = True) -> list[Life]:
    return [_cached(flavour, seed, has_spikes) for flavour in FLAVOURS for seed in _SEEDS]


def _kind(share: float, per_minute: float, batched: float = 0.0) -> Kind:
    """Make a type whose failures are all RUN_FAILED."""
    fates = np.zeros((3, WARM_UP + MINUTES))
    fates[1] = share
    rate = np.full(WARM_UP + MINUTES, per_minute)
    return Kind("FRAME_EXTRACT", rate, fates, with_retries(fates), 10, 1, batched=batched)


def _values(series: Series, name: str, **labels: str) -> np.ndarray:
    wanted = {"__name__": name, **labels}
    (found,) = (values for key, values in series.items() if wanted.items() <= dict(key).items())
    return found


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_seed_gives_the_same_life_again_and_another_seed_another(flavour: Flavour) -> None:
    first, again, other = live(flavour, 3), live(flavour, 3), live(flavour, 4)
    assert np.array_equal(first.runs.ended, again.runs.ended)
    assert first.spikes == again.spikes
    assert not np.array_equal(first.runs.ended, other.runs.ended)


def test_batches_share_their_fate_with_the_correlation_asked_for() -> None:
    share = 0.1
    runs = draw_runs(np.random.default_rng(1), "bursty", [_kind(share, 8.0, batched=1.0)])
    in_batch = (runs.batch >= 0) & (runs.created < 10 * DAY)
    failed = np.bincount(runs.batch[in_batch], runs.outcome[in_batch] >= FAILED)
    sizes = np.bincount(runs.batch[in_batch])
    variance = share * (1 - share)
    more = ((failed - sizes * share) ** 2 - sizes * variance).sum()
    assert more / (sizes * (sizes - 1) * variance).sum() == pytest.approx(BURSTS.correlation, abs=0.008)


def test_failures_of_an_even_life_are_independent_and_at_the_usual_share() -> None:
    runs = draw_runs(np.random.default_rng(2), "even", [_kind(0.1, 8.0)])
    failed = runs.outcome >= FAILED
    assert (runs.batch < 0).all()
    assert failed.mean() == pytest.approx(0.1, abs=0.005)
    hours = np.bincount((runs.ended[runs.ended > 0] // 60).astype(int), failed[runs.ended > 0])
    # Failures that come by themselves vary as much as a Poisson number.
    assert hours.var() / hours.mean() == pytest.approx(1, abs=0.3)


def test_the_usual_share_has_the_failures_of_retries_in_it() -> None:
    kind = _kind(0.1, 8.0)
    runs = draw_runs(np.random.default_rng(3), "bursty", [kind])
    usual = kind.shares.sum(axis=0).mean()
    assert (runs.outcome >= FAILED).mean() == pytest.approx(usual, rel=0.04)
    assert usual > 0.11


def test_both_flavours_draw_every_shape_and_about_sixteen_spikes_a_life() -> None:
    drawn = {flavour: [s for s in _SEEDS for s in _cached(flavour, s).spikes] for flavour in FLAVOURS}
    for spikes in drawn.values():
        assert {spike.shape for spike in spikes} == set(SHAPES)
        assert 14 <= len(spikes) / len(_SEEDS) <= 18


def test_a_spikes_failures_are_in_its_series_and_nowhere_else() -> None:
    for life in _lives():
        calm = _cached(life.flavour, life.seed, has_spikes=False)
        for kind, kind_runs in enumerate(life.kinds):
            for status in range(FAILED, len(TERMINAL_STATUSES)):
                with_spikes, without = (_failures(one, kind, status) for one in (life, calm))
                mine = (life.runs.kind == kind) & (life.runs.outcome == status) & (life.runs.spike >= 0)
                added = np.sort(life.runs.ended[mine])
                assert np.array_equal(np.sort(np.concatenate([without, added])), with_spikes)
                name = (kind_runs.job_type, TERMINAL_STATUSES[status])
                assert all(name in life.spikes[spike].series for spike in life.runs.spike[mine])
        for number, spike in enumerate(life.spikes):
            ended = life.runs.ended[life.runs.spike == number]
            assert len(ended) == spike.failures
            assert ended.min() == spike.begin
            assert ended.max() <= spike.end


def _failures(life: Life, kind: int, status: int) -> np.ndarray:
    return np.sort(life.runs.ended[(life.runs.kind == kind) & (life.runs.outcome == status)])


def test_a_second_burst_comes_half_an_hour_to_an_hour_after_the_first_in_its_series() -> None:
    for life in _lives():
        by_shape = {spike.shape: spike for spike in life.spikes}
        if second := by_shape.get("second burst"):
            first = by_shape["burst of 30"]
            assert second.series == first.series
            assert 30 <= second.begin - first.end <= 65


def test_counters_never_fall_and_nothing_is_scraped_while_the_exporter_is_away() -> None:
    life = _cached("bursty", 0)
    away = life.pauses.exporter[0]
    for key, values in _scraped("bursty", 0).items():
        name = dict(key)["__name__"]
        if name == "up":
            assert (values[away.begin : away.end] == 0).all()
            continue
        assert np.isnan(values[away.begin : away.end]).all()
        if name.endswith(("_total", "_bucket", "_count", "_sum")):
            known = values[np.isfinite(values)]
            assert (np.diff(known) >= 0).all(), key


def test_an_api_pause_hides_what_ends_and_then_shows_all_of_it_at_once() -> None:
    life, series = _cached("even", 0), _scraped("even", 0)
    (spike,) = (spike for spike in life.spikes if spike.shape == "inside API pause")
    pause = life.pauses.spiked
    assert pause.begin < spike.begin < pause.end <= spike.end
    up = _values(series, "octopus_up")
    inside = up[pause.begin : pause.end]
    assert (inside[np.isfinite(inside)] == 0).all()
    ((job_type, status),) = spike.series
    failed = _values(series, "octopus_jobs_completed_total", job_type=job_type, status=status)
    during = failed[pause.begin : pause.end]
    assert len(set(during[np.isfinite(during)])) == 1
    after = failed[pause.end :][up[pause.end :] == 1]
    assert after[0] - np.nanmax(during) >= spike.failures


def test_what_is_shown_at_the_end_is_what_has_happened() -> None:
    life, series = _cached("bursty", 1), _scraped("bursty", 1)
    runs = life.runs
    for number, kind in enumerate(life.kinds):
        for outcome, status in enumerate(TERMINAL_STATUSES):
            ended = runs.ended[(runs.kind == number) & (runs.outcome == outcome) & (runs.ended >= 0)]
            if len(ended):
                labels = {"job_type": kind.job_type, "status": status}
                assert _values(series, "octopus_jobs_completed_total", **labels)[-1] == len(ended)


def test_a_failure_is_counted_under_its_code_too() -> None:
    series = _scraped("bursty", 1)
    by_series: dict[tuple[str, str], float] = {}
    for key, values in series.items():
        labels = dict(key)
        if labels["__name__"] == "octopus_job_failures_total":
            name = labels["job_type"], labels["status"]
            by_series[name] = by_series.get(name, 0) + values[-1]
    assert by_series
    for (job_type, status), total in by_series.items():
        completed = _values(series, "octopus_jobs_completed_total", job_type=job_type, status=status)
        assert completed[-1] == total


def test_known_types_begin_at_zero_and_an_invented_one_is_held_at_zero_when_it_is_born() -> None:
    life = next(life for life in _lives() if {kind.job_type for kind in life.kinds} - set(JOB_TYPES))
    series = _scraped(life.flavour, life.seed)
    (invented, *_) = sorted({kind.job_type for kind in life.kinds} - set(JOB_TYPES))
    for job_type in JOB_TYPES:
        completed = _values(series, "octopus_jobs_completed_total", job_type=job_type, status="FINISHED")
        assert completed[0] == 0
    born = _values(series, "octopus_jobs_completed_total", job_type=invented, status="FINISHED")
    assert born[np.isfinite(born)][:2].tolist() == [0, 0]


def test_job_gauges_agree_with_each_other() -> None:
    series = _scraped("even", 0)
    for key, oldest in series.items():
        labels = dict(key)
        if labels["__name__"] == "octopus_jobs_oldest_started_timestamp_seconds":
            where = {"job_type": labels["job_type"], "status": labels["status"]}
            jobs = _values(series, "octopus_jobs", **where)
            assert np.array_equal(np.isfinite(oldest), np.isfinite(jobs) & (jobs > 0))
            has_jobs = np.flatnonzero(np.isfinite(oldest))
            assert (oldest[has_jobs] <= has_jobs * 60).all()


def _spike(begin: float, end: float, **more: object) -> Spike:
    shape = str(more.get("shape", "outage"))
    return Spike(shape, frozenset({("A", "RUN_FAILED"), ("B", "RUN_FAILED")}), begin, end, 9)  # type: ignore[arg-type]


def _alert(begin: int, end: int, severity: str = "critical", **labels: str) -> Alert:
    return Alert("OctopusRunFailedSpike", severity, {"severity": severity, **labels}, begin, end)


def test_a_page_that_fires_already_does_not_count_for_a_later_spike() -> None:
    spikes = [_spike(100, 105), _spike(140, 145)]
    page = _alert(103, 200, job_type="A", status="RUN_FAILED")
    assert delays(spikes, judge([page], spikes)) == [3, None]
    again = _alert(142, 200, job_type="A", status="RUN_FAILED")
    assert delays(spikes, judge([page, again], spikes)) == [3, 2]


def test_a_page_is_about_its_series_or_its_project_until_an_hour_after_the_end() -> None:
    spikes = [_spike(100, 160)]
    right = [_alert(110, 120, job_type="B", status="RUN_FAILED"), _alert(220, 230, status="RUN_FAILED")]
    wrong = [
        _alert(110, 120, job_type="C", status="RUN_FAILED"),
        _alert(110, 120, status="UPLOAD_FAILED"),
        _alert(99, 120, job_type="A", status="RUN_FAILED"),
        _alert(221, 230, job_type="A", status="RUN_FAILED"),
    ]
    verdict = judge(right + wrong, spikes)
    assert [len(about) for about in verdict.about] == [2]
    assert sorted(map(str, verdict.false)) == sorted(map(str, wrong))
    late = _alert(160 + 700, 900, job_type="A", status="RUN_FAILED")
    assert not judge([late], [_spike(100, 160, shape="slow type")]).false


def test_a_warning_beside_a_page_of_the_same_series_is_no_warning_of_its_own() -> None:
    page = _alert(103, 200, job_type="A", status="RUN_FAILED")
    beside = _alert(90, 110, "warning", job_type="A", status="RUN_FAILED")
    alone = _alert(90, 110, "warning", job_type="B", status="RUN_FAILED")
    assert without_pages([beside, alone], [page]) == [alone]


def test_the_oracle_finds_bursts_at_once_and_seldom_cries_in_calm_lives() -> None:
    for life in _lives():
        verdict = judge(alarms(life), life.spikes)
        for spike, delay in zip(life.spikes, delays(life.spikes, verdict), strict=True):
            if spike.shape == "burst of 30":
                assert delay is not None
                assert delay < 5
    calm = [life for life in _lives(has_spikes=False) if life.flavour == "even"]
    count = sum(len(alarms(life)) for life in calm)
    assert count <= 5 * sum(life.series_days for life in calm) / 1000


def test_the_report_shows_what_the_rules_found() -> None:
    outcome = evaluate(Work("even", 1, has_spikes=True, rules=RULES))
    paged = {
        spike.shape
        for spike, about in zip(outcome.spikes, outcome.verdicts[OURS].about, strict=True)
        if about
    }
    assert "burst of 30" in paged
    aims, *others = tables([outcome])
    assert "| spikes paged: at least 88% |" in aims
    assert len(others) == 3
