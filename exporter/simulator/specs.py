"""
What jobs ask for: the resource spec of each job, and the cores, GPUs and memory that a spec names.

Pure, and without random draws: a hash of the job's number chooses from the menu of its type. So specs take no
room in the table, and the draws of a seed stay the same whatever the menus say.
Units: thousandths of a core, of a GPU and of a GiB.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from exporter.simulator.profiles import all_profiles
from exporter.simulator.table import Names

# As the API reference writes them. The account must be exact, so any other text names nothing.
_SPEC = re.compile(
    r"(?:[A-Za-z0-9-]+_(?P<gpus>[0-9]{1,6})Gpu_)?"
    r"(?P<cores>[0-9]{1,6}(?:\.[0-9]{1,3})?)Core_(?P<memory>[0-9]{1,6}(?:\.[0-9]{1,3})?)GiB",
    re.ASCII,
)
# Of a type that was ordered and has no profile.
_UNKNOWN_MENU = {"1Core_4GiB": 100}
# Fibonacci hashing: consecutive numbers are spread evenly over the lots.
_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1
_LOTS = 100


class AskedResources(NamedTuple):
    """What a spec names; all 0 for one that is not written as the API reference has it."""

    cores: int
    gpus: int
    memory: int


class Specs:
    """
    The specs of all jobs, by the job's number and type.

    Shape: `names` numbers the specs. A job that was ordered with a spec has that one; "" is a job without.
    """

    def __init__(self, types: Names, seed: int) -> None:
        self.names = Names(())
        self._types = types
        self._offset = seed * _GOLDEN
        self._menus = {profile.job_type: profile.resource_specs for profile in all_profiles()}
        # By the number of a type: the number of the spec for each lot.
        self._lots: dict[int, tuple[int, ...]] = {}
        self._ordered: dict[int, int] = {}
        self._resources: dict[int, AskedResources] = {}

    def order(self, job_id: int, spec: str) -> None:
        """Give a job this spec."""
        self._ordered[job_id] = self.names.number(spec)

    def number(self, job_id: int, job_type: int) -> int:
        """Return the number of a job's spec."""
        ordered = self._ordered.get(job_id)
        if ordered is not None:
            return ordered
        lots = self._lots.get(job_type)
        if lots is None:
            menu = self._menus.get(self._types[job_type], _UNKNOWN_MENU)
            lots = tuple(self.names.number(spec) for spec, share in menu.items() for _ in range(share))
            self._lots[job_type] = lots
        return lots[((job_id * _GOLDEN + self._offset & _MASK) >> 32) % _LOTS]

    def name(self, job_id: int, job_type: int) -> str:
        """Return a job's spec as the API writes it; "" for none."""
        return self.names[self.number(job_id, job_type)]

    def resources(self, number: int) -> AskedResources:
        """Return what the spec of this number names."""
        found = self._resources.get(number)
        if found is None:
            found = self._resources[number] = resources_of(self.names[number])
        return found


def resources_of(spec: str) -> AskedResources:
    """Read a spec as the API reference writes it, for example P100_1Gpu_2.1Core_4.1GiB."""
    found = _SPEC.fullmatch(spec)
    if found is None:
        return AskedResources(0, 0, 0)
    return AskedResources(*(_thousandths(found[name] or "0") for name in ("cores", "gpus", "memory")))


def _thousandths(number: str) -> int:
    whole, _, fraction = number.partition(".")
    return int(whole + fraction.ljust(3, "0"))
