"""From the API and the ledger to the past: with a ledger that has counted since, and every way to refuse."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from exporter.backfill.estimate import Estimator
from exporter.backfill.live import read_live_counting
from exporter.backfill.openmetrics import write_days
from exporter.backfill.past import LeftOut
from exporter.backfill.plan import BackfillOptions, BackfillPlan, LiveCounting, LiveSeries, TargetPlan
from exporter.backfill.reader import PastReader, PastRows
from exporter.backfill.spool import opened_spool
from exporter.cli import app
from exporter.commands.backfill_options import check_room
from exporter.commands.backfill_targets import plan_targets, read_ledger
from exporter.config import LedgerSettings
from exporter.config.loading import load
from exporter.counting.transitions import Baselines
from exporter.errors import ApiUnavailable, BackfillError, ConfigError, StartError
from exporter.ledger.opening import opened_to_look
from exporter.ledger.thread import LedgerThread
from exporter.model import Progress, Target, Totals
from tests.fake_api import FakeApi, a_job, a_target, poll_rules
from tests.ledger_scene import Scene
from tests.ledgers import BackEnd
from tests.past_jobs import DAY_MS, STEP_MS, unshown

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
BEGINNING_MS = NOW_MS - 2 * DAY_MS
CONFIG = """
projects: [{{id: p1, name: perception, endpoint: "http://octopus.test"}}]
credentials: {{default: {{type: token, token: t0ken-0123456789-abcdef}}}}
ledger: {{url: "{url}"}}
"""


class Unshown:
    """Shows no progress."""

    def on_progress(self, target: Target, progress: Progress) -> None: ...

    def on_finished(self, target: Target) -> None: ...


@pytest.fixture
async def scene(back_end: BackEnd) -> AsyncIterator[Scene]:
    """A ledger that an exporter has open, and jobs of two days."""
    scene = Scene(back_end)
    await scene.open()
    scene.api.now_ms = NOW_MS
    for number in range(40):
        created_ms = BEGINNING_MS + number * HOUR_MS
        times = {"created_ms": created_ms, "started_ms": created_ms + 60_000}
        ended = {"ended_ms": created_ms + HOUR_MS, "updated_ms": created_ms + HOUR_MS}
        status = "RUN_FAILED" if number % 5 == 0 else "FINISHED"
        scene.api.put(a_job(number, status, msg_code="3001", resource_spec="2Core_4GiB", **times, **ended))
    await running(scene, 40)
    yield scene
    await scene.ledger.close()


async def running(scene: Scene, job_id: int) -> None:
    now = scene.api.now_ms
    times = {"created_ms": now - HOUR_MS, "started_ms": now - 60_000, "updated_ms": now - 60_000}
    scene.api.put(a_job(job_id, "RUNNING", **times))


def live_of(scene: Scene) -> LiveCounting | None:
    settings = LedgerSettings.model_validate({"url": scene.back_end.url})
    with opened_to_look(settings) as db:
        return read_live_counting(db, a_target().key)


async def read(
    api: FakeApi, live: LiveCounting, folder: Path, from_ms: int = BEGINNING_MS - HOUR_MS
) -> tuple[LeftOut, Counter[str]]:
    """Backfill, and give the last values of all counters, by name and labels of a line."""
    folder = folder / "past"
    folder.mkdir()
    until_ms = (live.baseline_ms or 0) - live.rows_ahead_ms
    target = TargetPlan(a_target(), live, {"job": "o"}, from_ms, until_ms)
    plan = BackfillPlan((target,), poll_rules().counting, STEP_MS, None)
    rows = PastRows(await LedgerThread.begin_to_open(None))
    try:
        reader = PastReader(rows, poll_rules(), lambda: api.now_ms, 0.0, Unshown())
        with opened_spool() as spool:
            (left_out,) = await reader.fill(plan, lambda _: api, spool, Estimator(plan))
            write_days(plan, spool, folder, unshown)
    finally:
        await rows.close()
    values: Counter[str] = Counter()
    for path in sorted(folder.iterdir()):
        for line in path.read_text().splitlines():
            if not line.startswith("#"):
                series, value, _ = line.rsplit(" ", 2)
                values[series.split("{")[0] + _status(series)] = float(value)  # type: ignore[assignment]
    return left_out, values


def _status(series: str) -> str:
    return next((f" {part[8:-1]}" for part in series.split(",") if part.startswith("status=")), "")


def counted(totals: Totals) -> dict[str, int]:
    kind = "FRAME_EXTRACT"
    return {
        "octopus_jobs_created_total": totals.created[kind].value,
        "octopus_jobs_completed_total FINISHED": totals.completed[kind, "FINISHED"].value,
        "octopus_jobs_completed_total RUN_FAILED": totals.completed[kind, "RUN_FAILED"].value,
        "octopus_job_submitting_duration_seconds_count": sum(totals.submitting[kind].counts),
        "octopus_job_running_duration_seconds_count FINISHED": sum(totals.running[kind, "FINISHED"].counts),
    }


async def lived_on(scene: Scene) -> Totals:
    """Let a run that was under way end, and two others come and go; give what was counted live."""
    await scene.poll()
    now = scene.api.now_ms
    scene.api.put(
        a_job(
            40,
            "FINISHED",
            created_ms=NOW_MS - HOUR_MS,
            started_ms=NOW_MS - 60_000,
            ended_ms=now,
            updated_ms=now,
        )
    )
    scene.run_job(41, "FINISHED")
    scene.run_job(42)
    await scene.poll()
    return await scene.poll()


async def past_and_live(scene: Scene, totals: Totals, tmp_path: Path) -> dict[str, float]:
    """Read the past, of which nothing is left out, and add what was counted live."""
    live = live_of(scene)
    assert live is not None
    left_out, past = await read(scene.api, live, tmp_path)
    assert left_out == LeftOut()
    return {name: past[name] + more for name, more in counted(totals).items()}


async def test_the_past_and_what_was_counted_live_are_all_runs(scene: Scene, tmp_path: Path) -> None:
    totals = await lived_on(scene)
    assert await past_and_live(scene, totals, tmp_path) == {
        "octopus_jobs_created_total": 43,
        "octopus_jobs_completed_total FINISHED": 34,
        "octopus_jobs_completed_total RUN_FAILED": 9,
        "octopus_job_submitting_duration_seconds_count": 43,
        "octopus_job_running_duration_seconds_count FINISHED": 34,
    }


async def test_a_job_that_ran_again_is_told(scene: Scene, tmp_path: Path) -> None:
    await scene.poll()
    now = scene.api.now_ms
    created_ms = scene.api.jobs[3].created_ms
    scene.api.put(a_job(3, "RUNNING", created_ms=created_ms, started_ms=now, updated_ms=now))
    await scene.poll()
    live = live_of(scene)
    assert live is not None
    assert live.ran_again == {3}
    left_out, past = await read(scene.api, live, tmp_path)
    assert left_out.ran_again == 1
    assert past["octopus_jobs_created_total"] == 41
    assert past["octopus_jobs_completed_total FINISHED"] == 31


async def wait_at_the_baseline(scene: Scene) -> None:
    for job_id in (50, 51):
        times = {"created_ms": NOW_MS - HOUR_MS, "updated_ms": NOW_MS - HOUR_MS}
        scene.api.put(a_job(job_id, "QUEUING", **times))
    await scene.poll()


async def show_late(scene: Scene) -> Totals:
    """Let the two jobs show only after the first poll what happened to them before it."""
    late = {"created_ms": NOW_MS - HOUR_MS, "started_ms": NOW_MS - 9_000, "updated_ms": scene.api.now_ms}
    scene.api.put(a_job(50, "FINISHED", **late, ended_ms=NOW_MS - 5_000))
    scene.api.put(a_job(51, "RUNNING", **late))
    return await scene.poll()


async def test_what_rows_show_late_counts_once(scene: Scene, tmp_path: Path) -> None:
    await wait_at_the_baseline(scene)
    totals = await show_late(scene)
    assert await past_and_live(scene, totals, tmp_path) == {
        "octopus_jobs_created_total": 43,
        "octopus_jobs_completed_total FINISHED": 33,
        "octopus_jobs_completed_total RUN_FAILED": 8,
        "octopus_job_submitting_duration_seconds_count": 43,
        "octopus_job_running_duration_seconds_count FINISHED": 33,
    }


async def test_what_has_not_been_polled_yet_counts_once(scene: Scene, tmp_path: Path) -> None:
    await wait_at_the_baseline(scene)
    live = live_of(scene)
    totals = await show_late(scene)
    assert live is not None
    _, past = await read(scene.api, live, tmp_path)
    for name, runs in (
        ("octopus_jobs_completed_total FINISHED", 33),
        ("octopus_job_submitting_duration_seconds_count", 43),
    ):
        assert past[name] + counted(totals)[name] == runs


async def test_a_ledger_of_an_older_version_does_not_tell(scene: Scene, tmp_path: Path) -> None:
    for job in list(scene.api.jobs.values()):
        scene.api.put(msgspec.structs.replace(job, updated_ms=job.updated_ms + 30_000))
    await wait_at_the_baseline(scene)
    await show_late(scene)
    scene.back_end.rows("UPDATE jobs SET start_counted = 0, end_counted = 0")
    scene.back_end.rows("UPDATE targets SET tells_counted = 0")
    live = live_of(scene)
    assert live is not None
    left_out, past = await read(scene.api, live, tmp_path)
    # Its rows are usually written 30 seconds after the end of a run.
    assert left_out == LeftOut(counted_late=1, started_late=2)
    assert past["octopus_jobs_completed_total FINISHED"] == 32


async def test_labels_of_the_live_series_are_known(scene: Scene) -> None:
    scene.api.put(a_job(50, "RUNNING", job_type="NEW_TYPE", created_ms=NOW_MS, resource_spec="1Core_2GiB"))
    await lived_on(scene)
    live = live_of(scene)
    assert live is not None
    assert live.job_types == ("NEW_TYPE",)
    assert live.resource_specs >= {"1Core_2GiB"}


async def test_a_target_that_was_never_polled_has_no_baseline(scene: Scene) -> None:
    assert live_of(scene) is None


async def test_with_count_history_there_is_no_baseline_time(scene: Scene) -> None:
    await scene.poll(rules=poll_rules(count_history=True))
    live = live_of(scene)
    assert live is not None
    assert live.baseline_ms is None


async def test_an_api_that_fails_is_asked_again(scene: Scene, tmp_path: Path) -> None:
    await scene.poll()
    live = live_of(scene)
    assert live is not None
    failures = iter([ApiUnavailable("down", status=503)] * 3)

    def fail(_query: object) -> None:
        if len(scene.api.asked) % 4 == 0 and (failure := next(failures, None)):
            raise failure

    scene.api.before_page = fail
    _, past = await read(scene.api, live, tmp_path)
    assert next(failures, None) is None
    assert past["octopus_jobs_created_total"] == 41


async def test_an_api_that_stays_down_is_named(scene: Scene, tmp_path: Path) -> None:
    await scene.poll()
    live = live_of(scene)
    assert live is not None
    scene.api.error = ApiUnavailable("down", status=503)
    with pytest.RaisesGroup(pytest.RaisesExc(BackfillError, match="perception, workspace 0: down")):
        await read(scene.api, live, tmp_path)


async def test_rows_that_cannot_be_read_are_told(scene: Scene, tmp_path: Path) -> None:
    await scene.poll()
    live = live_of(scene)
    assert live is not None
    scene.api.odd = frozenset({7})
    left_out, past = await read(scene.api, live, tmp_path)
    assert left_out.unreadable == 1
    assert past["octopus_jobs_created_total"] == 40


# -- the command -----------------------------------------------------------------------------------------


def refused(tmp_path: Path, *arguments: str, url: str = "sqlite:///none.db") -> BaseException | None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(url=url))
    labels = ["--label", "job=o", "--label", "instance=i"]
    given = ["backfill", "--config", str(config), "--output", str(tmp_path / "new"), *labels, *arguments]
    return CliRunner().invoke(app, given).exception


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--step", "5m"), "--step: found 5m, expected 1s to 4m: Prometheus looks back 5m"),
        (("--from", "soon"), "--from: found 'soon', not a duration, expected one such as 30d or 4m"),
        (("--from", "0"), "--from: found 0, expected more than 0"),
        (("--label", "job"), "--label: found 'job', expected NAME=VALUE, as job=octopus"),
        (("--label", "status=x"), "--label: found status, a label that the exporter sets itself"),
        (("--label", "job=p"), "--label: found job twice, as 'o' and 'p'"),
        (("--label", "x=\udcff"), "--label: found '\\udcff' for x, which is not UTF-8"),
    ],
)
def test_options_that_cannot_be_used_are_named(
    tmp_path: Path, arguments: tuple[str, ...], problem: str
) -> None:
    error = refused(tmp_path, *arguments)
    assert isinstance(error, ConfigError)
    assert error.problems == [problem]


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, "--output", str(tmp_path))
    assert isinstance(error, ConfigError)
    assert "is not empty, expected an empty folder or a new one" in str(error)


def test_a_folder_in_a_file_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, "--output", str(tmp_path / "config.yaml" / "new"))
    assert isinstance(error, ConfigError)
    assert f"{tmp_path}/config.yaml is not a folder" in str(error)


def test_a_disk_without_room_is_refused(tmp_path: Path) -> None:
    check_room(tmp_path / "new" / "folder", 1)
    with pytest.raises(ConfigError, match=r"/new has .* MiB free, and about .* MiB are needed"):
        check_room(tmp_path / "new", 2**60)


def test_labels_or_a_prometheus_are_needed(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(url="sqlite:///none.db"))
    given = ["backfill", "--config", str(config), "--output", str(tmp_path / "new")]
    error = CliRunner().invoke(app, given).exception
    assert isinstance(error, ConfigError)
    assert str(error).startswith("--prometheus: missing, expected a URL, or the labels of the live series")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("sqlite://", "not a file, so another process cannot read it"),
        ("sqlite:////no/such/ledger.db", "there is none yet"),
    ],
)
def test_without_a_ledger_there_is_no_backfill(tmp_path: Path, url: str, problem: str) -> None:
    error = refused(tmp_path, url=url)
    assert isinstance(error, StartError)
    assert problem in str(error)
    assert not (tmp_path / "new").exists()


def polled(tmp_path: Path, project: str, *, count_history: bool = False) -> str:
    """Make a ledger that has polled a target; give its URL."""

    async def poll() -> None:
        scene = Scene(tmp_path / "ledger.db")
        await scene.open()
        await scene.poll(a_target(project=project), poll_rules(count_history=count_history))
        await scene.ledger.close()

    asyncio.run(poll())
    return f"sqlite:///{tmp_path}/ledger.db"


def test_a_target_without_a_baseline_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, url=polled(tmp_path, "other"))
    assert isinstance(error, StartError)
    assert "perception, workspace 0 is not in the ledger yet" in str(error)


def test_with_count_history_there_is_nothing_to_write(
    tmp_path: Path,
) -> None:
    assert refused(tmp_path, url=polled(tmp_path, "perception", count_history=True)) is None
    assert not (tmp_path / "new").exists()


def test_a_target_that_was_not_polled_yet_keeps_no_other_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    text = CONFIG.format(url=polled(tmp_path, "perception"))
    file.write_text(text.replace("name: perception,", 'name: perception, workspaces: ["0", "1"],'))
    (live,) = read_ledger(load(file, {})).items()
    assert live[0].workspace == "0"
    assert "perception, workspace 1 is not in the ledger yet" in capsys.readouterr().out


# -- the seam --------------------------------------------------------------------------------------------


def said_of(
    capsys: pytest.CaptureFixture[str], series: LiveSeries, **labels: str
) -> tuple[tuple[TargetPlan, ...], str]:
    live = LiveCounting(Baselines({"*": NOW_MS}, None), 0)
    options = BackfillOptions(NOW_MS, "http://p", labels, NOW_MS - 10 * DAY_MS, STEP_MS)
    plans = plan_targets(options, {a_target(): live}, {a_target().key: series})
    return plans, capsys.readouterr().out


@pytest.mark.parametrize(
    ("first_days", "joined_days", "said"),
    [
        (0, 0, ""),
        (1, 1, "increase() does not see what was counted in between"),
        (-1, -1, "nothing is written for the time between"),
        (0, 1, "the series of instance 'i' begin at 2027-01-16"),
        (-11, -11, "there is nothing before, or it is loaded already"),
    ],
)
def test_live_series_that_do_not_begin_with_the_counting_are_told(
    capsys: pytest.CaptureFixture[str], first_days: int, joined_days: int, said: str
) -> None:
    at = NOW_MS + 1, NOW_MS + 1
    times = tuple(ms + days * DAY_MS for ms, days in zip(at, (first_days, joined_days), strict=True))
    plans, line = said_of(capsys, LiveSeries({"job": "o", "instance": "i"}, *times))
    assert len(plans) == (first_days != -11)
    assert said in line
    assert bool(line) == bool(said)


def test_a_label_that_live_series_lack_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    series = LiveSeries({"job": "o", "instance": "i"}, NOW_MS + 1, NOW_MS + 1)
    (plan,), line = said_of(capsys, series, cluster="x")
    assert plan.labels == {"job": "o", "instance": "i", "cluster": "x"}
    assert "its live series have no label cluster" in line
