"""`check`: what it judges, what it warns of, and what its report keeps to itself."""

from __future__ import annotations
