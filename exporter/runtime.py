"""
The running exporter: its pollers, what is published, and how it takes up a new configuration.

Every task lives in one group: whichever fails ends the process. Targets come and go with the configuration;
what stays keeps its poller, and what changes gets a new one that goes on counting from the ledger.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass

import structlog

from exporter.clients import ClientFactory
from exporter.config import Config
from exporter.counting.rules import CountingRules, EventRules
from exporter.errors import ConfigError, InternalFault, LedgerError, StartError
from exporter.events.delivery import Delivery, EventOutput
from exporter.exposition.instruments import Instruments
from exporter.exposition.publication import Publisher
from exporter.forgetting import Forgetting
from exporter.ledger.facts import ledger_facts
from exporter.log import Log
from exporter.masking import Secrets
from exporter.model import PollStatus, Progress, SeriesKey, Target, TargetKey, TargetSnapshot
from exporter.releasing import Releasing
from exporter.runs import RunReader
from exporter.state_log import FaultLog, LineLimiter, StateLog
from exporter.sync.change_reader import PollRules
from exporter.sync.ledger import Ledger
from exporter.sync.planner import Schedule
from exporter.sync.poller import PollTiming, ProgressListener, TargetPoller
from exporter.web.status.model import CredentialsStatus, ProcessInfo, ReloadStatus

# A poll that is under way at the end has this long to be recorded; it is lost otherwise, and nothing with it.
GRACE_SECONDS = 3.0
# So long the events that wait may be written; the rest stays in the ledger.
_EVENTS_GRACE_SECONDS = 1.0
_LAG_INTERVAL_SECONDS = 0.1
# Anyone who may POST /-/reload could fill the log otherwise.
_RELOAD_LINES_AT_ONCE = 20
_RELOAD_LINES_PER_HOUR = 20.0


@dataclass(frozen=True, slots=True)
class _Running:
    poller: TargetPoller
    stop: asyncio.Event
    task: asyncio.Task[None]


class Runtime:
    """
    Runs the pollers of a configuration; implements web.app.Exporter.

    Shape: `load` reads the configuration again. Raises from `run`: StartError where a target cannot be
    restored.
    """

    def __init__(
        self,
        config: Config,
        *,
        load: Callable[[], Config],
        ledger: Ledger,
        access: ClientFactory,
        publisher: Publisher,
        instruments: Instruments,
        secrets: Secrets,
        log: Log,
        releasing: Releasing,
        delivery: Delivery,
        watcher: ProgressListener | None = None,
    ) -> None:
        self._config = config
        self._started_ms = _now_ms()
        self._reload = ReloadStatus(True, self._started_ms)
        self._load = load
        self._ledger = ledger
        self._access = access
        self._publisher = publisher
        self._instruments = instruments
        self._secrets = secrets
        self._log = log
        self._releasing = releasing
        self._delivery = delivery
        self._watcher = watcher
        self._running: dict[TargetKey, _Running] = {}
        self._reloading = asyncio.Lock()
        self._stopping = False
        self._group = asyncio.TaskGroup()
        self._started = asyncio.Event()
        self._reload_wanted = asyncio.Event()
        self._unrestored: dict[TargetKey, StateLog] = {}
        self._not_reloaded = StateLog(
            structlog.get_logger(),
            "configuration not reloaded",
            "configuration can be reloaded again",
            is_error=True,
        )
        self._reload_lines = LineLimiter(_RELOAD_LINES_AT_ONCE, _RELOAD_LINES_PER_HOUR)
        self._faults = FaultLog(structlog.get_logger())
        self._forgetting = Forgetting(
            ledger,
            lambda: {target.key for target in self._config.targets()},
            lambda: poll_rules(self._config).schedule.lookback_ms,
        )

    @property
    def lifecycle_enabled(self) -> bool:
        return self._config.web.enable_lifecycle

    @property
    def config(self) -> Mapping[str, object]:
        return self._config.redacted()

    def snapshots(self) -> Iterable[TargetSnapshot]:
        return self._publisher.snapshots

    def progress(self) -> Mapping[TargetKey, Progress]:
        pollers = {key: running.poller.progress for key, running in self._running.items()}
        return {key: progress for key, progress in pollers.items() if progress is not None}

    async def process_info(self) -> ProcessInfo:
        pending, dropped = self._instruments.events_waiting_and_lost()
        return ProcessInfo(
            started_ms=self._started_ms,
            interval_seconds=self._config.poll.interval_seconds,
            polling_since_ms=self._polling_since_ms(),
            clock_skews=self._instruments.clock_skews(),
            rests_until_ms=self._rests_until_ms(),
            held_series={
                shown.target.key: shown.totals.held_series
                for shown in self._publisher.shown
                if shown.totals is not None
            },
            log_lines_dropped=self._instruments.log_lines_dropped(),
            events_pending=pending,
            events_dropped=dropped,
            credentials=self._credentials(),
            # In a thread: what stats a file waits for its disk.
            ledger=await asyncio.to_thread(ledger_facts, self._config.ledger.url),
            reload=self._reload,
            config=self.config,
            job_url=self._config.web.job_url,
        )

    def _rests_until_ms(self) -> dict[str, int]:
        return {endpoint: _now_ms() + round(left * 1000) for endpoint, left in self._access.pauses().items()}

    def _polling_since_ms(self) -> dict[TargetKey, int]:
        began = {key: running.poller.polling_since_ms for key, running in self._running.items()}
        return {key: since_ms for key, since_ms in began.items() if since_ms is not None}

    def _credentials(self) -> tuple[CredentialsStatus, ...]:
        expiries = self._access.expiries()
        return tuple(
            CredentialsStatus(name, settings.type, round(expiries[name] * 1000) if name in expiries else None)
            for name, settings in self._config.credentials.items()
        )

    def reading(self) -> AbstractAsyncContextManager[RunReader]:
        return self._ledger.reading()

    def ready(self) -> list[str]:
        published = {shown.target.key for shown in self._publisher.shown if shown.totals is not None}
        return [
            f"project {target.project}, workspace {target.workspace}: not polled yet"
            for target in self._config.targets()
            if target.key not in published
        ]

    async def run(self, stop: asyncio.Event) -> None:
        """Poll until told to stop, then let the polls under way end."""
        self._instruments.reload_result(ok=True, timestamp_seconds=time.time())
        async with self._group as group:
            rendering = group.create_task(self._publisher.run(), name="publisher")
            measuring = group.create_task(self._measure_loop_lag(), name="loop lag")
            reloading = group.create_task(self._reload_when_wanted(), name="reload")
            await self._apply(self._config)
            self._started.set()
            forgetting = group.create_task(self._forgetting.run(), name="forgetting")
            # A poller that a reload has replaced must not publish any more.
            releasing = group.create_task(
                self._releasing.run(self._release, self._reloading), name="releasing"
            )
            delivering = group.create_task(self._delivery.run(), name="events")
            await stop.wait()
            self._stopping = True
            for task in (reloading, measuring, forgetting, releasing):
                task.cancel()
            async with self._reloading:
                await self._end(self._running.values(), GRACE_SECONDS)
            await self._delivery.end(_EVENTS_GRACE_SECONDS)
            delivering.cancel()
            await self._publisher.flush()
            rendering.cancel()

    async def poll_once(self) -> bool:
        """Poll every target once, without a timer and without events; tell whether all succeeded."""
        config = self._config.model_copy(update={"events": None})
        self._follow_names(config, config)
        pollers = [self._poller(config, self._access, target) for target in config.targets()]
        for poller in pollers:
            await _restore_at_start(poller)
            self._remember_labels(poller.target.key)
        return all(await asyncio.gather(*map(_poll_and_release, pollers)))

    async def _release(self, key: TargetKey, keys: frozenset[SeriesKey]) -> None:
        """Release some series of a target that is polled. Raises: LedgerError."""
        if key in self._running:
            await self._running[key].poller.release(keys)

    async def reload(self) -> None:
        """Read the configuration again and take it up. Raises: ConfigError, and the old one stays."""
        await self._started.wait()
        async with self._reloading:
            if self._stopping:
                raise ConfigError(["the exporter is stopping"])
            try:
                config = await asyncio.to_thread(self._load)
                _check_fixed(self._config, config)
                await self._apply(config)
            except ConfigError as exc:
                self._not_taken_up(exc)
                raise
            except Exception as exc:
                self._faults.log("configuration not reloaded", exc)
                fault = ConfigError([str(InternalFault(exc))])
                self._not_taken_up(fault)
                raise fault from exc
            self._faults.clear()
            self._instruments.reload_result(ok=True, timestamp_seconds=time.time())
            self._reload = ReloadStatus(True, _now_ms())
            self._publisher.refresh()
            self._not_reloaded.is_over(time.time())
            log = structlog.get_logger()
            say = log.info if self._reload_lines.take(time.time()) else log.debug
            say("configuration reloaded", targets=len(self._running))

    def _not_taken_up(self, exc: ConfigError) -> None:
        self._instruments.reload_result(ok=False, timestamp_seconds=time.time())
        self._reload = ReloadStatus(False, _now_ms(), tuple(exc.problems))
        self._publisher.refresh()
        self._not_reloaded.holds(str(exc), time.time(), error=str(exc))

    def want_reload(self) -> None:
        """Reload soon; how it went is logged and shown by the metrics."""
        self._reload_wanted.set()

    async def _reload_when_wanted(self) -> None:
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            with suppress(ConfigError):
                await self.reload()

    async def _measure_loop_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _LAG_INTERVAL_SECONDS
            await asyncio.sleep(_LAG_INTERVAL_SECONDS)
            self._instruments.loop_lag(max(loop.time() - due, 0.0))

    async def _apply(self, config: Config) -> None:
        """Move to a configuration, from the one before or, at the start, from nothing."""
        before, access = self._config, self._access.reconfigured(config)
        wanted = {target.key: target for target in config.targets()}
        # What fails here leaves everything as it was. Clients also share what need not be built twice.
        for target in wanted.values():
            access.client(target)
        self._log.configure(config.log.level, config.log.format)
        self._delivery.configure(event_output(config))
        self._instruments.show_created(config.metrics.created_series)
        self._releasing.hold_for(config.metrics.new_series_hold_seconds)
        leaving = [
            running
            for key, running in self._running.items()
            if key not in wanted or _identity(before, running.poller.target) != _identity(config, wanted[key])
        ]
        await self._end(leaving, 0)
        self._config, self._access = config, access
        status = {running.poller.target.key: running.poller.status for running in leaving}
        for running in leaving:
            del self._running[running.poller.target.key]
        for key in status.keys() - wanted.keys():
            self._publisher.withdraw(key)
        for target in wanted.values():
            access.client(target)  # so that what is shared is taken over, and what is in use is known
        self._follow_names(before, config)
        for key, target in wanted.items():
            if key not in self._running:
                await self._start(target, status.get(key))

    async def _start(self, target: Target, status: PollStatus | None) -> None:
        poller = self._poller(self._config, self._access, target, status)
        if not self._started.is_set():
            await _restore_at_start(poller)
            self._remember_labels(target.key)
        else:
            await self._restore(poller)
        stop = asyncio.Event()
        task = self._group.create_task(poller.run(stop), name=f"poll {target.project}/{target.workspace}")
        self._running[target.key] = _Running(poller, stop, task)

    async def _restore(self, poller: TargetPoller) -> None:
        """Show what the ledger has of a target that a reload brings; it is polled whatever comes of it."""
        target = poller.target
        try:
            await poller.restore()
        except LedgerError as exc:
            state = StateLog(
                structlog.get_logger(), "target not restored", "target restored again", is_error=True
            )
            state = self._unrestored.setdefault(target.key, state)
            state.holds(
                exc.reason,
                time.time(),
                project=target.project,
                workspace=target.workspace,
                error=str(exc),
            )
        else:
            if target.key in self._unrestored:
                self._unrestored[target.key].is_over(time.time(), project=target.project)
            self._remember_labels(target.key)

    def _remember_labels(self, key: TargetKey) -> None:
        """Keep the values of labels that are exported already, whatever the secrets are now."""
        for shown in self._publisher.snapshots:
            if shown.target.key == key and shown.totals is not None:
                totals = shown.totals
                for labels in (totals.jobs, totals.completed, totals.failures):
                    self._secrets.keep_labels(label for series in labels for label in series)

    async def _end(self, some: Iterable[_Running], grace_seconds: float) -> None:
        tasks = [running.task for running in some]
        for running in some:
            running.stop.set()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace_seconds)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _poller(
        self, config: Config, access: ClientFactory, target: Target, status: PollStatus | None = None
    ) -> TargetPoller:
        return TargetPoller(
            target,
            access.client(target),
            self._ledger,
            self._publisher,
            poll_rules(config),
            PollTiming(config.poll.interval_seconds, config.metrics.max_age_seconds),
            status=status,
            created_series=config.metrics.created_series,
            listener=self._watcher,
        )

    def _follow_names(self, before: Config, now: Config) -> None:
        """Keep the self metrics to the projects and credentials that are configured."""
        self._instruments.show_expiries(self._access.expiries)
        projects = {project.name for project in now.projects}
        for name in {project.name for project in before.projects} - projects:
            self._instruments.forget_project(name)
        for name in projects:
            self._instruments.add_project(name)


async def _restore_at_start(poller: TargetPoller) -> None:
    """Raises: StartError."""
    try:
        await poller.restore()
    except LedgerError as exc:
        raise StartError(str(exc)) from exc


async def _poll_and_release(poller: TargetPoller) -> bool:
    """Poll once and let no new series show 0; tell whether that succeeded."""
    succeeded = await poller.poll()
    try:
        await poller.release_all()
    except LedgerError as exc:
        structlog.get_logger().error("new series not released", error=str(exc))
        return False
    return succeeded


def _now_ms() -> int:
    return int(time.time() * 1000)


def poll_rules(config: Config) -> PollRules:
    """Give what the configuration says of reading and counting, in the poll's own units."""
    poll = config.poll
    return PollRules(
        schedule=Schedule(
            lookback_ms=None if poll.lookback_seconds is None else round(poll.lookback_seconds * 1000),
            overlap_ms=round(poll.overlap_seconds * 1000),
            full_sync_interval_ms=round(poll.full_sync_interval_seconds * 1000),
            audit_interval_ms=round(poll.audit_interval_seconds * 1000),
            gap_ms=round(max(poll.overlap_seconds, 3 * poll.interval_seconds) * 1000),
        ),
        page_size=config.poll.page_size,
        concurrency=config.poll.concurrency,
        counting=CountingRules(
            submitting_bounds=config.metrics.submitting_buckets,
            running_bounds=config.metrics.running_buckets,
            max_msg_codes=config.metrics.max_msg_codes,
            max_job_types=config.metrics.max_job_types,
            max_statuses=config.metrics.max_statuses,
            count_history=config.metrics.count_history,
            events=None if config.events is None else EventRules(config.events.include),
        ),
    )


def event_output(config: Config) -> EventOutput | None:
    """Give where events are written to, None for nowhere."""
    return None if config.events is None else EventOutput(config.events.to, config.events.format)


def _identity(config: Config, target: Target) -> tuple[object, ...]:
    """Give all that makes a poller what it is: one whose identity stays is left alone by a reload."""
    # Pollers hold nothing: the time may change without another one.
    metrics = config.metrics.model_copy(update={"new_series_hold_seconds": 0.0})
    include = None if config.events is None else config.events.include
    return (target, config.credentials_of(target), config.poll, metrics, include)


def _check_fixed(before: Config, now: Config) -> None:
    """Refuse what cannot change while the process runs. Raises: ConfigError."""
    fixed = {
        "ledger.url": (before.ledger.url, now.ledger.url),
        "web.listen": (before.web.listen, now.web.listen),
        "web.config_file": (before.web.config_file, now.web.config_file),
    }
    problems = [f"{key}: cannot change without a restart" for key, (old, new) in fixed.items() if old != new]
    if problems:
        raise ConfigError(problems)
