"""
Samples as the bytes Prometheus reads: the text format 0.0.4 and OpenMetrics 1.0.0.

    # HELP octopus_jobs_created_total Jobs seen for the first time. ...
    # TYPE octopus_jobs_created_total counter
    octopus_jobs_created_total{project="perception",workspace="0",job_type="FRAME_EXTRACT"} 12

Sample lines are the same in both, but for the exemplars, which OpenMetrics alone has; the headers differ, and
the births of series (`_created`) are lines of the same family there and a gauge of their own in text.
Source: prometheus.io, "Exposition formats", section "Text-based format"; OpenMetrics 1.0.0, section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cache, lru_cache
from itertools import zip_longest

from prometheus_client.utils import floatToGoString

from exporter.exposition.compression import Body, Chunk, Segment
from exporter.exposition.families import TARGET_FAMILIES, Family
from exporter.exposition.hold import Held
from exporter.exposition.samples import CREATED, SOURCES, Sample
from exporter.model import Exemplar, SeriesKey, TargetSnapshot

EOF = b"# EOF\n"
# A change of one part costs a look at so many, and every run costs a little at each change of any.
_RUN_PARTS = 16


class Format(Enum):
    """What we speak; the values are the content types."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@dataclass(frozen=True, slots=True)
class FamilyLines:
    """A run of whole lines in both formats; OpenMetrics without its `# EOF`."""

    text: Chunk
    openmetrics: Chunk

    @classmethod
    def of(cls, text: bytes, openmetrics: bytes) -> FamilyLines:
        piece = Chunk.of(text)
        return cls(piece, piece if openmetrics == text else Chunk.of(openmetrics))


@dataclass(frozen=True, slots=True)
class TargetParts:
    """A target's lines: what there is of each family, without the headers."""

    snapshot: TargetSnapshot
    parts: Mapping[Family, FamilyLines]


@dataclass(frozen=True, slots=True)
class Exposition:
    """
    All that is published, in both formats; a tail with the live metrics and the end is yet to come.

    Shape: `held` are the new series in it that show 0 until they are released.
    """

    text: Body
    openmetrics: Body
    held: Held = field(default_factory=dict)

    def of(self, format_: Format) -> Body:
        return self.text if format_ is Format.TEXT else self.openmetrics


def render_target(snapshot: TargetSnapshot, before: TargetParts | None = None) -> TargetParts:
    """Render one target's lines; families that look as they did `before` are taken from there."""
    if before is not None and _basis(before.snapshot) != _basis(snapshot):
        before = None
    parts: dict[Family, FamilyLines] = {}
    for family, source in SOURCES.items():
        shown = source.read(snapshot)
        if before is not None and source.read(before.snapshot) == shown:
            known = ((name, before.parts.get(name)) for name in (family, births(family)))
            parts |= {name: part for name, part in known if part is not None}
        else:
            parts |= _lines(family, source.samples(snapshot, shown))
    return TargetParts(snapshot, parts)


def _basis(snapshot: TargetSnapshot) -> tuple[object, ...]:
    """Give what all lines depend on."""
    return snapshot.target, snapshot.created_series


def join(
    targets: Iterable[TargetParts], *others: FamilyLines, before: Exposition | None = None
) -> Exposition:
    """
    Put the targets' parts together, each family in one run below its header, and the other parts after.

    What is as it was `before` is taken from there.
    """
    targets = list(targets)
    runs = [run for family in TARGET_FAMILIES for run in _runs(family, targets)]
    runs.append(others)
    text, openmetrics = (before.text.runs, before.openmetrics.runs) if before is not None else ((), ())
    return Exposition(
        _body((tuple(part.text for part in run) for run in runs), text),
        _body((tuple(part.openmetrics for part in run) for run in runs), openmetrics),
        {target.snapshot.target.key: held for target in targets if (held := _held(target.snapshot))},
    )


def _held(snapshot: TargetSnapshot) -> frozenset[SeriesKey]:
    return frozenset() if snapshot.totals is None else snapshot.totals.held


def _body(runs: Iterable[tuple[Chunk, ...]], known: tuple[Segment, ...]) -> Body:
    return Body.of(
        before if before is not None and before.pieces == pieces else Segment.of(pieces)
        for pieces, before in zip_longest(runs, known)
        if pieces is not None
    )


def _runs(family: Family, targets: list[TargetParts]) -> Iterator[tuple[FamilyLines, ...]]:
    """Give a family's lines with its header, some targets at a time."""
    found = [target.parts[family] for target in targets if family in target.parts]
    if "workspace" not in family.labels:
        # Targets of one project say the same of it, and a series may stand there only once.
        found = list({part.text.plain: part for part in found}.values())
    yield from _some([header(family), *found])
    born = births(family)
    if any(born in target.parts for target in targets):
        yield from _some([header(born), *(target.parts[born] for target in targets if born in target.parts)])


def _some(parts: list[FamilyLines]) -> Iterator[tuple[FamilyLines, ...]]:
    return (tuple(parts[start : start + _RUN_PARTS]) for start in range(0, len(parts), _RUN_PARTS))


@cache
def births(family: Family) -> Family:
    """Give the gauge that the births of a family's series are in the text format."""
    return replace(family, name=family.openmetrics_name + CREATED, type="gauge")


@cache
def header(family: Family) -> FamilyLines:
    """Render HELP, TYPE and, for OpenMetrics, UNIT; OpenMetrics has no family of births."""
    help_ = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    name = family.openmetrics_name
    unit = f"# UNIT {name} {family.unit}\n" if family.unit else ""
    text = f"# HELP {family.name} {help_}\n# TYPE {family.name} {family.type}\n"
    quoted = help_.replace('"', '\\"')
    openmetrics = f"# HELP {name} {quoted}\n# TYPE {name} {family.type}\n{unit}"
    return FamilyLines.of(text.encode(), b"" if _is_births(family) else openmetrics.encode())


def _is_births(family: Family) -> bool:
    return family not in TARGET_FAMILIES


@dataclass(slots=True)
class _Lines:
    """The lines of one family as they grow."""

    family: Family
    text: list[str] = field(default_factory=list)
    births: list[str] = field(default_factory=list)
    openmetrics: list[str] = field(default_factory=list)

    def add(self, sample: Sample, labels: str) -> None:
        if sample.suffix == CREATED:
            line = f"{self.family.openmetrics_name}{CREATED}{{{labels}}} {sample.value!r}\n"
            self.births.append(line)
            self.openmetrics.append(line)
            return
        le = "" if sample.le is None else f',le="{_bound(sample.le)}"'
        line = f"{self.family.name}{sample.suffix}{{{labels}{le}}} {sample.value!r}"
        self.text.append(line + "\n")
        exemplar = sample.exemplar
        self.openmetrics.append(line + ("\n" if exemplar is None else f"{_exemplar(exemplar)}\n"))

    def parts(self) -> dict[Family, FamilyLines]:
        parts = {self.family: FamilyLines.of(_encoded(self.text), _encoded(self.openmetrics))}
        if self.births:
            parts[births(self.family)] = FamilyLines.of(_encoded(self.births), b"")
        return parts


def _lines(family: Family, samples: Iterable[Sample]) -> dict[Family, FamilyLines]:
    lines = _Lines(family)
    values, labels = None, ""
    for sample in samples:
        # A histogram's many lines share their labels.
        if sample.labels is not values:
            values, labels = sample.labels, ",".join(map(_pair, family.labels, sample.labels))
        lines.add(sample, labels)
    return lines.parts() if values is not None else {}


def _encoded(lines: list[str]) -> bytes:
    # A lone surrogate has no UTF-8; a question mark keeps all else readable.
    return "".join(lines).encode("utf-8", "replace")


def _exemplar(exemplar: Exemplar) -> str:
    return f' # {{job_id="{exemplar.job_id}"}} {exemplar.value!r} {exemplar.at_ms / 1000!r}'


@lru_cache(maxsize=16384)
def _pair(name: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return f'{name}="{escaped}"'


@cache
def _bound(le: float) -> str:
    bound: str = floatToGoString(le)  # type: ignore[no-untyped-call]  # the library has no annotation here
    return bound
