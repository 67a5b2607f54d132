"""
docs/metrics.md, made from the family table.

    python -m exporter.exposition.reference > docs/metrics.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from exporter.exposition.families import INSTRUMENT_FAMILIES, LABELS, TARGET_FAMILIES, Family

_TOP = """\
# Metrics

This page is generated from `exporter/exposition/families.py`: change it there, then run
`python -m exporter.exposition.reference > docs/metrics.md`.

Prometheus scrapes the exporter; the exporter polls the API on its own timer and answers a scrape
with what the last poll found. So the values are as old as
`octopus_poll_last_success_timestamp_seconds` says. A target is one workspace of one project. Series
of the known job types and statuses exist from the first publication on, at 0 where there is
nothing.

A new counter or histogram of a target shows 0 until `metrics.new_series_hold` has passed since the
first complete answer to a scrape that contained it (without any such answer: for 5 minutes). Let that
be more than the longest scrape interval: then `increase()` misses nothing of what the series begins
with.

In OpenMetrics a counter's family is named without `_total`, and `octopus_job_failures_total` and
the buckets of both job histograms carry `{job_id="…"}` of the last job counted there as an
exemplar; Prometheus keeps them with `--enable-feature=exemplar-storage`.

With `metrics.created_series` each counter and histogram has a `_created` series beside it, the time it
began to count from 0: within its family in OpenMetrics, a gauge of its own in the text format.

`/metrics?name[]=octopus_jobs&name[]=octopus_up` shows these families only; the name of a sample, as
`octopus_job_running_duration_seconds_sum`, shows only the samples of that name.
"""
_PROCESS = """\
## The process

`process_*` and `python_*` are the Prometheus client library's own: CPU, memory, file descriptors, garbage
collection. They alone are read at the scrape.
"""


def reference() -> str:
    """Write the reference of all metrics, as Markdown."""
    blocks = [
        _TOP,
        _labels(),
        "## Jobs and polls, by target\n",
        *map(_family, TARGET_FAMILIES),
        "## The exporter itself\n",
        *map(_family, INSTRUMENT_FAMILIES),
        _PROCESS,
    ]
    return "\n".join(blocks)


def _labels() -> str:
    rows = (f"| `{name}` | {meaning} |" for name, meaning in LABELS.items())
    return _lines("## Labels", "", "| label | is |", "|---|---|", *rows)


def _family(family: Family) -> str:
    labels = ", ".join(f"`{label}`" for label in family.labels) or "none"
    facts = f"{family.type} · {family.unit or 'no unit'} · labels: {labels}"
    return _lines(f"### `{family.name}`", "", facts, "", family.help, "", *_queries(family))


def _queries(family: Family) -> Iterator[str]:
    yield "```promql"
    for query in family.queries:
        yield f"# {query.question}"
        yield query.promql
    yield "```"


def _lines(*lines: str) -> str:
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
