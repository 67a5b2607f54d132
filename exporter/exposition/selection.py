"""
The parameter `name[]`: some families of an exposition, or some of their samples.

A sample's name selects just those samples, as with the client libraries (`…_total`, `…_bucket`, `…_sum`).
A family's name, as either format writes it, selects all of the family.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_HELP, _TYPE, _EOF = b"# HELP ", b"# TYPE ", b"# EOF"


def select(runs: Iterable[bytes], names: frozenset[bytes]) -> Iterator[bytes]:
    """
    Keep the selected samples with their headers, and the end of the exposition if it has one.

    Shape: `runs` and the result are whole lines of one exposition in either format, each family below its
    header. A family without a selected sample loses its header too.
    """
    family = _FamilyFilter(names)
    for run in runs:
        for line in run.split(b"\n"):
            if line.startswith(_HELP):
                family = _FamilyFilter(names)
            yield from family.keep(line)


@dataclass(slots=True)
class _FamilyFilter:
    """Filters the lines of one family; the header is written with the first sample that is kept."""

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
    """Return a sample's name, which ends at its labels or, without any, at its value."""
    return line.partition(b"{")[0].partition(b" ")[0]
