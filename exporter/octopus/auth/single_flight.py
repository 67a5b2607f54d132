"""One call under way, however many ask for its result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")


@dataclass(slots=True)
class _Flight(Generic[_T]):
    task: asyncio.Task[_T]
    waiting: int = 0


class SingleFlight(Generic[_T]):
    """
    Runs a call once for all who ask while it is under way.

    The call is nobody's own: one who is cancelled leaves it to the others. With the last of them it is
    cancelled too, so it never outlives those who wanted it.
    """

    def __init__(self, call: Callable[[], Coroutine[Any, Any, _T]]) -> None:
        self._call = call
        self._flight: _Flight[_T] | None = None

    async def run(self) -> _T:
        """Raises: what the call raises, to everyone."""
        if self._flight is None:
            self._flight = _Flight(asyncio.create_task(self._call()))
        flight = self._flight
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            if not flight.waiting:
                await self._land(flight)

    async def _land(self, flight: _Flight[_T]) -> None:
        self._flight = None
        if not flight.task.done():
            flight.task.cancel()
            await asyncio.wait([flight.task])
        if not flight.task.cancelled():
            # Looked at, or asyncio complains of an error that everyone who waited for it has gone from.
            flight.task.exception()
