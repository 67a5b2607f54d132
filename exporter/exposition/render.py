"""
Samples as the bytes Prometheus reads: the text format 0.0.4 and OpenMetrics 1.0.0.

    # HELP octopus_jobs_created_total Jobs seen for the first time. ...
    # TYPE octopus_jobs_created_total counter
    octopus_jobs_created_total{project="perception",workspace="0",job_type="FRAME_EXTRACT"} 12

Sample lines are the same in both, except for exemplars, which only OpenMetrics has. The headers differ. The
creation times of series (`_created`) are lines of the same family in OpenMetrics, and a separate gauge in the
text format.
Source: prometheus.io, "Exposition formats", section "Text-based format"; OpenMetrics 1.0.0, section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cache, lru_cache

from prometheus_client.utils import floatToGoString

from exporter.exposition.compression import Body
from exporter.exposition.families import FAMILIES, PROJECT_INFO, TARGET_FAMILIES, Family
from exporter.exposition.hold import Held
from exporter.exposition.samples import CREATED, SOURCES, Sample
from exporter.model import Exemplar, TargetSnapshot

EOF = b"# EOF\n"


class Format(Enum):
    """The formats of an exposition; the values are the content types."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@dataclass(frozen=True, slots=True)
class FamilyLines:
    """Complete lines of a family in both formats; those of OpenMetrics without the `# EOF`."""

    text: bytes
    openmetrics: bytes

    @classmethod
    def of(cls, text: bytes, openmetrics: bytes) -> FamilyLines:
        # Most lines are the same in both: they are kept once.
        return cls(text, text if openmetrics == text else openmetrics)


@dataclass(frozen=True, slots=True)
class TargetLines:
    """The lines of a target by family and part, without the headers."""

    snapshot: TargetSnapshot
    families: Mapping[Family, Mapping[str, FamilyLines]]


@dataclass(frozen=True, slots=True)
class Exposition:
    """
    Everything published, in both formats. A scrape appends the process metrics and the end of OpenMetrics.

    Shape: `held` has the new series in it that show 0 until they are released.
    """

    text: Body
    openmetrics: Body
    held: Held = field(default_factory=dict)

    def of(self, format_: Format) -> Body:
        return self.text if format_ is Format.TEXT else self.openmetrics


def render_target(snapshot: TargetSnapshot, before: TargetLines | None = None) -> TargetLines:
    """Render one target's lines. A part with the same values as `before` reuses its lines."""
    # All lines depend on the target and on whether `_created` series are shown.
    if before is not None and (before.snapshot.target, before.snapshot.created_series) != (
        snapshot.target,
        snapshot.created_series,
    ):
        before = None
    families: dict[Family, dict[str, FamilyLines]] = {}
    for family, source in SOURCES.items():
        known = {} if before is None else source.parts(before.snapshot)
        for part, extracted in source.parts(snapshot).items():
            if before is not None and part in known and known[part] == extracted:
                rendered = {
                    name: before.families[name][part]
                    for name in (family, created_gauge(family))
                    if part in before.families.get(name, {})
                }
            else:
                rendered = _render_family(family, source.samples(snapshot, extracted))
            for name, lines in rendered.items():
                families.setdefault(name, {})[part] = lines
    return TargetLines(snapshot, families)


def assemble(
    targets: Iterable[TargetLines], *others: Sequence[FamilyLines], before: Exposition | None = None
) -> Exposition:
    """
    Join the lines of all targets, each family in one run below its header, followed by the other runs.

    Blocks of lines that have not changed since `before` are reused, with their compressed bytes and checksum.
    """
    targets = list(targets)
    found = [*runs(TARGET_FAMILIES, [one.families for one in targets]), *others]
    held = {
        one.snapshot.target.key: one.snapshot.totals.held
        for one in targets
        if one.snapshot.totals is not None and one.snapshot.totals.held
    }
    return Exposition(
        Body([[lines.text for lines in run] for run in found], before.text if before else None),
        Body([[lines.openmetrics for lines in run] for run in found], before.openmetrics if before else None),
        held,
    )


def runs(
    families: Iterable[Family], parts: Sequence[Mapping[Family, Mapping[str, FamilyLines]]]
) -> Iterator[list[FamilyLines]]:
    """Yield each family's header and the lines of all parts, and those of its gauge of creation times."""
    for family in families:
        for name in (family, created_gauge(family)):
            found = [lines for part in parts if name in part for lines in part[name].values()]
            if family is PROJECT_INFO:
                # The targets of one project have the same line here, and a series may be exposed only once.
                found = list({lines.text: lines for lines in found}.values())
            # A family without samples keeps its header, but the gauge of creation times is left out.
            if found or name is family:
                yield [header(name), *found]


@cache
def created_gauge(family: Family) -> Family:
    """Return the gauge that has the creation times of a family's series in the text format."""
    return replace(family, name=family.openmetrics_name + CREATED, type="gauge")


@cache
def header(family: Family) -> FamilyLines:
    """Render HELP, TYPE and, for OpenMetrics, UNIT; only the text format has gauges of creation times."""
    help_ = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    name = family.openmetrics_name
    unit = f"# UNIT {name} {family.unit}\n" if family.unit else ""
    text = f"# HELP {family.name} {help_}\n# TYPE {family.name} {family.type}\n"
    quoted = help_.replace('"', '\\"')
    openmetrics = f"# HELP {name} {quoted}\n# TYPE {name} {family.type}\n{unit}"
    return FamilyLines.of(text.encode(), openmetrics.encode() if family in FAMILIES else b"")


def _render_family(family: Family, samples: Iterable[Sample]) -> dict[Family, FamilyLines]:
    """Render one target's samples of a family, and of its gauge of creation times, where there are any."""
    text: list[str] = []
    created: list[str] = []
    openmetrics: list[str] = []
    values, labels = None, ""
    for sample in samples:
        # A histogram's many lines share their labels.
        if sample.labels is not values:
            values, labels = sample.labels, ",".join(map(label_pair, family.labels, sample.labels))
        if sample.suffix == CREATED:
            line = f"{family.openmetrics_name}{CREATED}{{{labels}}} {sample.value!r}\n"
            created.append(line)
            openmetrics.append(line)
            continue
        le = "" if sample.le is None else f',le="{_bound(sample.le)}"'
        line = f"{family.name}{sample.suffix}{{{labels}{le}}} {sample.value!r}"
        text.append(line + "\n")
        exemplar = sample.exemplar
        openmetrics.append(line + ("\n" if exemplar is None else _exemplar(exemplar)))
    if values is None:
        return {}
    lines = {family: FamilyLines.of(encoded(text), encoded(openmetrics))}
    if created:
        lines[created_gauge(family)] = FamilyLines.of(encoded(created), b"")
    return lines


def encoded(lines: list[str]) -> bytes:
    # A lone surrogate cannot be encoded in UTF-8. A question mark in its place keeps the rest of the line.
    return "".join(lines).encode("utf-8", "replace")


def _exemplar(exemplar: Exemplar) -> str:
    return f' # {{job_id="{exemplar.job_id}"}} {exemplar.value!r} {exemplar.at_ms / 1000!r}\n'


@lru_cache(maxsize=16384)
def label_pair(name: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return f'{name}="{escaped}"'


def number(value: float) -> str:
    """Write a number as the client library does: a bound of a bucket, for example."""
    written: str = floatToGoString(value)  # type: ignore[no-untyped-call]  # the library has no annotation here
    return written


_bound = cache(number)
