"""What one replica lets the others know."""

from __future__ import annotations

from dataclasses import replace

from exporter.masking import Secrets
from exporter.model import Fault
from exporter.replica import masked_status
from tests.snapshots import POLL


def test_no_secret_of_a_failed_poll_reaches_the_ledger() -> None:
    secrets = Secrets(lambda: 0.0)
    secrets.keep("correct-horse-battery")
    assert masked_status(POLL, secrets.masked) is POLL
    said = "the password correct-horse-battery is wrong"
    fault = Fault("auth", said, 1, 401, said, f"https://octopus.example/{said}", said)
    recorded = masked_status(replace(POLL, up=False, error=fault), secrets.masked)
    assert "correct-horse" not in str(recorded)
    assert (recorded.up, recorded.error and recorded.error.since_ms) == (False, 1)
