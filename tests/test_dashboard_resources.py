"""The rows "Where the cores go" and the time to clear: what their queries result in, and at which prices."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.alerts.engine import Floats, Labels
from exporter.exposition import families as f
from exporter.exposition.samples import named_by_specs
from grafana.boards import DASHBOARDS, dashboard_files
from grafana.preview.queries import Window, fill_query, fill_variables
from grafana.preview.view import DashboardView, PanelView
from grafana.resources import PRICES, Prices
from tests.promtool_answers import answers

VIEWS = {file.stem: DashboardView.read(file) for file in sorted(DASHBOARDS.glob("*.json"))}
HOUR_SECONDS, STEP_SECONDS = 3600, 600
CPU, GPU, BIG_GPU = "4Core_16GiB", "P100_1Gpu_2.1Core_4.1GiB", "32Core_256GiB_8GPU"
# Jobs in flight: a number of jobs for each spec and status. Three of these specs name nothing.
IN_FLIGHT = {
    (CPU, "RUNNING"): 3,
    (GPU, "RUNNING"): 2,
    (GPU, "QUEUING"): 5,
    (BIG_GPU, "LAUNCHING"): 1,
    ("other", "RUNNING"): 7,
    ("", "QUEUING"): 1,
    ("2,5Core_4GiB_P100_Gpu", "RUNNING"): 9,
}
# What was counted in the hour: cores, GPUs and GiB in hours, and runs, by job type and status.
COUNTED = {
    ("FRAME_EXTRACT", "FINISHED"): (60.0, 0.0, 240.0, 30),
    ("FRAME_EXTRACT", "RUN_FAILED"): (20.0, 0.0, 80.0, 10),
    ("SCENARIO_AUTO_MINING", "FINISHED"): (10.0, 5.0, 20.0, 5),
    ("SCENARIO_AUTO_MINING", "STOPPED"): (4.0, 2.0, 8.0, 2),
    ("PACKAGE_DELETE", "FINISHED"): (0.0, 0.0, 0.0, 3),
}
RERUNS = {"FRAME_EXTRACT": 4, "SCENARIO_AUTO_MINING": 0, "PACKAGE_DELETE": 0}
CHOSEN = dict.fromkeys(PRICES, "") | {"core_hour": "0.5", "gpu_hour": "10", "gib_hour": "0.01"}


def series() -> dict[Labels, Floats]:
    """Give what two exporters of one target export in an hour."""
    made: dict[Labels, Floats] = {}
    steps = HOUR_SECONDS // STEP_SECONDS + 1

    def add(name: str, end: float, *, grows: bool, **labels: str) -> None:
        values = np.linspace(0, end, steps) if grows else np.full(steps, float(end))
        for instance in ("one", "two"):
            target = {"job": "octopus", "instance": instance, "project": "perception", "workspace": "0"}
            made[tuple({"__name__": f"octopus_{name}", **target, **labels}.items())] = values

    for (spec, status), jobs in IN_FLIGHT.items():
        add("resource_jobs", jobs, grows=False, resource_spec=spec, status=status)
    for family in (f.RESOURCE_SPEC_CORES, f.RESOURCE_SPEC_GPUS, f.RESOURCE_SPEC_MEMORY):
        for spec, named in named_by_specs(family, {spec for spec, _ in IN_FLIGHT}).items():
            add(family.name.removeprefix("octopus_"), named / 1000, grows=False, resource_spec=spec)
    for (job_type, status), (*amounts, runs) in COUNTED.items():
        kinds = zip(("core", "gpu", "memory_gibibyte"), amounts, strict=True)
        for kind, hours in kinds:
            name = f"job_{kind}_seconds_total"
            add(name, hours * HOUR_SECONDS, grows=True, job_type=job_type, status=status)
        add("jobs_completed_total", runs, grows=True, job_type=job_type, status=status)
    for job_type, runs in RERUNS.items():
        add("job_reruns_total", runs, grows=True, job_type=job_type)
    return made


def backlog(project: str, waiting: tuple[int, int], arrived: int, started: int) -> dict[Labels, Floats]:
    """Give a project whose waiting jobs go from one number to another within an hour."""
    steps = HOUR_SECONDS // STEP_SECONDS + 1
    target = {"job": "octopus", "instance": "one", "project": project, "workspace": "0"}
    own = target | {"job_type": "FRAME_EXTRACT"}

    def labels(name: str, **others: str) -> Labels:
        return tuple({"__name__": name, **own, **others}.items())

    return {
        labels("octopus_jobs", status="QUEUING"): np.linspace(*waiting, steps),
        labels("octopus_jobs_created_total"): np.linspace(0, arrived, steps),
        labels("octopus_job_submitting_duration_seconds_count"): np.linspace(0, started, steps),
    }


BACKLOGS = {
    **backlog("falling", (100, 40), arrived=25, started=85),
    **backlog("rising", (40, 100), arrived=145, started=85),
    # Less than arrivals vary by chance.
    **backlog("steady", (20, 17), arrived=400, started=403),
    **backlog("empty", (0, 0), arrived=0, started=0),
    **backlog("stuck", (5, 5), arrived=0, started=0),
}
TREND, ALONE = "Time to clear", "If no more jobs arrive"
BY_TYPE = "Time to clear by job type"


@pytest.fixture(scope="module")
def cleared(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], list[float]]:
    """Evaluate the times to clear of each backlog with promtool: the values by project and panel."""
    view, asked = VIEWS["octopus-project"], dict[tuple[str, str], str]()
    for project in ("falling", "rising", "steady", "empty", "stuck"):
        for panel in view.panels:
            if panel.title in {TREND, ALONE, BY_TYPE}:
                chosen = view.everything | {"project": project}
                filled = fill_query(panel, panel.targets[0], Window(0, HOUR_SECONDS), chosen)
                # The greatest of the shown time need that time, which promtool does not know.
                expression = filled.expression.partition(" and on (job_type) topk(")[0]
                asked[project, panel.title] = expression
    folder = tmp_path_factory.mktemp("promtool")
    found = answers(folder, [], BACKLOGS, asked.values(), gaps_are_stale=False, step_seconds=STEP_SECONDS)
    last = HOUR_SECONDS // STEP_SECONDS
    return {key: [*by_labels(found.get((one, last), {})).values()] for key, one in asked.items()}


@pytest.mark.parametrize(
    ("project", "at_trend", "alone"),
    [
        ("falling", [3600 * 40 / 60], [3600 * 40 / 85]),
        ("rising", [], [3600 * 100 / 85]),
        ("steady", [], [3600 * 17 / 403]),
        ("empty", [0], [0]),
        ("stuck", [], []),
    ],
)
def test_a_backlog_is_cleared_at_its_trend_or_if_no_more_jobs_arrive(
    project: str,
    at_trend: list[float],
    alone: list[float],
    cleared: dict[tuple[str, str], list[float]],
) -> None:
    assert cleared[project, TREND] == pytest.approx(at_trend)
    assert cleared[project, ALONE] == pytest.approx(alone)
    by_type = [] if project == "empty" else alone
    assert cleared[project, BY_TYPE] == pytest.approx(by_type)


Results = dict[tuple[str, str], dict[str, float]]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Evaluate the panels with promtool: values by their labels, for each panel and column."""
    window, asked = Window(0, HOUR_SECONDS), dict[tuple[str, str], str]()
    for name in ("octopus-project", "octopus-fleet"):
        view = VIEWS[name]
        for panel in view.panels:
            for target in panel.targets if in_row(view, panel, "Where the cores go") else ():
                filled = fill_query(panel, target, window, view.everything | CHOSEN)
                asked[f"{name} {panel.title}", target.legend] = filled.expression
    asked["empty box", ""] = asked["octopus-project Cost", "Cost"].replace("(0.01 + 0)", "( + 0)")
    folder = tmp_path_factory.mktemp("promtool")
    found = answers(folder, [], series(), asked.values(), gaps_are_stale=False, step_seconds=STEP_SECONDS)
    last = HOUR_SECONDS // STEP_SECONDS
    return {panel: by_labels(found.get((expression, last), {})) for panel, expression in asked.items()}


def in_row(view: DashboardView, panel: PanelView, title: str) -> bool:
    """Tell whether a panel stands below the heading with this title."""
    heads = [one for one in view.panels if one.type == "row" and one.place[1] < panel.place[1]]
    return panel.type != "row" and heads[-1].title == title


def by_labels(samples: object) -> dict[str, float]:
    assert isinstance(samples, dict), samples
    return {" ".join(value for _, value in labels): value for labels, value in samples.items()}


def test_jobs_in_flight_are_multiplied_by_what_their_specs_name(results: Results) -> None:
    """Specs that cannot be read, "other" and "" name nothing; two exporters of one target count once."""
    shown = {title: results[f"octopus-project {title}", title] for title in (*NUMBERS, "Cost")}
    assert {title: shown[title] for title in NUMBERS} == {
        title: {"": value} for title, value in NUMBERS.items()
    }
    for board in ("octopus-project", "octopus-fleet"):
        gpus = results[f"{board} GPUs in use and waited for", "{{status}}"]
        assert gpus == {"RUNNING": 2.0, "QUEUING": 5.0, "LAUNCHING": 8.0}
        cores = results[f"{board} Cores in use and waited for", "{{status}}"]
        assert cores == pytest.approx({"RUNNING": 3 * 4 + 2 * 2.1, "QUEUING": 5 * 2.1, "LAUNCHING": 32.0})
    memory = results["octopus-fleet Resources and cost by project", "Memory in use"]
    assert memory == pytest.approx({"perception": (3 * 16 + 2 * 4.1) * 2**30})


NUMBERS = {
    "GPUs in use": 2.0,
    "GPUs waited for": 5.0 + 8.0,
    "Cores in use": pytest.approx(3 * 4 + 2 * 2.1),
    "Cores waited for": pytest.approx(5 * 2.1 + 32),
}


def test_costs_are_hours_times_prices(results: Results) -> None:
    frame_extract, mining = 0.5 * 80 + 0.01 * 320, 0.5 * 14 + 10 * 7 + 0.01 * 28
    failed, stopped = 0.5 * 20 + 0.01 * 80, 0.5 * 4 + 10 * 2 + 0.01 * 8
    table = {column: results["octopus-project Cost by project and job type", column] for column in COLUMNS}
    keys = ("FRAME_EXTRACT perception", "SCENARIO_AUTO_MINING perception", "PACKAGE_DELETE perception")
    assert table["Cost"] == pytest.approx(dict(zip(keys, (frame_extract, mining, 0), strict=True)))
    assert table["Cost of failures"] == pytest.approx(dict(zip(keys[:2], (failed, stopped), strict=True)))
    shares = (failed / frame_extract, stopped / mining)
    assert table["Share of failures"] == pytest.approx(dict(zip(keys[:2], shares, strict=True)))
    assert table["GPU-hours"] == pytest.approx(dict(zip(keys, (0, 7, 0), strict=True)))
    assert table["Core-hours"] == pytest.approx(dict(zip(keys, (80, 14, 0), strict=True)))
    assert table["GiB-hours"] == pytest.approx(dict(zip(keys, (320, 28, 0), strict=True)))
    assert table["Reruns"] == pytest.approx(dict(zip(keys, (4 / 40, 0, 0), strict=True)))
    fleet = {column: results["octopus-fleet Resources and cost by project", column] for column in COLUMNS}
    assert fleet["Cost"] == pytest.approx({"perception": frame_extract + mining})
    assert fleet["Cost of failures"] == pytest.approx({"perception": failed + stopped})
    lost = results["octopus-project What failures cost", "{{job_type}} {{status}}"]
    assert lost == pytest.approx(
        {"FRAME_EXTRACT RUN_FAILED": failed, "SCENARIO_AUTO_MINING STOPPED": stopped}
    )


COLUMNS = (
    *("Cost", "Cost of failures", "Share of failures"),
    *("GPU-hours", "Core-hours", "GiB-hours", "Reruns"),
)


def test_an_empty_box_is_a_price_of_0(results: Results) -> None:
    assert results["empty box", ""] == pytest.approx({"": 0.5 * 94 + 10 * 7})


# --- prices


@pytest.mark.parametrize("name", VIEWS)
def test_prices_are_boxes_where_costs_are_shown(name: str) -> None:
    boxes = {box: value for box, value in VIEWS[name].boxes.items() if box != "status_page"}
    assert boxes == ({} if "exporter" in name else {"core_hour": "1", "gpu_hour": "10", "gib_hour": "0"})


def test_prices_are_kept_by_the_links_to_a_project() -> None:
    for name in ("octopus-fleet", "octopus-fleet-zh"):
        urls = re.findall(r"/d/octopus-project[^\"]*var-project[^\"]*", json.dumps(VIEWS[name].json))
        assert len(urls) == 3
        assert all(f"${{{price}:queryparam}}" in url for url in urls for price in PRICES)


def test_the_other_languages_prices_are_the_same() -> None:
    for text in dashboard_files(prices=Prices(core_hour=0.325, gpu_hour=1234567.5)).values():
        boxes = DashboardView(json.loads(text)).boxes
        assert boxes.get("core_hour", "0.325") == "0.325"
        assert boxes.get("gpu_hour", "1234567.5") == "1234567.5"


def test_prices_are_given_to_the_generator(tmp_path: Path) -> None:
    options = ["--core-hour", "0.3", "--gpu-hour=9", "--gib-hour", "0.02", "--output", tmp_path]
    subprocess.run([sys.executable, "-m", "grafana", *options], cwd=DASHBOARDS.parents[1], check=True)
    boxes = DashboardView.read(tmp_path / "octopus-fleet.json").boxes
    assert [boxes[name] for name in PRICES] == ["0.3", "9", "0.02"]


@pytest.mark.parametrize("price", ["free", "-1", "inf", "nan"])
def test_a_price_that_is_none_is_told_in_a_line(price: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "grafana", f"--gpu-hour={price}", "--output", tmp_path / "made"]
    done = subprocess.run(command, cwd=DASHBOARDS.parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"invalid price value: '{price}'" in done.stderr
    assert not (tmp_path / "made").exists()


def test_the_group_of_a_pattern_is_no_variable() -> None:
    """Grafana leaves $1 as it is, since there is no such variable."""
    assert (
        fill_variables('label_replace(up, "a", "$1", "b", "(.*)")', {}, Window(0, 60), 60, 30).count("$1")
        == 1
    )
