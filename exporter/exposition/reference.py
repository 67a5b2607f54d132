"""
Generate docs/metrics.md and docs/metrics.zh-CN.md from the family table.

    python -m exporter.exposition.reference > docs/metrics.md
    python -m exporter.exposition.reference --language zh-CN > docs/metrics.zh-CN.md

The code has the English texts; reference.zh-CN.yaml has a Chinese one for each of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal, get_args

import yaml

from exporter.exposition.families import INSTRUMENT_FAMILIES, LABELS, TARGET_FAMILIES, Family

Language = Literal["en", "zh-CN"]
Catalogue = Mapping[str, Mapping[str, str]]
"""Chinese texts by the English text, by section: a family's name, PAGE, LABEL_MEANINGS or SHARED."""
Say = Callable[[str, str], str]
"""Returns a text in the language of the page, given its section and the English text."""

CATALOGUE = Path(__file__).with_name("reference.zh-CN.yaml")
PAGE = "page"  # the text outside the families
LABEL_MEANINGS = "labels"
SHARED = "shared"  # texts that several families use

_INTRODUCTION = """\
This page is generated from `exporter/exposition/families.py`: change it there, then run
`python -m exporter.exposition.reference > docs/metrics.md`.

Prometheus scrapes the exporter; the exporter polls the API on its own timer and answers a scrape
with what the last poll found. So the values are as old as
`octopus_poll_last_success_timestamp_seconds` says. A target is one workspace of one project. Series
of the known job types and statuses exist from the first publication on, at 0 where there is
nothing; those of a resource spec, from the first poll on that sees a job in flight with it.

A new counter or histogram of a target shows 0 until `metrics.new_series_hold` has passed since the
first complete answer to a scrape that contained it (without any such answer: for 5 minutes). Let that
be more than the longest scrape interval: then `increase()` misses nothing of what the series begins
with.

In OpenMetrics a counter's family is named without `_total`, and `octopus_job_failures_total` and
the buckets of both job histograms carry `{job_id="…"}` of the last job counted there as an
exemplar; Prometheus keeps them with `--enable-feature=exemplar-storage`.

With `metrics.created_series` each counter and histogram has a `_created` series beside it, the time it
began to count from 0: within its family in OpenMetrics, a gauge of its own in the text format.

The name, the type and the labels of a stable metric change only as
[the rules for a deprecation](releasing.md#deprecating-a-metric) say. Those of an experimental one may change
with each version. The CHANGELOG names every change, with the query that replaces the old one.

`/metrics?name[]=octopus_jobs&name[]=octopus_up` shows these families only; the name of a sample, as
`octopus_job_running_duration_seconds_sum`, shows only the samples of that name.
"""
_PROCESS = """\
`process_*` and `python_*` are the Prometheus client library's own: CPU, memory, file descriptors, garbage
collection. They alone are read at the scrape.
"""


def reference(language: Language = "en") -> str:
    """
    Write the reference of all metrics, as Markdown.

    Raises: ValueError, with a line for each text that the catalogue lacks or that no page uses.
    """
    if language == "en":
        return _page(lambda _section, text: text)
    catalogue = read_catalogue()
    if wrong := faults(catalogue):
        raise ValueError("\n".join(wrong))
    return _page(lambda section, text: _found(catalogue, section, text) or text)


def read_catalogue() -> dict[str, dict[str, str]]:
    """Read the Chinese texts; a section without texts is empty."""
    sections = yaml.safe_load(CATALOGUE.read_text(encoding="utf-8"))
    return {section: texts or {} for section, texts in sections.items()}


def faults(catalogue: Catalogue) -> list[str]:
    """Name each text without a Chinese translation in the catalogue, and each unused translation."""
    wanted: list[tuple[str, str]] = []

    def note(section: str, text: str) -> str:
        wanted.append((section, _key(text)))
        return text

    _page(note)
    used = {*wanted, *((SHARED, text) for _, text in wanted)}
    missing = [
        f"{section}: no Chinese text for {text!r}"
        for section, text in dict.fromkeys(wanted)
        if not _found(catalogue, section, text)
    ]
    left_over = [
        f"{section}: no longer used: {text!r}"
        for section, texts in catalogue.items()
        for text in texts
        if (section, text) not in used
    ]
    return missing + left_over


def _found(catalogue: Catalogue, section: str, text: str) -> str | None:
    key = _key(text)
    return catalogue.get(section, {}).get(key) or catalogue.get(SHARED, {}).get(key)


def _key(text: str) -> str:
    """Return the key of a text in the catalogue: the paragraph in one line."""
    return text.replace("\n", " ")


def _page(say: Say) -> str:
    blocks = [
        say(PAGE, "# Metrics"),
        say(PAGE, "English | [简体中文](metrics.zh-CN.md)"),
        *_paragraphs(say, _INTRODUCTION),
        say(PAGE, "## Labels"),
        _labels(say),
        say(PAGE, "## Jobs and polls, by target"),
        *(block for family in TARGET_FAMILIES for block in _family(say, family)),
        say(PAGE, "## The exporter itself"),
        *(block for family in INSTRUMENT_FAMILIES for block in _family(say, family)),
        say(PAGE, "## The process"),
        *_paragraphs(say, _PROCESS),
    ]
    return "\n\n".join(blocks) + "\n"


def _paragraphs(say: Say, text: str) -> Iterator[str]:
    for paragraph in text.strip().split("\n\n"):
        yield say(PAGE, paragraph)


def _labels(say: Say) -> str:
    rows = (f"| `{name}` | {say(LABEL_MEANINGS, meaning)} |" for name, meaning in LABELS.items())
    return "\n".join([say(PAGE, "| label | is |"), "|---|---|", *rows])


def _family(say: Say, family: Family) -> Iterator[str]:
    yield f"### `{family.name}`"
    labels = say(PAGE, ", ").join(f"`{label}`" for label in family.labels) or say(PAGE, "none")
    yield say(PAGE, "{type} · {unit} · {stability} · labels: {labels}").format(
        type=say(PAGE, family.type),
        unit=say(PAGE, family.unit or "no unit"),
        stability=say(PAGE, family.stability),
        labels=labels,
    )
    what, when = say(family.name, family.what), say(family.name, family.when)
    yield say(PAGE, "{what} {when}").format(what=what, when=when)
    queries = (f"# {say(family.name, question)}\n{promql}" for question, promql in family.queries.items())
    yield "\n".join(["```promql", *queries, "```"])


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m exporter.exposition.reference", description="Write the reference of all metrics."
    )
    parser.add_argument("--language", choices=get_args(Language), default="en", help="en is the default")
    try:
        page = reference(parser.parse_args().language)
    except (ValueError, yaml.YAMLError) as error:
        sys.exit(f"{CATALOGUE.name}:\n{error}")
    # As UTF-8 whatever the terminal's encoding is: the output goes into a file.
    sys.stdout.buffer.write(page.encode())


if __name__ == "__main__":
    main()
