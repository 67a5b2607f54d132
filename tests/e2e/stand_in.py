"""Fake APIs for answers that the simulator does not give."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.e2e.exporting import Exporter

Serve = Callable[[web.Application], Awaitable[TestServer]]
Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def exporter_of(folder: Path, serve: Serve, answer: Answering, *, path: str = "/{path:.*}") -> Exporter:
    """Serve the answers and give an exporter that asks for them with a token, which nobody checks."""
    app = web.Application()
    app.router.add_get(path, answer)
    server = await serve(app)
    exporter = Exporter(folder, str(server.make_url("")).rstrip("/"))
    exporter.config["credentials"] = {"default": {"type": "token", "token": "any"}}
    return exporter


@contextmanager
def silence() -> Iterator[str]:
    """Listen and never answer. Returns the URL."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
