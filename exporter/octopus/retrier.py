"""Trying again: `retry_wait` decides, this waits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState

from exporter.errors import ApiError
from exporter.octopus.observer import ApiObserver
from exporter.octopus.retry import retry_wait

_T = TypeVar("_T")


class Retrier:
    """Runs a call again for as long as `retry_wait` says, and tells the observer."""

    def __init__(
        self,
        observer: ApiObserver,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = random.random,
    ) -> None:
        self._observer = observer
        self._sleep = sleep
        self._random = random

    async def run(self, call: Callable[[], Awaitable[_T]], project: str) -> _T:
        """Raises: the last attempt's error."""

        def wait(state: RetryCallState) -> float | None:
            error = _failure(state)
            return None if error is None else retry_wait(error, state.attempt_number, self._random)

        def announce(state: RetryCallState) -> None:
            if (error := _failure(state)) is not None:
                self._observer.retry(project, error.reason)

        retrying = AsyncRetrying(
            retry=lambda state: wait(state) is not None,
            wait=lambda state: wait(state) or 0.0,
            before_sleep=announce,
            sleep=self._sleep,
            reraise=True,
        )
        return await retrying(call)


def _failure(state: RetryCallState) -> ApiError | None:
    """Give what the attempt failed with; None where it succeeded, or was cancelled."""
    error = state.outcome.exception() if state.outcome else None
    return error if isinstance(error, ApiError) else None
