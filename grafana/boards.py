"""
Whole dashboards in Grafana's model, and the files that are committed.

Around the panels stand the variables, annotations, links and, on one dashboard, a row of logs from Loki.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import dashboard, logs, loki
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as m
from grafana_foundation_sdk.models import dashboard as d
from grafana_foundation_sdk.models.loki import QueryEditorMode

from exporter.exposition import families as f
from exporter.exposition.families import Family
from grafana.builder import DATASOURCE, PanelBuilder
from grafana.fleet import FLEET
from grafana.health import EXPORTER
from grafana.links import CHOICES, PASSED_ON, LinkSettings, chosen, chosen_name, page_url
from grafana.panels import Board, Panel
from grafana.project import PROJECT
from grafana.promql import INCIDENTS, SCOPE, SCRAPED, by_variable, scraped, single_value
from grafana.resources import PRICES, Prices
from grafana.texts import LANGUAGES, Language, Texts, texts

DASHBOARDS = Path(__file__).parent / "dashboards"
BOARDS = (FLEET, PROJECT, EXPORTER)
# The default of poll.interval: a graph needs no finer steps than there are values.
POLL_INTERVAL = "30s"
COLUMNS = 24
EVERYTHING = ".+"
# A failure without a code has the code "", and a job without a spec the spec "". `.+` would not match these.
EVERYTHING_EMPTY = ".*"
MAY_BE_EMPTY = {"msg_code", "resource_spec"}
OTHER: dict[Language, Language] = dict(zip(LANGUAGES, reversed(LANGUAGES), strict=True))
# English has no suffix: alerts and bookmarks hold its uids, which are older than the Chinese ones.
SUFFIXES: dict[Language, str] = {"en": "", "zh": "-zh"}


LOKI = m.DataSourceRef(type_val="loki", uid="$loki")
LOGS_HEIGHT = 12
_MOST_LINES = 500

# The labels are those of the examples in deploy/loki.
_CHOSEN = ", ".join(f'{name}=~"${name}"' for name in SCOPE)
FAILED_RUNS = (
    f'{{service_name="octopus-events", {_CHOSEN}, status=~".*_FAILED"}} | json | msg_code=~"$msg_code"'
    ' | line_format "{{.job_type}} {{.status}} {{.msg_code}} {{.job_id}} {{.data_id}}: {{.msg_error}}"'
)


def dashboard_files(
    interval: str = POLL_INTERVAL, settings: LinkSettings | None = None, prices: Prices | None = None
) -> dict[str, str]:
    """Return the JSON of all dashboards by file name. Units: `interval` in Grafana's form, as 30s."""
    links, costs = settings or LinkSettings(), prices or Prices()
    return {
        f"{uid(board, language)}.json": _json(
            build_dashboard(board, texts(board.name, language), interval, links, costs)
        )
        for board in BOARDS
        for language in LANGUAGES
    }


def _json(built: d.Dashboard) -> str:
    shown: dict[str, Any] = json.loads(json.dumps(built, cls=JSONEncoder))
    # The SDK always sets the one placement it knows, a menu. Without it, links and annotations are visible.
    for one in (*shown["links"], *shown["annotations"]["list"]):
        del one["placement"]
    for variable in shown["templating"]["list"]:
        _complete(variable)
    return json.dumps(shown, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def _complete(variable: dict[str, Any]) -> None:
    """Add the properties that the SDK's variables lack."""
    if variable["type"] == "textbox":
        # Grafana shows an empty box if only the default is set, so set the present value too.
        variable["current"] = {"text": variable["query"], "value": variable["query"]}
    if variable.get("hide") == d.VariableHide.HIDE_VARIABLE:
        # It is computed from the other variables. In a URL, it would keep its old value.
        variable["skipUrlSync"] = True


def uid(board: Board, language: Language) -> str:
    return f"octopus-{board.name}{SUFFIXES[language]}"


def build_dashboard(
    board: Board, texts: Texts, interval: str, settings: LinkSettings, prices: Prices
) -> d.Dashboard:
    """Build a dashboard in the language of the texts."""
    language = texts.language
    built = (
        dashboard.Dashboard(texts("title"))
        .uid(uid(board, language))
        .description(texts("description"))
        .tags(["octopus", f"octopus-{language}"])
        .readonly()
        .tooltip(d.DashboardCursorSync.CROSSHAIR)
        .time(board.since, "now")
        .refresh("1m")
        .timezone("browser")
    )
    for variable in variables(board, texts, settings, prices):
        built = built.with_variable(variable)
    if board.logs:
        built = built.with_variable(loki_variable(texts))
    for annotation in annotation_queries(texts):
        built = built.annotation(annotation)
    for link in links(board, texts, settings):
        built = built.link(link)
    builder, top, number = PanelBuilder(texts, interval, SUFFIXES[language]), 0, 0
    for row in board.rows:
        heading = dashboard.Row(texts(f"rows.{row.key}")).id(number := number + 1)
        built = built.with_row(heading.grid_pos(d.GridPos(h=1, w=COLUMNS, x=0, y=top)))
        for panel, left, line in placed(row.panels, top + 1):
            built = built.with_panel(builder.build(panel, left, line).id(number := number + 1))
            top = max(top, line + panel.height)
    if board.logs:
        built = built.with_row(logs_row(texts, top, number + 1))
    return built.build()


def placed(panels: tuple[Panel, ...], top: int) -> Iterator[tuple[Panel, int, int]]:
    """Place panels side by side, in a new line where the next one does not fit: (panel, left, top)."""
    left, below = 0, top
    for panel in panels:
        if left + panel.width > COLUMNS:
            left, top = 0, below
        yield panel, left, top
        left, below = left + panel.width, max(below, top + panel.height)


Variable = dashboard.DatasourceVariable | dashboard.QueryVariable | dashboard.TextBoxVariable


def variables(board: Board, texts: Texts, settings: LinkSettings, prices: Prices) -> Iterator[Variable]:
    """Return the variables. Each offers the values that exist for the choices in those before it."""
    yield dashboard.DatasourceVariable("datasource").label(texts("labels.datasource")).type("prometheus")
    before: list[str] = []
    for name in (*SCRAPED, *board.filters):
        family = CHOICES.get(name, f.UP)
        chosen = [by_variable(one) for one in before if one in SCRAPED or one in family.labels]
        within = f"{{{', '.join(chosen)}}}" if chosen else ""
        query = f"label_values({family.name}{within}, {name})"
        everything = EVERYTHING_EMPTY if name in MAY_BE_EMPTY else EVERYTHING
        yield _choice(name, query, texts(f"labels.{name}"), everything)
        before.append(name)
    yield (
        dashboard.TextBoxVariable("status_page")
        .label(texts("labels.status_page"))
        .description(texts("status_page"))
        .default_value(settings.status_page)
    )
    if board.prices:
        yield from price_variables(texts, prices)
    for name in PASSED_ON:
        yield _single_choice(name, CHOICES[name])


def price_variables(texts: Texts, prices: Prices) -> Iterator[dashboard.TextBoxVariable]:
    """Return a box for the price of each resource."""
    for name in PRICES:
        yield (
            dashboard.TextBoxVariable(name)
            .label(texts(f"labels.{name}"))
            .description(texts("prices"))
            .default_value(f"{getattr(prices, name):.12g}")
        )


def _choice(name: str, query: str, label: str, everything: str) -> dashboard.QueryVariable:
    all_chosen = d.VariableOption(selected=True, text="All", value="$__all")
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(DATASOURCE)
        .query(query)
        .definition(query)
        .refresh(d.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(d.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(everything)
        .current(all_chosen)
    )


def _single_choice(label: str, family: Family) -> dashboard.QueryVariable:
    """
    Return a hidden variable with the value that is chosen for a label, empty if several are chosen.

    Links to the status page need it: the page filters by one value. For All, Grafana itself would write the
    pattern `.+` into the URL.
    """
    query = f"query_result({single_value(label, family)})"
    return (
        dashboard.QueryVariable(chosen_name(label))
        .hide(d.VariableHide.HIDE_VARIABLE)
        .datasource(DATASOURCE)
        .query(query)
        .definition(query)
        .regex(f'/{label}="(.*)"/')
        .refresh(d.VariableRefresh.ON_TIME_RANGE_CHANGED)
    )


def annotation_queries(texts: Texts) -> Iterator[dashboard.AnnotationQuery]:
    """Return the annotations: alerts that fire, and starts of exporters."""
    yield (
        _annotation(texts("annotations.alerts"), "red", INCIDENTS)
        .title_format("{{alertname}}")
        .text_format("{{severity}} {{project}} {{workspace}} {{job_type}} {{resource_spec}} {{instance}}")
        .tag_keys("severity,project,job_type")
    )
    started = f"time() - {scraped('process_start_time_seconds')} < $__interval_ms / 1000"
    yield (
        _annotation(texts("annotations.restarts"), "blue", started)
        .title_format(texts("annotations.restarts"))
        .text_format("{{instance}}")
    )


def _annotation(name: str, color: str, expression: str) -> dashboard.AnnotationQuery:
    annotation = dashboard.AnnotationQuery().name(name).datasource(DATASOURCE).enable(True)
    return annotation.icon_color(color).expr(expression).step("60s")


def links(board: Board, texts: Texts, settings: LinkSettings) -> Iterator[dashboard.DashboardLink]:
    """Return links to the status page, the runbooks, the other dashboards, and the other language."""
    yield _link(texts("links.status_page"), page_url(**chosen()), "doc").target_blank(True)
    if settings.runbooks:
        yield _link(texts("links.runbooks"), settings.runbooks, "question").target_blank(True)
    yield (
        dashboard.DashboardLink(texts("links.others"))
        .type(d.DashboardLinkType.DASHBOARDS)
        .tags([f"octopus-{texts.language}"])
        .include_vars(True)
        .keep_time(True)
    )
    other = f"/d/{uid(board, OTHER[texts.language])}"
    yield _link(texts("links.language"), other, "external link").include_vars(True).keep_time(True)


def _link(title: str, url: str, icon: str) -> dashboard.DashboardLink:
    return dashboard.DashboardLink(title).type(d.DashboardLinkType.LINK).url(url).icon(icon)


def loki_variable(texts: Texts) -> dashboard.DatasourceVariable:
    """Return the variable for the Loki data source, which may be empty: Loki is optional."""
    return dashboard.DatasourceVariable("loki").label(texts("labels.loki")).type("loki")


def logs_row(texts: Texts, top: int, number: int) -> dashboard.Row:
    """
    Return the row of single runs from Loki, at this line of the grid. Its ids are `number` and the next.

    It is closed: Grafana queries the panels of a row when it is opened, so without Loki nothing fails.
    """
    panel = (
        logs.Panel()
        .id(number + 1)
        .title(texts("runs.title"))
        .description(texts("runs.description"))
        .datasource(LOKI)
        .grid_pos(d.GridPos(h=LOGS_HEIGHT, w=24, x=0, y=top + 1))
        .show_time(True)
        .wrap_log_message(True)
        .enable_log_details(True)
        .sort_order(m.LogsSortOrder.DESCENDING)
        .dedup_strategy(m.LogsDedupStrategy.NONE)
        .no_value(texts("nothing"))
        .with_target(
            loki.Dataquery()
            .datasource(LOKI)
            .editor_mode(QueryEditorMode.CODE)
            .expr(FAILED_RUNS)
            .query_type("range")
            .max_lines(_MOST_LINES)
            .ref_id("A")
        )
    )
    heading = dashboard.Row(texts("rows.runs")).id(number).grid_pos(d.GridPos(h=1, w=24, x=0, y=top))
    return heading.collapsed(True).with_panel(panel)
