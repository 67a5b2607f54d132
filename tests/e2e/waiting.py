"""Waiting for what another process does: look again and again, up to a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# A busy machine is no failure: a test that goes well never comes near this.
PATIENCE_SECONDS = 180.0
_LOOK_SECONDS = 0.03


def until(look: Callable[[], T], what: str, seconds: float = PATIENCE_SECONDS) -> T:
    """Look until there is something to see and give it; fail with `what` was waited for."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"waited {seconds:g} s in vain: {what}; last seen: {seen!r}"
        time.sleep(_LOOK_SECONDS)
    return seen
