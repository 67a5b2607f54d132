"""Shards: which targets belong to which, for ever, and what of a configuration one exporter polls."""

from __future__ import annotations

import math
from collections import Counter
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest
import typer

from exporter.cli import app
from exporter.config import Config, Shard
from exporter.errors import ConfigError

REFUSED = "expected K/N such as 2/3, with K from 1 to N"


def config(*projects: dict[str, Any]) -> Config:
    settings = [{"endpoint": "http://o.test"} | project for project in projects]
    return Config.model_validate({"projects": settings, "credentials": {"only": {"type": "chain"}}})


def shard_of(project_id: str, workspace: str, count: int) -> int:
    """Give the one shard that a target belongs to."""
    (number,) = (n for n in range(1, count + 1) if Shard(n, count).has(project_id, workspace))
    return number


@pytest.mark.parametrize(
    ("project_id", "workspace", "expected"),
    [
        ("087679f0aa0000000000000002f5e902b", "0", (2, 1, 10, 980)),
        ("087679f0aa0000000000000002f5e902b", "1", (2, 3, 2, 132)),
        ("ffeeddccbbaa99887766554433221100", "0", (1, 1, 1, 721)),
        ("abc", "perception", (1, 3, 7, 747)),
        # As `printf %s 'abc/感知' | sha256sum` has it: modulo 1000 it is 241.
        ("abc", "感知", (2, 2, 2, 242)),
    ],
)
def test_a_target_stays_in_its_shard_in_every_version(
    project_id: str, workspace: str, expected: tuple[int, ...]
) -> None:
    """A change would move targets between running exporters: their counts would begin anew."""
    assert tuple(shard_of(project_id, workspace, count) for count in (2, 3, 10, 1000)) == expected


@pytest.mark.parametrize("count", [1, 2, 3, 7, 16, 50])
def test_a_thousand_targets_are_spread_evenly_and_each_belongs_to_one(count: int) -> None:
    ids = [md5(bytes([number]), usedforsecurity=False).hexdigest() for number in range(20)]
    projects = [{"id": each, "workspaces": [str(number) for number in range(50)]} for each in ids]
    whole = config(*projects)
    parts = [whole.for_shard(Shard(number, count)).targets() for number in range(1, count + 1)]
    assert sorted((t.key for part in parts for t in part), key=str) == sorted(
        (t.key for t in whole.targets()), key=str
    )
    mean = 1000 / count
    # Four standard deviations of as many throws of a die.
    allowed = 4 * math.sqrt(mean * (1 - 1 / count))
    assert all(abs(len(part) - mean) <= allowed for part in parts)


def test_twice_as_many_shards_move_half_of_the_targets_only() -> None:
    """As docs/operations.md says."""
    keys = [(f"{number:032x}", "0") for number in range(1000)]
    stays = Counter(shard_of(*key, 3) == shard_of(*key, 6) for key in keys)
    assert 450 < stays[True] < 550


def test_name_path_and_endpoint_do_not_matter() -> None:
    same: list[dict[str, Any]] = [
        {"id": "abc", "name": "one", "workspaces": ["7"]},
        {"id": "abc", "name": "two", "workspaces": ["7"], "path": "jobs"},
        {"id": "abc", "name": "three", "workspaces": ["7"], "endpoint": "http://other.test"},
        {"id": "abc", "name": "four", "workspaces": ["7"], "region": "cn-north-11", "job_types": ["A"]},
    ]
    sizes = [len(config(*same).for_shard(Shard(number, 5)).targets()) for number in range(1, 6)]
    assert sorted(sizes) == [0, 0, 0, 0, 4]


def test_no_workspace_is_the_same_as_the_workspace_that_its_label_names() -> None:
    for workspaces in ([], ["0"]):
        whole = config({"id": "abc", "workspaces": workspaces})
        (target,) = whole.for_shard(Shard(shard_of("abc", "0", 9), 9)).targets()
        assert target == whole.targets()[0]


def test_a_configuration_keeps_the_projects_that_have_targets_in_the_shard() -> None:
    whole = config({"id": "abc", "workspaces": ["perception", "感知"]}, {"id": "idle", "workspaces": ["x"]})
    numbers = {project: shard_of(project, name, 10) for project, name in (("abc", "感知"), ("idle", "x"))}
    assert numbers["abc"] != numbers["idle"]
    part = whole.for_shard(Shard(2, 10))
    assert [(target.project, target.workspace) for target in part.targets()] == [("abc", "感知")]
    assert [project.name for project in part.projects] == ["abc"]
    assert part.redacted()["projects"][0]["workspaces"] == ["感知"]
    assert (str(part.shard), part.configured_targets) == ("2/10", 3)
    # A configuration made from it, as `once` and the flags do, is still of this shard.
    assert part.with_overrides(log_level="debug").shard == part.shard
    assert (whole.shard, whole.configured_targets) == (None, 3)


def test_a_shard_may_have_no_target() -> None:
    part = config({"id": "abc"}).for_shard(Shard(1 + shard_of("abc", "0", 2) % 2, 2))
    assert (part.targets(), part.projects, part.configured_targets) == ((), (), 1)


@pytest.mark.parametrize("text", ["1/1", "2/3", "3/3", "1/999999999"])
def test_a_shard_is_written_as_it_is_read(text: str) -> None:
    assert str(Shard.parse(text)) == text


BAD = [
    *("0/3", "4/3", "a/b", "3", "3/", "/3", "1/0", "-1/3", "+1/3", "01/3", " 1/3", "1/3\n", "1/2/3"),
    "\uff11/\uff13",  # digits, and not ASCII
]


@pytest.mark.parametrize("text", BAD)
@pytest.mark.parametrize("name", ["--shard", "OCTOPUS_EXPORTER_SHARD"])
def test_what_is_no_shard_is_refused_in_a_line_that_names_where_it_came_from(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    arguments = ["run", "--config", "there-is-none.yaml"]
    if name == "--shard":
        arguments += ["--shard", text]
        # The option wins over the variable.
        monkeypatch.setenv("OCTOPUS_EXPORTER_SHARD", "2/3")
    else:
        monkeypatch.setenv(name, text)
    with pytest.raises(ConfigError) as caught:
        typer.main.get_command(app)(arguments, standalone_mode=False)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{name}: found ")
    assert problem.endswith(f", {REFUSED}")
    assert "\n" not in problem


def test_an_empty_option_is_refused_and_an_empty_variable_counts_as_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = typer.main.get_command(app)
    missing = ["run", "--config", str(tmp_path / "none.yaml")]
    with pytest.raises(ConfigError, match=f'^--shard: found "", {REFUSED}$'):
        run([*missing, "--shard", ""], standalone_mode=False)
    monkeypatch.setenv("OCTOPUS_EXPORTER_SHARD", "")
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        run(missing, standalone_mode=False)


def test_only_run_and_backfill_take_a_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is there in every command that is run in the container of a shard."""
    monkeypatch.setenv("OCTOPUS_EXPORTER_SHARD", "none")
    group = typer.main.get_group(app)
    having = {
        name for name, one in group.commands.items() if any("--shard" in param.opts for param in one.params)
    }
    assert having == {"run", "backfill"}
