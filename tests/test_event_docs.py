"""docs/events.md and the examples in deploy: their lines, fields and labels are those that there are."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from exporter.config import load
from exporter.events.lines import EventFormat, line_of
from exporter.masking import Secrets
from tests.events import event
from tests.test_event_lines import FIELDS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
ALLOY = (ROOT / "deploy" / "loki" / "events.alloy").read_text(encoding="utf-8")
PROMTAIL = yaml.safe_load((ROOT / "deploy" / "loki" / "promtail.yaml").read_text(encoding="utf-8"))
LOGROTATE = (ROOT / "deploy" / "logrotate" / "octopus-exporter").read_text(encoding="utf-8")

LABELS = {"project", "workspace", "job_type", "status"}
METADATA = {"job_id", "run", "msg_code"}


def blocks(language: str) -> list[str]:
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return found


def alloy_keys(block: str) -> set[str]:
    """Give the keys of the map in a stage of the Alloy example."""
    (body,) = re.findall(rf"{re.escape(block)} {{\n    \w+ = {{\n(.*?)\n    }}\n  }}", ALLOY, re.DOTALL)
    return set(re.findall(r"^ +(\w+) += \"\",$", body, re.MULTILINE))


def promtail_stages() -> dict[str, object]:
    return {
        name: keys
        for stage in PROMTAIL["scrape_configs"][0]["pipeline_stages"]
        for name, keys in stage.items()
    }


@pytest.mark.parametrize(("format_", "language"), [("json", "json"), ("logfmt", "text")])
def test_the_example_is_a_line_as_it_is_written(format_: EventFormat, language: str) -> None:
    shown = event(4711)
    shown = replace(shown, run=replace(shown.run, number=1, data_id="DPK4096"))
    assert line_of(format_, Secrets())(shown).decode() == blocks(language)[0]


def test_every_field_is_explained_in_the_order_of_the_line() -> None:
    table = PAGE.partition("| field | value |")[2].partition("\n\n")[0]
    cells = [row.split("|")[1] for row in table.splitlines()[2:]]
    assert tuple(name for cell in cells for name in re.findall(r"`(\w+)`", cell)) == FIELDS


def test_the_configuration_is_a_good_one(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        f"projects: [{{id: a, region: b-1}}]\ncredentials: {{c: {{type: chain}}}}\n{blocks('yaml')[0]}"
    )
    config = load(file, {})
    assert config.events is not None
    assert str(config.events.to) in ALLOY


def test_the_alloy_example_makes_labels_of_few_values_only() -> None:
    """Its syntax is checked by nothing here but this: there is no Alloy to ask."""
    assert alloy_keys("stage.labels") == LABELS
    assert alloy_keys("stage.structured_metadata") == METADATA
    assert alloy_keys("stage.json") == LABELS | METADATA | {"time"} <= set(FIELDS)
    assert 'values = ["filename"]' in ALLOY
    for opening, closing in ("{}", "[]", "()"):
        assert ALLOY.count(opening) == ALLOY.count(closing)
    components = set(re.findall(r'^([\w.]+ "\w+") {$', ALLOY, re.MULTILINE))
    named = {".".join(one.replace('"', "").split()) for one in components}
    for reference in re.findall(r"(?:local|loki)\.[\w.]+(?=\.(?:targets|receiver))", ALLOY):
        assert reference in named


def test_the_promtail_example_does_the_same() -> None:
    stages = promtail_stages()
    assert list(stages) == ["json", "timestamp", "labels", "labeldrop", "structured_metadata"]
    expressions = stages["json"]["expressions"]  # type: ignore[index]
    assert expressions == {name: name for name in LABELS | METADATA | {"time"}}
    assert set(stages["labels"]) == LABELS  # type: ignore[call-overload]
    assert set(stages["structured_metadata"]) == METADATA  # type: ignore[call-overload]
    labels = PROMTAIL["scrape_configs"][0]["static_configs"][0]["labels"]
    assert labels["service_name"] == "octopus-events"
    assert labels["__path__"] in ALLOY


def test_the_page_shows_the_files_that_ship() -> None:
    plain = "".join(line for line in LOGROTATE.splitlines(keepends=True) if not line.lstrip().startswith("#"))
    assert plain in blocks("text")
    assert blocks("alloy")[0] in ALLOY


def test_queries_are_of_labels_and_fields_that_there_are() -> None:
    queries = blocks("logql")
    assert len(queries) == 5
    for query in queries:
        (selector,) = re.findall(r"\{(service_name[^}]*)\}", query)
        assert set(re.findall(r"(\w+)=", selector)) <= LABELS | {"service_name"}
        after = query.partition("| json")[2]
        asked = set(re.findall(r"\{\{\.(\w+)\}\}", after)) | set(re.findall(r"\| (\w+) ?[=>]", after))
        assert asked <= set(FIELDS)
        assert query.count("(") == query.count(")")
