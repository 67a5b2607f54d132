"""`audit`: rows that cannot be read are counted on neither side, and named."""

from __future__ import annotations

import time

from exporter.commands import audit
from exporter.config import Config
from exporter.ledger.sqlite import SqliteLedger
from exporter.masking import Secrets
from exporter.sync.poll import Poll
from tests.fake_api import FakeApi, a_job, a_target, poll_rules

CONFIG = Config.model_validate(
    {
        "projects": [{"id": "p1", "name": "perception", "endpoint": "http://octopus.test"}],
        "credentials": {"default": {"type": "token", "token": "a token of the tests"}},
    }
)


async def audited(api: FakeApi) -> list[audit.AuditLine]:
    """Poll once into a ledger, and audit that."""
    target, ledger = a_target(), await SqliteLedger.open(None)
    await Poll(target, api, ledger, poll_rules(100), lambda: api.now_ms).run()
    lines = await audit._audit(CONFIG, ledger, api, target)  # type: ignore[arg-type]  # a fake client
    await ledger.close()
    return lines


async def test_rows_set_apart_make_no_difference_and_are_named() -> None:
    api = FakeApi(odd=frozenset({3}), nameless=frozenset({4}))
    api.put(*(a_job(number) for number in range(1, 31)))
    lines = await audited(api)
    assert [line for line in lines if line.differs] == []
    assert {line.status: line.api for line in lines}["QUEUING"] == 28
    assert audit.unreadable_rows(lines, Secrets(time.time)) == [
        "perception, workspace 0: 2 rows cannot be read and are counted on neither side",
        "  a row without an id, 'QUEUING': job_type: expected a text",
        "  job 3, 'QUEUING': job_type: expected a text",
    ]


async def test_what_is_not_named_is_counted() -> None:
    api = FakeApi(odd=frozenset(range(25)))
    api.put(*(a_job(number) for number in range(1, 601)))
    (*_, last) = audit.unreadable_rows(await audited(api), Secrets(time.time))
    assert last == "  and 4 more"


async def test_nothing_is_said_where_all_rows_can_be_read() -> None:
    api = FakeApi()
    api.put(a_job(1))
    assert audit.unreadable_rows(await audited(api), Secrets(time.time)) == []
