"""The READMEs: both say the same, and what they say is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from exporter.cli import app
from exporter.config import load
from exporter.errors import REASONS
from exporter.exposition.families import FAMILIES
from exporter.octopus.transport import open_session
from exporter.runtime import GRACE_SECONDS

ROOT = Path(__file__).parent.parent
ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
OPERATIONS = ROOT / "docs" / "operations.md"
READMES = (ENGLISH, CHINESE)
PAGES = (*READMES, OPERATIONS, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md")

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
# What a histogram or a counter family is spelt like in samples and queries.
SUFFIXES = ("", "_bucket", "_count", "_sum")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str = "") -> list[str]:
    return [body for kind, body in FENCE.findall(text_of(page)) if language in ("", kind)]


def prose(page: Path) -> str:
    return FENCE.sub("", text_of(page))


def headings(page: Path) -> list[str]:
    return re.findall(r"^(#+) ", prose(page), re.MULTILINE)


def table_keys(page: Path) -> list[str]:
    """Give the first cell of every row whose first cell is code, a number or a list of codes."""
    cells = re.findall(r"^\| *([^|]*?) *\|", prose(page), re.MULTILINE)
    return [key for cell in cells for key in re.findall(r"`[^`]+`|^\d+$", cell)]


def code(page: Path) -> Iterator[str]:
    """Give all that stands as code: spans in the text, lines of the blocks; words joined where it wraps."""
    for span in re.findall(r"`([^`]+)`", prose(page)):
        yield " ".join(span.split())
    for block in blocks(page):
        yield from block.splitlines()


def anchors(page: Path) -> set[str]:
    """Give the anchors that the headings of a page have where Markdown is shown with them."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_both_languages_have_the_same_code_blocks() -> None:
    assert blocks(CHINESE) == blocks(ENGLISH)


def test_both_languages_have_the_same_headings_in_number_and_depth() -> None:
    assert headings(CHINESE) == headings(ENGLISH)


def test_both_languages_have_the_same_table_rows() -> None:
    assert table_keys(CHINESE) == table_keys(ENGLISH)


def test_both_languages_name_the_same_code() -> None:
    assert set(code(CHINESE)) == set(code(ENGLISH))


def test_the_languages_link_each_other() -> None:
    assert f"]({CHINESE.name})" in text_of(ENGLISH)
    assert f"]({ENGLISH.name})" in text_of(CHINESE)


@pages
def test_every_make_target_exists(page: Path) -> None:
    named = {target for line in code(page) for target in re.findall(r"^\s*make ([a-z-]+)", line)}
    made = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    assert named - made == set()


def test_the_first_screen_has_a_command_for_each_look_and_the_tests() -> None:
    compose = "docker compose -f deploy/compose/compose.yaml up --build\n"
    assert blocks(ENGLISH, "sh")[:4] == ["make demo\n", "make prometheus\n", compose, "make test\n"]
    named = next(word for word in compose.split() if word.endswith(".yaml"))
    assert (ROOT / named).is_file()


@pages
def test_every_page_says_the_same_of_how_long_the_tests_take(page: Path) -> None:
    said = re.findall(r"(?:takes? about|约需) (\d+) (?:minutes|分钟)", prose(page))
    assert set(said) <= {"20"}
    assert said or page not in (*READMES, ROOT / "CONTRIBUTING.md")


@pages
def test_every_command_and_option_exists(page: Path) -> None:
    commands = typer.main.get_group(app).commands
    for line in code(page):
        for name, rest in re.findall(r"octopus-exporter ([a-z]+)\b(?! *=)(.*)", line):
            assert name in commands, line
            known = {option for parameter in commands[name].params for option in parameter.opts}
            assert set(re.findall(r"(?<= )--[a-z.-]+", rest)) - known == set(), line


@pages
def test_every_metric_exists(page: Path) -> None:
    known = {family.name + suffix for family in FAMILIES for suffix in SUFFIXES}
    named = {name for line in code(page) for name in re.findall(r"(?<!:)\boctopus_[a-z_]+", line)}
    assert named - known == set()


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.name)
def test_the_table_has_every_metric_with_its_labels(page: Path) -> None:
    rows = re.findall(r"^\| `(octopus_\w+)` \| ([^|]*)\|", prose(page), re.MULTILINE)
    shown = {name: set(re.findall(r"(?<!无 )(?<!no )`(\w+)`", labels)) for name, labels in rows}
    assert shown == {family.name: set(family.labels) - {"project", "workspace"} for family in FAMILIES}


def test_operations_explain_every_reason_of_a_failed_poll() -> None:
    section = text_of(OPERATIONS).partition("## When a poll fails")[2]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)[1:] == list(REASONS)


def test_all_texts_give_a_poll_the_same_time_to_end_as_the_code() -> None:
    words = {"three": 3.0, "三": 3.0, "five": 5.0, "五": 5.0}
    unit = ROOT / "deploy" / "systemd" / "octopus-exporter.service"
    said = {
        page.name: re.findall(
            r"poll\s+under\s+way\s+has\s+(\w+)\s+seconds|进行中的轮询有(.)秒钟", text_of(page)
        )
        for page in (ENGLISH, CHINESE, unit)
    }
    assert {name: [words[a or b] for a, b in found] for name, found in said.items()} == {
        name: [GRACE_SECONDS] for name in said
    }


@pages
def test_every_relative_link_resolves(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = page.parent / path if path else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


def test_the_shown_configuration_is_valid(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    (shown,) = re.findall(r"cat >config.yaml <<'EOF'\n(.*?)^EOF$", text_of(ENGLISH), re.DOTALL | re.MULTILINE)
    file.write_text(shown, encoding="utf-8")
    environ = {f"OCTOPUS_{name}": "value" for name in ("DOMAIN", "USER", "PASSWORD")}
    (target,) = load(file, environ).targets()
    assert (target.project, target.workspace) == ("perception", "0")


@pytest.mark.parametrize("page", READMES, ids=lambda page: page.name)
def test_the_named_environment_is_what_connections_read(page: Path) -> None:
    named = {"HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE"}
    assert named <= set(code(page))
    assert named <= set(re.findall(r"[A-Z_]{5,}", open_session.__doc__ or ""))
