"""The options of the commands: how one is declared, and those that several commands have."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from exporter.errors import ConfigError

_SHARD_VARIABLE = "OCTOPUS_EXPORTER_SHARD"


def option(metavar: str, text: str, *names: str, **details: Any) -> Any:
    """Declare an option that takes a value; `text` is its line in the help."""
    return typer.Option(*names, metavar=metavar, help=text, **details)


def path_option(metavar: str, text: str, name: str, what: str) -> Any:
    """Declare an option that takes the path of `what`."""

    def parsed(value: str) -> Path:
        # An unset variable of a script gives an empty path, which Path would take for the current folder.
        if not value:
            raise ConfigError([f"{name}: is empty, expected {what}"])
        return Path(value)

    return option(metavar, text, parser=parsed, show_default=False)


def _finite(number: float) -> float:
    # click accepts nan and inf as numbers, and nan passes every minimum.
    if not math.isfinite(number):
        raise typer.BadParameter(f"found {number}, expected a number such as 60")
    return number


def _checked_shard(context: typer.Context, parameter: typer.CallbackParam, text: str | None) -> str | None:
    if text is not None:
        from exporter.config import Shard
        from exporter.config.problems import quote

        try:
            Shard.parse(text)
        except ValueError as error:
            source = context.get_parameter_source(parameter.name or "")
            # By its name: from which package the enumeration comes depends on the version of typer.
            given = source is not None and source.name == "ENVIRONMENT"
            name = _SHARD_VARIABLE if given else "--shard"
            raise ConfigError([f"{name}: found {quote(text)}, {error}"]) from None
    return text


def log_levels() -> list[str]:
    from exporter.log import LogLevel

    return list(get_args(LogLevel))


def log_formats() -> list[str]:
    from exporter.log import LogFormat

    return list(get_args(LogFormat))


def _profiles() -> list[str]:
    from exporter.simulator import PROFILE_SETS

    return list(PROFILE_SETS)


# `readable=False`: whether a file can be read is found out when it is read, and the message is ours.
ConfigFile = Annotated[
    Path,
    option(
        "FILE",
        "The configuration file (YAML).",
        "--config",
        "--config.file",
        envvar="OCTOPUS_EXPORTER_CONFIG",
        show_default=False,
        readable=False,
    ),
]
ShardOption = Annotated[
    str | None,
    option(
        "K/N",
        "The targets of this shard only, as 2/3; each shard needs its own ledger.",
        "--shard",
        envvar=_SHARD_VARIABLE,
        callback=_checked_shard,
    ),
]
Port = partial(option, "N", min=0, max=65535)
Jobs = Annotated[int, option("N", "How many jobs are listed at the start.", min=0)]
Pace = Annotated[
    float,
    option("X", "How many times as fast as real time jobs arrive and live.", min=0, callback=_finite),
]
Speed = Annotated[
    float,
    option(
        "X",
        "How many times as fast as ours the simulator's clock runs. An exporter takes such a clock for a "
        "wrong one; --pace does not change it.",
        min=0,
        callback=_finite,
    ),
]
Seed = Annotated[int, option("N", "The same seed gives the same jobs.")]
JobProfile = Annotated[
    str,
    option(
        "NAME",
        "How jobs live: calm (few fail, each by itself), even (up to 30 % fail, each by itself) or "
        "bursty (batches that fail together, retries, weekends, drift).",
        "--profile",
        autocompletion=_profiles,
    ),
]
