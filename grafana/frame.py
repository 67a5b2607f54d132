"""What stands around the panels of every dashboard: variables, annotations, links, and the grid."""

from __future__ import annotations

from collections.abc import Iterator

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as d

from exporter.exposition import families as f
from exporter.exposition.families import Family
from grafana import logs
from grafana.drawing import DATASOURCE, Drawing
from grafana.panels import Board, Panel
from grafana.places import CHOICES, TAKEN_ALONG, Places, chosen, chosen_name, page_url
from grafana.promql import INCIDENTS, SCRAPED, by_variable, scraped, the_only
from grafana.texts import LANGUAGES, Language, Texts

COLUMNS = 24
EVERYTHING = ".+"
# A failure without a code has the code "".
ANY_CODE = ".*"
OTHER: dict[Language, Language] = dict(zip(LANGUAGES, reversed(LANGUAGES), strict=True))
# English has no suffix: its uids came first and are in alerts and bookmarks.
SUFFIXES: dict[Language, str] = {"en": "", "zh": "-zh"}


def uid(board: Board, language: Language) -> str:
    return f"octopus-{board.name}{SUFFIXES[language]}"


def frame(board: Board, texts: Texts, interval: str, places: Places) -> d.Dashboard:
    """Make a whole dashboard in the language of the texts. Units: `interval` in Grafana's form, as 30s."""
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
    for variable in variables(board, texts, places):
        built = built.with_variable(variable)
    if board.logs:
        built = built.with_variable(logs.variable(texts))
    for annotation in marks(texts):
        built = built.annotation(annotation)
    for link in links(board, texts, places):
        built = built.link(link)
    return _filled(built, board, texts, interval).build()


def _filled(built: dashboard.Dashboard, board: Board, texts: Texts, interval: str) -> dashboard.Dashboard:
    drawing, top, number = Drawing(texts, interval, SUFFIXES[texts.language]), 0, 0
    for row in board.rows:
        heading = dashboard.Row(texts(f"rows.{row.key}")).id(number := number + 1)
        built = built.with_row(heading.grid_pos(d.GridPos(h=1, w=COLUMNS, x=0, y=top)))
        for panel, left, line in placed(row.panels, top + 1):
            built = built.with_panel(drawing.draw(panel, left, line).id(number := number + 1))
            top = max(top, line + panel.height)
    return built.with_row(logs.row(texts, top, number + 1)) if board.logs else built


def placed(panels: tuple[Panel, ...], top: int) -> Iterator[tuple[Panel, int, int]]:
    """Lay panels side by side, and in a new line where the next one does not fit: (panel, left, top)."""
    left, below = 0, top
    for panel in panels:
        if left + panel.width > COLUMNS:
            left, top = 0, below
        yield panel, left, top
        left, below = left + panel.width, max(below, top + panel.height)


Variable = dashboard.DatasourceVariable | dashboard.QueryVariable | dashboard.TextBoxVariable


def variables(board: Board, texts: Texts, places: Places) -> Iterator[Variable]:
    """Give the variables; each offers what is there for the choices before it."""
    yield dashboard.DatasourceVariable("datasource").label(texts("labels.datasource")).type("prometheus")
    before: list[str] = []
    for name in (*SCRAPED, *board.filters):
        within = f"{{{', '.join(before)}}}" if before else ""
        query = f"label_values({CHOICES.get(name, f.UP).name}{within}, {name})"
        everything = ANY_CODE if name == "msg_code" else EVERYTHING
        yield _choice(name, query, texts(f"labels.{name}"), everything)
        before.append(by_variable(name))
    yield (
        dashboard.TextBoxVariable("status_page")
        .label(texts("labels.status_page"))
        .description(texts("status_page"))
        .default_value(places.status_page)
    )
    for name in TAKEN_ALONG:
        yield _the_only(name, CHOICES[name])


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


def _the_only(label: str, family: Family) -> dashboard.QueryVariable:
    """
    Hold the one value that is chosen for a label, and nothing where several are.

    It goes into links to the status page, which filters by one value. Grafana itself would write All into an
    address as the pattern that stands for it.
    """
    query = f"query_result({the_only(label, family)})"
    return (
        dashboard.QueryVariable(chosen_name(label))
        .hide(d.VariableHide.HIDE_VARIABLE)
        .datasource(DATASOURCE)
        .query(query)
        .definition(query)
        .regex(f'/{label}="(.*)"/')
        .refresh(d.VariableRefresh.ON_TIME_RANGE_CHANGED)
    )


def marks(texts: Texts) -> Iterator[dashboard.AnnotationQuery]:
    """Mark what fires, and when exporters have started."""
    yield (
        _annotation(texts("annotations.alerts"), "red", INCIDENTS)
        .title_format("{{alertname}}")
        .text_format("{{severity}} {{project}} {{workspace}} {{job_type}} {{instance}}")
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


def links(board: Board, texts: Texts, places: Places) -> Iterator[dashboard.DashboardLink]:
    """Lead to the status page, the runbooks, the other dashboards, and this one in the other language."""
    yield _link(texts("links.status_page"), page_url(**chosen()), "doc").target_blank(True)
    if places.runbooks:
        yield _link(texts("links.runbooks"), places.runbooks, "question").target_blank(True)
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
