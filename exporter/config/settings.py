"""
The configuration: every key, its default, and what it is for.

The text under an attribute is shown in messages about a missing key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import AfterValidator, Field, PrivateAttr, ValidationError, ValidationInfo, field_validator

from exporter.config.addresses import (
    ENDPOINT,
    JOB_URL,
    LISTEN_ADDRESS,
    JobUrl,
    ListenAddress,
    octopus_endpoint,
    parse_endpoint,
)
from exporter.config.credentials import AnyCredentials, Credentials, SecretFile
from exporter.config.fields import (
    ChoiceScalar,
    Duration,
    FileName,
    Flag,
    Output,
    Parsed,
    Positive,
    Section,
    TextScalar,
    Whole,
)
from exporter.config.ledger_url import LEDGER_URL, LedgerUrl
from exporter.config.problems import refused, show
from exporter.config.secret import Secret
from exporter.config.shard import Shard
from exporter.errors import ConfigError
from exporter.model import IN_FLIGHT_STATUSES, Target

# The rooms log and events have the same words: they must not know the configuration.
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["logfmt", "json"]
EventStream = Literal["stdout", "stderr"]
EventFormat = Literal["json", "logfmt"]
EventInclude = Literal["ended", "failed"]

DEFAULT_WORKSPACE = "0"

_FLAGS = {
    "listen": "--web.listen-address",
    "config_file": "--web.config.file",
    "level": "--log.level",
    "format": "--log.format",
}

_SectionT = TypeVar("_SectionT", bound=Section)


def _without_repetition(values: tuple[Any, ...]) -> tuple[Any, ...]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise refused(f"found {value} twice, expected each once")
    return values


def _ascending(bounds: tuple[float, ...]) -> tuple[float, ...]:
    for lower, upper in pairwise(bounds):
        if upper <= lower:
            raise refused(f"found {upper:g} after {lower:g}, expected each bound above the one before it")
    return bounds


Name = Annotated[str, TextScalar("a name")]
ProjectId = Annotated[str, TextScalar("a project id of letters, digits, - and _", r"[A-Za-z0-9_-]+")]
Region = Annotated[str, TextScalar("a region such as cn-north-11", r"[a-z0-9]+(-[a-z0-9]+)*")]
Endpoint = Annotated[str, Parsed(ENDPOINT, parse_endpoint)]
UrlPath = Annotated[
    str,
    TextScalar(
        "a path such as system-jobs, without a slash at its ends", r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*"
    ),
]
Workspace = Annotated[str, TextScalar("a workspace id")]
JobType = Annotated[str, TextScalar("a job type such as FRAME_EXTRACT", r"[A-Za-z0-9_-]+")]
# As long as a status that is read can be: a longer one would never match.
Status = Annotated[str, TextScalar("a status such as ARCHIVED", r"\S(.{0,198}\S)?")]
Bucket = Annotated[float, Positive()]
Listen = Annotated[ListenAddress, Parsed(LISTEN_ADDRESS, ListenAddress.parse)]
AtLeastOne = Field(min_length=1)
# The API accepts no more values in one filter.
AtMost20 = Field(max_length=20)


class ProjectSettings(Section):
    """A project of the account, and which of its jobs are read."""

    id: ProjectId
    """the project's id"""
    name: Name = Field(default_factory=lambda data: data["id"])
    """the label `project`; by default the id"""
    region: Region = ""
    """gives the endpoints of the API and of IAM"""
    endpoint: Endpoint = Field(
        default_factory=lambda data: octopus_endpoint(data["region"]) if data["region"] else "",
        # Without a region the default is empty, and has to be refused.
        validate_default=True,
    )
    """where the API is; by default that of the region"""
    path: UrlPath = "system-jobs"
    """what follows /v1.0/{project_id}/data/ in the URL"""
    workspaces: Annotated[tuple[Workspace, ...], AfterValidator(_without_repetition)] = ()
    """the workspaces to read; none: workspace_id is not sent"""
    job_types: Annotated[tuple[JobType, ...], AtMost20, AfterValidator(_without_repetition)] = ()
    """the job types to read; none: all"""
    credentials: Name = ""
    """the name of the credentials; by default the only ones"""

    @field_validator("endpoint", mode="before")
    @classmethod
    def _check_given(cls, value: object) -> object:
        if value == "":
            raise refused("missing, expected region or endpoint")
        return value

    def targets(self) -> Iterable[Target]:
        """Give a target for each workspace, or one without a workspace_id if none is configured."""
        for workspace in self.workspaces or (None,):
            yield Target(
                project=self.name,
                project_id=self.id,
                workspace=workspace or DEFAULT_WORKSPACE,
                workspace_id=workspace,
                region=self.region,
                endpoint=self.endpoint,
                path=self.path,
                job_types=self.job_types,
                credentials=self.credentials,
            )


def _not_in_flight(statuses: tuple[str, ...]) -> tuple[str, ...]:
    for status in statuses:
        if status in IN_FLIGHT_STATUSES:
            raise refused(f"found {status}, expected statuses that the API does not document as in flight")
    return statuses


class PollSettings(Section):
    """How often, how fast and how far back the API is asked."""

    interval_seconds: Annotated[float, Duration("1s")] = 30.0
    """how often each target is polled"""
    timeout_seconds: Annotated[float, Duration("1ms")] = 30.0
    """how long one request may take"""
    page_size: Annotated[int, Whole(1, 200)] = 200
    """how many jobs are asked for at once"""
    concurrency: Annotated[int | None, Whole(1, or_auto=True)] = None
    """how many requests of a target may be under way; auto: as many as pace and latency need, up to 16"""
    terminal_statuses: Annotated[
        tuple[Status, ...], AfterValidator(_without_repetition), AfterValidator(_not_in_flight)
    ] = ()
    """undocumented statuses that end a run even where no end time comes"""
    requests_per_second: Annotated[float, Positive()] = 10.0
    """the limit of each endpoint, over all its targets"""
    lookback_seconds: Annotated[float | None, Duration("1s", or_all=True)] = 30 * 86_400.0
    """terminal jobs created longer ago are not counted; all: no limit"""
    overlap_seconds: Annotated[float, Duration()] = 600.0
    """how far a poll goes back behind the last one"""
    audit_interval_seconds: Annotated[float, Duration("1s")] = 600.0
    """how often the ledger is compared with the API's totals"""
    full_sync_interval_seconds: Annotated[float, Duration("1s")] = 86_400.0
    """how often everything is listed anew"""


class LedgerSettings(Section):
    """Where the counts are kept, and how replicas share them."""

    url: Annotated[LedgerUrl, Parsed(LEDGER_URL, LedgerUrl.parse)] = Field(
        default_factory=lambda: LedgerUrl.parse("sqlite:///octopus-ledger.db")
    )
    """a SQLite file, SQLite in memory, or a PostgreSQL database that replicas share"""
    lease_seconds: Annotated[float, Duration("3s", "5m")] = 15.0
    """postgresql: how long a silent replica keeps a target"""
    password_file: SecretFile = None
    """postgresql: a file with the password of the URL's user"""

    @field_validator("password_file", mode="after")
    @classmethod
    def _check_password_file(cls, file: Path | None, info: ValidationInfo) -> Path | None:
        # A URL with an error is missing here, and reported already.
        url = info.data.get("url")
        if file is not None and url is not None:
            if url.backend == "sqlite":
                raise refused("found it beside a SQLite ledger, expected it with postgresql:// only")
            if url.has_password:
                raise refused("found it beside a password in ledger.url, expected only one of both")
        return file

    @property
    def password(self) -> Secret | None:
        """The password that is not in the URL, read from its file at every use; None without a file."""
        return None if self.password_file is None else Secret(file=self.password_file)

    def passwords(self) -> tuple[str, ...]:
        """Give the secrets as they are now. Raises: ConfigError (the file of the password)."""
        password = self.password
        return self.url.passwords if password is None else (*self.url.passwords, password.get())


class MetricsSettings(Section):
    """What is exported. Units: the buckets' bounds in seconds."""

    submitting_buckets: Annotated[tuple[Bucket, ...], AtLeastOne, AfterValidator(_ascending)] = (
        1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0,
    )  # fmt: skip
    """the bounds, in seconds, for the time from creation to start"""
    running_buckets: Annotated[tuple[Bucket, ...], AtLeastOne, AfterValidator(_ascending)] = (
        10.0, 30.0, 60.0, 300.0, 600.0, 1800.0, 3600.0,
        7200.0, 14_400.0, 28_800.0, 43_200.0, 86_400.0, 172_800.0,
    )  # fmt: skip
    """the bounds, in seconds, for the time from start to end"""
    max_age_seconds: Annotated[float, Duration()] = 300.0
    """how long the gauges of a failing target are kept"""
    max_msg_codes: Annotated[int, Whole(0)] = 50
    """how many error codes of a target have series of their own; the rest becomes other"""
    max_job_types: Annotated[int, Whole(0)] = 50
    """how many undocumented job types of a target have series of their own; the rest becomes other"""
    max_statuses: Annotated[int, Whole(0)] = 50
    """how many undocumented statuses of a target have series of their own; the rest becomes other"""
    max_resource_specs: Annotated[int, Whole(0)] = 20
    """how many resource specs of a target have series of their own; the rest becomes other"""
    created_series: Annotated[bool, Flag()] = False
    """whether OpenMetrics has _created series"""
    new_series_hold_seconds: Annotated[float, Duration(maximum="5m")] = 90.0
    """how long a new counter shows 0 from its first scrape on; more than the longest scrape interval"""
    count_history: Annotated[bool, Flag()] = False
    """whether what the first sync lists is counted too"""


class WebSettings(Section):
    listen: Annotated[tuple[Listen, ...], AtLeastOne, AfterValidator(_without_repetition)] = (
        ListenAddress(None, 10877),
    )
    """the addresses to listen on"""
    config_file: Annotated[Path | None, FileName()] = None
    """a web configuration (TLS, users) of the Prometheus exporter-toolkit"""
    job_url: Annotated[JobUrl | None, Parsed(JOB_URL, JobUrl.parse)] = None
    """makes the ids of jobs on the status page links: a URL with {project_id}, {workspace} and {job_id}"""
    enable_lifecycle: Annotated[bool, Flag()] = False
    """whether POST /-/reload is served"""


class EventSettings(Section):
    """One line for every run that ended: where to, and how."""

    to: Annotated[EventStream | Path, Output()] = "stdout"
    """stdout, stderr or a file"""
    format: Annotated[EventFormat, ChoiceScalar(get_args(EventFormat))] = "json"
    """json or logfmt"""
    include: Annotated[EventInclude, ChoiceScalar(get_args(EventInclude))] = "ended"
    """ended: all runs that ended; failed: those that failed"""


class LogSettings(Section):
    level: Annotated[LogLevel, ChoiceScalar(get_args(LogLevel))] = "info"
    """the least level that is logged"""
    format: Annotated[LogFormat, ChoiceScalar(get_args(LogFormat))] = "logfmt"
    """logfmt or json"""


class Config(Section):
    """The whole configuration, checked. `load` makes it from a file."""

    credentials: Annotated[Mapping[Name, Credentials], AtLeastOne]
    """a mapping with at least one entry, each by a name of its own"""
    projects: Annotated[tuple[ProjectSettings, ...], AtLeastOne]
    """a list with at least one project"""
    poll: PollSettings = PollSettings()
    """how the API is asked"""
    ledger: LedgerSettings = LedgerSettings()
    """where the counts are kept"""
    metrics: MetricsSettings = MetricsSettings()
    """what is exported"""
    web: WebSettings = WebSettings()
    """what is served"""
    events: EventSettings | None = None
    """where a line for every run that ended is written to; none: nowhere"""
    log: LogSettings = LogSettings()
    """what is logged"""
    # No keys: set by `for_shard`, where the exporter polls one shard only.
    _shard: Shard | None = PrivateAttr(None)
    _configured_targets: int = PrivateAttr(0)

    @field_validator("projects", mode="after")
    @classmethod
    def _name_the_only_credentials(cls, projects: tuple[ProjectSettings, ...], info: ValidationInfo) -> Any:
        # Credentials with an error are missing here, and reported already.
        known = list(info.data.get("credentials", ()))
        default = {"credentials": known[0] if len(known) == 1 else ""}
        return tuple(p if p.credentials else p.model_copy(update=default) for p in projects)

    def targets(self) -> tuple[Target, ...]:
        """Give every (project, workspace) to poll, in the order of the file."""
        return tuple(target for project in self.projects for target in project.targets())

    def for_shard(self, shard: Shard) -> Self:
        """Give the same configuration with the targets of one shard only, and the projects that have some."""
        projects = []
        for project in self.projects:
            kept = [target for target in project.targets() if shard.has(target.project_id, target.workspace)]
            # Without workspaces the project is one target, which has no workspace_id.
            workspaces = tuple(target.workspace_id for target in kept if target.workspace_id is not None)
            if kept:
                projects.append(project.model_copy(update={"workspaces": workspaces}))
        config = self.model_copy(update={"projects": tuple(projects)})
        config._shard, config._configured_targets = shard, len(self.targets())
        return config

    @property
    def shard(self) -> Shard | None:
        """The shard whose targets these are; None: they are all that the file has."""
        return self._shard

    @property
    def configured_targets(self) -> int:
        """How many targets the file has, those of other shards included."""
        return len(self.targets()) if self._shard is None else self._configured_targets

    def credentials_of(self, target: Target) -> AnyCredentials:
        """Give the credentials that a target of this configuration uses."""
        return self.credentials[target.credentials]

    def secret_problems(self) -> list[str]:
        """Report the secrets that cannot be read now. `load` reads none: a file may be mounted later."""
        problems: list[str] = []
        for name, credentials in self.credentials.items():
            for key, value in credentials:
                try:
                    _ = isinstance(value, Secret) and value.get()
                except ConfigError as exc:
                    problems.append(f"credentials.{name}.{key}_file: {exc}")
        try:
            self.ledger.passwords()
        except ConfigError as exc:
            problems.append(f"ledger.password_file: {exc}")
        return problems

    def redacted(self) -> dict[str, Any]:
        """Give all settings as JSON values under the file's own keys, secrets masked."""
        return self.model_dump(mode="json", by_alias=True)

    def with_overrides(
        self,
        *,
        listen: Sequence[str] | None = None,
        web_config_file: Path | str | None = None,
        log_level: str | None = None,
        log_format: str | None = None,
    ) -> Self:
        """Replace values of the file by the flags that are given. Raises: ConfigError, naming the flags."""
        problems: list[str] = []

        def apply(section: _SectionT, flags: Mapping[str, object]) -> _SectionT:
            try:
                changed = type(section).model_validate(flags)
            except ValidationError as exc:
                for details in exc.errors(include_url=False):
                    # A bad address is left out of its list, and pydantic says that the list is too short.
                    if details["type"] != "too_short":
                        found = (
                            "" if details["type"] == "refused" else f"found {show((), details['input'])}, "
                        )
                        problems.append(f"{_FLAGS[str(details['loc'][0])]}: {found}{details['msg']}")
                return section
            # Of `changed` only what the flags set; the rest of it are defaults, not the values of the file.
            return section.model_copy(update={key: getattr(changed, key) for key in changed.model_fields_set})

        web = apply(self.web, {"listen": listen or None, "config_file": web_config_file})
        log = apply(self.log, {"level": log_level, "format": log_format})
        if problems:
            raise ConfigError(problems)
        return self.model_copy(update={"web": web, "log": log})


SECTIONS: dict[str, type[Section]] = {
    "poll": PollSettings,
    "ledger": LedgerSettings,
    "metrics": MetricsSettings,
    "web": WebSettings,
    "events": EventSettings,
    "log": LogSettings,
}
