"""The whole exporter put together: what `run`, `demo` and `once` share."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import structlog
from prometheus_client import CollectorRegistry
from rich.console import Console

from exporter import __version__, log
from exporter.access import Access
from exporter.config import Config
from exporter.errors import ConfigError
from exporter.exposition.instruments import Instruments
from exporter.exposition.publication import Publisher
from exporter.ledger.opening import open_ledger
from exporter.octopus.transport import open_session
from exporter.runtime import Runtime
from exporter.watching import watching
from exporter.web.app import create_app
from exporter.web.server import serve


class ForcedStop(Exception):
    """Told to stop a second time."""


@dataclass(frozen=True, slots=True)
class Assembly:
    """The parts that outlive a poll."""

    runtime: Runtime
    publisher: Publisher


@asynccontextmanager
async def assemble(config: Config, load: Callable[[], Config]) -> AsyncIterator[Assembly]:
    """
    Build the exporter and, in the end, let go of the ledger and the connections.

    Raises: StartError (the ledger cannot be used).
    """
    log.configure(config.log.level, config.log.format)
    if config.web.config_file is not None:
        raise ConfigError([f"web.config_file: {config.web.config_file}: TLS and users are not supported yet"])
    ledger = await open_ledger(config.ledger.url)
    try:
        async with open_session() as session:
            with watching(Console(stderr=True)) as watcher:
                registry = CollectorRegistry(auto_describe=True)
                instruments = Instruments(registry, __version__)
                publisher = Publisher(instruments)
                runtime = Runtime(
                    config,
                    load=load,
                    ledger=ledger,
                    access=Access(config, session, instruments),
                    publisher=publisher,
                    instruments=instruments,
                    watcher=watcher,
                )
                yield Assembly(runtime, publisher)
    finally:
        await ledger.close()


async def run_exporter(
    config: Config, load: Callable[[], Config], announce: Callable[[tuple[int, ...]], None]
) -> None:
    """
    Poll and serve until SIGTERM or SIGINT; SIGHUP reads the configuration again.

    Shape: `announce` is told the ports once they are served. Raises: StartError; ForcedStop.
    """
    stop = asyncio.Event()
    with handled_signals(stop):
        async with assemble(config, load) as parts:
            server = await serve(create_app(parts.runtime, parts.publisher), config.web.listen)
            try:
                announce(server.ports)
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, parts.runtime.want_reload)
                await parts.runtime.run(stop)
            finally:
                # Last, so that the end of the polling can still be scraped.
                await server.close()


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
        return parts.publisher.render_now().text.plain.decode(), succeeded


def unwrap(error: BaseException) -> BaseException:
    """Give the first error of a group, which is what brought the others about."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
