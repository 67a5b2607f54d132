"""What tests do about new series, which a ledger holds at 0 until it is told to release them."""

from __future__ import annotations

from exporter.counting.rules import CountingRules
from exporter.model import Target, Totals
from exporter.sync.ledger import Ledger
from tests.fake_api import COUNTING


async def release_held(
    ledger: Ledger, target: Target, rules: CountingRules = COUNTING, now_ms: int = 0
) -> Totals | None:
    """
    Release what was published last at 0, as if it had been scraped and its time were over; give what is
    published then.
    """
    shown = await ledger.restore(target, rules)
    if shown is not None and shown.held:
        return await ledger.release(target, shown.held, rules, now_ms)
    return shown
