from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client import generate_latest as generate_text
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from exporter.exposition.families import TARGET_FAMILIES
from exporter.exposition.render import EOF, Format, assemble, render_target
from exporter.exposition.selection import select
from exporter.model import TargetSnapshot
from tests.snapshots import SNAPSHOT, snapshots
from tests.test_render import WITH_BIRTHS, Oracle

SAMPLES = sorted(
    {
        name
        for family in TARGET_FAMILIES
        for name in (
            *(f"{family.name}{suffix}" for suffix in ("", "_bucket", "_count", "_sum")),
            f"{family.openmetrics_name}_created",
        )
    }
    # What a family's own name selects here, where it is no sample's, and not there is for other tests.
    - {family.openmetrics_name for family in TARGET_FAMILIES if family.type != "gauge"}
)


def selected(format_: Format, names: Iterable[str], *published: TargetSnapshot) -> str:
    body = assemble(map(render_target, published)).of(format_)
    tail = EOF if format_ is Format.OPENMETRICS else b""
    wanted = frozenset(name.encode() for name in names)
    return b"".join(select(body.with_tail(tail), wanted)).decode()


def samples(format_: Format, text: str) -> list[Sample]:
    parse = parse_text if format_ is Format.TEXT else parse_openmetrics
    return sorted(
        (sample for family in parse(text) for sample in family.samples),
        key=lambda sample: (sample.name, sorted(sample.labels.items())),
    )


@given(snapshots, st.sets(st.sampled_from(SAMPLES), max_size=4), st.sampled_from(Format))
@settings(deadline=None, max_examples=50, phases=(Phase.explicit, Phase.reuse, Phase.generate))
def test_sample_names_select_what_the_client_library_would_select(
    published: list[TargetSnapshot], names: set[str], format_: Format
) -> None:
    if format_ is Format.OPENMETRICS:
        names = _readable(names)
    restricted = _Restricted(Oracle(published), names)
    theirs = (generate_text if format_ is Format.TEXT else generate_openmetrics)(restricted).decode()
    ours = selected(format_, names, *published)
    assert samples(format_, ours) == samples(format_, theirs)


def _readable(names: set[str]) -> set[str]:
    """The library's parser refuses half a histogram in OpenMetrics, as the library itself would give it."""
    histograms = [family.name for family in TARGET_FAMILIES if family.type == "histogram"]
    asked = [name for name in histograms if any(one.startswith(f"{name}_") for one in names)]
    return names | {f"{name}{suffix}" for name in asked for suffix in ("_bucket", "_count", "_sum")}


class _Restricted:
    """What CollectorRegistry.restricted_registry would collect of an unregistered collector."""

    def __init__(self, collector: Oracle, names: set[str]) -> None:
        self._collector = collector
        self._names = names

    def collect(self) -> Iterable[Metric]:
        registry = CollectorRegistry(auto_describe=True)
        registry.register(self._collector)
        return registry.restricted_registry(self._names).collect()


@pytest.mark.parametrize("format_", Format)
@pytest.mark.parametrize("name", ["octopus_jobs_created_total", "octopus_jobs_created"])
def test_a_family_goes_by_its_name_in_either_format(name: str, format_: Format) -> None:
    found = {sample.name for sample in samples(format_, selected(format_, [name], SNAPSHOT))}
    assert found == {"octopus_jobs_created_total"}


@pytest.mark.parametrize("format_", Format)
def test_a_histograms_own_name_selects_all_of_it(format_: Format) -> None:
    name = "octopus_job_submitting_duration_seconds"
    found = {sample.name for sample in samples(format_, selected(format_, [name], SNAPSHOT))}
    assert found == {f"{name}{suffix}" for suffix in ("_bucket", "_count", "_sum")}


def test_births_are_selected_with_their_family_in_openmetrics_and_by_their_own_name_in_text() -> None:
    name = "octopus_jobs_created"
    found = {
        format_: {sample.name for sample in samples(format_, selected(format_, [name], WITH_BIRTHS))}
        for format_ in Format
    }
    assert found == {
        Format.TEXT: {f"{name}_total"},
        Format.OPENMETRICS: {f"{name}_total", f"{name}_created"},
    }
    assert samples(Format.TEXT, selected(Format.TEXT, [f"{name}_created"], WITH_BIRTHS))


def test_what_is_selected_stands_below_its_header_and_nothing_else_does() -> None:
    name = "octopus_job_submitting_duration_seconds"
    lines = selected(Format.OPENMETRICS, [f"{name}_sum"], SNAPSHOT).splitlines()
    assert [line.split()[:3] for line in lines if line.startswith("#")] == [
        ["#", "HELP", name],
        ["#", "TYPE", name],
        ["#", "UNIT", name],
        ["#", "EOF"],
    ]
    assert len(lines) == 5


def test_a_name_that_is_not_there_leaves_a_valid_exposition() -> None:
    assert selected(Format.OPENMETRICS, ["no_such_metric", "octopus_job"], SNAPSHOT) == "# EOF\n"
    assert selected(Format.TEXT, ["no_such_metric"], SNAPSHOT) == ""
