"""
The running exporter: how it is put together, runs, takes up a new configuration and stops.

Every task lives in one group: whichever fails ends the process.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

import aiohttp
import structlog
from prometheus_client import CollectorRegistry

from exporter import __version__
from exporter.clients import ClientFactory
from exporter.config import Config
from exporter.errors import ConfigError, InternalFault
from exporter.events.delivery import Delivery, EventOutput
from exporter.exposition.instruments import Instruments
from exporter.exposition.publication import Publisher
from exporter.ledger.opening import ledger_facts, open_ledger
from exporter.log import Log
from exporter.masking import Secrets
from exporter.model import Progress, TargetKey, TargetSnapshot
from exporter.octopus.transport import open_session
from exporter.pollers import Pollers, poll_rules
from exporter.progress import progress_listener
from exporter.runs import RunReader
from exporter.series_release import SeriesReleaser
from exporter.state_log import FaultLog, LineLimiter, StateLog
from exporter.sync.ledger import Ledger
from exporter.sync.poller import ProgressListener
from exporter.sync.shared_ledger import SharedLedger
from exporter.systemd import SystemdNotifier, polls_in_a_line
from exporter.target_cleanup import TargetCleanup
from exporter.web.status.model import CredentialsStatus, ProcessInfo, ReloadStatus, shard_status

if TYPE_CHECKING:
    from exporter.replica import Replica

# At the end a poll under way may be recorded for so long; after that it is cancelled, which loses no data.
GRACE_SECONDS = 3.0
# Then waiting events may be written for so long; the rest stays in the ledger.
_EVENTS_GRACE_SECONDS = 1.0
# Then what they changed may be rendered for so long; the last scrape gets what was rendered by then.
_RENDERING_GRACE_SECONDS = 3.0
_LAG_INTERVAL_SECONDS = 0.1
# Otherwise clients of POST /-/reload could fill the log.
_RELOAD_LINES_AT_ONCE = 20
_RELOAD_LINES_PER_HOUR = 20.0


@asynccontextmanager
async def open_runtime(config: Config, load: Callable[[], Config]) -> AsyncIterator[Runtime]:
    """
    Put the exporter together; at the end close the connections, the ledger and the log, in this order.

    Shape: `load` reads the configuration again. Raises: StartError (the ledger cannot be used).
    """
    secrets = Secrets(time.time)
    instruments = Instruments(CollectorRegistry(auto_describe=True), __version__)
    with Log(secrets, on_dropped=instruments.log_line_dropped) as log:
        log.configure(config.log.level, config.log.format)
        ledger = await open_ledger(config.ledger)
        try:
            async with open_session() as session:
                with progress_listener() as listener:
                    yield Runtime(config, load, ledger, session, instruments, secrets, log, listener)
        finally:
            await ledger.close()


class Runtime:
    """
    Everything that lives as long as the process; implements web.app.Exporter.

    The configuration is the only part of it that is replaced as a whole, by `_apply`.
    """

    def __init__(
        self,
        config: Config,
        load: Callable[[], Config],
        ledger: Ledger,
        session: aiohttp.ClientSession,
        instruments: Instruments,
        secrets: Secrets,
        log: Log,
        listener: ProgressListener,
    ) -> None:
        self._config = config
        self._load = load
        self._ledger = ledger
        self._instruments = instruments
        self._log = log
        self.secrets = secrets
        self.releaser = SeriesReleaser(
            config.metrics.new_series_hold_seconds,
            is_ours=lambda key: self._replica is None or self._pollers.publishes(key),
        )
        self.publisher = Publisher(instruments, on_shown=self.releaser.shown)
        shared = ledger if isinstance(ledger, SharedLedger) else None
        self._clients = ClientFactory(config, session, instruments, secrets, refusals=shared)
        self._group = asyncio.TaskGroup()
        self._pollers = Pollers(
            ledger, self.publisher, secrets, self._group, listener, lambda: self._stopping
        )
        self._delivery = Delivery(
            ledger,
            secrets,
            log.write_lock,
            on_dropped=instruments.events_dropped,
            on_pending=instruments.events_pending,
        )
        self._replica = None if shared is None else self._make_replica(shared)
        self._started_ms = _now_ms()
        self._started = asyncio.Event()
        self._stopping = False
        # Held while pollers are replaced: series are not released meanwhile, and the process does not stop.
        self._reloading = asyncio.Lock()
        self._reload_requested = asyncio.Event()
        self._reload = ReloadStatus(True, self._started_ms)
        self._not_reloaded = StateLog(
            structlog.get_logger(),
            "configuration not reloaded",
            "configuration can be reloaded again",
            is_error=True,
        )
        self._reload_lines = LineLimiter(_RELOAD_LINES_AT_ONCE, _RELOAD_LINES_PER_HOUR)
        self._faults = FaultLog(structlog.get_logger())
        self._systemd = SystemdNotifier(os.environ, self._status_line)

    def _make_replica(self, ledger: SharedLedger) -> Replica:
        # Most exporters have an SQLite ledger.
        from exporter.replica import Replica, Surroundings  # noqa: PLC0415 - at its first use

        around = Surroundings(self._delivery, self.publisher, self._pollers, self.releaser, self._instruments)
        return Replica(ledger, self._config, self.secrets, around, self._poll_gained, self._share_rates)

    # -- run and stop ------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """
        Poll until told to stop, then let the polls under way end.

        Raises: StartError where a target cannot be restored.
        """
        self._instruments.reload_result(ok=True, timestamp_seconds=time.time())
        async with self._group as group:
            rendering = group.create_task(self.publisher.run(), name="publisher")
            delivering = group.create_task(self._delivery.run(), name="events")
            others = [
                group.create_task(self._start(), name="start"),
                group.create_task(self._measure_loop_lag(), name="loop lag"),
                group.create_task(self._reload_on_request(), name="reload"),
                group.create_task(self._clean_up(), name="target cleanup"),
                group.create_task(self._release_series(), name="series release"),
                group.create_task(self._systemd.run(), name="systemd"),
            ]
            sharing = group.create_task(self._share_targets(), name="replica")
            await stop.wait()

            # Each step leaves work to the next: polls add events and publish, events change metrics. The last
            # rendering is what a scrape still gets, because the caller closes the web server after this.
            self._stopping = True
            self._systemd.stopping()
            self._started.set()  # a reload that waits for it is refused
            for task in others:
                task.cancel()
            if self._replica is not None:
                await self._replica.stop_taking()
            async with self._reloading:
                await self._pollers.stop(GRACE_SECONDS)
            self._ledger.drop_waiting()
            await self._delivery.end(_EVENTS_GRACE_SECONDS)
            delivering.cancel()
            # The leases were renewed until here. Other replicas take over what is given back.
            sharing.cancel()
            if self._replica is not None:
                await asyncio.wait([sharing])
                await self._replica.leave()
            with suppress(TimeoutError):
                async with asyncio.timeout(_RENDERING_GRACE_SECONDS):
                    await self.publisher.flush()
            rendering.cancel()

    async def _start(self) -> None:
        """Take up the configuration; a stop may cancel this at any moment. Raises: StartError."""
        await self._open_ledger()
        async with self._reloading:
            await self._apply(self._config)
        self._started.set()
        self._systemd.ready()

    async def _open_ledger(self) -> None:
        """Wait until the ledger can be used. Raises: StartError."""
        if not self._ledger.is_open:
            log, began = structlog.get_logger(), time.monotonic()
            log.info("checking the ledger", reason="it was not closed, or has changed since")
            await self._ledger.opened()
            log.info("ledger checked", seconds=round(time.monotonic() - began, 1))

    async def _share_targets(self) -> None:
        if self._replica is not None:
            await self._started.wait()
            await self._replica.run()

    async def _poll_gained(self) -> None:
        """Start pollers for targets whose leases this replica has taken."""
        async with self._reloading:
            await self._pollers.start_missing(self._config, self._clients, {})

    def _share_rates(self, held: Collection[TargetKey]) -> None:
        """Share the request rates with the other replicas; each configuration has clients of its own."""
        self._clients.share_rates(held)

    async def _clean_up(self) -> None:
        await self._started.wait()
        await TargetCleanup(
            self._ledger,
            lambda: {target.key for target in self._config.targets()},
            lambda: poll_rules(self._config).schedule.lookback_ms,
            shard=self._config.shard,
            is_held_elsewhere=lambda key: self._replica is not None and self._replica.is_held_elsewhere(key),
        ).run()

    async def _release_series(self) -> None:
        await self._started.wait()
        # Under the lock: a poller that a reload has replaced must not publish any more.
        await self.releaser.run(self._pollers.release, self._reloading)

    async def poll_once(self) -> bool:
        """Poll every target once, without a timer and without events; return whether all polls succeeded."""
        await self._open_ledger()
        # Nothing delivers events here.
        config = self._config.model_copy(update={"events": None})
        self._sync_self_metrics(config, config)
        alone = nullcontext() if self._replica is None else self._replica.holding_all(config)
        async with alone:
            return await self._pollers.poll_once(config, self._clients)

    async def _measure_loop_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _LAG_INTERVAL_SECONDS
            await asyncio.sleep(_LAG_INTERVAL_SECONDS)
            self._instruments.loop_lag(max(loop.time() - due, 0.0))

    # -- take up a configuration -------------------------------------------------------------------------

    def request_reload(self) -> None:
        """Reload soon; the log and the metrics show the result."""
        self._reload_requested.set()

    async def _reload_on_request(self) -> None:
        while True:
            await self._reload_requested.wait()
            self._reload_requested.clear()
            with suppress(ConfigError):
                await self.reload()

    async def reload(self) -> None:
        """Read the configuration again and take it up. Raises: ConfigError, and the old one stays."""
        # A signal may come while the targets are being restored.
        await self._started.wait()
        async with self._reloading:
            if self._stopping:
                raise ConfigError(["the exporter is stopping"])
            with self._systemd.reloading():
                await self._take_up_changes()

    async def _take_up_changes(self) -> None:
        try:
            # In a thread: the configuration and the secrets' files may be on a slow disk.
            config = await asyncio.to_thread(self._load)
            _check_fixed(self._config, config)
            await self._apply(config)
        except ConfigError as exc:
            self._refuse(exc)
            raise
        except Exception as exc:
            self._faults.log("configuration not reloaded", exc)
            error = ConfigError([str(InternalFault(exc))])
            self._refuse(error)
            raise error from exc
        self._faults.clear()
        self._show_reload(ReloadStatus(True, _now_ms()))
        self._not_reloaded.is_over(time.time())
        log = structlog.get_logger()
        write = log.info if self._reload_lines.take(time.time()) else log.debug
        write("configuration reloaded", targets=len(self._pollers))

    def _refuse(self, error: ConfigError) -> None:
        self._show_reload(ReloadStatus(False, _now_ms(), tuple(error.problems)))
        self._not_reloaded.holds(str(error), time.time(), error=str(error))

    def _show_reload(self, status: ReloadStatus) -> None:
        self._reload = status
        self._instruments.reload_result(ok=status.ok, timestamp_seconds=time.time())
        self.publisher.refresh()

    async def _apply(self, config: Config) -> None:
        """Move to a configuration: from the one before or, at the start, from nothing."""
        before, clients = self._config, self._clients.reconfigured(config)
        # Building clients can fail, so it comes before anything changes.
        for target in config.targets():
            clients.client(target)
        self._log.configure(config.log.level, config.log.format)
        events = config.events
        self._delivery.configure(None if events is None else EventOutput(events.to, events.format))
        self._instruments.show_created(config.metrics.created_series)
        self.releaser.hold_for(config.metrics.new_series_hold_seconds)
        # The series of a project can go once its pollers have stopped, and must be there when they start.
        statuses = await self._pollers.stop_replaced(before, config)
        self._config, self._clients = config, clients
        self._sync_self_metrics(before, config)
        if self._replica is not None:
            self._replica.configure(config)
        await self._pollers.start_missing(config, clients, statuses)

    def _sync_self_metrics(self, before: Config, config: Config) -> None:
        """Keep the exporter's own metrics to the projects and credentials that are configured."""
        self._instruments.show_expiries(self._clients.expiries)
        projects = {project.name for project in config.projects}
        for name in {project.name for project in before.projects} - projects:
            self._instruments.forget_project(name)
        for name in projects:
            self._instruments.add_project(name)

    def _status_line(self) -> str:
        """Describe the state in one line, for `systemctl status`."""
        if not self._started.is_set():
            return "restoring the targets" if self._ledger.is_open else "checking the ledger"
        line = polls_in_a_line(len(self._config.targets()), self.publisher.shown)
        if not self._reload.ok:
            line += f"; configuration not reloaded: {self._reload.problems[0]}"
        return self.secrets.masked(line)

    # -- what the web server shows -----------------------------------------------------------------------

    @property
    def lifecycle_enabled(self) -> bool:
        return self._config.web.enable_lifecycle

    def snapshots(self) -> Iterable[TargetSnapshot]:
        return self.publisher.snapshots

    def progress(self) -> Mapping[TargetKey, Progress]:
        return self._pollers.progress()

    def reading(self) -> AbstractAsyncContextManager[RunReader]:
        return self._ledger.reading()

    def ready(self) -> list[str]:
        published = {shown.target.key for shown in self.publisher.shown if shown.totals is not None}
        why = "not polled yet" if self._ledger.is_open else "the ledger is being checked"
        missing = [
            f"project {target.project}, workspace {target.workspace}: {why}"
            for target in self._config.targets()
            if target.key not in published
        ]
        return missing or ([] if self._ledger.is_open else [why])

    async def process_info(self) -> ProcessInfo:
        # In a thread: a stat of the ledger's files may wait for a slow disk, and a reload may come meanwhile.
        ledger = await asyncio.to_thread(ledger_facts, self._config.ledger.url)
        config, now_ms = self._config, _now_ms()
        pending, dropped = self._instruments.events_waiting_and_lost()
        expiries = {name: round(at * 1000) for name, at in self._clients.expiries().items()}
        pauses = self._clients.pauses()
        shown = self.publisher.shown
        return ProcessInfo(
            started_ms=self._started_ms,
            interval_seconds=config.poll.interval_seconds,
            polling_since_ms=self._pollers.polling_since_ms(),
            clock_skews=self._instruments.clock_skews(),
            rests_until_ms={endpoint: now_ms + round(left * 1000) for endpoint, left in pauses.items()},
            held_series={one.target.key: one.totals.held_series for one in shown if one.totals is not None},
            log_lines_dropped=self._instruments.log_lines_dropped(),
            events_pending=pending,
            events_dropped=dropped,
            credentials=tuple(
                CredentialsStatus(name, settings.type, expiries.get(name))
                for name, settings in config.credentials.items()
            ),
            ledger=ledger,
            reload=self._reload,
            config=config.redacted(),
            job_url=config.web.job_url,
            shard=shard_status(config),
            replicas=None if self._replica is None else self._replica.status(),
            leases={} if self._replica is None else self._replica.leases(),
        )


def _now_ms() -> int:
    return int(time.time() * 1000)


def _check_fixed(before: Config, config: Config) -> None:
    """Refuse a change that needs a restart. Raises: ConfigError."""
    fixed = {
        "ledger.url": (before.ledger.url, config.ledger.url),
        "ledger.password_file": (before.ledger.password_file, config.ledger.password_file),
        "ledger.lease": (before.ledger.lease_seconds, config.ledger.lease_seconds),
        "web.listen": (before.web.listen, config.web.listen),
        "web.config_file": (before.web.config_file, config.web.config_file),
    }
    problems = [f"{key}: cannot change without a restart" for key, (old, new) in fixed.items() if old != new]
    if problems:
        raise ConfigError(problems)
