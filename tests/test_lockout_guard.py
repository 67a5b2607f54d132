"""Replicas together make no more attempts with a wrong secret than one alone."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from exporter.config import LedgerSettings
from exporter.errors import ApiUnavailable, CredentialsRefused, LedgerError
from exporter.ledger.postgres.connection import LedgerDatabase
from exporter.ledger.postgres.database import PostgresDatabase
from exporter.ledger.postgres.refusals import end_attempt, refuse_secret, try_secret
from exporter.model import SecretRefusal, SecretUse
from exporter.octopus.auth.lockout_guard import COOL_DOWN_SECONDS, LockoutGuard, slow_fingerprint
from exporter.octopus.messages import fingerprint
from tests.postgres import PostgresDatabase as Made

WRONG = fingerprint("ACCOUNT", "USER", "guess")
RIGHT = fingerprint("ACCOUNT", "USER", "p4ssw0rd")


class Store:
    """The shared refusals in a real PostgreSQL, as one replica asks them."""

    def __init__(self, url: str, replica: str) -> None:
        self.replica = replica
        self.asked = 0
        self._connection: psycopg.Connection[Any] = psycopg.connect(
            url, cursor_factory=psycopg.ClientCursor, autocommit=True
        )
        self._db = PostgresDatabase(self._connection)

    def close(self) -> None:
        self._connection.close()

    async def try_secret(self, stored: str) -> SecretUse:
        self.asked += 1
        return try_secret(self._db, self.replica, stored)

    async def secret_accepted(self, stored: str) -> None:
        end_attempt(self._db, self.replica, stored)

    async def secret_refused(self, stored: str, refusal: SecretRefusal, seconds: float) -> None:
        refuse_secret(self._db, self.replica, stored, refusal, seconds)


class Away:
    """A ledger that cannot be reached, or does not answer."""

    def __init__(self, answer: Callable[[], Awaitable[Any]]) -> None:
        self._answer = answer

    async def try_secret(self, stored: str) -> SecretUse:
        raise await self._answer()

    async def secret_accepted(self, stored: str) -> None:
        raise await self._answer()

    async def secret_refused(self, stored: str, refusal: SecretRefusal, seconds: float) -> None:
        raise await self._answer()


@dataclass
class Iam:
    """Knows one password, and counts the attempts with others."""

    accepted: str = RIGHT
    attempts: int = 0
    at_once: int = 0
    most_at_once: int = field(default=0)

    async def log_in(self, guard: LockoutGuard, secret: str) -> None:
        async with guard.attempt(secret):
            self.attempts += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            await asyncio.sleep(0.05)
            self.at_once -= 1
            if secret != self.accepted:
                raise CredentialsRefused("the password is wrong", status=401, code="IAM.0011")


@pytest.fixture
def stores(database: Made) -> Any:
    settings = LedgerSettings(url=database.url)  # type: ignore[arg-type]  # pydantic parses it
    LedgerDatabase(settings).open().connection.close()
    made = [Store(database.url, name) for name in ("one", "two", "three")]
    yield made
    for store in made:
        store.close()


async def test_several_replicas_make_one_attempt_with_a_wrong_password(stores: list[Store]) -> None:
    iam = Iam()
    guards = [LockoutGuard("default", shared=store) for store in stores]

    results = await asyncio.gather(
        *(iam.log_in(guard, WRONG) for guard in guards * 3), return_exceptions=True
    )

    assert {type(result) for result in results} == {CredentialsRefused}
    assert iam.attempts == 1
    later = LockoutGuard("default", shared=stores[0])
    with pytest.raises(
        CredentialsRefused, match=r"not tried again before .* the password is wrong"
    ) as caught:
        await iam.log_in(later, WRONG)
    assert (iam.attempts, caught.value.code, caught.value.status) == (1, "IAM.0011", 401)


async def test_replicas_try_again_together_once_when_the_cool_down_is_over(
    stores: list[Store], database: Made
) -> None:
    iam, now = Iam(), 0.0
    guards = [LockoutGuard("default", clock=lambda: now, shared=store) for store in stores]

    for _ in range(3):
        await asyncio.gather(*(iam.log_in(guard, WRONG) for guard in guards), return_exceptions=True)
        now += COOL_DOWN_SECONDS + 1
        database.sql(f"UPDATE refusals SET refused_until = refused_until - interval '{COOL_DOWN_SECONDS} s'")

    assert iam.attempts == 3


async def test_a_changed_password_is_tried_at_once_by_one_after_the_other(stores: list[Store]) -> None:
    iam = Iam()
    guards = [LockoutGuard("default", shared=store) for store in stores]
    await asyncio.gather(*(iam.log_in(guard, WRONG) for guard in guards), return_exceptions=True)
    iam.attempts = 0

    await asyncio.gather(*(iam.log_in(guard, RIGHT) for guard in guards))

    assert (iam.attempts, iam.most_at_once) == (3, 1)


async def test_an_accepted_secret_is_used_without_asking(stores: list[Store], database: Made) -> None:
    iam, guard = Iam(), LockoutGuard("default", shared=stores[0])

    for _ in range(3):
        await iam.log_in(guard, RIGHT)

    assert stores[0].asked == 1
    assert database.sql("SELECT count(*) FROM refusals") == "0"


async def test_a_secret_that_was_accepted_and_is_refused_later_cools_down_for_all(
    stores: list[Store],
) -> None:
    iam = Iam()
    one, two = (LockoutGuard("default", shared=store) for store in stores[:2])
    await iam.log_in(one, RIGHT)
    iam.accepted = "another"
    with suppress(CredentialsRefused):
        await iam.log_in(one, RIGHT)
    iam.attempts = 0

    with pytest.raises(CredentialsRefused, match="not tried again before"):
        await iam.log_in(two, RIGHT)

    assert iam.attempts == 0


async def test_an_attempt_without_an_answer_lets_the_others_try(stores: list[Store]) -> None:
    one, two = (LockoutGuard("default", shared=store) for store in stores[:2])
    with pytest.raises(ApiUnavailable):
        async with one.attempt(RIGHT):
            raise ApiUnavailable("no answer")

    await asyncio.wait_for(Iam().log_in(two, RIGHT), 5)


async def test_a_replica_that_died_during_its_attempt_keeps_the_others_waiting_for_a_while(
    stores: list[Store], database: Made
) -> None:
    guard = LockoutGuard("default", shared=stores[1])
    await stores[0].try_secret(slow_fingerprint(RIGHT))
    waiting = asyncio.create_task(Iam().log_in(guard, RIGHT))
    await asyncio.wait([waiting], timeout=0.3)
    assert not waiting.done()

    database.sql("UPDATE refusals SET tried_until = now()")

    await asyncio.wait_for(waiting, 5)


async def test_a_clock_that_was_set_back_locks_nothing_for_hours(stores: list[Store], database: Made) -> None:
    await stores[0].try_secret(slow_fingerprint(WRONG))
    await stores[0].secret_refused(slow_fingerprint(WRONG), SecretRefusal("wrong"), 300)
    database.sql("UPDATE refusals SET refused_until = refused_until + interval '2 hours'")

    assert await stores[1].try_secret(slow_fingerprint(WRONG)) == SecretUse()


async def away() -> LedgerError:
    return LedgerError("no connection")


async def hanging() -> LedgerError:
    await asyncio.sleep(1000)
    return await away()


@pytest.mark.parametrize("answer", [away, hanging])
async def test_a_ledger_that_is_away_keeps_nobody_from_logging_in(
    answer: Callable[[], Awaitable[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.octopus.auth.lockout_guard._LONGEST_QUESTION_SECONDS", 0.05)
    iam, guard = Iam(), LockoutGuard("default", shared=Away(answer))

    with capture_logs() as logs:
        with pytest.raises(CredentialsRefused):
            await iam.log_in(guard, WRONG)
        with pytest.raises(CredentialsRefused, match="not tried again"):
            await iam.log_in(guard, WRONG)
        await iam.log_in(guard, RIGHT)

    assert iam.attempts == 2
    warnings = [line["event"] for line in logs if line["log_level"] == "warning"]
    assert warnings == ["refused credentials are not shared with other replicas", "credentials refused"]


def test_what_is_stored_is_no_plain_hash_of_the_secret() -> None:
    stored = slow_fingerprint(WRONG)

    assert WRONG not in stored
    assert hashlib.sha256(WRONG.encode()).hexdigest() not in stored
    assert stored == slow_fingerprint(WRONG) != slow_fingerprint(RIGHT)
