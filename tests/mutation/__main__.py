"""
Run the mutants of the core against its quick tests: `python -m tests.mutation [MODULE ...]`.

Prints a table by module and every mutant that no test noticed. Ends with 1 if one of those is not in
`equivalent.yaml`, which names the mutants that change nothing a user sees, each with the reason.
A module with some hundred mutants takes some minutes: so this is a tool, and no part of `make test`.
"""

from __future__ import annotations

import argparse
import ast
import importlib.abc
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

# Imported here once, so that no mutant's process has to: they take longer than most of the tests.
import aiohttp  # noqa: F401
import msgspec  # noqa: F401
import pydantic  # noqa: F401
import pytest
import structlog  # noqa: F401
import yaml
from hypothesis import Phase, settings

from tests.mutation.mutants import Mutant, mutants

ROOT = Path(__file__).parent.parent.parent
EQUIVALENT = Path(__file__).with_name("equivalent.yaml")
# The quick tests of each module of the core.
TESTS: dict[str, tuple[str, ...]] = yaml.safe_load(Path(__file__).with_name("modules.yaml").read_text())
_MOST_SECONDS = 120
# The same examples for every mutant, so that a table can be repeated; and no search for the smallest one.
settings.register_profile(
    "mutants",
    deadline=None,
    database=None,
    derandomize=True,
    max_examples=25,
    phases=(Phase.explicit, Phase.generate),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the mutants of one module; `known` survived, and equivalent.yaml says why."""

    module: str
    mutants: int
    killed: int
    known: int
    alive: tuple[Mutant, ...]


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports one module from a changed tree, and leaves all others to Python."""

    def __init__(self, module: str, path: Path, tree: ast.Module) -> None:
        self._module, self._path, self._tree = module, path, tree

    def find_spec(self, fullname: str, *_: Any) -> Any:
        if fullname != self._module:
            return None
        return importlib.util.spec_from_file_location(fullname, self._path, loader=self)

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._tree, self._path, "exec")

    def get_source(self, fullname: str) -> str:
        return ast.unparse(self._tree)

    def create_module(self, spec: Any) -> ModuleType | None:
        return None


def path_of(module: str) -> Path:
    return (ROOT / "exporter" / module.replace(".", "/")).with_suffix(".py")


def passes(module: str, tree: ast.Module | None) -> int:
    """Start the quick tests of a module in a process of their own; the number of the process is returned."""
    process = os.fork()
    if process:
        return process
    try:
        devnull = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(devnull, descriptor)
        if tree is not None:
            sys.meta_path.insert(0, _Mutated(f"exporter.{module}", path_of(module), tree))
        signal.alarm(_MOST_SECONDS)
        tests = [str(ROOT / "tests" / f"{name}.py") for name in TESTS[module]]
        result = pytest.main(
            [
                "-x",
                "-q",
                "--tb=no",
                "-pno:cacheprovider",
                "-pno:xdist",
                "-Wignore::pytest.PytestAssertRewriteWarning",
                "--hypothesis-profile=mutants",
                *tests,
            ]
        )
        os._exit(int(result))
    except BaseException:
        os._exit(100)


def run(module: str, processes: int) -> Outcome:
    """Run all mutants of a module, some at a time. Raises: SystemExit if its tests fail as it is."""
    if os.waitstatus_to_exitcode(os.waitpid(passes(module, None), 0)[1]) != 0:
        raise SystemExit(f"the tests of {module} fail without a mutant: {', '.join(TESTS[module])}")
    todo = list(mutants(path_of(module).read_text(encoding="utf-8")))
    running: dict[int, Mutant] = {}
    survived: list[Mutant] = []
    waiting = list(reversed(todo))
    while waiting or running:
        while waiting and len(running) < processes:
            mutant = waiting.pop()
            running[passes(module, mutant.tree)] = mutant
        process, status = os.waitpid(-1, 0)
        mutant = running.pop(process)
        if os.waitstatus_to_exitcode(status) == 0:
            survived.append(mutant)
    known = equivalents(module)
    alive = [one for one in survived if (one.function, one.before, one.after) not in known]
    alive.sort(key=lambda one: one.line)
    return Outcome(module, len(todo), len(todo) - len(survived), len(survived) - len(alive), tuple(alive))


def equivalents(module: str) -> set[tuple[str, str, str]]:
    """Give the mutants of a module that change nothing a user sees: function, before, after."""
    found = yaml.safe_load(EQUIVALENT.read_text(encoding="utf-8")) or {}
    return {(one["in"], one["before"], one["after"]) for one in found.get(module, ())}


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", help=f"of {', '.join(TESTS)}; all by default")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    flags = parser.parse_args(arguments)
    unknown = set(flags.modules) - TESTS.keys()
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: expected modules of modules.yaml: {', '.join(TESTS)}")
    outcomes = []
    for module in flags.modules or TESTS:
        began = time.monotonic()
        outcome = run(module, flags.processes)
        outcomes.append(outcome)
        for mutant in outcome.alive:
            place = f"{path_of(module).relative_to(ROOT)}:{mutant.line} {mutant.function}"
            say(f"{place}: {mutant.before}  ->  {mutant.after}")
        say(f"# {module}: {time.monotonic() - began:.0f} s")
    say("\n| module | mutants | killed | equivalent | alive |\n|---|--:|--:|--:|--:|")
    for one in outcomes:
        say(f"| {one.module} | {one.mutants} | {one.killed} | {one.known} | {len(one.alive)} |")
    return int(any(outcome.alive for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
