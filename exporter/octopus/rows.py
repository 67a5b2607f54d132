"""
What one row of the job list is worth: a job, or a row that is set apart.

Source: Huawei Cloud Octopus API reference, "querying the list of internal jobs", table 6, read 2025-06-18.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SetApartRow:
    """
    A row that cannot be counted.

    Shape: `index` is its place among the rows of the answer; `job_id` is None where the id cannot be read,
    `status` is "" and `created_ms` None likewise; `problem` is one short line: the field, what it was and
    what was expected; `digest` is equal for equal rows, so that a row without an id is known again.
    """

    index: int
    job_id: int | None
    status: str
    created_ms: int | None
    problem: str
    digest: str
