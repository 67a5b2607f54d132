"""
Incidents on demand: for a while, runs fail that would have gone on.

Pure: the random source comes in with every call. Units: Unix milliseconds UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import NamedTuple

from exporter.model import is_failed

# What a run leaves when it fails so.
FAILS_OUT_OF: Mapping[str, str] = {
    "SUBMIT_FAILED": "LAUNCHING",
    "RUN_FAILED": "RUNNING",
    "UPLOAD_FAILED": "UPLOADING",
}


class Incident(NamedTuple):
    """
    Where an incident is, and what fails.

    Shape: `listings` by number; `job_type` None is all of them; `outcome` is a key of FAILS_OUT_OF; `share`
    is the part of the runs that fail; `msg_code` None leaves the code to the job type.
    """

    listings: frozenset[int]
    job_type: str | None
    outcome: str
    share: float
    until_ms: int
    msg_code: int | None


class Incidents:
    """The incidents under way."""

    def __init__(self) -> None:
        self._by_place: dict[tuple[frozenset[int], str | None, str], Incident] = {}

    def begin(self, incident: Incident) -> None:
        """Begin an incident; it replaces the one of the same listings, job type and outcome."""
        self._by_place[incident.listings, incident.job_type, incident.outcome] = incident

    def striking(
        self, rng: Random, listing: int, job_type: str, leaves: str, becomes: str, at_ms: int
    ) -> Incident | None:
        """
        Return the incident that makes a run fail now, as it `leaves` one status for another.

        Shape: `becomes` is what follows without an incident; where that is a failure or STOPPED, it stays.
        """
        if is_failed(becomes) or becomes == "STOPPED":
            return None
        for incident in self._by_place.values():
            is_here = listing in incident.listings and incident.job_type in (None, job_type)
            is_hit = is_here and at_ms < incident.until_ms and leaves == FAILS_OUT_OF[incident.outcome]
            if is_hit and rng.random() < incident.share:
                return incident
        return None
