"""
The jobs a page server lists: rendered once, so that serving them costs next to nothing.

Jobs are numbered by creation, one after the other over four weeks up to an hour ago. All have ended but
`in_flight` of the newest, so what is in flight does not grow with what is listed.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from dataclasses import dataclass

from exporter.model import IN_FLIGHT_STATUSES, JOB_TYPES

_SPAN_MS = 28 * 86_400_000
_AGE_MS = 3_600_000
# Of twenty jobs that have ended: one each of the rarer ends, every other is FINISHED.
_RARE_ENDS = {3: "STOPPED", 8: "RUN_FAILED", 13: "UPLOAD_FAILED", 18: "SUBMIT_FAILED"}
_STARTED = '"start_at":%d,"submitting_duration":30000,'
_ENDED = '"end_at":%d,"running_duration":%d,'
_FAILED = '"msg_code":%d,"msg_error":"The job ended with an error while it read its input data.",'


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the list; empty or None is no filter. Units: `start_ms` bounds the creation."""

    statuses: tuple[str, ...] = ()
    start_ms: int | None = None
    job_id: int | None = None
    offset: int = 0
    limit: int = 10


class World:
    """
    All jobs of a project, newest first in the list.

    Shape: every `spread`-th of the newest jobs is in flight. Units: `now_ms` is when it is made.
    """

    def __init__(self, jobs: int, in_flight: int, spread: int, now_ms: int) -> None:
        self._created_ms = array("q", (_created(n, jobs, now_ms) for n in range(jobs)))
        self._by_status: dict[str, list[int]] = {}
        self._rows: list[bytes] = []
        flying = set(range(jobs - 1, max(jobs - 1 - in_flight * spread, -1), -spread))
        for n in range(jobs):
            status = IN_FLIGHT_STATUSES[n % len(IN_FLIGHT_STATUSES)] if n in flying else _end(n)
            self._by_status.setdefault(status, []).append(n)
            ended_ms = None if n in flying else self._created_ms[n] + _AGE_MS // 2
            self._rows.append(_row(n, status, self._created_ms[n], ended_ms))

    def find(self, question: Question) -> tuple[list[bytes], int]:
        """Give one page and how many jobs match."""
        first, last = 0, len(self._rows)
        if question.start_ms is not None:
            first = bisect_left(self._created_ms, question.start_ms)
        if question.job_id is not None:
            first, last = max(first, question.job_id - 1), min(last, question.job_id)
        if question.statuses:
            return self._in_statuses(question, first, last)
        high = max(last - question.offset, first)
        low = max(high - question.limit, first)
        return self._rows[low:high][::-1], max(last - first, 0)

    def _in_statuses(self, question: Question, first: int, last: int) -> tuple[list[bytes], int]:
        found = [self._by_status.get(status, []) for status in question.statuses]
        matching = found[0] if len(found) == 1 else sorted(n for numbers in found for n in numbers)
        low, high = bisect_left(matching, first), bisect_left(matching, last)
        end = max(high - question.offset, low)
        page = matching[max(end - question.limit, low) : end]
        return [self._rows[n] for n in reversed(page)], max(high - low, 0)

    def change(self, endings: int, arrivals: int, now_ms: int) -> None:
        """Let the oldest jobs in flight end, and new ones come."""
        flying = sorted(n for status in IN_FLIGHT_STATUSES for n in self._by_status.get(status, []))
        for n in flying[:endings]:
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
