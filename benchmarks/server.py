"""
The page server: the job list over HTTP, as fast as one thread of Python can send prepared bytes.

Usage: python -m benchmarks.server JOBS [--in-flight N] [--spread N]. Prints `server: URL`, then serves until
it is killed. Every project has the same jobs; any token is accepted. It supports the filters `statuses`,
`start_time` and `id`, and

    POST /change?endings=N&arrivals=N    end jobs and create new ones
    POST /latency?seconds=S              delay every response
    GET  /served                         the number of pages served so far, and their bytes with headers

All rows are rendered beforehand. Jobs are numbered by creation, evenly over four weeks up to an hour ago. All
have ended except `in_flight` of the newest: so the number in flight does not grow with the number of jobs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from array import array
from bisect import bisect_left, insort
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import SplitResult, parse_qs, urlsplit

from exporter.model import IN_FLIGHT_STATUSES, JOB_TYPES

_END = b"\r\n\r\n"
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
_Values = dict[str, list[str]]
_SPAN_MS = 28 * 86_400_000
_AGE_MS = 3_600_000
# The statuses of ended jobs: of twenty, one each of these, and 16 FINISHED.
_RARE_ENDS = {3: "STOPPED", 8: "RUN_FAILED", 13: "UPLOAD_FAILED", 18: "SUBMIT_FAILED"}
_STARTED = '"start_at":%d,"submitting_duration":30000,'
_ENDED = '"end_at":%d,"running_duration":%d,'
_FAILED = '"msg_code":%d,"msg_error":"The job ended with an error while it read its input data.",'


@dataclass(frozen=True, slots=True)
class ListQuery:
    """The query of a page; empty or None is no filter. Units: `start_ms` is the earliest creation."""

    statuses: tuple[str, ...] = ()
    start_ms: int | None = None
    job_id: int | None = None
    offset: int = 0
    limit: int = 10


class JobList:
    """
    All jobs of a project, newest first in the list.

    Shape: every `spread`-th of the newest jobs is in flight. Units: `now_ms` is the present.
    """

    def __init__(self, jobs: int, in_flight: int, spread: int, now_ms: int) -> None:
        self._created_ms = array("q", (_created(n, jobs, now_ms) for n in range(jobs)))
        self._by_status: dict[str, list[int]] = {}
        self._rows: list[bytes] = []
        in_flight_jobs = set(range(jobs - 1, max(jobs - 1 - in_flight * spread, -1), -spread))
        for n in range(jobs):
            status = IN_FLIGHT_STATUSES[n % len(IN_FLIGHT_STATUSES)] if n in in_flight_jobs else _end(n)
            self._by_status.setdefault(status, []).append(n)
            ended_ms = None if n in in_flight_jobs else self._created_ms[n] + _AGE_MS // 2
            self._rows.append(_row(n, status, self._created_ms[n], ended_ms))

    def find(self, query: ListQuery) -> tuple[list[bytes], int]:
        """Return one page and the number of matching jobs."""
        first, last = 0, len(self._rows)
        if query.start_ms is not None:
            first = bisect_left(self._created_ms, query.start_ms)
        if query.job_id is not None:
            first, last = max(first, query.job_id - 1), min(last, query.job_id)
        if query.statuses:
            return self._in_statuses(query, first, last)
        high = max(last - query.offset, first)
        low = max(high - query.limit, first)
        return self._rows[low:high][::-1], max(last - first, 0)

    def _in_statuses(self, query: ListQuery, first: int, last: int) -> tuple[list[bytes], int]:
        found = [self._by_status.get(status, []) for status in query.statuses]
        matching = found[0] if len(found) == 1 else sorted(n for numbers in found for n in numbers)
        low, high = bisect_left(matching, first), bisect_left(matching, last)
        end = max(high - query.offset, low)
        page = matching[max(end - query.limit, low) : end]
        return [self._rows[n] for n in reversed(page)], max(high - low, 0)

    def change(self, endings: int, arrivals: int, now_ms: int) -> None:
        """End the oldest jobs in flight, and create new ones."""
        in_flight_jobs = sorted(n for status in IN_FLIGHT_STATUSES for n in self._by_status.get(status, []))
        for n in in_flight_jobs[:endings]:
            self._by_status[IN_FLIGHT_STATUSES[n % len(IN_FLIGHT_STATUSES)]].remove(n)
            status = _end(n)
            insort(self._by_status.setdefault(status, []), n)
            self._rows[n] = _row(n, status, self._created_ms[n], now_ms)
        for n in range(len(self._rows), len(self._rows) + arrivals):
            status = IN_FLIGHT_STATUSES[n % len(IN_FLIGHT_STATUSES)]
            self._by_status.setdefault(status, []).append(n)
            self._created_ms.append(now_ms)
            self._rows.append(_row(n, status, now_ms, None))


def _created(n: int, jobs: int, now_ms: int) -> int:
    return now_ms - _AGE_MS - _SPAN_MS + _SPAN_MS * (n + 1) // jobs


def _end(n: int) -> str:
    return _RARE_ENDS.get(n % 20, "FINISHED")


def _row(n: int, status: str, created_ms: int, ended_ms: int | None) -> bytes:
    started_ms = None if status in ("QUEUING", "SUBMIT_FAILED") else created_ms + 30_000
    times = "" if started_ms is None else _STARTED % started_ms
    if ended_ms is not None:
        times += _ENDED % (ended_ms, ended_ms - (started_ms or ended_ms))
    if status.endswith("_FAILED"):
        times += _FAILED % (1000 + n % 7)
    text = (
        f'{{"id":{n + 1},"job_type":"{JOB_TYPES[n % len(JOB_TYPES)]}","data_id":"DPK{n // 8 + 1:07d}",'
        f'"status":"{status}","create_at":{created_ms},"update_at":{ended_ms or started_ms or created_ms},'
        f'{times}"project_id":"0a1b2c3d4e5f60718293a4b5c6d7e8f9","resource_spec":"1Core_4GiB",'
        f'"workspace_id":"0"}}'
    )
    return text.encode()


class PageServer:
    """Serves the pages, and counts them."""

    def __init__(self, jobs: JobList) -> None:
        self._jobs = jobs
        self.latency_seconds = 0.0
        self._requests = 0
        self._bytes = 0

    def page(self, values: _Values) -> bytes:
        query = _query(values)
        rows, total = self._jobs.find(query)
        body = b'{"meta_info":{"current_time":"%s"},"payload":{"list":[%s],"page_info":{%s}}}' % (
            datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode(),
            b",".join(rows),
            b'"offset":%d,"limit":%d,"total":%d' % (query.offset, query.limit, total),
        )
        answer = _HEAD % len(body) + body
        self._requests += 1
        self._bytes += len(answer)
        return answer

    def control(self, path: str, values: _Values) -> bytes:
        """Handle a control request."""
        if path == "/change":
            self._jobs.change(int(values["endings"][0]), int(values["arrivals"][0]), _now_ms())
        elif path == "/latency":
            self.latency_seconds = float(values["seconds"][0])
        body = json.dumps({"requests": self._requests, "bytes": self._bytes}).encode()
        return _HEAD % len(body) + body


class _Connection(asyncio.Protocol):
    """One client. Requests have no body, and a client waits for the response before it sends the next one."""

    def __init__(self, site: PageServer) -> None:
        self._site = site
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while _END in self._received:
            head, _, self._received = self._received.partition(_END)
            self._answer(urlsplit(head.split(b" ", 2)[1].decode()))

    def _answer(self, url: SplitResult) -> None:
        values = parse_qs(url.query)
        if "/data/" not in url.path:
            self._transport.write(self._site.control(url.path, values))
        elif self._site.latency_seconds:
            loop = asyncio.get_running_loop()
            loop.call_later(self._site.latency_seconds, self._transport.write, self._site.page(values))
        else:
            self._transport.write(self._site.page(values))


def _query(values: _Values) -> ListQuery:
    return ListQuery(
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


async def _serve(site: PageServer) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(site), "127.0.0.1", 0)
    print(f"server: http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("jobs", type=int)
    parser.add_argument("--in-flight", type=int, default=200)
    parser.add_argument("--spread", type=int, default=3)
    chosen = parser.parse_args()
    asyncio.run(_serve(PageServer(JobList(chosen.jobs, chosen.in_flight, chosen.spread, _now_ms()))))
