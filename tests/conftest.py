"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

# A machine that is busy is no failure: speed is measured in benchmarks/, not here.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
