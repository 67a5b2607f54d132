"""Settings for all tests."""

from __future__ import annotations

from hypothesis import settings

# A slow machine must not fail a test: benchmarks/ measures speed.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
