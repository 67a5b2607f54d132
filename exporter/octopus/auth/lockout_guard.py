"""
Protection against locking an account: limits the attempts with a secret that may be wrong.

Replicas that share a ledger share the attempts, too: else three of them would make three times as many.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol, TypeVar

import structlog

from exporter.errors import CredentialsRefused, LedgerError
from exporter.model import SecretRefusal, SecretUse
from exporter.state_log import FaultLog, StateLog

# IAM and the API gateway lock an account for 5 minutes or more after about five failures in a row.
COOL_DOWN_SECONDS = 300.0
# A ledger that is away must not keep polls from going on.
_LONGEST_QUESTION_SECONDS = 3.0
_PAUSE_SECONDS = 0.5

R = TypeVar("R")

_log = structlog.get_logger(__name__)


class SharedRefusals(Protocol):
    """
    Where replicas tell each other of their attempts; sync.shared_ledger.SharedLedger is one.

    Raises: LedgerError.
    """

    async def try_secret(self, fingerprint: str) -> SecretUse: ...
    async def secret_accepted(self, fingerprint: str) -> None: ...
    async def secret_refused(self, fingerprint: str, refusal: SecretRefusal, seconds: float) -> None: ...


class LockoutGuard:
    """
    Keeps a wrong password or key from locking its account.

    Until a secret was accepted once, only one request at a time uses it: requests sent together would all
    fail together. A refused secret is not used for COOL_DOWN_SECONDS. A changed secret is used at once.

    Shape: with `shared`, both hold for all replicas together.
    """

    def __init__(
        self, name: str, *, clock: Callable[[], float] = time.time, shared: SharedRefusals | None = None
    ) -> None:
        self._name = name
        self._clock = clock
        self._shared = None if shared is None else _Attempts(shared)
        self._one_at_a_time = asyncio.Lock()
        # Fingerprints, here and below.
        self._accepted = ""
        self._refused: dict[str, tuple[float, SecretRefusal]] = {}
        self._refusals = StateLog(_log, "credentials refused", "credentials accepted again")

    @asynccontextmanager
    async def attempt(self, fingerprint: str) -> AsyncIterator[None]:
        """
        Use a secret inside the block: no error means it was accepted, CredentialsRefused starts a cool-down.

        Raises: CredentialsRefused, without running the block, while the secret cools down.
        """
        async with nullcontext() if fingerprint == self._accepted else self._one_at_a_time:
            # After the lock: the request that held it may have been refused meanwhile.
            self._refuse_while_it_cools_down(fingerprint)
            shared = None if fingerprint == self._accepted else self._shared
            if shared is not None:
                await self._wait_for_others(shared, fingerprint)
            try:
                yield
            except CredentialsRefused as error:
                await self._start_cool_down(fingerprint, error)
                raise
            except Exception:
                if shared is not None:
                    await shared.end(fingerprint)
                raise
            self._accepted = fingerprint
            if shared is not None:
                await shared.end(fingerprint)
            self._refusals.is_over(self._clock(), credentials=self._name)

    def _refuse_while_it_cools_down(self, fingerprint: str) -> None:
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

    async def _wait_for_others(self, shared: _Attempts, fingerprint: str) -> None:
        """Wait until no other replica tries this secret. Raises: CredentialsRefused (one was refused)."""
        while (use := await shared.begin(fingerprint)).wait_seconds > 0:
            if use.refusal is not None:
                self._cool_down(fingerprint, use.refusal, use.wait_seconds)
                self._refuse_while_it_cools_down(fingerprint)
            await asyncio.sleep(min(use.wait_seconds, _PAUSE_SECONDS))

    async def _start_cool_down(self, fingerprint: str, error: CredentialsRefused) -> None:
        refusal = SecretRefusal(error.message, error.status, error.url, error.code, error.request_id)
        self._cool_down(fingerprint, refusal, COOL_DOWN_SECONDS)
        if self._shared is not None:
            await self._shared.refused(fingerprint, refusal)

    def _cool_down(self, fingerprint: str, refusal: SecretRefusal, seconds: float) -> None:
        if fingerprint == self._accepted:
            self._accepted = ""
        now = self._clock()
        until = now + seconds
        self._refused = {key: value for key, value in self._refused.items() if value[0] > now}
        # Requests that were sent together with an accepted secret are all refused: one log line is enough.
        if fingerprint not in self._refused:
            self._refusals.holds(
                fingerprint,
                now,
                credentials=self._name,
                retry_not_before=_time(until),
                error=refusal.message,
                request_id=refusal.request_id,
            )
        self._refused[fingerprint] = until, refusal


class _Attempts:
    """The attempts of all replicas; without the ledger, each is on its own for as long as that lasts."""

    def __init__(self, shared: SharedRefusals) -> None:
        self._shared = shared
        self._away = StateLog(
            _log,
            "refused credentials are not shared with other replicas",
            "refused credentials are shared again",
        )
        self._faults = FaultLog(_log)

    async def begin(self, fingerprint: str) -> SecretUse:
        stored = await _stored(fingerprint)
        return await self._asked(self._shared.try_secret(stored)) or SecretUse()

    async def end(self, fingerprint: str) -> None:
        await self._asked(self._shared.secret_accepted(await _stored(fingerprint)))

    async def refused(self, fingerprint: str, refusal: SecretRefusal) -> None:
        stored = await _stored(fingerprint)
        await self._asked(self._shared.secret_refused(stored, refusal, COOL_DOWN_SECONDS))

    async def _asked(self, question: Awaitable[R]) -> R | None:
        try:
            async with asyncio.timeout(_LONGEST_QUESTION_SECONDS):
                answer = await question
        except (LedgerError, TimeoutError) as exc:
            self._away.holds("away", time.time(), error=str(exc) or "the ledger does not answer in time")
        except Exception as exc:
            self._faults.log("refused credentials not shared", exc)
        else:
            self._away.is_over(time.time())
            return answer
        return None


async def _stored(fingerprint: str) -> str:
    return await asyncio.to_thread(slow_fingerprint, fingerprint)


@lru_cache(maxsize=32)
def slow_fingerprint(fingerprint: str) -> str:
    """
    Make of a secret's fingerprint what replicas may store.

    Whoever reads the ledger could try passwords until a plain hash fits. With this one each attempt takes
    some 50 ms and 16 MiB, and the names of account and user are in it: nothing can be computed beforehand.
    """
    return hashlib.scrypt(fingerprint.encode(), salt=b"octopus-exporter refusals", n=2**14, r=8, p=1).hex()


def _time(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%H:%M:%S UTC")
