"""
What `name[]` asks for: some families of an exposition, or some of their samples.

A sample's name selects just those samples, as with the client libraries (`…_total`, `…_bucket`, `…_sum`).
A family's name, as either format writes it, selects all of the family.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_HELP, _TYPE, _EOF = b"# HELP ", b"# TYPE ", b"# EOF"


def select(runs: Iterable[bytes], names: frozenset[bytes]) -> Iterator[bytes]:
    """
    Keep what is asked for, and the end of the exposition if it has one.

    Shape: `runs` are whole lines of one exposition in either format, each family below its header; so is what
    comes out. A family of which nothing is kept has no header either.
    """
    family = _Family(names)
    for run in runs:
        for line in run.split(b"\n"):
            if line.startswith(_HELP):
                family = _Family(names)
            yield from family.keep(line)


@dataclass(slots=True)
class _Family:
    """One family while its lines go by: its header is kept with its first sample."""

    names: frozenset[bytes]
    header: bytes = b""
    whole: bool = False

    def keep(self, line: bytes) -> Iterator[bytes]:
        if line == _EOF:
            yield line + b"\n"
        elif line.startswith(b"#"):
            self._add_to_header(line)
        elif line and (self.whole or _name(line) in self.names):
            yield self.header + line + b"\n"
            self.header = b""

    def _add_to_header(self, line: bytes) -> None:
        self.header += line + b"\n"
        if line.startswith(_TYPE):
            name, kind = line.removeprefix(_TYPE).split(b" ")
            family = name.removesuffix(b"_total") if kind == b"counter" else name
            self.whole = not self.names.isdisjoint({name, family})


def _name(line: bytes) -> bytes:
    """Give a sample's name: labels, or else the value, come after it."""
    return line.partition(b"{")[0].partition(b" ")[0]
