"""An application behind a web configuration, really served, and clients that connect to it."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import bcrypt
from aiohttp import ClientSession, web

from exporter.config import WebSettings
from exporter.web.server import serving
from exporter.web.toolkit import WebConfiguration

HOST = "127.0.0.1"
# The hashes have the lowest cost: these tests are not about the time of a comparison.
PASSWORDS = {"alice": "correct horse", "bob": "battery staple"}


def hashed(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


def basic(user: str, password: str) -> dict[str, str]:
    """Return the header of a login. It is UTF-8, also where a client library would use another encoding."""
    return {"Authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    text: str


@dataclass(frozen=True, slots=True)
class Site:
    """A running application."""

    configuration: WebConfiguration
    port: int

    async def get(self, tls: ssl.SSLContext | None = None, /, **headers: str) -> Reply:
        """Send a request over a new connection. Raises: aiohttp.ClientError."""
        scheme = "http" if tls is None else "https"
        async with ClientSession() as session:
            url = f"{scheme}://localhost:{self.port}/page"
            async with session.get(url, ssl=tls or True, headers=headers) as answer:
                return Reply(answer.status, answer.headers, await answer.text())

    async def handshake(self, tls: ssl.SSLContext) -> ssl.SSLObject:
        """Open a connection, read a page over it and close it. Raises: OSError."""
        reader, writer = await asyncio.open_connection(HOST, self.port, ssl=tls, server_hostname="localhost")
        try:
            writer.write(b"GET /page HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            if not (await reader.read()).startswith(b"HTTP/1.1 200"):
                raise ConnectionError("no answer")
            found: ssl.SSLObject = writer.get_extra_info("ssl_object")
            return found
        finally:
            writer.transport.abort()

    async def admits(self, tls: ssl.SSLContext) -> bool:
        """Tell whether this client gets an answer."""
        try:
            await self.handshake(tls)
        except OSError:
            return False
        return True


@asynccontextmanager
async def site(file: Path, text: str, look_seconds: float = 0.1) -> AsyncIterator[Site]:
    """Serve a page behind this web configuration."""
    file.write_text(text)
    configuration = WebConfiguration(file, look_seconds)
    settings = WebSettings.model_validate({"listen": [f"{HOST}:0"]})
    app = web.Application()
    app.add_routes([web.get("/page", _page), web.get("/-/healthy", _page)])
    async with serving(app, settings, configuration) as server:
        yield Site(configuration, server.ports[0])


async def _page(request: web.Request) -> web.Response:
    return web.Response(text="a page\n")
