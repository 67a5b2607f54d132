"""
Instant vectors over all evaluation times at once.

NaN is a value that a sample may have (0 / 0). So a second array says which samples exist.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Labels = tuple[tuple[str, str], ...]
"""A series' labels, sorted by name; the metric's name is `__name__`."""
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]

NAME = "__name__"


class EvaluationError(Exception):
    """Prometheus refuses an expression, or this engine does not support it."""


@dataclass(frozen=True, slots=True)
class Vector:
    """
    The series of a result.

    Shape: `values` and `present` are (series, times). The value of a missing sample has no meaning.
    """

    labels: tuple[Labels, ...]
    values: Floats
    present: Bools

    def rows(self, chosen: Sequence[int]) -> Vector:
        if len(chosen) == len(self.labels) and all(row == at for at, row in enumerate(chosen)):
            return self
        index = np.array(chosen, np.int64)
        return Vector(tuple(self.labels[row] for row in chosen), self.values[index], self.present[index])

    def of(self, labels: Sequence[Labels]) -> Vector:
        """Return the series with these labels, in this order. A missing series has no samples."""
        rows = {key: row for row, key in enumerate(labels)}
        values = np.zeros((len(labels), self.values.shape[1]))
        present = np.zeros(values.shape, np.bool_)
        own = [rows[key] for key in self.labels]
        values[own], present[own] = self.values, self.present
        return Vector(tuple(labels), values, present)

    def relabelled(self, change: Callable[[Labels], Labels]) -> Vector:
        """Change the labels. Raises: EvaluationError if two samples get the same labels."""
        return merged([change(labels) for labels in self.labels], self.values, self.present)

    def with_values(self, values: Floats) -> Vector:
        """Return the same samples with other values and without the metric's name."""
        return merged([without(labels, {NAME}) for labels in self.labels], values, self.present)

    def nan_where_absent(self) -> Floats:
        return np.where(self.present, self.values, np.nan)


def labelled(pairs: Iterable[tuple[str, str]]) -> Labels:
    """Sort labels, and leave out those with an empty value."""
    return tuple(sorted(pair for pair in pairs if pair[1]))


def without(labels: Labels, names: frozenset[str] | set[str]) -> Labels:
    return tuple(pair for pair in labels if pair[0] not in names)


def only(labels: Labels, names: frozenset[str] | set[str]) -> Labels:
    return tuple(pair for pair in labels if pair[0] in names)


def changed(labels: Labels, changes: dict[str, str]) -> Labels:
    return labelled((dict(labels) | changes).items())


def grouped(keys: Iterable[Labels]) -> dict[Labels, list[int]]:
    """Return the rows of each key, in the order in which the keys first appear."""
    groups: dict[Labels, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    return groups


def merged(labels: Sequence[Labels], values: Floats, present: Bools) -> Vector:
    """
    Merge rows with the same labels into one series.

    Raises: EvaluationError if two of them have a sample at the same time.
    """
    groups = grouped(labels)
    if len(groups) == len(labels):
        return Vector(tuple(labels), values, present)
    out_values = np.empty((len(groups), values.shape[1]))
    out_present = np.empty(out_values.shape, np.bool_)
    for at, (key, rows) in enumerate(groups.items()):
        check_single(present[rows], f"more than one sample has the labels {spelled(key)}")
        out_values[at] = values[rows[0]]
        for row in rows[1:]:
            np.copyto(out_values[at], values[row], where=present[row])
        out_present[at] = present[rows].any(axis=0)
    return Vector(tuple(groups), out_values, out_present)


def check_single(present: Bools, complaint: str) -> None:
    """Raises: EvaluationError with the complaint if two rows are present at the same time."""
    if len(present) > 1 and (present.sum(axis=0) > 1).any():
        raise EvaluationError(complaint)


def joined(parts: Sequence[Vector], times: int) -> Vector:
    """Combine the series of several vectors into one vector."""
    kept = [part for part in parts if part.labels]
    if len(kept) == 1:
        return kept[0]
    if not kept:
        return Vector((), np.empty((0, times)), np.empty((0, times), np.bool_))
    return merged(
        [labels for part in kept for labels in part.labels],
        np.concatenate([part.values for part in kept]),
        np.concatenate([part.present for part in kept]),
    )


def spelled(labels: Labels) -> str:
    """Write labels as in PromQL."""
    name = dict(labels).get(NAME, "")
    return name + "{" + ", ".join(f'{key}="{value}"' for key, value in without(labels, {NAME})) + "}"
