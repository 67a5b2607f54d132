"""
The parameter `name[]`: it selects some families of an exposition, or some of their samples.

The name of a sample (`…_total`, `…_bucket`, `…_sum`) selects only these samples, as in the client libraries.
The name of a family, as either format writes it, selects the whole family.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

_HELP, _TYPE, _EOF = b"# HELP ", b"# TYPE ", b"# EOF"


def select(runs: Iterable[bytes], names: frozenset[bytes]) -> Iterator[bytes]:
    """
    Keep the selected samples with their headers, and the end of the exposition if it has one.

    Shape: `runs` and the result are whole lines of one exposition in either format, each family below its
    header. A family without a selected sample loses its header too.
    """
    # The header of a family waits for its first selected sample.
    header, whole = b"", False
    for run in runs:
        for line in run.split(b"\n"):
            if line == _EOF:
                yield line + b"\n"
            elif line.startswith(b"#"):
                if line.startswith(_HELP):
                    header, whole = b"", False
                header += line + b"\n"
                if line.startswith(_TYPE):
                    name, kind = line.removeprefix(_TYPE).split(b" ")
                    family = name.removesuffix(b"_total") if kind == b"counter" else name
                    whole = not names.isdisjoint({name, family})
            elif line and (whole or _name(line) in names):
                yield header + line + b"\n"
                header = b""


def _name(line: bytes) -> bytes:
    """Return a sample's name, which ends at its labels or, if it has none, at its value."""
    return line.partition(b"{")[0].partition(b" ")[0]
