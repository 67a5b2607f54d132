"""Settings for all tests."""

from __future__ import annotations

import os

from hypothesis import settings

# A slow machine must not fail a test: benchmarks/ measures speed.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


def pytest_xdist_auto_num_workers() -> int:
    """One worker more than there are cores: many tests wait for the programs they have started."""
    return (os.cpu_count() or 1) + 1
