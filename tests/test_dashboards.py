"""The dashboards: generated, complete in both languages, well-formed, and about what the exporter has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest
import yaml

from exporter.model import STATUSES
from grafana.drawing import STATUS_COLORS
from grafana.files import BOARDS, DASHBOARDS, files
from grafana.frame import OTHER, uid
from grafana.panels import Board
from grafana.preview.filling import Window, asked, fill
from grafana.preview.view import DashboardView, PanelView, Target, seconds
from grafana.promql import SCOPE, SCRAPED
from grafana.texts import LANGUAGES, leaves, texts
from tests.promql import LABELS_OF, grouping, selectors

VIEWS = {file.stem: DashboardView.read(file) for file in sorted(DASHBOARDS.glob("*.json"))}
PANELS = [
    pytest.param(view, panel, id=f"{name}-{panel.title}")
    for name, view in VIEWS.items()
    for panel in view.panels
    if panel.type != "row"
]
WINDOW = Window(start=1_772_434_800, end=1_772_434_800 + 6 * 3600)
# The variables as the linter wants to see them in every selector.
CHOSEN = {name: f"${name}" for name in (*SCRAPED, *SCOPE)}
# What is asked for besides the exporter's own families: Prometheus' and the client library's.
BESIDES = {
    "ALERTS",
    "up",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
}
GRAFANAS_OWN = {"row", "stat", "timeseries", "heatmap", "bargauge", "state-timeline", "table"}
UNITS = {"short", "s", "percentunit", "bytes", "reqps"}
CHINESE = re.compile(r"[\u4e00-\u9fff]")

dashboards = pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
panels = pytest.mark.parametrize(("view", "panel"), PANELS)


def expression(panel: PanelView, target: Target) -> str:
    """Give a query with its steps filled in, and its variables left as they are."""
    return asked(panel, target, WINDOW, CHOSEN).expression


def selector_of(variable: str) -> str:
    """Give the selector in label_values(selector, label)."""
    return variable.removeprefix("label_values(").rpartition(",")[0]


def everything_asked(view: DashboardView) -> list[str]:
    """Give all queries of a dashboard: of panels, annotations and variables."""
    return [
        *(expression(panel, target) for panel in view.panels for target in panel.targets),
        *(fill(one, CHOSEN, WINDOW, 60, 30) for one in view.annotations.values()),
        *(fill(selector_of(one), CHOSEN, WINDOW, 60, 30) for one in view.variables.values()),
    ]


def test_what_is_committed_is_what_the_code_makes() -> None:
    """If not: python -m grafana"""
    committed = {file.name: file.read_text(encoding="utf-8") for file in DASHBOARDS.glob("*.json")}
    assert committed == files()


def test_slower_polls_make_wider_steps() -> None:
    """Bars, which show what was counted in a step, hold two polls."""
    slow = [DashboardView(json.loads(text)) for text in files("10m").values()]
    for panel in (panel for view in slow for panel in view.panels if panel.type != "row"):
        for target in panel.targets:
            polls = 2 if "$__interval_ms" in target.expression else 1
            steps = [step for step in (panel.interval, target.interval) if step]
            assert all(seconds(step) >= polls * 600 for step in steps), (panel.title, steps)
            assert steps, panel.title


def test_an_interval_that_is_none_is_told_in_a_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "grafana", "--interval", "soon", "--output", tmp_path / "made"]
    done = subprocess.run(command, cwd=DASHBOARDS.parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "invalid duration value: 'soon'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "made").exists()


# --- texts


@pytest.mark.parametrize("name", ["shared", *(board.name for board in BOARDS)])
def test_every_text_is_there_in_every_language(name: str) -> None:
    for key, said in leaves(name).items():
        assert set(said) == set(LANGUAGES), key
        assert all(text.strip() == text and text for text in said.values()), key


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_chinese_is_chinese_and_english_is_not(board: Board) -> None:
    """A word that is the same in both, as CPU, needs no translation; a link is in the language of its end."""
    for key, said in {**leaves("shared"), **leaves(board.name)}.items():
        if key != "links.language" and said["en"] != said["zh"]:
            assert CHINESE.search(said["zh"]), key
            assert not CHINESE.search(said["en"]), key


def test_no_text_is_left_over() -> None:
    from grafana.frame import frame

    shared = set[str]()
    for board in BOARDS:
        said = texts(board.name, "en")
        frame(board, said, "30s")
        assert leaves(board.name).keys() - said.asked == set()
        shared |= said.asked
    assert leaves("shared").keys() - shared == {"preview"}


def test_a_missing_text_is_named() -> None:
    with pytest.raises(KeyError, match=r"no_such\.title"):
        texts("fleet", "en")("no_such.title")


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_both_languages_have_the_same_panels_and_queries(board: Board) -> None:
    english, chinese = (VIEWS[uid(board, language)] for language in LANGUAGES)
    for one, other in zip(english.panels, chinese.panels, strict=True):
        assert (one.type, one.place, one.json["id"]) == (other.type, other.place, other.json["id"])
        assert [expression(one, target) for target in one.targets] == [
            expression(other, target) for target in other.targets
        ]
        assert one.defaults.get("unit") == other.defaults.get("unit")
        assert one.title != other.title or one.title in {"CPU"}


# --- the frame


@dashboards
def test_the_frame_is_as_promised(view: DashboardView) -> None:
    assert view.json["schemaVersion"] == 42
    assert view.json["editable"] is False
    assert view.json["graphTooltip"] == 1  # a crosshair that all panels share
    assert view.json["uid"] == f"{view.uid}"
    assert set(view.json["tags"]) == {"octopus", "octopus-zh" if view.uid.endswith("-zh") else "octopus-en"}
    assert view.json["refresh"] == "1m"


def test_the_uids_are_those_that_alerts_and_bookmarks_know() -> None:
    boards = {"octopus-fleet", "octopus-project", "octopus-exporter"}
    assert VIEWS.keys() == boards | {f"{name}-zh" for name in boards}
    assert all(view.uid == name for name, view in VIEWS.items())


@dashboards
def test_the_variables_are_as_promised(view: DashboardView) -> None:
    """Template rules of the dashboard-linter: a datasource, `job` and `instance` among multiple choices."""
    first, *others = (one for one in view.json["templating"]["list"] if one["name"] != "loki")
    assert (first["name"], first["type"], first["query"]) == ("datasource", "datasource", "prometheus")
    assert [one["name"] for one in others] == [*SCRAPED, *SCOPE]
    for one in others:
        assert one["type"] == "query"
        assert one["datasource"] == {"type": "prometheus", "uid": "$datasource"}
        assert (one["multi"], one["includeAll"], one["allValue"]) == (True, True, ".+")
        assert one["refresh"] == 2  # when the time range changes
        assert re.fullmatch(rf"label_values\(.+, {one['name']}\)", one["query"])


@dashboards
def test_each_variable_offers_what_the_choices_before_it_leave(view: DashboardView) -> None:
    before: list[str] = []
    for name, query in view.variables.items():
        (selector,) = selectors(fill(selector_of(query), CHOSEN, WINDOW, 60, 30))
        assert [(label, value) for label, _, value in selector.matchers] == [
            (one, f"${one}") for one in before
        ]
        before.append(name)


@dashboards
def test_links_lead_to_dashboards_that_there_are(view: DashboardView) -> None:
    siblings, language = view.json["links"]
    assert siblings["type"] == "dashboards"
    assert any(siblings["tags"][0] in other.json["tags"] for other in VIEWS.values() if other is not view)
    assert language["url"].removeprefix("/d/") in VIEWS
    assert language["url"].endswith("-zh") != view.uid.endswith("-zh")
    assert all(link["keepTime"] and link["includeVars"] for link in (siblings, language))
    for found in re.findall(r'"/d/([\w-]+)\?([^"]*)"', str(view.json).replace("'", '"')):
        assert found[0] in VIEWS
        assert set(re.findall(r"var-(\w+)=", found[1])) <= view.variables.keys()
        assert found[0].endswith("-zh") == view.uid.endswith("-zh")


@dashboards
def test_alerts_and_restarts_are_marked(view: DashboardView) -> None:
    alerts, restarts = view.annotations.values()
    assert alerts.startswith('ALERTS{alertname=~"Octopus.*", alertstate="firing"')
    assert "process_start_time_seconds" in restarts


# --- panels


@dashboards
def test_no_panel_lies_over_another(view: DashboardView) -> None:
    taken = [panel.place for panel in view.panels]
    assert all(left >= 0 and left + width <= 24 for left, _, width, _ in taken)
    for (ax, ay, aw, ah), (bx, by, bw, bh) in combinations(taken, 2):
        assert ax + aw <= bx or bx + bw <= ax or ay + ah <= by or by + bh <= ay


@dashboards
def test_panels_fill_their_lines(view: DashboardView) -> None:
    """What is left empty at the right reads as something that failed to load."""
    widths: dict[int, int] = {}
    for _, top, width, _ in (panel.place for panel in view.panels):
        widths[top] = widths.get(top, 0) + width
    assert set(widths.values()) == {24}


@dashboards
def test_ids_and_titles_are_there_once(view: DashboardView) -> None:
    ids = [panel.json["id"] for panel in view.panels]
    titles = [panel.title for panel in view.panels if panel.type != "row"]
    assert len(set(ids)) == len(ids)
    assert len(set(titles)) == len(titles)


@panels
def test_a_panel_is_explained_and_has_a_unit(view: DashboardView, panel: PanelView) -> None:
    assert panel.title
    assert panel.json["description"][-1] in ".。"
    assert panel.defaults["unit"] in UNITS
    assert panel.type in GRAFANAS_OWN
    assert panel.targets
    assert panel.json["datasource"] == {"type": "prometheus", "uid": "$datasource"}
    assert all(one["datasource"] == panel.json["datasource"] for one in panel.json["targets"])
    assert panel.defaults["thresholds"]["steps"][0]["value"] is None


@panels
def test_what_is_counted_is_whole(view: DashboardView, panel: PanelView) -> None:
    """increase() and rate() stretch a count to their window: 48.3 jobs, where there were 48."""
    for target in panel.targets if panel.type in {"timeseries", "stat", "bargauge"} else ():
        if panel.defaults["unit"] == "short" and re.search(r"\b(increase|rate)\(", target.expression):
            assert panel.defaults.get("decimals") == 0


@panels
def test_no_step_is_shorter_than_a_poll(view: DashboardView, panel: PanelView) -> None:
    """And what adds up over a step takes its window from the step, not four times as wide."""
    for target in panel.targets:
        assert seconds(target.interval or panel.interval) >= 30
        if "$__interval_ms" in target.expression and "rate(" in target.expression:
            assert not target.interval
            assert seconds(panel.interval) >= 10 * 30


@panels
def test_queries_are_of_what_the_exporter_has(view: DashboardView, panel: PanelView) -> None:
    for target in panel.targets:
        query = expression(panel, target)
        known: set[str] = set()
        for selector in selectors(query):
            if selector.name in BESIDES:
                known |= selector.labels | {"instance"}
                continue
            assert selector.name in LABELS_OF, query
            assert selector.wrong_labels == set(), query
            known |= LABELS_OF[selector.name]
        assert grouping(query) <= known, query
        # What a legend names must be left of what the query aggregates.
        assert set(re.findall(r"\{\{(\w+)\}\}", target.legend)) <= known, target.legend


@panels
def test_variables_choose_in_every_selector(view: DashboardView, panel: PanelView) -> None:
    """The linter's job and instance rules, and the same of project, workspace and job_type."""
    for target in panel.targets:
        for selector in selectors(expression(panel, target)):
            if selector.name == "ALERTS":
                assert ("project", "=~", "|$project") in operators(selector.matchers)
                continue
            there = LABELS_OF.get(selector.name, set(SCRAPED))
            wanted = {(name, "=~", f"${name}") for name in (*SCRAPED, *SCOPE) if name in there}
            assert wanted <= operators(selector.matchers)


def operators(matchers: tuple[tuple[str, str, str], ...]) -> set[tuple[str, str, str]]:
    """Write the parser's operators as PromQL does."""
    return {
        (label, {"MatchOp.Re": "=~"}.get(operator, operator), value) for label, operator, value in matchers
    }


@panels
def test_counters_are_rated(view: DashboardView, panel: PanelView) -> None:
    """The linter's counter and rate-interval rules."""
    for target in panel.targets:
        counters = re.findall(r"(\w+)\(\w+(?:_total|_bucket)\{[^}]*\}\[([^\]]+)\]", target.expression)
        assert len(counters) == len(re.findall(r"(?:_total|_bucket)\{", target.expression))
        for function, window in counters:
            assert function in {"rate", "increase"}
            assert function == "increase" or window == "$__rate_interval"


@pytest.mark.parametrize("name", ["octopus-fleet", "octopus-project"])
def test_a_pair_of_exporters_counts_once(name: str) -> None:
    """Both export the same series: the greater one is taken, with all its labels, before any are added up."""
    for panel in VIEWS[name].panels:
        for target in panel.targets:
            for found in re.finditer(r"\b(octopus_\w+)\{", target.expression):
                before = target.expression[: found.start()]
                labels = LABELS_OF[found[1]] - set(SCRAPED)
                taken = re.search(r"max by \(([\w, ]+)\) \((?:\w+\()?$", before)
                assert taken, target.expression
                assert set(taken[1].split(", ")) == labels, target.expression


@dashboards
def test_tables_name_the_columns_that_grafana_makes(view: DashboardView) -> None:
    for panel in view.panels:
        if panel.type == "table":
            organize = panel.json["transformations"][1]["options"]
            several = len(panel.targets) > 1
            values = {f"Value #{one.ref_id}" if several else "Value" for one in panel.targets}
            assert values <= organize["renameByName"].keys()
            assert all(one.instant for one in panel.targets)
            named = set(organize["renameByName"].values())
            overridden = {one["matcher"]["options"] for one in panel.json["fieldConfig"]["overrides"]}
            assert overridden <= named
            assert panel.json["options"]["sortBy"][0]["displayName"] in named


def test_every_status_has_its_colour() -> None:
    assert STATUS_COLORS.keys() == set(STATUSES)


def test_durations_and_failures_show_exemplars() -> None:
    """By which a point in a graph leads to a job's id."""
    with_exemplars = {
        selectors(expression(panel, target))[0].name
        for panel in VIEWS["octopus-project"].panels
        for target in panel.targets
        if target.exemplars
    }
    assert with_exemplars == {
        "octopus_job_failures_total",
        "octopus_job_submitting_duration_seconds_bucket",
        "octopus_job_running_duration_seconds_bucket",
    }


def test_what_the_linter_passes_over_is_there() -> None:
    """grafana/dashboards/.lint names dashboards and panels by their titles."""
    told = yaml.safe_load((DASHBOARDS / ".lint").read_text(encoding="utf-8"))
    titles = {view.title: {panel.title for panel in view.panels} for view in VIEWS.values()}
    for rule in told["exclusions"].values():
        assert rule["reason"]
        for entry in rule["entries"]:
            assert entry["dashboard"] in titles
            assert "panel" not in entry or entry["panel"] in titles[entry["dashboard"]]


@dashboards
def test_the_linter_has_nothing_to_say(view: DashboardView) -> None:
    """Runs where it is installed; docs/dashboards.md says how."""
    linter = shutil.which("dashboard-linter")
    if linter is None:
        pytest.skip("dashboard-linter is not installed")
    command = [linter, "lint", "--strict", "--config", DASHBOARDS / ".lint", DASHBOARDS / f"{view.uid}.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_languages_link_each_other() -> None:
    assert OTHER == {"en": "zh", "zh": "en"}
