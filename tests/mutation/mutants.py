"""
The mutants of a module: copies of its syntax tree that differ in one place.

The changes are those that a slip of the hand makes: a comparison with the wrong edge, `and` for `or`, a sum
for a difference, a number off by one, `min` for `max`, a call left out. Annotations, decorators, docstrings
and log lines are left alone, since no test should hold them.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
_CALLS = {"min": "max", "max": "min", "any": "all", "all": "any"}
_LOGGING = {"debug", "info", "warning", "error", "exception"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """
    One change.

    Shape: `function` is the qualified name of the function or class, "" at the module's top; `before` and
    `after` are the expression or statement around the change as source text; `in_function` tells whether the
    change acts when a function is called, and not when the module is imported.
    """

    line: int
    function: str
    before: str
    after: str
    in_function: bool
    tree: ast.Module


def mutants(source: str) -> Iterator[Mutant]:
    """Give every mutant of a module's source."""
    places = list(_places(ast.parse(source)))
    for number, (node, function, in_function) in enumerate(places):
        for change in range(_changes(node)):
            tree = copy.deepcopy(ast.parse(source))
            target = list(_places(tree))[number][0]
            before = ast.unparse(target)
            _change(target, change)
            after = "pass" if isinstance(target, ast.Expr) else ast.unparse(target)
            line = getattr(node, "lineno", 0)
            yield Mutant(line, function, before, after, in_function, ast.fix_missing_locations(tree))


def _places(
    node: ast.AST, function: str = "", in_function: bool = False
) -> Iterator[tuple[ast.AST, str, bool]]:
    """Give the nodes that a mutant may change, each with its function and whether it is one, or a class."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        inside = f"{function}.{node.name}".lstrip(".")
        in_function = in_function or not isinstance(node, ast.ClassDef)
        for statement in node.body:
            yield from _places(statement, inside, in_function)
        return
    if isinstance(node, ast.AnnAssign):
        if node.value is not None:
            yield from _places(node.value, function, in_function)
        return
    if isinstance(node, ast.Expr) and (isinstance(node.value, ast.Constant) or _is_logging(node.value)):
        return
    if _changes(node):
        yield node, function, in_function
    for child in ast.iter_child_nodes(node):
        yield from _places(child, function, in_function)


def _is_logging(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _LOGGING


def _changes(node: ast.AST) -> int:
    """Count the ways in which a node can be changed."""
    ways = 0
    match node:
        case ast.Compare():
            ways = len(node.ops)
        case ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
            ways = 1
        case ast.BinOp() | ast.AugAssign():
            # A text is put together by the same operators.
            ways = int(type(node.op) in _OPERATORS and not _is_text(node))
        case ast.Constant(value=bool() | int() | float()):
            ways = 1
        case ast.Call(func=ast.Name(id=name)):
            ways = int(name in _CALLS)
        case ast.Expr(value=ast.Call() | ast.Await()):
            ways = 1
    return ways


def _is_text(node: ast.BinOp | ast.AugAssign) -> bool:
    return any(
        isinstance(child, ast.JoinedStr) or (isinstance(child, ast.Constant) and isinstance(child.value, str))
        for child in ast.iter_child_nodes(node)
    )


def _change(node: ast.AST, number: int) -> None:
    """Change a node in place, in one of its ways."""
    if isinstance(node, ast.Compare):
        node.ops[number] = _COMPARISONS[type(node.ops[number])]()
    elif isinstance(node, ast.BoolOp):
        node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    elif isinstance(node, ast.BinOp | ast.AugAssign):
        node.op = _OPERATORS[type(node.op)]()
    elif isinstance(node, ast.UnaryOp):
        # Twice not is the truth value itself.
        node.operand = ast.UnaryOp(ast.Not(), node.operand)
    elif isinstance(node, ast.Constant):
        node.value = not node.value if isinstance(node.value, bool) else node.value + 1  # type: ignore[operator]  # numbers only: see _changes
    elif isinstance(node, ast.Call):
        assert isinstance(node.func, ast.Name)
        node.func.id = _CALLS[node.func.id]
    elif isinstance(node, ast.Expr):
        node.value = ast.Constant(value=None)
