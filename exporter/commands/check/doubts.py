"""What of a configuration is valid but unlikely, as warnings: it may be meant."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from exporter.commands.check.report import DOCUMENTED_REGIONS
from exporter.config import Config, ProjectSettings
from exporter.config.addresses import IAM_REGIONS

_PROJECT_ID = re.compile(r"[0-9a-fA-F]{32}")
# What a poll costs where nothing happens: docs/operations.md, "Sizing".
_REQUESTS_OF_A_POLL = 3
_SMALL_PAGE = 25


def doubts(config: Config) -> list[str]:
    """Give a line for each doubt: where, what was found and what it does."""
    return [*_project_doubts(config), *_poll_doubts(config), *_pace_doubts(config), *_file_doubts(config)]


def _project_doubts(config: Config) -> Iterator[str]:
    for index, project in enumerate(config.projects):
        if project.region and project.region not in {*DOCUMENTED_REGIONS, *IAM_REGIONS}:
            yield f"projects[{index}].region: {project.region} is no known region: is it spelt right?"
        if not _PROJECT_ID.fullmatch(project.id):
            yield f"projects[{index}].id: {project.id} is not 32 hexadecimal digits, as project ids are"
    for (first, one), (second, other) in combinations(enumerate(config.projects), 2):
        if (one.id, one.endpoint, one.path) == (other.id, other.endpoint, other.path):
            yield _two_names(first, one, second, other)


def _two_names(first: int, one: ProjectSettings, second: int, other: ProjectSettings) -> str:
    shared = {t.workspace for t in one.targets()} & {t.workspace for t in other.targets()}
    then = (
        f"the jobs of workspace {', '.join(sorted(shared))} are polled and counted under both names"
        if shared
        else "sums over `project` are of its workspaces"
    )
    return f"projects[{second}].id: the same project as projects[{first}], named {one.name}: {then}"


def _poll_doubts(config: Config) -> Iterator[str]:
    poll = config.poll
    if poll.page_size < _SMALL_PAGE:
        yield f"poll.page_size: {poll.page_size} is small: every poll takes many requests"
    for longer, shorter, then in (
        ("lookback", "interval", "jobs that live longer than it are not listed once they ended"),
        ("audit_interval", "interval", "every poll is an audit"),
        ("full_sync_interval", "audit_interval", "audits are of no use"),
        ("lookback", "overlap", "every poll lists all of the lookback"),
    ):
        long, short = getattr(poll, f"{longer}_seconds"), getattr(poll, f"{shorter}_seconds")
        if long is not None and long < short:
            yield f"poll.{longer}: {long:g}s is less than poll.{shorter}, {short:g}s: {then}"


def _pace_doubts(config: Config) -> Iterator[str]:
    poll = config.poll
    for endpoint, targets in Counter(target.endpoint for target in config.targets()).items():
        seconds = targets * _REQUESTS_OF_A_POLL / poll.requests_per_second
        if seconds > poll.interval_seconds:
            yield (
                f"poll.requests_per_second: {targets} targets at {endpoint} take {seconds:.0f} s for a "
                f"poll, more than poll.interval, {poll.interval_seconds:g}s: polls are skipped"
            )


def _file_doubts(config: Config) -> Iterator[str]:
    """Look at the places of files that are written, without making or opening anything."""
    if config.ledger.url.path is not None:
        yield from _file_doubt("ledger.url", config.ledger.url.path, "run cannot start")
    if config.events is not None and isinstance(config.events.to, Path):
        yield from _file_doubt("events.to", config.events.to, "no event can be written")


def _file_doubt(key: str, file: Path, then: str) -> Iterator[str]:
    path = file.absolute()
    if path.is_dir():
        yield f"{key}: {path} is a folder, expected a file: {then}"
    elif not path.parent.is_dir():
        yield f"{key}: the folder {path.parent} does not exist: {then}"
    else:
        yield from (f"{key}: {one} cannot be written by this user: {then}" for one in _locked(path))


def _locked(path: Path) -> Iterator[Path]:
    """Give what cannot be written: SQLite makes files beside the ledger, so its folder too."""
    if not os.access(path.parent, os.W_OK | os.X_OK):
        yield path.parent
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        yield path
