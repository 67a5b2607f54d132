"""Panels in Grafana's model, built from the data of `grafana.panels` and the texts of one language."""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatchmethod
from typing import TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common as m
from grafana_foundation_sdk.models import dashboard as d
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat, QueryEditorMode

from exporter.config.durations import parse_duration
from grafana.links import KEPT, failures_url, page_url
from grafana.panels import (
    BAR_INTERVAL,
    HTTP_COLORS,
    JOB_TYPE_COLORS,
    SHADES,
    STATUS_COLORS,
    BarGauge,
    Color,
    Heatmap,
    Panel,
    Query,
    Stat,
    StateTimeline,
    Steps,
    Table,
    TimeSeries,
)
from grafana.promql import HOUR
from grafana.texts import Texts

DATASOURCE = m.DataSourceRef(type_val="prometheus", uid="$datasource")

# A stat shows the value of its last step. A narrow panel would get long steps, and so an old value.
STAT_POINTS = 720

Built = stat.Panel | timeseries.Panel | heatmap.Panel | bargauge.Panel | statetimeline.Panel | table.Panel
Colored = TypeVar("Colored", timeseries.Panel, bargauge.Panel)


class PanelBuilder:
    """
    Builds panels in one language.

    Units: `interval` is the poll interval in Grafana's form. `suffix` is the end of the language's uids.
    """

    def __init__(self, texts: Texts, interval: str, suffix: str) -> None:
        self._texts = texts
        self._interval = interval
        self._suffix = suffix

    def build(self, panel: Panel, left: int, top: int) -> Built:
        """Build a panel at this place in the grid of 24 columns."""
        drawn = self._kind(panel)
        drawn = drawn.title(self._texts(f"{panel.key}.title")).description(
            self._texts(f"{panel.key}.description")
        )
        drawn = drawn.datasource(DATASOURCE).unit(panel.unit)
        drawn = drawn.grid_pos(d.GridPos(h=panel.height, w=panel.width, x=left, y=top))
        if panel.decimals is not None:
            drawn = drawn.decimals(panel.decimals)
        if panel.failures is not None and not isinstance(drawn, table.Panel):
            drawn = drawn.data_links([self._failures_link(panel, panel.failures)])
        for number, query in enumerate(panel.queries):
            drawn = drawn.with_target(self._target(panel, query, chr(ord("A") + number)))
        return drawn.thresholds(thresholds(panel.base, panel.steps))

    @singledispatchmethod
    def _kind(self, panel: Panel) -> Built:
        raise NotImplementedError(type(panel))

    @_kind.register
    def _stat(self, panel: Stat) -> Built:
        trend = m.BigValueGraphMode.AREA if panel.trend else m.BigValueGraphMode.NONE
        return (
            stat.Panel()
            .max_data_points(STAT_POINTS)
            .interval(self._interval)
            .graph_mode(trend)
            .color_mode(m.BigValueColorMode.VALUE)
            .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
            .color_scheme(dashboard.FieldColor().mode(d.FieldColorModeId.THRESHOLDS))
            .no_value(panel.fallback)
        )

    @_kind.register
    def _lines(self, panel: TimeSeries) -> Built:
        bars, areas = panel.style == "bars", panel.style == "areas"
        drawn = (
            timeseries.Panel()
            .interval(self._step(panel))
            .draw_style(m.GraphDrawStyle.BARS if bars else m.GraphDrawStyle.LINE)
            .fill_opacity(80 if bars else 35 if areas else 5)
            .line_width(0 if bars else 1)
            .show_points(m.VisibilityMode.NEVER)
            .legend(_legend(panel))
            .tooltip(_tooltip(m.TooltipDisplayMode.MULTI))
            .no_value(self._texts("nothing"))
            .color_scheme(_palette(panel))
        )
        drawn = drawn.axis_centered_zero(True) if panel.centered else drawn.axis_soft_min(0)
        if bars:
            drawn = drawn.decimals(0)
        if bars or areas:
            drawn = drawn.stacking(common.StackingConfig().mode(m.StackingMode.NORMAL))
        if panel.logarithmic:
            drawn = drawn.scale_distribution(
                common.ScaleDistributionConfig().type(m.ScaleDistribution.LOG).log(10)
            )
        if panel.limits or panel.centered:
            style = m.GraphThresholdsStyleMode.LINE if panel.centered else m.GraphThresholdsStyleMode.DASHED
            drawn = drawn.thresholds_style(common.GraphThresholdsStyleConfig().mode(style))
        for query in panel.queries:
            if query.dashed:
                drawn = drawn.override_by_name(self._legend(panel, query), _DASHED)
            if query.strong:
                drawn = drawn.override_by_name(self._legend(panel, query), _STRONG)
        return _with_colors(drawn, panel)

    @_kind.register
    def _heatmap(self, panel: Heatmap) -> Built:
        color = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64)
        return (
            heatmap.Panel()
            .interval(self._step(panel))
            .calculate(False)
            .color(color.exponent(0.5).fill("dark-orange"))
            .y_axis(heatmap.YAxisConfig().unit(panel.unit))
            .tooltip(heatmap.HeatmapTooltip().mode(m.TooltipDisplayMode.SINGLE).y_histogram(True))
            .filter_values(heatmap.FilterValueRange().le(1e-9))
            .show_legend()
        )

    @_kind.register
    def _bars(self, panel: BarGauge) -> Built:
        mode = d.FieldColorModeId.THRESHOLDS
        drawn = (
            bargauge.Panel()
            .orientation(m.VizOrientation.HORIZONTAL)
            .display_mode(m.BarGaugeDisplayMode.BASIC)
            .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
            .color_scheme(dashboard.FieldColor().mode(mode))
            .no_value(self._texts("nothing"))
            .min(0)
        )
        return _with_colors(drawn, panel)

    @_kind.register
    def _timeline(self, panel: StateTimeline) -> Built:
        drawn = (
            statetimeline.Panel()
            .interval(self._step(panel))
            .show_value(m.VisibilityMode.NEVER)
            .merge_values(True)
            .line_width(0)
            .fill_opacity(80)
            .row_height(0.85)
            .legend(common.VizLegendOptions().show_legend(False).display_mode(m.LegendDisplayMode.LIST))
            .tooltip(_tooltip(m.TooltipDisplayMode.SINGLE))
            .color_scheme(dashboard.FieldColor().mode(d.FieldColorModeId.THRESHOLDS))
            .no_value(self._texts("nothing"))
        )
        return drawn.mappings(self._states(panel)) if panel.states else drawn

    @_kind.register
    def _table(self, panel: Table) -> Built:
        drawn: table.Panel = (
            table.Panel()
            .sort_by(
                [
                    common.TableSortByFieldState()
                    .display_name(self._texts(f"{panel.key}.{panel.sort}"))
                    .desc(True)
                ]
            )
            .no_value("-")
            .with_transformation(d.DataTransformerConfig(id_val="merge", options={}))
            .with_transformation(d.DataTransformerConfig(id_val="organize", options=self._columns(panel)))
        )
        for query in panel.queries:
            column = [*_column(query), *self._failures_of_row(panel, query)]
            drawn = drawn.override_by_name(self._texts(f"{panel.key}.{query.word}"), column)
        for label, url in panel.links:
            link = {"title": self._texts("open"), "url": f"{self._url(url)}"}
            drawn = drawn.override_by_name(
                self._texts(f"labels.{label}"), [d.DynamicConfigValue(id_val="links", value=[link])]
            )
        return drawn

    def _failures_link(self, panel: Panel, labels: tuple[str, ...]) -> dashboard.DashboardLink:
        url = failures_url(labels, HOUR if isinstance(panel, Stat) else KEPT)
        return dashboard.DashboardLink(self._texts("failures_link")).url(url).target_blank(True)

    def _failures_of_row(self, panel: Table, query: Query) -> Iterator[d.DynamicConfigValue]:
        """Link a cell to the failures that it counts. The row's first cells are the labels."""
        if query.failures:
            cells = {name: f"${{__data.fields[{n}]:percentencode}}" for n, name in enumerate(panel.by)}
            title, url = self._texts("failures_link"), page_url(**cells, since=HOUR)
            link = {"title": title, "url": url, "targetBlank": True}
            yield d.DynamicConfigValue(id_val="links", value=[link])

    def _columns(self, panel: Table) -> dict[str, object]:
        """Name and order the columns. Grafana's own names for them are labels and refIds."""
        shown = {label: self._texts(f"labels.{label}") for label in panel.by}
        for number, query in enumerate(panel.queries):
            value = f"Value #{chr(ord('A') + number)}" if len(panel.queries) > 1 else "Value"
            shown[value] = self._texts(f"{panel.key}.{query.word}")
        order = {name: position for position, name in enumerate(shown)}
        return {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": shown}

    def _states(self, panel: StateTimeline) -> list[d.ValueMapping]:
        named = {
            str(value): d.ValueMappingResult(text=self._texts(f"{panel.key}.{word}"), index=value)
            for value, word in enumerate(panel.states)
        }
        return [d.ValueMap(options=named)]

    def _url(self, url: str) -> str:
        chosen = "&${__url_time_range}&${datasource:queryparam}&${job:queryparam}&${instance:queryparam}"
        return url.replace("{suffix}", self._suffix) + chosen

    def _target(self, panel: Panel, query: Query, ref_id: str) -> prometheus.Dataquery:
        target = (
            prometheus.Dataquery()
            .datasource(DATASOURCE)
            .editor_mode(QueryEditorMode.CODE)
            .expr(query.expression)
            .ref_id(ref_id)
            .legend_format(self._legend(panel, query))
        )
        if _is_instant(panel):
            target = target.instant().format(PromQueryFormat.TABLE if isinstance(panel, Table) else _SERIES)
        else:
            target = target.range().format(PromQueryFormat.HEATMAP if isinstance(panel, Heatmap) else _SERIES)
        if not _counts_per_step(panel):
            target = target.interval(self._step(panel))
        return target.exemplar(True) if query.exemplars else target

    def _step(self, panel: Panel) -> str:
        """
        Return the smallest step: the panel's, but at least one poll interval.

        Where each step counts events, it is at least two, so that no step lies between two polls.
        """
        wanted = panel.interval or (BAR_INTERVAL if _counts_per_step(panel) else self._interval)
        least = parse_duration(self._interval) * (2 if _counts_per_step(panel) else 1)
        return wanted if parse_duration(wanted) >= least else f"{least:g}s"

    def _legend(self, panel: Panel, query: Query) -> str:
        if isinstance(panel, Heatmap):
            return "{{le}}"
        if query.word:
            return self._texts(f"{panel.key}.{query.word}")
        return query.legend or self._texts(f"{panel.key}.title")


_SERIES = PromQueryFormat.TIME_SERIES
_DASHED = [
    d.DynamicConfigValue(id_val="custom.lineStyle", value={"fill": "dash", "dash": [8, 8]}),
    d.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": "#8E8E8E"}),
]
# For a sum of the other series.
_STRONG = [
    d.DynamicConfigValue(id_val="custom.lineWidth", value=2),
    d.DynamicConfigValue(id_val="custom.fillOpacity", value=20),
    d.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": "#8E8E8E"}),
]


def thresholds(base: Color, steps: Steps) -> dashboard.ThresholdsConfig:
    """Return the colours by value, `base` below the first step."""
    all_steps = [
        d.Threshold(value=None, color=base),
        *(d.Threshold(value=at, color=color) for at, color in steps),
    ]
    return dashboard.ThresholdsConfig().mode(d.ThresholdsMode.ABSOLUTE).steps(all_steps)


def _counts_per_step(panel: Panel) -> bool:
    """
    Tell whether each step of a panel counts the events during that step.

    The queries of such a panel set no smallest step. Then $__rate_interval is the step plus one scrape
    interval; with a smallest step it would be four times that step.
    """
    return isinstance(panel, Heatmap) or (isinstance(panel, TimeSeries) and panel.style == "bars")


def _is_instant(panel: Panel) -> bool:
    """Tell whether a panel shows only the end of the time range."""
    return isinstance(panel, Table | BarGauge) or (isinstance(panel, Stat) and not panel.trend)


def _palette(panel: TimeSeries) -> dashboard.FieldColor:
    shade = SHADES.get(panel.palette)
    if shade is not None:
        return dashboard.FieldColor().mode(d.FieldColorModeId.SHADES).fixed_color(shade)
    # By name, an undocumented job type or status keeps its colour when other series come and go.
    by_name = any(query.legend.endswith(("{{job_type}}", "{{status}}")) for query in panel.queries)
    palette = d.FieldColorModeId.PALETTE_CLASSIC_BY_NAME if by_name else d.FieldColorModeId.PALETTE_CLASSIC
    return dashboard.FieldColor().mode(palette)


def _with_colors(drawn: Colored, panel: Panel) -> Colored:
    """
    Add the colours of statuses and job types as overrides that match the end of a series' legend.

    Error codes get shades of their status' colour.
    """
    legends = {query.legend for query in panel.queries}
    if isinstance(panel, BarGauge) and panel.steps:
        return drawn
    if "{{code}}" in legends:
        for pattern, color in HTTP_COLORS.items():
            drawn = drawn.override_by_regexp(f"/{pattern}/", _shades(color))
    if any(legend.endswith("{{job_type}}") for legend in legends):
        for job_type, color in JOB_TYPE_COLORS.items():
            drawn = drawn.override_by_regexp(f"/(^|\\/ ){job_type}$/", _fixed(color))
    for status, color in STATUS_COLORS.items():
        if any(legend.endswith("{{status}}") for legend in legends):
            drawn = drawn.override_by_regexp(f"/(^| ){status}$/", _fixed(color))
        if status.endswith("_FAILED") and any("{{status}} " in legend for legend in legends):
            drawn = drawn.override_by_regexp(f"/(^| ){status} /", _shades(color))
    return drawn


def _fixed(color: str) -> list[d.DynamicConfigValue]:
    return [d.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": color})]


def _shades(color: str) -> list[d.DynamicConfigValue]:
    return [d.DynamicConfigValue(id_val="color", value={"mode": "shades", "fixedColor": color})]


def _column(query: Query) -> list[d.DynamicConfigValue]:
    """Return the unit of a table's column, and its thresholds as the colours of the figures."""
    unit = d.DynamicConfigValue(id_val="unit", value=query.unit)
    places = query.decimals if query.decimals is not None else 1 if query.unit == "percentunit" else 0
    decimals = d.DynamicConfigValue(id_val="decimals", value=places)
    if not query.steps:
        return [unit, decimals]
    levels = thresholds("green", query.steps).build().to_json()
    return [
        unit,
        decimals,
        d.DynamicConfigValue(id_val="thresholds", value=levels),
        d.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}),
    ]


def _legend(panel: TimeSeries) -> common.VizLegendOptions:
    legend = common.VizLegendOptions().show_legend(True)
    if panel.figures:
        # Grafana sorts by the English names of the calculations, in every language.
        table_of = legend.display_mode(m.LegendDisplayMode.TABLE).placement(m.LegendPlacement.RIGHT)
        calcs = ["sum", "max", "lastNotNull"] if panel.style == "bars" else ["lastNotNull", "max", "mean"]
        return table_of.calcs(calcs).sort_by("Total" if panel.style == "bars" else "Max").sort_desc(True)
    calcs = ["sum"] if panel.style == "bars" else ["lastNotNull", "max"]
    listed = legend.display_mode(m.LegendDisplayMode.LIST).placement(m.LegendPlacement.BOTTOM)
    return listed.calcs(calcs)


def _tooltip(mode: m.TooltipDisplayMode) -> common.VizTooltipOptions:
    return common.VizTooltipOptions().mode(mode).sort(m.SortOrder.DESCENDING)
