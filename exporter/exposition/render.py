"""
Samples as the bytes Prometheus reads: the text format 0.0.4 and OpenMetrics 1.0.0.

    # HELP octopus_jobs_created_total Jobs seen for the first time. ...
    # TYPE octopus_jobs_created_total counter
    octopus_jobs_created_total{project="perception",workspace="0",job_type="FRAME_EXTRACT"} 12

Sample lines are the same in both, but for the exemplars, which OpenMetrics alone has; the headers differ.
Source: prometheus.io, "Exposition formats", section "Text-based format"; OpenMetrics 1.0.0, section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache, lru_cache

from prometheus_client.utils import floatToGoString

from exporter.exposition.compression import Body, Piece
from exporter.exposition.families import TARGET_FAMILIES, Family
from exporter.exposition.samples import Sample, of_target
from exporter.model import Exemplar, TargetSnapshot

EOF = b"# EOF\n"


class Format(Enum):
    """What we speak; the values are the content types."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Part:
    """A run of whole lines in both formats; OpenMetrics without its `# EOF`."""

    text: Piece
    openmetrics: Piece

    @classmethod
    def of(cls, text: bytes, openmetrics: bytes) -> Part:
        piece = Piece.of(text)
        return cls(piece, piece if openmetrics == text else Piece.of(openmetrics))


TargetParts = Mapping[Family, Part]


@dataclass(frozen=True, slots=True)
class Bodies:
    """All that is published, in both formats; a tail with the live metrics and the end is yet to come."""

    text: Body
    openmetrics: Body

    def of(self, format_: Format) -> Body:
        return self.text if format_ is Format.TEXT else self.openmetrics


def render_target(snapshot: TargetSnapshot) -> TargetParts:
    """Render one target's lines, by family."""
    return {family: _lines(family, samples) for family, samples in of_target(snapshot).items() if samples}


def join(targets: Iterable[TargetParts], *others: Part) -> Bodies:
    """Put the targets' parts together, each family in one run below its header, and the other parts after."""
    parts = list(targets)
    runs = [part for family in TARGET_FAMILIES for part in _run(family, parts)]
    runs.extend(others)
    return Bodies(Body.of(run.text for run in runs), Body.of(run.openmetrics for run in runs))


def _run(family: Family, targets: list[TargetParts]) -> Iterable[Part]:
    found = (target[family] for target in targets if family in target)
    # Targets of one project say the same of it, and a series may stand there only once.
    return (header(family), *{part.text.plain: part for part in found}.values())


@cache
def header(family: Family) -> Part:
    """Render HELP, TYPE and, for OpenMetrics, UNIT."""
    help_ = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    name = family.openmetrics_name
    unit = f"# UNIT {name} {family.unit}\n" if family.unit else ""
    text = f"# HELP {family.name} {help_}\n# TYPE {family.name} {family.type}\n"
    quoted = help_.replace('"', '\\"')
    openmetrics = f"# HELP {name} {quoted}\n# TYPE {name} {family.type}\n{unit}"
    return Part.of(text.encode(), openmetrics.encode())


def _lines(family: Family, samples: Iterable[Sample]) -> Part:
    lines = [(_line(family, sample), sample.exemplar) for sample in samples]
    text = "".join(f"{line}\n" for line, _ in lines)
    openmetrics = "".join(f"{line}{_exemplar(exemplar)}\n" for line, exemplar in lines)
    return Part.of(_encode(text), _encode(openmetrics))


def _encode(text: str) -> bytes:
    # A lone surrogate has no UTF-8; a question mark keeps all else readable.
    return text.encode("utf-8", "replace")


def _line(family: Family, sample: Sample) -> str:
    labels = ",".join(map(_pair, family.labels, sample.labels))
    if sample.le is not None:
        labels += f',le="{_bound(sample.le)}"'
    return f"{family.name}{sample.suffix}{{{labels}}} {sample.value!r}"


def _exemplar(exemplar: Exemplar | None) -> str:
    if exemplar is None:
        return ""
    return f' # {{job_id="{exemplar.job_id}"}} {exemplar.value!r} {exemplar.at_ms / 1000!r}'


@lru_cache(maxsize=16384)
def _pair(name: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return f'{name}="{escaped}"'


@cache
def _bound(le: float) -> str:
    bound: str = floatToGoString(le)  # type: ignore[no-untyped-call]  # the library has no annotation here
    return bound
