"""The one real answer there is, from the API's documentation: read and exposed as it should be."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from aiohttp import web

from tests.e2e.exporting import run_once
from tests.e2e.exposed import told
from tests.e2e.simulation import PROJECT
from tests.e2e.stand_in import Serve, exporter_of

pytestmark = pytest.mark.e2e

SAMPLE = Path(__file__).parents[1] / "samples" / "200-official-example.json"
SAMPLE_TIME = 1_641_024_509  # 2022-01-01T08:08:29Z


async def test_the_official_example_is_exposed(tmp_path: Path, aiohttp_server: Serve) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=SAMPLE.read_bytes(), content_type="application/json")

    exporter = await exporter_of(tmp_path, aiohttp_server, answer, path=f"/v1.0/{PROJECT}/data/system-jobs")
    before = time.time()
    exposed = await asyncio.to_thread(run_once, exporter)
    after = time.time()

    figures = told(exposed)
    assert figures.pop("listed") == {("SCENARIO_AUTO_MINING", "FINISHED"): 1}
    assert not any(figures.values())
    assert exposed.value("octopus_up") == 1
    skew = exposed.value("octopus_api_clock_skew_seconds", project="perception")
    assert skew is not None
    # The server names a whole second: its middle stands for it.
    assert SAMPLE_TIME + 0.5 - after <= skew <= SAMPLE_TIME + 0.5 - before
