"""
The page server: the job list over HTTP, as fast as one thread of Python can hand out ready bytes.

Usage: python -m benchmarks.server JOBS [--in-flight N] [--spread N]. Prints `server: URL`, serves until it is
killed. Every project has the same jobs, and any token will do. It knows the filters `statuses`, `start_time`
and `id`, and

    POST /world?endings=N&arrivals=N    let jobs end and new ones come
    POST /latency?seconds=S             keep every answer back
    GET  /served                        how many pages were served so far, and their bytes, headers included
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from datetime import UTC, datetime
from urllib.parse import SplitResult, parse_qs, urlsplit

from benchmarks.world import Question, World

_END = b"\r\n\r\n"
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
_Values = dict[str, list[str]]


class Site:
    """What is served, and how much of it was."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.latency_seconds = 0.0
        self._requests = 0
        self._bytes = 0

    def page(self, values: _Values) -> bytes:
        question = _question(values)
        rows, total = self._world.find(question)
        body = b'{"meta_info":{"current_time":"%s"},"payload":{"list":[%s],"page_info":{%s}}}' % (
            datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode(),
            b",".join(rows),
            b'"offset":%d,"limit":%d,"total":%d' % (question.offset, question.limit, total),
        )
        answer = _HEAD % len(body) + body
        self._requests += 1
        self._bytes += len(answer)
        return answer

    def told(self, path: str, values: _Values) -> bytes:
        """Do what a control request says."""
        if path == "/world":
            self._world.change(int(values["endings"][0]), int(values["arrivals"][0]), _now_ms())
        elif path == "/latency":
            self.latency_seconds = float(values["seconds"][0])
        body = json.dumps({"requests": self._requests, "bytes": self._bytes}).encode()
        return _HEAD % len(body) + body


class _Connection(asyncio.Protocol):
    """One client; requests have no body, and the next one comes after the answer."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._heard = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._heard += data
        while _END in self._heard:
            head, _, self._heard = self._heard.partition(_END)
            self._answer(urlsplit(head.split(b" ", 2)[1].decode()))

    def _answer(self, url: SplitResult) -> None:
        values = parse_qs(url.query)
        if "/data/" not in url.path:
            self._transport.write(self._site.told(url.path, values))
        elif self._site.latency_seconds:
            loop = asyncio.get_running_loop()
            loop.call_later(self._site.latency_seconds, self._transport.write, self._site.page(values))
        else:
            self._transport.write(self._site.page(values))


def _question(values: _Values) -> Question:
    return Question(
        statuses=tuple(values.get("statuses", ())),
        start_ms=_number(values, "start_time"),
        job_id=_number(values, "id"),
        offset=_number(values, "offset") or 0,
        limit=_number(values, "limit") or 10,
    )


def _number(values: _Values, name: str) -> int | None:
    return int(values[name][0]) if name in values else None


def _now_ms() -> int:
    return int(time.time() * 1000)


async def _serve(site: Site) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(site), "127.0.0.1", 0)
    print(f"server: http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("jobs", type=int)
    parser.add_argument("--in-flight", type=int, default=200)
    parser.add_argument("--spread", type=int, default=3)
    chosen = parser.parse_args()
    asyncio.run(_serve(Site(World(chosen.jobs, chosen.in_flight, chosen.spread, _now_ms()))))
