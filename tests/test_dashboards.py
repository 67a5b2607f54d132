"""The dashboards: generated, complete in both languages, well-formed, and about what the exporter has."""

from __future__ import annotations

import colorsys
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pytest
import yaml

from exporter import __version__
from exporter.model import FAILED_STATUSES, JOB_TYPES, STATUSES
from grafana.boards import BOARDS, DASHBOARDS, OTHER, build_dashboard, dashboard_files, uid
from grafana.links import CHOICES, LinkSettings
from grafana.panels import (
    FAILED_COLORS,
    IN_FLIGHT_COLORS,
    JOB_TYPE_COLORS,
    STATUS_COLORS,
    TERMINAL_COLORS,
    Board,
)
from grafana.preview.page import color_of
from grafana.preview.queries import Window, fill_query, fill_variables
from grafana.preview.stage import ALERT, RECORDED, RULES, recording
from grafana.preview.view import DashboardView, PanelView, Target, seconds
from grafana.promql import SCOPE, SCRAPED
from grafana.resources import PRICES, Prices
from grafana.texts import LANGUAGES, leaves, texts
from tests.promql import LABELS_OF, grouping, made, selectors

VIEWS = {file.stem: DashboardView.read(file) for file in sorted(DASHBOARDS.glob("*.json"))}
PANELS = [
    pytest.param(view, panel, id=f"{name}-{panel.title}")
    for name, view in VIEWS.items()
    for panel in view.panels
    if panel.type != "row"
]
WINDOW = Window(start=1_772_434_800, end=1_772_434_800 + 6 * 3600)
# The variables as the linter wants to see them in every selector.
CHOSEN = {name: f"${name}" for name in (*SCRAPED, *CHOICES)} | dict.fromkeys(PRICES, "2.5")
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
UNITS = {"short", "s", "percentunit", "bytes", "reqps", "suffix: /h"}
# Amounts with decimals: money, with commas, and hours of resources.
UNITS |= {"locale", "suffix: core-h", "suffix: GPU-h"}
# What the status page filters by, as /api/v1/failures does.
PAGE_PARAMETERS = {"project", "workspace", "job_type", "status", "msg_code", "id", "since"}
# The colour says how long, and the name beside the bar which status.
COLORED_BY_LEVEL = {leaves("project")["longest_by_status.title"][language] for language in LANGUAGES}
CHINESE = re.compile(r"[\u4e00-\u9fff]")

dashboards = pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
panels = pytest.mark.parametrize(("view", "panel"), PANELS)


def expression(panel: PanelView, target: Target) -> str:
    """Give a query with its steps filled in, and its variables left as they are."""
    return fill_query(panel, target, WINDOW, CHOSEN).expression


def selector_of(variable: str) -> str:
    """Give the selector in label_values(selector, label)."""
    return variable.removeprefix("label_values(").rpartition(",")[0]


def filters_of(view: DashboardView) -> list[str]:
    """Give the labels that a dashboard chooses by, beside the exporter's."""
    return [*SCOPE, "msg_code", "resource_spec"] if view.uid.startswith("octopus-project") else [*SCOPE]


def test_what_is_committed_is_what_the_code_makes() -> None:
    """If not: python -m grafana"""
    committed = {file.name: file.read_text(encoding="utf-8") for file in DASHBOARDS.glob("*.json")}
    assert committed == dashboard_files()


def test_slower_polls_make_wider_steps() -> None:
    """Bars, which show what was counted in a step, hold two polls."""
    slow = [DashboardView(json.loads(text)) for text in dashboard_files("10m").values()]
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
    shared = set[str]()
    for board in BOARDS:
        said = texts(board.name, "en")
        links = LinkSettings(repository="https://git.example/octopus-exporter")
        build_dashboard(board, said, "30s", links, Prices())
        assert leaves(board.name).keys() - said.used == set()
        shared |= said.used
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
    chosen = [one for one in others if one["name"] in view.variables]
    assert [one["name"] for one in chosen] == [*SCRAPED, *filters_of(view)]
    for one in chosen:
        assert one["type"] == "query"
        assert one["datasource"] == {"type": "prometheus", "uid": "$datasource"}
        assert (one["multi"], one["includeAll"]) == (True, True)
        # A failure without a code has none to choose by, and is to be shown with the others; so is a job
        # without a specification.
        may_be_empty = one["name"] in {"msg_code", "resource_spec"}
        assert one["allValue"] == (".*" if may_be_empty else ".+")
        assert one["refresh"] == 2  # when the time range changes
        assert re.fullmatch(rf"label_values\(.+, {one['name']}\)", one["query"])


@dashboards
def test_the_status_page_is_a_variable_with_a_default(view: DashboardView) -> None:
    page = next(one for one in view.json["templating"]["list"] if one["name"] == "status_page")
    assert page["type"] == "textbox"
    assert page["query"] == page["current"]["value"] == "http://localhost:10877"


@dashboards
def test_what_is_chosen_alone_is_known_to_links(view: DashboardView) -> None:
    """Hidden variables, which no address and no bookmark has: they follow from the others."""
    hidden = [one for one in view.json["templating"]["list"] if one["name"] in view.derived]
    assert [one["name"] for one in hidden] == [f"page_{name}" for name in SCOPE]
    for one in hidden:
        label = one["name"].removeprefix("page_")
        query = one["query"].removeprefix("query_result(").removesuffix(")")
        assert (one["hide"], one["skipUrlSync"], one["refresh"]) == (2, True, 2)
        assert one["regex"] == f'/{label}="(.*)"/'
        for selector in selectors(fill_variables(query, CHOSEN, WINDOW, 60, 30)):
            assert (label, "=~", f"${label}") in operators(selector.matchers)
            assert selector.wrong_labels == set()


@dashboards
def test_each_variable_offers_what_the_choices_before_it_leave(view: DashboardView) -> None:
    """As far as the metric that has the values has the labels of those choices."""
    before: list[str] = []
    for name, query in view.variables.items():
        (selector,) = selectors(fill_variables(selector_of(query), CHOSEN, WINDOW, 60, 30))
        assert [(label, value) for label, _, value in selector.matchers] == [
            (one, f"${one}") for one in before if one in LABELS_OF[selector.name]
        ]
        before.append(name)


@dashboards
def test_links_lead_to_dashboards_that_there_are(view: DashboardView) -> None:
    _, siblings, language = view.json["links"]
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
def test_a_link_leads_to_the_status_page_with_what_is_chosen(view: DashboardView) -> None:
    page = view.json["links"][0]
    root, found = parameters(page["url"])
    assert root == "${status_page}/"
    assert found == {name: f"${{page_{name}:percentencode}}" for name in SCOPE}
    assert page["targetBlank"]


@panels
def test_a_series_leads_to_its_failures(view: DashboardView, panel: PanelView) -> None:
    """By labels that its query leaves it, and where it has none by what is chosen alone."""
    for url in links_outside(panel):
        root, found = parameters(url)
        assert root == "${status_page}/"
        assert "since" in found
        assert found.keys() <= PAGE_PARAMETERS
        for name, value in found.items():
            if value == f"${{__field.labels.{name}:percentencode}}":
                assert all(name in grouping(expression(panel, target)) for target in panel.targets)
            elif name != "since" and not value.startswith("${__data.fields["):
                assert value == f"${{page_{name}:percentencode}}"
                assert f"page_{name}" in view.derived


def test_all_panels_of_failures_lead_to_them() -> None:
    """And no others."""
    leading = {
        view.uid: sum(bool(list(links_outside(panel))) for panel in view.panels if panel.type != "row")
        for view in VIEWS.values()
    }
    assert {name: n for name, n in leading.items() if not name.endswith("-zh")} == {
        "octopus-fleet": 6,  # the ratio, all four of the row of failures, and the table
        "octopus-project": 4,  # the number, the ratio, and both of the row of failures
        "octopus-exporter": 0,
    }
    assert all(n == leading[name.removesuffix("-zh")] for name, n in leading.items())


def links_outside(panel: PanelView) -> Iterator[str]:
    """Give the addresses outside Grafana that a panel's values and cells lead to."""
    overrides = panel.json.get("fieldConfig", {}).get("overrides", ())
    cells = (one["value"] for each in overrides for one in each["properties"] if one["id"] == "links")
    for links in (panel.defaults.get("links", ()), *cells):
        yield from (link["url"] for link in links if not link["url"].startswith("/d/"))


def parameters(url: str) -> tuple[str, dict[str, str]]:
    """Take an address in Grafana's form apart."""
    root, _, query = url.partition("?")
    return root, dict(part.split("=", 1) for part in query.split("&"))


def test_a_repository_that_is_known_gives_a_link_to_the_runbooks() -> None:
    for text in dashboard_files(
        settings=LinkSettings(repository="https://git.example/octopus-exporter")
    ).values():
        runbooks = DashboardView(json.loads(text)).json["links"][1]["url"]
        assert runbooks == f"https://git.example/octopus-exporter/blob/v{__version__}/docs/runbooks/README.md"


def test_another_status_page_is_the_default_of_every_dashboard(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "grafana",
        "--status-page",
        "https://octopus.example/",
        "--output",
        tmp_path,
    ]
    subprocess.run(command, cwd=DASHBOARDS.parents[1], check=True)
    for file in tmp_path.glob("*.json"):
        text = file.read_text(encoding="utf-8")
        assert '"query": "https://octopus.example"' in text
        assert "localhost" not in text


@dashboards
def test_alerts_and_restarts_are_marked(view: DashboardView) -> None:
    alerts, restarts = view.annotations.values()
    assert alerts.startswith('ALERTS{alertname=~"Octopus.*", alertstate="firing", severity!="none"')
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
        known |= made(query)
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
            wanted = {(name, "=~", f"${name}") for name in (*SCRAPED, *filters_of(view)) if name in there}
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
    """
    Both export the same series: the greater one is taken, with all its labels, before any are added up; of
    the oldest times the lesser one.
    """
    for panel in VIEWS[name].panels:
        for target in panel.targets:
            for found in re.finditer(r"\b(octopus_\w+)\{", target.expression):
                before = target.expression[: found.start()]
                labels = LABELS_OF[found[1]] - set(SCRAPED)
                function = "min" if "_oldest_" in found[1] else "max"
                taken = re.search(rf"{function} by \(([\w, ]+)\) \((?:\w+\()?$", before)
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


# --- colours


def test_every_status_and_job_type_has_its_colour() -> None:
    assert STATUS_COLORS.keys() == set(STATUSES)
    assert JOB_TYPE_COLORS.keys() == set(JOB_TYPES)


def test_failures_are_red_and_orange_and_nothing_else_is() -> None:
    def is_red_or_orange(color: str) -> bool:
        hue = 360 * colorsys.rgb_to_hls(*rgb(color))[0]
        return hue <= 40 or hue >= 340

    assert FAILED_COLORS.keys() == set(FAILED_STATUSES)
    for name, color in {**STATUS_COLORS, **JOB_TYPE_COLORS}.items():
        if name != "STOPPED":  # gray has no hue
            assert is_red_or_orange(color) == (name in FAILED_STATUSES), name


@panels
def test_a_status_and_a_job_type_have_one_colour_in_every_panel(
    view: DashboardView, panel: PanelView
) -> None:
    """Error codes have shades of their status' colour."""
    for target in panel.targets:
        if panel.type not in {"timeseries", "bargauge"} or panel.title in COLORED_BY_LEVEL:
            continue
        for status, color in STATUS_COLORS.items():
            if target.legend.endswith("{{status}}"):
                named = target.legend.replace("{{status}}", status)
                assert panel.config(named)["color"] == {"mode": "fixed", "fixedColor": color}
            if "{{status}} {{code}}" in target.legend and status in FAILED_STATUSES:
                named = target.legend.replace("{{status}} {{code}}", f"{status} 3001")
                assert panel.config(named)["color"] == {"mode": "shades", "fixedColor": color}
        for job_type, color in JOB_TYPE_COLORS.items():
            if target.legend.endswith("{{job_type}}"):
                named = target.legend.replace("{{job_type}}", job_type).replace("{{project}}", "a / b")
                assert color_of(panel, named, 0) == color


@pytest.mark.parametrize("group", [IN_FLIGHT_COLORS, TERMINAL_COLORS, JOB_TYPE_COLORS])
@pytest.mark.parametrize("vision", ["normal", "protanopia", "deuteranopia"])
def test_colours_of_a_group_can_be_told_apart(group: dict[str, str], vision: str) -> None:
    """A distance of 20 in CIELAB is plain to see side by side, and still is from some way off."""
    for (one, color), (other, another) in combinations(group.items(), 2):
        assert math.dist(lab(color, vision), lab(another, vision)) >= 20, (one, other)


@pytest.mark.parametrize("background", ["#181b1f", "#ffffff"])
def test_colours_stand_out_in_the_dark_and_in_the_light(background: str) -> None:
    """W3C's contrast ratio; for text it would have to be more."""
    for name, color in {**STATUS_COLORS, **JOB_TYPE_COLORS}.items():
        light, dark = sorted((luminance(color), luminance(background)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 2, name


# How colours look without one kind of cone. Source: Machado, Oliveira, Fernandes, 2009, severity 1.0.
VISIONS = {
    "normal": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
}


def rgb(color: str) -> tuple[float, float, float]:
    red, green, blue = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return red, green, blue


def linear(color: str) -> list[float]:
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in rgb(color)]


def luminance(color: str) -> float:
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear(color), strict=True))


def lab(color: str, vision: str) -> tuple[float, float, float]:
    """Give a colour in CIELAB (D65), as this vision sees it."""
    seen = [sum(a * b for a, b in zip(row, linear(color), strict=True)) for row in VISIONS[vision]]
    red, green, blue = (min(max(part, 0.0), 1.0) for part in seen)
    white = (
        (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505,
        0.2126 * red + 0.7152 * green + 0.0722 * blue,
        (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089,
    )
    x, y, z = (part ** (1 / 3) if part > 0.008856 else 7.787 * part + 16 / 116 for part in white)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


# --- exemplars and the linter


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


def test_the_staged_spike_is_of_an_alert_and_rules_that_there_are() -> None:
    """For the previews: the past that the rules need is recorded from these."""
    alerts = {
        rule.get("alert") for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    }
    assert ALERT in alerts
    for pattern in RECORDED:
        assert recording(pattern)["groups"][0]["rules"], pattern


def test_the_languages_link_each_other() -> None:
    assert OTHER == {"en": "zh", "zh": "en"}
