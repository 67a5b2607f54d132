"""Trying again: `retry_wait` decides, this waits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from exporter.errors import ApiError
from exporter.octopus.observer import ApiObserver
from exporter.octopus.retry import retry_wait

_T = TypeVar("_T")


class Retrier:
    """
    Runs a call again for as long as `retry_wait` says, and tells the observer.

    Shape: `attempts` are made at most, the first one included; None: as many as `retry_wait` allows. What one
    of these has given up, no other tries again: else the attempts of a login that is part of a request would
    be multiplied by those of the request.
    """

    def __init__(
        self,
        observer: ApiObserver,
        *,
        attempts: int | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._observer = observer
        self._attempts = attempts
        self._sleep = sleep
        self._random = random

    async def run(self, call: Callable[[], Awaitable[_T]], project: str) -> _T:
        """Raises: the last attempt's error."""
        # Not by a library: its loop took an eighth of the time that a page takes here.
        attempt = 0
        while True:
            attempt += 1
            try:
                return await call()
            except ApiError as error:
                wait_seconds = None if error.given_up else retry_wait(error, attempt, self._random)
                if wait_seconds is None or attempt == self._attempts:
                    error.given_up = True
                    raise
                self._observer.retry(project, error.reason)
            await self._sleep(wait_seconds)
