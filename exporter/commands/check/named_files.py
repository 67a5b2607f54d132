"""The files that a configuration is in, or names: none of them may be replaced by a report."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from exporter.config import Config
from exporter.errors import ConfigError
from exporter.web.toolkit import WebConfiguration

# What SQLite keeps beside a database.
_BESIDE_THE_LEDGER = ("", "-wal", "-shm", "-journal")


def what_is_there(path: Path, file: Path, config: Config) -> str | None:
    """Say which file of the configuration in `file` a path leads to; None where it is none of them."""
    if _are_same(path, file):
        return "is the configuration"
    named = (key for key, one in _named_files(config) if _are_same(path, one))
    key = next(named, None)
    return None if key is None else f"is a file of the configuration ({key})"


def _named_files(config: Config) -> Iterator[tuple[str, Path]]:
    """Give each file by the key that names it, directly or in the web configuration."""
    for name, credentials in config.credentials.items():
        for key, value in credentials:
            if isinstance(value, Path):
                yield f"credentials.{name}.{key}", value
    if config.web.config_file is not None:
        yield from (("web.config_file", file) for file in _web_files(config.web.config_file))
    if config.ledger.url.path is not None:
        ledger = config.ledger.url.path
        yield from (("ledger.url", ledger.with_name(ledger.name + end)) for end in _BESIDE_THE_LEDGER)
    if config.events is not None and isinstance(config.events.to, Path):
        yield "events.to", config.events.to


def _web_files(file: Path) -> tuple[Path, ...]:
    try:
        return WebConfiguration.load(file).files
    except ConfigError:  # told elsewhere
        return (file,)


def _are_same(one: Path, other: Path) -> bool:
    """Compare files that are there by what they are, and others by their paths."""
    try:
        return one.samefile(other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)  # Path.resolve raises at a loop of links
