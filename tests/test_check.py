"""`check --online`, where the answer is odd."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from exporter.check import probe
from exporter.config import load
from exporter.masking import Secrets
from tests.octopus_fakes import Api, page, row

CONFIG = """
projects: [{{id: abc, endpoint: "{endpoint}"}}]
credentials: {{only: {{type: token, token: t0ken}}}}
"""


SECONDS = "create_at: found 1700000000, not in milliseconds (expected 1000000000000 to 999999999999999)"


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({}, "works"),
        ({"start_at": 0}, "works"),
        ({"create_at": 1_700_000_000}, f"works, but its first row cannot be read: {SECONDS}"),
    ],
)
async def test_a_row_that_cannot_be_read_is_told(
    tmp_path: Path, fields: dict[str, object], answer: str
) -> None:
    file = tmp_path / "config.yaml"
    async with Api([(200, page(row(**fields), page_info={"total": 5}))]).server() as server:
        file.write_text(CONFIG.format(endpoint=str(server.make_url("/"))))
        (finding,) = await probe(load(file, {}), Secrets(time.time))
    assert (finding.answer, finding.jobs) == (answer, 5)
