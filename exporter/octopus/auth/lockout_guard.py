"""What is known about a secret: untried, good, or refused a while ago."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from exporter.errors import CredentialsRefused
from exporter.state_log import StateLog

# IAM and the gateway lock an account after about five failures in a row, for 5 minutes and more.
COOL_DOWN_SECONDS = 300.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Refusal:
    until: float
    error: CredentialsRefused


class SecretTrial:
    """
    Keeps a wrong password or key from being tried until the account is locked.

    Until a secret was accepted once, it is tried by one request at a time: all that are sent together would
    be refused together. Refused, it is not tried for COOL_DOWN_SECONDS; another secret is, at once.
    """

    def __init__(self, name: str, *, clock: Callable[[], float] = time.time) -> None:
        self._name = name
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._accepted = ""
        self._refusals: dict[str, _Refusal] = {}
        self._refused = StateLog(_log, "credentials refused", "credentials accepted again")

    @asynccontextmanager
    async def attempt(self, fingerprint: str) -> AsyncIterator[None]:
        """
        Try a secret: the block's end says whether it was accepted.

        Raises: CredentialsRefused, without running the block, while the secret cools down.
        """
        if fingerprint == self._accepted:
            async with self._judged(fingerprint):
                yield
            return
        async with self._one_at_a_time, self._judged(fingerprint):
            yield

    @asynccontextmanager
    async def _judged(self, fingerprint: str) -> AsyncIterator[None]:
        self._check(fingerprint)
        try:
            yield
        except CredentialsRefused as error:
            self._refuse(fingerprint, error)
            raise
        self._accepted = fingerprint
        self._refused.is_over(self._clock(), credentials=self._name)

    def _check(self, fingerprint: str) -> None:
        refusal = self._refusals.get(fingerprint)
        if refusal is None or refusal.until <= self._clock():
            return
        error = refusal.error
        raise CredentialsRefused(
            f"credentials {self._name} were refused and are not tried again before {_time(refusal.until)} "
            f"unless they change: {error.message}",
            status=error.status,
            url=error.url,
            code=error.code,
            request_id=error.request_id,
        )

    def _refuse(self, fingerprint: str, error: CredentialsRefused) -> None:
        if fingerprint == self._accepted:
            self._accepted = ""
        now = self._clock()
        self._refusals = {key: value for key, value in self._refusals.items() if value.until > now}
        if fingerprint not in self._refusals:
            self._refused.holds(
                fingerprint,
                now,
                credentials=self._name,
                retry_not_before=_time(now + COOL_DOWN_SECONDS),
                error=error.message,
                request_id=error.request_id,
            )
        self._refusals[fingerprint] = _Refusal(now + COOL_DOWN_SECONDS, error)


def _time(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%H:%M:%S UTC")
