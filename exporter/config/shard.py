"""Shards: each of several exporters polls its own part of the targets, with a ledger of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256

# ASCII only: \d also fits digits of other scripts.
_SHARD = re.compile(r"([1-9][0-9]{0,8})/([1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `number` of `count` parts, from 1 on. str() gives it as it is written: 2/3."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read K/N. Raises: ValueError."""
        found = _SHARD.fullmatch(text)
        if found is None or int(found[1]) > int(found[2]):
            raise ValueError("expected K/N such as 2/3, with K from 1 to N")
        return cls(int(found[1]), int(found[2]))

    def has(self, project_id: str, workspace: str) -> bool:
        """
        Tell whether a target belongs to this shard. `workspace` is the label, "0" where none is configured.

        The result must never change between versions: targets that move begin with a new baseline. Names,
        paths and endpoints are left out, since they may change while the exporters run.
        """
        digest = sha256(f"{project_id}/{workspace}".encode()).digest()
        return int.from_bytes(digest) % self.count == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"
