"""Settings for all tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# A slow machine must not fail a test: benchmarks/ measures speed.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


# The mutation tests run without xdist.
@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are cores: many tests wait for the programs they have started."""
    return (os.cpu_count() or 1) + 1
