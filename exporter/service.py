"""The exporter as a process: its signals, its limits and its end; what `run`, `demo` and `once` share."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from resource import RLIMIT_NOFILE, getrlimit, setrlimit

import structlog

from exporter import __version__
from exporter.config import Config
from exporter.errors import ForcedStop
from exporter.runtime import open_runtime
from exporter.web.app import create_app
from exporter.web.server import serving

# A thread that computes (rendering, the ledger) may keep the GIL for so long while the event loop waits for
# it. Python's own 5 ms would be waited for at each call on a socket, and a poll has many.
_SWITCH_SECONDS = 0.0005
# A collection of the oldest generation visits all that is published: some 50 ms at 100,000 series. It runs
# this seldom, because polls leave hardly anything there.
_COLLECTIONS_UP_TO_THE_OLDEST = 1000


async def run_exporter(
    config: Config,
    load: Callable[[], Config],
    announce: Callable[[tuple[str, ...]], None],
    *,
    systemd_socket: bool = False,
) -> None:
    """
    Poll and serve until SIGTERM or SIGINT; SIGHUP reads the configuration again.

    Shape: `announce` is called with the URLs once they are served. Raises: ConfigError; StartError;
    ForcedStop.
    """
    tune_process()
    file, stop, web = config.web.config_file, asyncio.Event(), None
    if file is not None:
        from exporter.web.toolkit import WebConfiguration  # noqa: PLC0415 - at its first use

        web = await asyncio.to_thread(WebConfiguration, file)
    with handled_signals(stop):
        async with open_runtime(config, load) as runtime:
            if config.shard is not None:
                structlog.get_logger().info(
                    "polling one shard of the targets",
                    shard=str(config.shard),
                    targets=len(config.targets()),
                    configured_targets=config.configured_targets,
                )
            app = create_app(
                runtime,
                runtime.publisher,
                masked=runtime.secrets.masked,
                on_served=runtime.releaser.served,
            )
            # The server is closed last, so that the result of the last polls can still be scraped.
            async with serving(app, config.web, web, systemd_socket=systemd_socket) as server:
                announce(server.urls)
                asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, runtime.request_reload)
                await runtime.run(stop)


def log_listening(urls: tuple[str, ...]) -> None:
    """Announce the URLs in the log."""
    for url in urls:
        structlog.get_logger().info("listening", url=f"{url}/", metrics=f"{url}/metrics", version=__version__)


async def poll_once(config: Config) -> tuple[str, bool]:
    """Poll every target once; return the exposition and whether all polls succeeded."""
    async with open_runtime(config, lambda: config) as runtime:
        succeeded = await runtime.poll_once()
        exposition = runtime.publisher.render_now().text.plain.decode()
        return exposition, succeeded and all(shown.poll.up for shown in runtime.publisher.shown)


def tune_process() -> None:
    """Let threads and the garbage collector delay the event loop less, and open as many files as allowed."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    # Imported modules live as long as the process: no collection needs to visit them.
    gc.freeze()
    youngest, middle, _ = gc.get_threshold()
    gc.set_threshold(youngest, middle, _COLLECTIONS_UP_TO_THE_OLDEST)
    # Every client and every request takes a descriptor.
    _, most = getrlimit(RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        setrlimit(RLIMIT_NOFILE, (most, most))


@contextmanager
def handled_signals(stop: asyncio.Event) -> Iterator[None]:
    """
    Set `stop` on the first SIGTERM or SIGINT; on the second, cancel the calling task.

    SIGHUP, which would end the process, is ignored until a handler replaces this one. Raises: ForcedStop.
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
        # Any other cancellation has another cause and must reach the caller as it is.
        if forced:
            raise ForcedStop from None
        raise
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)
