"""Every query of every dashboard, against a real Prometheus that scrapes a real exporter, twice over."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from grafana.boards import DASHBOARDS
from grafana.preview.history import make_blocks, stamped
from grafana.preview.page import page
from grafana.preview.queries import Prometheus, QueryError, QueryResult, Window, fill_variables, run_queries
from grafana.preview.view import DashboardView, PanelView, seconds
from grafana.texts import LANGUAGES, leaves
from tests.e2e.exporting import Exporter, project
from tests.e2e.exposed import Exposed
from tests.e2e.processes import free_port, started
from tests.e2e.prometheus import program
from tests.e2e.prometheus import prometheus as scraping
from tests.e2e.simulation import OTHER_PROJECT, PROJECT, Simulation, simulations
from tests.e2e.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.prometheus]

VIEWS = {file.stem: DashboardView.read(file) for file in sorted(DASHBOARDS.glob("*.json"))}
# The exporter is scraped by both names, as if there were two of them that read the same targets.
HOSTS = ("127.0.0.1", "localhost")
# A ledger that agrees with the API has nothing to show, and no job here is in flight for half an hour. The
# trend of a backlog needs an hour of past: tests/test_dashboard_resources.py has one.
RIGHTLY_EMPTY = {
    leaves(name)[f"{key}.title"][language]
    for name, keys in {
        "exporter": ("drift_by_status", "log_lines", "events_dropped", "takeovers", "leases_lost"),
        "project": ("jobs_by_age", "clear_at_trend", "clears"),
    }.items()
    for key in keys
    for language in LANGUAGES
}
WEEK_SECONDS = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Scene:
    """An exporter that runs, and the Prometheus that scrapes it."""

    exporter: Exporter
    server: Prometheus


@pytest.fixture(scope="module")
def server(scene: Scene) -> Prometheus:
    return scene.server


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Feed a Prometheus for a while: jobs, a spike, throttling, failed polls, and what was a week ago."""
    folder = tmp_path_factory.mktemp("dashboards")
    settings = {
        "projects": (PROJECT, OTHER_PROJECT),
        "start_ms": int(time.time() * 1000),
        "speed": 200.0,
        # Few enough that a busy machine does not fall behind: what is listed grows all the time.
        "jobs_per_day": 8_000.0,
    }
    with simulations(folder / "simulators", settings) as (simulator,):
        exporter = Exporter(folder / "exporter", simulator.url, projects=two_projects(simulator.url))
        exporter.change(poll={"audit_interval": "2s", "full_sync_interval": "10s"})
        with exporter.ready(), prometheus(folder / "prometheus", exporter) as running:
            live(exporter, simulator, running)
            yield Scene(exporter, running)


def two_projects(api: str) -> list[dict[str, object]]:
    return [project(api, "perception"), project(api, "simulation", OTHER_PROJECT)]


@contextmanager
def prometheus(folder: Path, exporter: Exporter) -> Iterator[Prometheus]:
    """Run a Prometheus with a week-old past that scrapes the exporter under both its names."""
    folder.mkdir()
    make_blocks([a_week_ago(exporter, folder)], folder / "data")
    targets = [f"{host}:{exporter.port}" for host in HOSTS]
    scrape = {"job_name": "octopus", "static_configs": [{"targets": targets}]}
    alert = {"alert": "OctopusAlways", "expr": "octopus_up == 1"}
    both = [alert | {"labels": {"severity": severity}} for severity in ("critical", "warning")]
    rules = {"groups": [{"name": "always", "interval": "1s", "rules": both}]}
    every = {"scrape_interval": "1s", "scrape_timeout": "1s"}
    config = {"global": every, "rule_files": ["rules.yml"], "scrape_configs": [scrape]}
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [
        *(program("prometheus"), "--config.file=prometheus.yml", "--storage.tsdb.path=data"),
        *("--enable-feature=exemplar-storage", f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"),
    ]
    with started(command, folder, name="prometheus") as process:
        server = Prometheus(f"http://127.0.0.1:{port}")
        until(lambda: process.must_run() or answers_at_all(server), "Prometheus")
        yield server


def answers_at_all(server: Prometheus) -> bool:
    try:
        return bool(server.instant("octopus_up", time.time()))
    except (OSError, QueryError):
        return False


def a_week_ago(exporter: Exporter, folder: Path) -> Path:
    """Write down two expositions as of a week ago, with runs that ended between them."""
    before = exporter.page("metrics", Accept="text/plain").text
    failures, seen = "octopus_job_failures_total", Exposed.of_text(before)
    exporter.scrape_when(
        lambda exposed: exposed.total(failures) > seen.total(failures), "a failure", failures
    )
    after = exporter.page("metrics", Accept="text/plain").text
    file, then = folder / "week-ago.txt", time.time() - WEEK_SECONDS
    moments = ((before, then - 1200), (after, then - 600), (after, then))
    lines = [line for text, at in moments for line in stamped(text, at, WEEK_SECONDS)]
    file.write_text("".join(lines) + "# EOF\n")
    return file


def live(exporter: Exporter, simulator: Simulation, server: Prometheus) -> None:
    """Let happen what there are panels for; throttling last, as the exporter is slow for a while after it."""
    for status in ("QUEUING", "LAUNCHING", "RUNNING", "UPLOADING"):
        simulator.create_jobs(job_type="SCENARIO_TO_SIM", outcome=status)
    exporter.scrape_after_polls(2)
    simulator.create_jobs(job_type="FRAME_EXTRACT", count=30, outcome="RUN_FAILED", msg_code=3001)
    exporter.scrape_after_polls(3)
    # A poll that is slow or throttled may put a full sync off, so the first one is waited for before that.
    wait_for(server, 'sum(increase(octopus_ledger_full_syncs_total{reason="scheduled"}[5m])) > 0')
    simulator.set_faults("broken=1")
    exporter.scrape_until_failed("contract", times=2)
    simulator.set_faults("")
    simulator.set_quirks(latency_seconds=0.7)
    wait_for(server, "sum(increase(octopus_polls_skipped_total[5m])) > 0")
    simulator.set_quirks()
    simulator.set_faults("throttle=0.3")
    wait_for(server, 'sum(increase(octopus_api_retries_total{reason="throttled"}[5m])) > 0')
    simulator.set_faults("")


def wait_for(server: Prometheus, expression: str) -> None:
    until(lambda: server.instant(expression, time.time()), expression)


def window(panel: PanelView) -> Window:
    """
    Show the last half hour, up to now.

    Steps begin at multiples of themselves: the last one may be some minutes ago, where there is nothing yet,
    so what is asked for goes up to the next one.
    """
    step = seconds(panel.interval) if panel.interval else 1
    end = math.ceil(time.time() / step) * step
    return Window(end - 1800, end, scrape=1)


def asked(view: DashboardView, server: Prometheus, **chosen: str) -> Iterator[tuple[PanelView, QueryResult]]:
    """Ask all queries of all panels."""
    for panel in view.panels:
        for answer in run_queries(panel, server, window(panel), view.everything | chosen):
            yield panel, answer


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_every_query_finds_something(view: DashboardView, server: Prometheus) -> None:
    empty = {panel.title for panel, answer in asked(view, server) if not finite(answer)}
    assert empty <= RIGHTLY_EMPTY


def finite(answer: QueryResult) -> bool:
    """Tell whether there is a number to be shown; not a number is nothing."""
    return any(math.isfinite(value) for one in answer.series for _, value in one.points)


@pytest.mark.parametrize("name", ["octopus-fleet", "octopus-project", "octopus-exporter"])
def test_choices_leave_what_was_chosen(name: str, server: Prometheus) -> None:
    chosen = {
        "project": "perception",
        "job_type": "FRAME_EXTRACT|SCENARIO_TO_SIM",
        "instance": "localhost:.+",
        "msg_code": "3001",
    }
    for panel, answer in asked(VIEWS[name], server, **chosen):
        for one in answer.series:
            if name == "octopus-project":
                assert one.labels.get("msg_code", "3001") == "3001", panel.title
            assert one.labels.get("project", "perception") == "perception", panel.title
            assert one.labels.get("job_type", "FRAME_EXTRACT") in chosen["job_type"], panel.title
            assert one.labels.get("instance", "localhost").startswith("localhost"), panel.title


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_every_variable_offers_choices(view: DashboardView, server: Prometheus) -> None:
    now, offered = time.time(), dict[str, list[str]]()
    for name, query in view.variables.items():
        selector = query.removeprefix("label_values(").rpartition(",")[0]
        filled = fill_variables(selector, view.everything, Window(now - 600, now), 30, 30)
        offered[name] = server.label_values(filled, name, now - 600, now)
    assert offered["job"] == ["octopus"]
    assert len(offered["instance"]) == len(HOSTS)
    assert offered["project"] == ["perception", "simulation"]
    assert offered["workspace"] == ["0"]
    assert len(offered["job_type"]) == 6


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_alerts_and_restarts_are_found(view: DashboardView, server: Prometheus) -> None:
    now = time.time()
    for expression in view.annotations.values():
        filled = fill_variables(expression, view.everything, Window(now - 600, now), step=300, scrape=1)
        assert server.range(filled, now - 600, now, 1), filled


@pytest.mark.parametrize("name", ["octopus-fleet", "octopus-project"])
def test_a_click_on_failures_opens_them_on_the_status_page(name: str, scene: Scene) -> None:
    """With the labels of the series that was clicked on; nothing is chosen alone."""
    opened = set[str]()
    for panel, answer in asked(VIEWS[name], scene.server):
        for link in panel.defaults.get("links", ()):
            for one in answer.series:
                path = clicked(link["url"], one.labels)
                page = scene.exporter.page(path)
                assert page.status == 200, (path, page.text)
                assert one.labels.get("job_type", "") in page.text
                opened.add(path)
    assert len(opened) > 5, opened


def clicked(url: str, labels: Mapping[str, str]) -> str:
    """Fill an address in as Grafana does, and give it below the status page's root."""
    filled = re.sub(
        r"\$\{__field\.labels\.(\w+):percentencode\}", lambda found: quote(labels.get(found[1], "")), url
    )
    filled = re.sub(r"\$\{page_\w+:percentencode\}", "", filled)
    assert filled.count("$") == 1, filled
    return filled.removeprefix("${status_page}/")


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_one_choice_is_known_to_links_and_several_are_not(view: DashboardView, server: Prometheus) -> None:
    """What query_result() gives, of which Grafana takes the value in quotes."""
    now = time.time()
    window_now = Window(now - 600, now)
    for name, query in view.derived.items():
        label = name.removeprefix("page_")
        expression = query.removeprefix("query_result(").removesuffix(")")
        one = {"project": "perception", "job_type": "FRAME_EXTRACT"}
        chosen = view.everything | one
        (found,) = server.instant(fill_variables(expression, chosen, window_now, 30, 30), now)
        assert found.labels == {label: one.get(label, "0")}
        if label != "workspace":  # there is one alone
            assert server.instant(fill_variables(expression, view.everything, window_now, 30, 30), now) == []


def test_an_alert_of_two_severities_counts_once(server: Prometheus) -> None:
    view = VIEWS["octopus-fleet"]
    panel = titled(view, "Firing alerts")

    def counted_once() -> bool:
        now = time.time()
        (answer,) = run_queries(panel, server, Window(now - 600, now, scrape=1), view.everything)
        marks = fill_variables(
            view.annotations["Firing alerts"], view.everything, Window(now - 600, now), 60, 1
        )
        severities = [one.labels["severity"] for one in server.instant(marks, now)]
        # Two projects, each by two exporters; both severities of each fire.
        return [one.last for one in answer.series] == [4] and severities == ["critical"] * 4

    until(lambda: len(server.instant('ALERTS{alertstate="firing"}', time.time())) == 8, "all alerts")
    # A scrape that takes too long ends the alerts for a moment.
    until(counted_once, "each alert once")


def titled(view: DashboardView, title: str) -> PanelView:
    return next(panel for panel in view.panels if panel.title == title)


def test_the_highest_ratios_are_five_lines(server: Prometheus) -> None:
    """Whichever types have the highest at the single steps: those that reached most in the shown time."""
    view = VIEWS["octopus-fleet"]
    panel = titled(view, "Highest failure ratios")

    def are_the_highest() -> bool:
        shown = window(panel)
        (answer,) = run_queries(panel, server, shown, view.everything)
        everything, _, _ = answer.expression.partition(" and on (project, job_type) topk(5, ")
        reached = {
            (one.labels["project"], one.labels["job_type"]): max(value for _, value in one.points)
            for one in server.range(everything, shown.start, shown.end, answer.step)
        }
        assert len(reached) > 5
        drawn = {(one.labels["project"], one.labels["job_type"]) for one in answer.series}
        assert len(drawn) == len(answer.series) == 5
        return min(reached[one] for one in drawn) >= max(reached[one] for one in reached.keys() - drawn)

    # A scrape between the two questions may have brought another ratio.
    until(are_the_highest, "the highest five")


def test_the_growth_of_the_backlog_is_four_lines(server: Prometheus) -> None:
    view = VIEWS["octopus-project"]
    panel = titled(view, "Growth of the backlog per hour")
    total, by_type = run_queries(panel, server, window(panel), view.everything)
    assert (len(total.series), len(by_type.series)) == (1, 3)


@pytest.mark.parametrize("name", ["octopus-fleet", "octopus-project"])
def test_the_oldest_job_is_that_of_the_status_page(name: str, tmp_path: Path) -> None:
    """Whatever its status, and by the clock that stamps the jobs, which here is ahead of ours."""
    settings = {"start_ms": int(time.time() + 600) * 1000, "speed": 1.0, "jobs": 0, "jobs_per_day": 0.0}
    with simulations(tmp_path / "simulators", settings) as (simulator,):
        exporter = Exporter(tmp_path / "exporter", simulator.url)
        with exporter.ready(), scraping(tmp_path / "prometheus", exporter.port) as running:
            server = Prometheus(running.url)
            panel = titled(VIEWS[name], "Oldest in flight")
            (none,) = run_queries(panel, server, window(panel), VIEWS[name].everything)
            assert none.series == []
            for job_type, status in (
                ("FRAME_EXTRACT", "LAUNCHING"),
                ("SCENARIO_TO_SIM", "QUEUING"),
                ("PACKAGE_IMPORT", "RUNNING"),
            ):
                simulator.create_jobs(job_type=job_type, outcome=status)
                exporter.scrape_after_polls(2)
                simulator.advance(5000)
                exporter.scrape_after_polls(2)
                until(lambda: close(shown_age(server, panel, name), age_on_page(exporter)), "the same age")


def shown_age(server: Prometheus, panel: PanelView, name: str) -> float:
    """Give the number that a panel shows now."""
    now = time.time()
    (answer,) = run_queries(panel, server, Window(now - 600, now, scrape=1), VIEWS[name].everything)
    return answer.series[0].last if answer.series else math.nan


def age_on_page(exporter: Exporter) -> float:
    """Give the age of the oldest job in flight by what the status page shows, in seconds."""
    status = exporter.page("api/v1/status").json
    (target,) = status["targets"]
    created_ms = min(ms for by_status in target["oldest_created_ms"].values() for ms in by_status.values())
    now_ms = status["now_ms"] + 1000 * target["clock_skew_seconds"]
    return float((now_ms - created_ms) / 1000)


def close(one: float, other: float) -> bool:
    """Tell whether two ages are one, but for what passes between two scrapes, and two polls."""
    return abs(one - other) < 10


def test_two_exporters_of_a_target_count_once(server: Prometheus) -> None:
    view = VIEWS["octopus-fleet"]
    table = titled(view, "Every target and job type")
    target = next(one for one in table.json["targets"] if one["legendFormat"] == "In flight")
    in_flight = PanelView({**table.json, "targets": [target]})
    matched = 'status!~"FINISHED|STOPPED|.*_FAILED"'

    def counted_once() -> bool:
        now = time.time()
        (answer,) = run_queries(in_flight, server, Window(now - 600, now, scrape=1), view.everything)
        twice = server.instant(f"sum(octopus_jobs{{{matched}}})", now)
        once = server.instant(f'sum(octopus_jobs{{{matched}, instance=~"{HOSTS[0]}.*"}})', now)
        shown = sum(one.last for one in answer.series)
        # The two are not scraped at the same instant, and a job may end in between.
        is_one = bool(once) and shown == pytest.approx(once[0].last, rel=0.2)
        return is_one and shown < 0.7 * twice[0].last

    # A scrape that takes too long leaves one of the two out for a moment.
    until(counted_once, "what one of the two says")


def test_exemplars_lead_to_jobs(server: Prometheus) -> None:
    """They are of the simulator's time, which runs ahead."""
    now = time.time()
    for _, answer in asked(VIEWS["octopus-project"], server):
        if answer.target.exemplars:
            found = server.exemplars(answer.expression, now - 3600, now + WEEK_SECONDS)
            assert found, answer.expression
            assert all(one.labels["job_id"].isdigit() for one in found)


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_preview_shows_every_panel(view: DashboardView, server: Prometheus) -> None:
    now = time.time()
    drawn = page(view, server, Window(now - 6 * 3600, now, scrape=1), view.everything)
    for panel in view.panels:
        assert panel.title.replace("&", "&amp;") in drawn
    assert ("预览图" if view.uid.endswith("-zh") else "A preview") in drawn
