"""Keeps secrets out of all texts that are stored, logged, shown or exported, by one function."""

from exporter.masking.secrets import MASK, Secrets

__all__ = ["MASK", "Secrets"]
