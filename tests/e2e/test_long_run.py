"""Thousands of polls at many seeds, and not one number off at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.long_run import long_run


@pytest.mark.e2e
@pytest.mark.parametrize("seed", range(1, 21))
async def test_ledger_exposition_and_simulator_agree_after_a_long_life(seed: int, tmp_path: Path) -> None:
    outcome = await long_run(seed, polls=60, folder=tmp_path)
    assert outcome.exporter == outcome.simulator
    assert sum(outcome.exporter["ended"].values()) > 20
    assert outcome.failed_polls < outcome.polls / 2
