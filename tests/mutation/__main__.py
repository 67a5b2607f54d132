"""
Run the mutants of the core against its quick tests: `python -m tests.mutation [MODULE ...]`.

Prints a table by module and every mutant that no test noticed. Ends with 1 if one of those is not in
`equivalent.yaml`, which names the mutants that change nothing a user sees, each with the reason.
A module with some hundred mutants takes some minutes: so this is a tool, and no part of `make test`.
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib.abc
import importlib.util
import inspect
import json
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, NoReturn

# Imported here once, so that no process of a mutant has to: they take longer than most of the tests.
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
_MOST_SECONDS = 30
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


class _Runner:
    """
    A pytest plugin that runs the collected tests once as they are and once for each mutant.

    Each run is a process of its own, forked after the tests have been imported and collected: that takes ten
    times as long as most of them. The mutant's functions then get their changed code in place.
    """

    def __init__(self, module: str, todo: Sequence[Mutant], processes: int) -> None:
        self._path = path_of(module)
        self._todo = todo
        self._processes = processes
        self.passes_unchanged = False
        self.survived: list[int] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            return True
        self.passes_unchanged = not _in_processes([lambda: self._fails(session, None)], 1)[0]
        if self.passes_unchanged:
            calls = [partial(self._fails, session, mutant) for mutant in self._todo]
            fails = _in_processes(calls, self._processes)
            self.survived = [number for number, failed in enumerate(fails) if not failed]
        return True

    def _fails(self, session: pytest.Session, mutant: Mutant | None) -> bool:
        if mutant is not None:
            changed = _functions(compile(mutant.tree, self._path, "exec"))
            for function in [one for one in gc.get_objects() if isinstance(one, FunctionType)]:
                code = function.__code__
                if code.co_filename == str(self._path) and code.co_qualname in changed:
                    function.__code__ = changed[code.co_qualname]
        for number, item in enumerate(session.items):
            following = session.items[number + 1] if number + 1 < len(session.items) else None
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                return True
        return False


def _functions(code: CodeType) -> dict[str, CodeType]:
    """Give the code of a module's functions and methods, those inside of functions left out, by name."""
    found = {}
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            # A class body binds its names at run time, a function's are known to the compiler.
            inner_is_function = inner.co_flags & inspect.CO_OPTIMIZED
            found |= {inner.co_qualname: inner} if inner_is_function else _functions(inner)
    return found


def _in_processes(calls: Sequence[Callable[[], bool]], processes: int) -> list[bool]:
    """Make each call in a forked process, some at a time; True where it says so, breaks or never ends."""
    results = [True] * len(calls)
    running: dict[int, int] = {}
    waiting = deque(range(len(calls)))
    while waiting or running:
        while waiting and len(running) < processes:
            number = waiting.popleft()
            if not (process := os.fork()):
                _end_with(calls[number])
            running[process] = number
        process, status = os.waitpid(-1, 0)
        results[running.pop(process)] = os.waitstatus_to_exitcode(status) != 0
    return results


def _end_with(call: Callable[[], bool]) -> NoReturn:
    _end_after(_MOST_SECONDS)
    try:
        os._exit(int(call()))
    except BaseException:
        os._exit(100)


def _end_after(seconds: int) -> None:
    """
    End this process once it has computed for so long, or has waited ten times as long; 0 for never.

    On a busy machine a test takes long without computing. That must not count as a mutant that was noticed.
    """
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.alarm(10 * seconds)


def path_of(module: str) -> Path:
    return (ROOT / "exporter" / module.replace(".", "/")).with_suffix(".py")


def _pytest(module: str, *plugins: object) -> int:
    """Run the quick tests of a module in this process, without a word."""
    tests = [str(ROOT / "tests" / f"{name}.py") for name in TESTS[module]]
    flags = ["-x", "-q", "--tb=no", "-pno:cacheprovider", "-pno:xdist", "--hypothesis-profile=mutants"]
    flags.append("-Wignore::pytest.PytestAssertRewriteWarning")
    with Path(os.devnull).open("w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
        return int(pytest.main([*flags, *tests], plugins))


def _fails_imported(module: str, mutant: Mutant) -> bool:
    """Tell whether the tests notice a mutant outside of functions, which acts when the module is imported."""
    sys.meta_path.insert(0, _Mutated(f"exporter.{module}", path_of(module), mutant.tree))
    return _pytest(module) != 0


def _survivors(module: str, todo: Sequence[Mutant], processes: int) -> list[Mutant]:
    """Give the mutants inside of functions that live. Raises: SystemExit if the tests fail as they are."""
    receiver, sender = os.pipe()

    def collect_and_run() -> bool:
        _end_after(0)
        runner = _Runner(module, todo, processes)
        _pytest(module, runner)
        os.write(sender, json.dumps(runner.survived).encode())
        return not runner.passes_unchanged

    failed = _in_processes([collect_and_run], 1)[0]
    os.close(sender)
    if failed:
        raise SystemExit(f"the tests of {module} fail without a mutant: {', '.join(TESTS[module])}")
    with os.fdopen(receiver, "rb") as numbers:
        return [todo[number] for number in json.load(numbers)]


def run(module: str, processes: int) -> Outcome:
    """Run all mutants of a module, some at a time. Raises: SystemExit if its tests fail as it is."""
    todo = list(mutants(path_of(module).read_text(encoding="utf-8")))
    survived = _survivors(module, [one for one in todo if one.in_function], processes)
    at_import = [one for one in todo if not one.in_function]
    fails = _in_processes([partial(_fails_imported, module, one) for one in at_import], processes)
    survived += [one for one, failed in zip(at_import, fails, strict=True) if not failed]
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
