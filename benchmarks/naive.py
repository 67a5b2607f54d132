"""
The naive exporter, as most people would write it: at each poll it reads all pages one after the other, keeps
each job's dict by id, compares it with the last one, and counts.

Usage: python -m benchmarks.naive URL PORT [--interval SECONDS]. Serves /metrics on PORT.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter as Count
from collections.abc import Iterator
from typing import Any

import prometheus_client as prometheus
import requests

from exporter.model import is_terminal

Job = dict[str, Any]

_JOBS = prometheus.Gauge("octopus_jobs", "Jobs listed.", ["job_type", "status"])
_CREATED = prometheus.Counter("octopus_jobs_created", "Jobs seen first.", ["job_type"])
_COMPLETED = prometheus.Counter("octopus_jobs_completed", "Runs that ended.", ["job_type", "status"])
_POLLS = prometheus.Counter("octopus_polls", "Polls.")


def _rows(session: requests.Session, url: str) -> Iterator[Job]:
    offset, total = 0, 1
    while offset < total:
        page: dict[str, str | int] = {"workspace_id": "0", "offset": offset, "limit": 200}
        payload = session.get(f"{url}/v1.0/naive/data/system-jobs", params=page, timeout=30).json()["payload"]
        yield from payload["list"]
        offset, total = offset + len(payload["list"]), payload["page_info"]["total"]


def _poll(session: requests.Session, url: str, before: dict[int, Job]) -> dict[int, Job]:
    now = {row["id"]: row for row in _rows(session, url)}
    for job_id, row in now.items():
        _compare(before.get(job_id), row, first=not before)
    _JOBS.clear()
    for labels, jobs in Count((row["job_type"], row["status"]) for row in now.values()).items():
        _JOBS.labels(*labels).set(jobs)
    _POLLS.inc()
    return now


def _compare(old: Job | None, row: Job, *, first: bool) -> None:
    if first:
        return
    if old is None:
        _CREATED.labels(row["job_type"]).inc()
    if is_terminal(row["status"]) and (old is None or not is_terminal(old["status"])):
        _COMPLETED.labels(row["job_type"], row["status"]).inc()


def _run(url: str, port: int, interval: float) -> None:
    prometheus.start_http_server(port, "127.0.0.1")
    session = requests.Session()
    session.trust_env = False
    jobs: dict[int, Job] = {}
    while True:
        due = time.monotonic() + interval
        jobs = _poll(session, url, jobs)
        time.sleep(max(due - time.monotonic(), 0))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("port", type=int)
    parser.add_argument("--interval", type=float, default=1.0)
    chosen = parser.parse_args()
    _run(chosen.url, chosen.port, chosen.interval)
