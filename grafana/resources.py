"""
The rows "Where the cores go": which resources jobs use and wait for, and what their runs cost.

The seconds of a run are counted when it ends. So what is in use at present comes from the jobs in flight and
the numbers in their specs, and hours and costs come from the counters.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from exporter.exposition import families as f
from exporter.exposition.families import Family
from grafana.panels import (
    HOURLY_INTERVAL,
    LOST_SHARE,
    RERUNS,
    WAITING,
    BarGauge,
    Panel,
    Query,
    Stat,
    Steps,
    Table,
    TimeSeries,
)
from grafana.promql import (
    BEFORE_START,
    HOUR,
    LOST,
    STARTED,
    asked_for,
    by_variable,
    greatest,
    increase,
    level,
    once,
    per_step,
    quantile,
    ratio,
    selector,
    total,
    with_spec,
)

__all__ = ["PRICES", "PRICES_KEPT", "PROJECT_URL", "Prices", "fleet_row", "project_row"]

RANGE = "$__range"
SPEC = "resource_spec"
# The dashboard of a project has a variable for specs.
SPECS = by_variable(SPEC)
CORES, GPUS, MEMORY = f.RESOURCE_SPEC_CORES, f.RESOURCE_SPEC_GPUS, f.RESOURCE_SPEC_MEMORY
CORE_HOURS, GPU_HOURS = "suffix: core-h", "suffix: GPU-h"
# A number with commas at the thousands.
MONEY = "locale"


@dataclass(frozen=True, slots=True)
class Prices:
    """
    The defaults of the prices of one core, one GPU and one GiB of memory for an hour, in any currency.

    Until prices are entered, a cost is a number of core-hours in which a GPU counts as ten cores. The names
    are those of the variables.
    """

    core_hour: float = 1
    gpu_hour: float = 10
    gib_hour: float = 0


PRICES = tuple(one.name for one in fields(Prices))
# Other variables keep their defaults where a link opens the dashboard of a project: prices must not.
PRICES_KEPT = "".join(f"&${{{name}:queryparam}}" for name in PRICES)
PROJECT_URL = f"/d/octopus-project{{suffix}}?var-project=${{__value.raw:percentencode}}{PRICES_KEPT}"
_PRICED = dict(zip(PRICES, (f.JOB_CORE_SECONDS, f.JOB_GPU_SECONDS, f.JOB_MEMORY_SECONDS), strict=True))


def project_row() -> tuple[Panel, ...]:
    """Return the row of the dashboard of a project: its resources by spec, and its costs by job type."""
    return (*_numbers(), *_present(), *_specs(), *_outcomes(), _costs())


def fleet_row() -> tuple[Panel, ...]:
    """Return the short form for all projects."""
    return (_over_time("gpus", GPUS, width=12), _over_time("cores", CORES, width=12), _projects())


def _asked(family: Family, *matchers: str, by: tuple[str, ...] = ()) -> str:
    """Return the cores or GPUs that jobs in flight ask for; 0 where no spec names one."""
    jobs = total(level(f.RESOURCE_JOBS, *matchers), *by)
    return f"{total(asked_for(family, *matchers), *by)} or 0 * {jobs}"


def _hours(family: Family, *labels: str) -> str:
    """Return the core-hours, GPU-hours or GiB-hours of the runs that ended in the time range."""
    return f"{total(increase(family, RANGE), *labels)} / 3600"


def _cost(*labels: str, matchers: tuple[str, ...] = ()) -> str:
    """
    Return the cost of the runs that ended in the time range.

    `($price + 0)` is a number also where the box with the price is empty.
    """
    parts = (
        f"{total(increase(family, RANGE, *matchers), *labels)} * (${price} + 0)"
        for price, family in _PRICED.items()
    )
    return f"({' + '.join(parts)}) / 3600"


def _lost(*labels: str) -> str:
    """Return the cost of the runs that ended without a result."""
    return _cost(*labels, matchers=(LOST,))


def _lost_share(*labels: str) -> str:
    return ratio(_lost(*labels), f"({_cost(*labels)})")


def _reruns(*labels: str) -> str:
    """Return the reruns as a share of the runs that ended in the time range."""
    reruns = total(increase(f.JOB_RERUNS, RANGE), *labels)
    return ratio(reruns, total(increase(f.JOBS_COMPLETED, RANGE), *labels))


def _numbers() -> tuple[Panel, ...]:
    amounts = (
        Stat(key=key, queries=(Query(_asked(family, SPECS, status)),), unit="short", base="blue")
        for key, family, status in (
            ("gpus_used", GPUS, STARTED),
            ("gpus_awaited", GPUS, BEFORE_START),
            ("cores_used", CORES, STARTED),
            ("cores_awaited", CORES, BEFORE_START),
        )
    )
    return (
        *amounts,
        _sum("cost", _cost()),
        _sum("lost", _lost()),
        _share("lost_share", _lost_share(), LOST_SHARE),
        _share("reruns", _reruns(), RERUNS),
    )


def _sum(key: str, expression: str) -> Panel:
    return Stat(key=key, queries=(Query(expression),), unit=MONEY, base="blue", decimals=0, trend=False)


def _share(key: str, expression: str, steps: Steps) -> Panel:
    return Stat(
        key=key, queries=(Query(expression),), unit="percentunit", steps=steps, decimals=1, trend=False
    )


def _present() -> tuple[Panel, ...]:
    waiting = total(level(f.RESOURCE_JOBS, SPECS, BEFORE_START), SPEC)
    return (
        _over_time("gpus", GPUS, SPECS, width=8),
        _over_time("cores", CORES, SPECS, width=8),
        TimeSeries(
            key="waiting_specs",
            queries=(Query(with_spec(greatest(8, waiting, SPEC)), "{{resource_spec}}"),),
            unit="short",
            style="areas",
        ),
    )


def _over_time(key: str, family: Family, *matchers: str, width: int) -> Panel:
    return TimeSeries(
        key=key,
        queries=(Query(_asked(family, *matchers, by=("status",)), "{{status}}"),),
        unit="short",
        style="areas",
        width=width,
    )


def _specs() -> tuple[Panel, ...]:
    family = f.RESOURCE_SUBMITTING_DURATION
    started = once(family, f"increase({selector(family, SPECS, suffix='_count')}[{RANGE}])")
    columns = {
        "waiting": (total(level(f.RESOURCE_JOBS, SPECS, BEFORE_START), SPEC), "short", ()),
        "running": (total(level(f.RESOURCE_JOBS, SPECS, STARTED), SPEC), "short", ()),
        "memory": (total(asked_for(f.RESOURCE_SPEC_MEMORY, SPECS, STARTED), SPEC), "bytes", ()),
        "started": (total(started, SPEC), "short", ()),
        "median": (quantile(0.5, family, RANGE, SPECS, by=(SPEC,)), "s", WAITING),
        "p95": (quantile(0.95, family, RANGE, SPECS, by=(SPEC,)), "s", WAITING),
    }
    wait = quantile(0.95, family, HOUR, SPECS, by=(SPEC,))
    return (
        Table(
            key="specs",
            by=(SPEC,),
            queries=tuple(
                Query(with_spec(expression), word=word, unit=unit, steps=steps)
                for word, (expression, unit, steps) in columns.items()
            ),
            unit="short",
            sort="waiting",
            width=12,
        ),
        TimeSeries(
            key="spec_wait",
            interval=HOURLY_INTERVAL,
            queries=(Query(with_spec(greatest(5, wait, SPEC)), "{{resource_spec}}"),),
            unit="s",
            width=12,
        ),
    )


def _outcomes() -> tuple[Panel, ...]:
    lost = f"topk(10, {_lost('job_type', 'status')} > 0)"
    return (
        _hours_per_step("gpu_hours", f.JOB_GPU_SECONDS, GPU_HOURS),
        _hours_per_step("core_hours", f.JOB_CORE_SECONDS, CORE_HOURS),
        BarGauge(
            key="lost_by_type",
            queries=(Query(lost, "{{job_type}} {{status}}"),),
            unit=MONEY,
            decimals=2,
        ),
    )


def _hours_per_step(key: str, family: Family, unit: str) -> Panel:
    counted = f"{total(per_step(family), 'status')} / 3600"
    return TimeSeries(
        key=key, queries=(Query(f"{counted} > 0", "{{status}}"),), unit=unit, style="bars", decimals=1
    )


def _cost_columns(*labels: str) -> tuple[Query, ...]:
    return (
        Query(_cost(*labels), word="cost", unit=MONEY, decimals=2),
        Query(_lost(*labels), word="lost", unit=MONEY, decimals=2),
        Query(_lost_share(*labels), word="lost_share", unit="percentunit", steps=LOST_SHARE),
        Query(_hours(f.JOB_GPU_SECONDS, *labels), word="gpu_hours", unit="locale", decimals=1),
        Query(_hours(f.JOB_CORE_SECONDS, *labels), word="core_hours", unit="locale", decimals=1),
        Query(_hours(f.JOB_MEMORY_SECONDS, *labels), word="gib_hours", unit="locale", decimals=1),
        Query(_reruns(*labels), word="reruns", unit="percentunit", steps=RERUNS),
    )


def _costs() -> Panel:
    by = ("project", "job_type")
    ended = total(increase(f.JOBS_COMPLETED, RANGE), *by)
    return Table(
        key="costs",
        by=by,
        queries=(*_cost_columns(*by), Query(ended, word="ended", unit="short")),
        unit="short",
        sort="cost",
        height=11,
    )


def _projects() -> Panel:
    by = ("project",)
    present = (
        Query(_asked(family, status, by=by), word=word, unit="locale", decimals=1)
        for word, family, status in (
            ("gpus_used", GPUS, STARTED),
            ("gpus_awaited", GPUS, BEFORE_START),
            ("cores_used", CORES, STARTED),
            ("cores_awaited", CORES, BEFORE_START),
        )
    )
    memory = Query(_asked(MEMORY, STARTED, by=by), word="memory_used", unit="bytes", decimals=1)
    return Table(
        key="resources",
        by=by,
        queries=(*present, memory, *_cost_columns(*by)),
        links=(("project", PROJECT_URL),),
        unit="short",
        sort="cost",
        height=6,
    )
