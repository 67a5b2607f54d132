"""Settings for all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.ledgers import BACK_ENDS, BackEnd, back_end_of
from tests.postgres import PgBouncer, PostgresDatabase, PostgresServer, pgbouncer, postgres_server

# A slow machine must not fail a test: benchmarks/ measures speed.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

_LONGEST = ("test_rules.py", "test_replicas.py", "test_odd_servers.py", "test_alert_engine_life.py")


# The mutation tests run without xdist.
@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are cores: many tests wait for the programs they have started."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest modules: each is run by one worker, which would end long after the others."""
    items.sort(key=lambda item: item.path.name not in _LONGEST)


@pytest.fixture(scope="session")
def _postgres_of_session() -> Iterator[PostgresServer]:
    """
    One server for all tests of a process, started by the first that needs it.

    A server costs a process about a second. To share one between processes would save two of three such
    seconds, and then no test could stop it.
    """
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def _pgbouncer_of_session(_postgres_of_session: PostgresServer) -> Iterator[PgBouncer]:
    with pgbouncer(_postgres_of_session) as bouncer:
        yield bouncer


@pytest.fixture
def postgres(_postgres_of_session: PostgresServer) -> Iterator[PostgresServer]:
    """A PostgreSQL server. A test may do to it what it likes: the next test finds it in order."""
    yield _postgres_of_session
    _postgres_of_session.settle()


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[PostgresDatabase]:
    """An empty database of the test's own."""
    made = PostgresDatabase(postgres)
    yield made
    postgres.settle()
    made.drop()


@pytest.fixture
def bouncer(postgres: PostgresServer, _pgbouncer_of_session: PgBouncer) -> Iterator[PgBouncer]:
    """A PgBouncer in transaction mode before that server: `bouncer.url(database.name)`."""
    yield _pgbouncer_of_session
    _pgbouncer_of_session.settle()


@pytest.fixture(scope="session")
def _ledger_of_session(_postgres_of_session: PostgresServer) -> PostgresDatabase:
    return PostgresDatabase(_postgres_of_session)


@pytest.fixture(params=BACK_ENDS)
def back_end(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BackEnd]:
    """An empty ledger of each back end: the test runs once with each."""
    with back_end_of(request, tmp_path) as made:
        yield made
