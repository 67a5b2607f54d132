"""Release new series in tests: a ledger holds them at 0 until then."""

from __future__ import annotations

from exporter.counting.rules import CountingRules
from exporter.model import Target, Totals
from exporter.sync.ledger import Ledger
from tests.fake_api import COUNTING


async def release_held(
    ledger: Ledger, target: Target, rules: CountingRules = COUNTING, now_ms: int = 0
) -> Totals | None:
    """
    Release the series that were last published as 0, as after a scrape and the hold time.

    Returns the next publication.
    """
    shown = await ledger.restore(target, rules)
    if shown is not None and shown.held:
        return await ledger.release(target, shown.held, rules, now_ms)
    return shown
