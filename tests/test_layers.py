"""The dependency direction: who may import whom, read from the sources (house style, section 2)."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "exporter"

CORE = (
    "exporter.backfill.history",
    "exporter.backfill.past",
    "exporter.backfill.plan",
    "exporter.backfill.rule_history",
    "exporter.backfill.script",
    "exporter.commands.check.filter_findings",
    "exporter.commands.check.findings",
    "exporter.commands.check.probes",
    "exporter.commands.check.report",
    "exporter.commands.check.target_findings",
    "exporter.counting.increments",
    "exporter.counting.released",
    "exporter.counting.resources",
    "exporter.counting.rules",
    "exporter.counting.transitions",
    "exporter.errors",
    "exporter.events.lines",
    "exporter.events.outbox",
    "exporter.exposition.compression",
    "exporter.exposition.families",
    "exporter.exposition.hold",
    "exporter.exposition.project_metrics",
    "exporter.exposition.render",
    "exporter.exposition.samples",
    "exporter.exposition.selection",
    "exporter.ledger.postgres.shares",
    "exporter.ledger.schema",
    "exporter.masking",
    "exporter.masking.index",
    "exporter.masking.secrets",
    "exporter.masking.views",
    "exporter.model",
    "exporter.octopus.auth.iam",
    "exporter.octopus.auth.signing",
    "exporter.octopus.error_responses",
    "exporter.octopus.messages",
    "exporter.octopus.retry",
    "exporter.octopus.tolerant",
    "exporter.octopus.wire",
    "exporter.runs",
    "exporter.state_log",
    "exporter.sync.ledger",
    "exporter.sync.planner",
    "exporter.sync.server_clock",
    "exporter.sync.server_traits",
    "exporter.sync.unreadable",
)
# The core may take these and its own modules, and nothing else: no clock, no I/O, no event loop, no log.
PURE = {
    *(
        "__future__",
        "base64",
        "binascii",
        "bisect",
        "collections",
        "collections.abc",
        "contextlib",
        "dataclasses",
        "datetime",
        "decimal",
    ),
    *("email.utils", "enum", "functools", "hashlib", "hmac", "html", "itertools", "json", "math", "operator"),
    *("re", "string", "typing", "unicodedata", "urllib.parse", "zlib"),
    *("msgspec", "prometheus_client.utils"),
}

# From the ground up: a module may import its own layer and those before it, never one after it.
LAYERS = (
    (
        "exporter",
        "exporter.errors",
        "exporter.masking",
        "exporter.model",
        "exporter.runs",
        "exporter.state_log",
    ),
    ("exporter.counting", "exporter.exposition", "exporter.log", "exporter.simulator"),
    ("exporter.config", "exporter.events", "exporter.octopus"),
    ("exporter.rules", "exporter.sync"),
    ("exporter.ledger",),
    ("exporter.backfill", "exporter.clients", "exporter.web"),
    (
        "exporter.followers",
        "exporter.leases",
        "exporter.pollers",
        "exporter.progress",
        "exporter.replica",
        "exporter.runtime",
        "exporter.series_release",
        "exporter.systemd",
        "exporter.target_cleanup",
    ),
    ("exporter.service",),
    ("exporter.commands",),
    ("exporter.cli",),
    ("exporter.__main__",),
)
# Rooms that know nothing of each other, where the layers alone would let them.
STRANGERS = {
    "exporter.config": {"exporter.octopus", "exporter.exposition", "exporter.simulator", "exporter.log"},
    "exporter.octopus": {"exporter.config", "exporter.exposition", "exporter.simulator", "exporter.log"},
    "exporter.exposition": {"exporter.config", "exporter.octopus", "exporter.simulator", "exporter.log"},
    "exporter.simulator": {"exporter.config", "exporter.octopus", "exporter.exposition", "exporter.log"},
    "exporter.events": {
        "exporter.config",
        "exporter.octopus",
        "exporter.exposition",
        "exporter.simulator",
        "exporter.log",
    },
    "exporter.ledger": {"exporter.octopus", "exporter.exposition", "exporter.simulator", "exporter.log"},
    "exporter.sync": {"exporter.config", "exporter.exposition", "exporter.simulator", "exporter.log"},
    "exporter.web": {"exporter.octopus", "exporter.ledger", "exporter.sync", "exporter.simulator"},
}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(module: str) -> set[str]:
    """Name the modules that a module imports, at its top or anywhere in it; types alone count as well."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    return {name for node in ast.walk(tree) for name in _named(node)}


def _named(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            yield whole if whole in MODULES else str(node.module)


def room(module: str) -> str:
    """Give the part of the house a module is in: a package, or itself at the root."""
    return ".".join(module.split(".")[:2])


def layer(module: str) -> int:
    return next(number for number, rooms in enumerate(LAYERS) if room(module) in rooms)


@pytest.mark.parametrize("module", CORE)
def test_the_core_is_pure(module: str) -> None:
    """No asyncio, aiohttp, os, time, logging, sqlite3: what is not on the list is not pure."""
    assert imports(module) - PURE - set(CORE) == set()


def test_what_the_core_may_import_does_no_io() -> None:
    edges = {"asyncio", "aiohttp", "os", "time", "logging", "sqlite3", "structlog", "socket", "threading"}
    assert not edges & PURE
    assert {name.split(".")[0] for name in PURE} - sys.stdlib_module_names == {"msgspec", "prometheus_client"}


@pytest.mark.parametrize("module", CORE)
def test_the_core_is_told_the_time(module: str) -> None:
    """datetime is there for its arithmetic; its clock is not."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    asked = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert asked & {"now", "utcnow", "today"} == set()


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module: str) -> None:
    above = {name for name in imports(module) & MODULES.keys() if layer(name) > layer(module)}
    assert above == set()


@pytest.mark.parametrize("module", MODULES)
def test_edges_do_not_know_each_other(module: str) -> None:
    strangers = STRANGERS.get(room(module), set())
    assert {name for name in imports(module) if room(name) in strangers} == set()


def test_nothing_imports_in_a_circle() -> None:
    graph = {module: imports(module) & MODULES.keys() for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


def test_a_class_name_stands_for_one_class() -> None:
    """A leading underscore does not make it another name: a reader meets both in one search."""
    found: dict[str, list[str]] = {}
    for module, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name.lstrip("_"), []).append(module)
    assert {name: modules for name, modules in found.items() if len(modules) > 1} == {}


def test_the_architecture_names_files_that_are_there() -> None:
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:\w+/)*\w+\.py`", text))
    places = (PACKAGE, PACKAGE / "octopus", PACKAGE.parent)
    missing = {name for name in named if not any((at / name.strip("`")).exists() for at in places)}
    assert len(named) > 20
    assert missing == set()
