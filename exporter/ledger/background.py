"""Work that takes long and may be given up at any moment, in a thread that the process need not wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Thread


async def in_background(work: Callable[[], None], name: str) -> None:
    """
    Work in a thread of its own. A caller who is cancelled leaves it behind; it ends with the process.

    SQLite cannot be interrupted while it checks a table.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def settle(error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    def run() -> None:
        error: BaseException | None = None
        try:
            work()
        except BaseException as exc:
            error = exc
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, error)

    Thread(target=run, name=name, daemon=True).start()
    await done
