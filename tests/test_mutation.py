"""The mutants that tests/mutation makes: one change each, and none where no test should look."""

from __future__ import annotations

import pytest

from tests.mutation.mutants import mutants


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("a = low == high < 3", ["low != high < 3", "low == high <= 3", "4"]),
        ("a = b or c", ["b and c"]),
        ("a = not b", ["not not b"]),
        ("a = b + c * d", ["b - c * d", "c // d"]),
        ("def f():\n    total += min(b, c)", ["total -= min(b, c)", "max(b, c)"]),
        ("def f():\n    keep(row)", ["pass"]),
        ("a = True", ["False"]),
    ],
)
def test_a_mutant_differs_in_one_place(source: str, changes: list[str]) -> None:
    assert [mutant.after for mutant in mutants(source)] == changes


@pytest.mark.parametrize(
    "source",
    [
        '"""A docstring."""',
        "a: Annotated[int, 3]",
        "@dataclass(frozen=True)\nclass A:\n    pass",
        "def f():\n    log.warning('late', polls=3)",
        "a = 'text' + b",
    ],
)
def test_what_no_test_should_hold_is_left_alone(source: str) -> None:
    assert [mutant.after for mutant in mutants(source)] == []


def test_a_mutant_names_its_function() -> None:
    (mutant,) = mutants("class Poll:\n    def is_due(self):\n        return a < b")
    assert (mutant.line, mutant.function) == (3, "Poll.is_due")
    assert (mutant.before, mutant.after) == ("a < b", "a <= b")
