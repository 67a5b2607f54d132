"""A running simulator, and a client that reads it like the exporter."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientResponse, ClientSession

from exporter.simulator import DEMO_PROJECT, DemoCredentials, SimulatorSettings, serve
from tests.simulated import START_MS

LIST = f"/v1.0/{DEMO_PROJECT}/data/system-jobs"
KNOWN = DemoCredentials()
USER = {"name": KNOWN.user, "password": KNOWN.password, "domain": {"name": KNOWN.domain}}
TOKEN_REQUEST = {
    "auth": {
        "identity": {"methods": ["password"], "password": {"user": USER}},
        "scope": {"project": {"id": DEMO_PROJECT}},
    }
}


@dataclass(frozen=True, slots=True)
class Api:
    """A running simulator, and a client with a token."""

    url: str
    session: ClientSession
    token: str

    async def get(self, path: str = LIST, **headers: str) -> ClientResponse:
        sent = headers or {"X-Auth-Token": self.token}
        response = await self.session.get(self.url + path, headers=sent)
        await response.read()
        return response

    async def page(self, query: str = "") -> dict[str, Any]:
        response = await self.get(f"{LIST}?{query}")
        assert response.status == 200
        body: dict[str, Any] = await response.json()
        return body

    async def rows(self, query: str = "limit=200") -> list[Any]:
        rows: list[Any] = (await self.page(query))["payload"]["list"]
        return rows

    async def info(self, query: str = "") -> dict[str, Any]:
        info: dict[str, Any] = (await self.page(query))["payload"]["page_info"]
        return info

    async def ids(self, query: str = "") -> list[int]:
        return [row["id"] for row in (await self.page(query))["payload"]["list"]]

    async def read(self, path: str) -> Any:
        return await (await self.get(path)).json()

    async def order(self, path: str, body: object) -> Any:
        async with self.session.post(self.url + path, json=body) as response:
            return await response.json()


@asynccontextmanager
async def opened(**settings: Any) -> AsyncIterator[Api]:
    """Serve a small world with a stopped clock, unless `settings` say otherwise."""
    still = {"jobs": 300, "speed": 0.0, "start_ms": START_MS}
    running = await serve(SimulatorSettings(**(still | settings)))
    try:
        async with ClientSession() as session:
            async with session.post(
                running.url + "/v3/auth/tokens?nocatalog=true", json=TOKEN_REQUEST
            ) as got:
                token = got.headers.get("X-Subject-Token", "")
            yield Api(running.url, session, token)
    finally:
        await running.close()
