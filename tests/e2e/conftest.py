"""Settings of the end-to-end tests, and the processes that they share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.simulation import Simulation, simulations

Simulate = Callable[..., Simulation]


@pytest.fixture(scope="session", autouse=True)
def _compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let all processes share their bytecode, also where Python may not write it beside the source."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        patch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("bytecode")))
        yield


@pytest.fixture
def simulate(tmp_path: Path) -> Iterator[Simulate]:
    """Start simulators that end with the test."""
    with ExitStack() as running:

        def start(port: int = 0, **settings: Any) -> Simulation:
            return running.enter_context(simulations(tmp_path / "simulators", settings, port=port))[0]

        yield start
