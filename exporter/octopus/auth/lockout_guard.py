"""Protection against locking an account: limits the attempts with a secret that may be wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime

import structlog

from exporter.errors import CredentialsRefused
from exporter.state_log import StateLog

# IAM and the API gateway lock an account for 5 minutes or more after about five failures in a row.
COOL_DOWN_SECONDS = 300.0

_log = structlog.get_logger(__name__)


class LockoutGuard:
    """
    Keeps a wrong password or key from locking its account.

    Until a secret was accepted once, only one request at a time uses it: requests sent together would all
    fail together. A refused secret is not used for COOL_DOWN_SECONDS. A changed secret is used at once.
    """

    def __init__(self, name: str, *, clock: Callable[[], float] = time.time) -> None:
        self._name = name
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        # Fingerprints, here and below.
        self._accepted = ""
        self._refused: dict[str, tuple[float, CredentialsRefused]] = {}
        self._refusals = StateLog(_log, "credentials refused", "credentials accepted again")

    @asynccontextmanager
    async def attempt(self, fingerprint: str) -> AsyncIterator[None]:
        """
        Use a secret inside the block: no error means it was accepted, CredentialsRefused starts a cool-down.

        Raises: CredentialsRefused, without running the block, while the secret cools down.
        """
        async with nullcontext() if fingerprint == self._accepted else self._one_at_a_time:
            # After the lock: the request that held it may have been refused meanwhile.
            until, refusal = self._refused.get(fingerprint, (0.0, None))
            if refusal is not None and self._clock() < until:
                raise CredentialsRefused(
                    f"credentials {self._name} were refused and are not tried again before {_time(until)} "
                    f"unless they change: {refusal.message}",
                    status=refusal.status,
                    url=refusal.url,
                    code=refusal.code,
                    request_id=refusal.request_id,
                )
            try:
                yield
            except CredentialsRefused as error:
                self._start_cool_down(fingerprint, error)
                raise
            self._accepted = fingerprint
            self._refusals.is_over(self._clock(), credentials=self._name)

    def _start_cool_down(self, fingerprint: str, error: CredentialsRefused) -> None:
        if fingerprint == self._accepted:
            self._accepted = ""
        now = self._clock()
        until = now + COOL_DOWN_SECONDS
        self._refused = {key: value for key, value in self._refused.items() if value[0] > now}
        # Requests that were sent together with an accepted secret are all refused: one log line is enough.
        if fingerprint not in self._refused:
            self._refusals.holds(
                fingerprint,
                now,
                credentials=self._name,
                retry_not_before=_time(until),
                error=error.message,
                request_id=error.request_id,
            )
        self._refused[fingerprint] = until, error


def _time(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%H:%M:%S UTC")
