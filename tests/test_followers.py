"""What a replica publishes of the targets that others poll."""

from __future__ import annotations

from dataclasses import replace

from exporter.followers import merged
from exporter.model import PollStatus


def test_counters_of_polls_never_go_back_whoever_began_them() -> None:
    """The first polls of a holder could not be recorded, so the next holder began at 0, a minute later."""
    none = PollStatus(began_ms=1_000)
    known = replace(none, polls=3, failures=none.failures | {"ledger": 2}, full_syncs={"first": 1})
    recorded = PollStatus(up=True, polls=1, failures=none.failures | {"timeout": 1}, began_ms=61_000)
    status = merged(known, replace(recorded, full_syncs={"first": 0, "gap": 1}))
    assert (status.up, status.polls, status.began_ms) == (True, 3, 1_000)
    assert {reason: count for reason, count in status.failures.items() if count} == {
        "ledger": 2,
        "timeout": 1,
    }
    assert status.full_syncs == {"first": 1, "gap": 1}


def test_a_replica_that_has_just_begun_shows_what_was_recorded() -> None:
    recorded = PollStatus(up=True, polls=7, began_ms=1_000)
    assert merged(PollStatus(began_ms=61_000), recorded) == recorded
