"""The whole exporter put together: what `run`, `demo` and `once` share."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from resource import RLIMIT_NOFILE, getrlimit, setrlimit

import structlog
from prometheus_client import CollectorRegistry
from rich.console import Console

from exporter import __version__
from exporter.clients import ClientFactory
from exporter.config import Config
from exporter.events.delivery import Delivery
from exporter.exposition.instruments import Instruments
from exporter.exposition.publication import Publisher
from exporter.ledger.opening import open_ledger
from exporter.log import Log
from exporter.masking import Secrets
from exporter.octopus.transport import open_session
from exporter.progress import watching
from exporter.releasing import Releasing
from exporter.runtime import Runtime
from exporter.web.app import create_app
from exporter.web.server import serving
from exporter.web.toolkit import WebConfiguration

# How long a thread that computes (rendering, the ledger) may keep the event loop waiting for the interpreter.
# Python's own 5 ms come up at each call on a socket, and a poll has many.
_SWITCH_SECONDS = 0.0005
# A collection of the oldest generation looks at all that is published: some 50 ms at 100,000 series. What a
# poll leaves behind goes without it.
_COLLECTIONS_UP_TO_THE_OLDEST = 1000


class ForcedStop(Exception):
    """Told to stop a second time."""


@dataclass(frozen=True, slots=True)
class Assembly:
    """The parts that outlive a poll."""

    runtime: Runtime
    publisher: Publisher
    releasing: Releasing
    secrets: Secrets


@asynccontextmanager
async def assemble(config: Config, load: Callable[[], Config]) -> AsyncIterator[Assembly]:
    """
    Build the exporter and, in the end, let go of the ledger and the connections.

    Raises: StartError (the ledger cannot be used).
    """
    secrets = Secrets(time.time)
    instruments = Instruments(CollectorRegistry(auto_describe=True), __version__)
    with Log(secrets, on_dropped=instruments.log_line_dropped) as log:
        log.configure(config.log.level, config.log.format)
        ledger = await open_ledger(config.ledger.url)
        try:
            async with open_session() as session:
                with watching(Console(stderr=True)) as watcher:
                    releasing = Releasing(config.metrics.new_series_hold_seconds)
                    publisher = Publisher(instruments, on_shown=releasing.shown)
                    delivery = Delivery(
                        ledger,
                        secrets,
                        log.turn,
                        on_dropped=instruments.events_dropped,
                        on_waiting=instruments.events_pending,
                    )
                    runtime = Runtime(
                        config,
                        load=load,
                        ledger=ledger,
                        access=ClientFactory(config, session, instruments, secrets),
                        publisher=publisher,
                        instruments=instruments,
                        secrets=secrets,
                        log=log,
                        releasing=releasing,
                        delivery=delivery,
                        watcher=watcher,
                    )
                    yield Assembly(runtime, publisher, releasing, secrets)
        finally:
            await ledger.close()


async def run_exporter(
    config: Config,
    load: Callable[[], Config],
    announce: Callable[[tuple[str, ...]], None],
    *,
    systemd_socket: bool = False,
) -> None:
    """
    Poll and serve until SIGTERM or SIGINT; SIGHUP reads the configuration again.

    Shape: `announce` is told the URLs once they are served. Raises: ConfigError; StartError; ForcedStop.
    """
    spare_event_loop()
    take_all_files()
    file, stop = config.web.config_file, asyncio.Event()
    web = None if file is None else await asyncio.to_thread(WebConfiguration.load, file)
    with handled_signals(stop):
        async with assemble(config, load) as parts:
            app = create_app(
                parts.runtime,
                parts.publisher,
                masked=parts.secrets.masked,
                on_served=parts.releasing.served,
            )
            # It is closed last, so that the end of the polling can still be scraped.
            async with serving(app, config.web, web, systemd_socket=systemd_socket) as server:
                announce(server.urls)
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, parts.runtime.want_reload)
                await parts.runtime.run(stop)


def spare_event_loop() -> None:
    """Keep what else this process does from holding the event loop up."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.freeze()
    youngest, middle, _ = gc.get_threshold()
    gc.set_threshold(youngest, middle, _COLLECTIONS_UP_TO_THE_OLDEST)


def take_all_files() -> None:
    """Raise the limit of open files as far as this process may: every client and every request takes one."""
    _, most = getrlimit(RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        setrlimit(RLIMIT_NOFILE, (most, most))


@contextmanager
def handled_signals(stop: asyncio.Event) -> Iterator[None]:
    """
    Set `stop` on the first SIGTERM or SIGINT; on the second, cancel what the caller is doing. SIGHUP does
    nothing until somebody has a use for it.

    Raises: ForcedStop.
    """
    loop, caller = asyncio.get_running_loop(), asyncio.current_task()
    forced = False

    def on_stop(name: str) -> None:
        nonlocal forced
        if not stop.is_set():
            structlog.get_logger().info("stopping", signal=name)
            stop.set()
        elif caller is not None:
            forced = True
            caller.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_stop, number.name)
    loop.add_signal_handler(signal.SIGHUP, lambda: None)
    try:
        yield
    except asyncio.CancelledError:
        if forced:
            raise ForcedStop from None
        raise
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)


async def poll_once(config: Config) -> tuple[str, bool]:
    """Poll every target once; give the exposition and whether all polls succeeded."""
    async with assemble(config, lambda: config) as parts:
        succeeded = await parts.runtime.poll_once()
        exposition = parts.publisher.render_now().text.plain.decode()
        return exposition, succeeded and all(shown.poll.up for shown in parts.publisher.shown)


def unwrap(error: BaseException) -> BaseException:
    """Give the first error of a group, which is what brought the others about."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
