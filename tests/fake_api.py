"""The job list as a Python object: pages, filters, quirks, and rows that move between two pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from msgspec import structs

from exporter.counting.rules import CountingRules
from exporter.errors import AnswerTooLarge, ContractError, PollError
from exporter.model import Job, Target
from exporter.octopus.client import RequestCounter
from exporter.octopus.tolerant import SetApartRow
from exporter.octopus.wire import ListQuery, Page
from exporter.sync.change_reader import PollRules
from exporter.sync.planner import Schedule

COUNTING = CountingRules(submitting_bounds=(1.0, 10.0), running_bounds=(10.0, 60.0))


OVERLAP_MS = 5_000
FULL_SYNC_MS = 3_600_000
AUDIT_MS = 600_000
GAP_MS = 3_600_000


def a_target(**fields: object) -> Target:
    given: dict[str, object] = {
        "project": "perception",
        "project_id": "p1",
        "workspace": "0",
        "workspace_id": None,
        "region": "",
        "endpoint": "http://octopus.test",
        "path": "system-jobs",
        "job_types": (),
        "credentials": "default",
    }
    return Target(**(given | fields))  # type: ignore[arg-type]  # spelled by the tests


def poll_rules(
    page_size: int = 5,
    lookback_ms: int | None = None,
    full_sync_ms: int = FULL_SYNC_MS,
    **counting: object,
) -> PollRules:
    rules = {name: getattr(COUNTING, name) for name in CountingRules.__dataclass_fields__}
    schedule = Schedule(lookback_ms, OVERLAP_MS, full_sync_ms, AUDIT_MS, GAP_MS)
    return PollRules(schedule, page_size, 2, CountingRules(**(rules | counting)))  # type: ignore[arg-type]


def a_job(job_id: int, status: str = "QUEUING", **fields: object) -> Job:
    given: dict[str, object] = {
        "id": job_id,
        "job_type": "FRAME_EXTRACT",
        "status": status,
        "created_ms": 1_000 + job_id,
        "updated_ms": 1_000 + job_id,
    }
    return Job(**(given | fields))  # type: ignore[arg-type]  # spelled by the tests


@dataclass
class FakeApi:
    """
    Implements poll.PageSource.

    Shape:
    - `before_page` runs before each answer, and may change `jobs`; `key` sorts the rows.
    - `ignored` are the filters that the server does not know. `arrays` is how it reads a filter with several
      values: as documented ("array"), "comma" separated, only the "first" one, or it "refuses" them.
    - Rows of jobs in `odd` cannot be read. Rows of jobs in `nameless` have no id and cannot be read either.
    - A page size above `most_asked` is refused, and an answer with more than `most_sent` rows is too large.
    - `total_of` computes the answer's total from the true total and the rows of the page.
    - `skew_ms`: the server's `current_time` is this far ahead of the clock that stamps its rows.
    - `terminal` is `poll.terminal_statuses`, which the wire applies.
    """

    jobs: dict[int, Job] = field(default_factory=dict)
    now_ms: int = 1_000_000
    key: Callable[[Job], object] = lambda job: (-job.created_ms, -job.id)
    clamp: int = 1_000
    gives_total: bool = True
    gives_time: bool = True
    odd: frozenset[int] = frozenset()
    nameless: frozenset[int] = frozenset()
    most_asked: int = 1_000
    most_sent: int = 1_000
    total_of: Callable[[int, int], int] = lambda total, _rows: total
    skew_ms: int = 0
    terminal: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()
    arrays: str = "array"
    before_page: Callable[[ListQuery], None] | None = None
    error: PollError | None = None
    asked: list[ListQuery] = field(default_factory=list)

    def put(self, *jobs: Job) -> None:
        self.jobs.update({job.id: job for job in jobs})

    async def list_page(self, _target: Target, query: ListQuery, counter: RequestCounter) -> Page:
        counter.sent += 1
        self.asked.append(query)
        if self.before_page is not None:
            self.before_page(query)
        if self.error is not None:
            raise self.error
        rows = sorted((job for job in self.jobs.values() if self._matches(job, query)), key=self.key)
        if query.limit > self.most_asked:
            raise ContractError("bad parameter: limit", status=400)
        limit = min(query.limit, self.clamp)
        page = rows[query.offset : query.offset + limit]
        if len(page) > self.most_sent:
            raise AnswerTooLarge("the answer is longer than it may be", status=200)
        odd = self.odd | self.nameless
        return Page(
            jobs=tuple(self._as_configured(job) for job in page if job.id not in odd),
            total=self.total_of(len(rows), len(page)) if self.gives_total else None,
            server_time_ms=(self.now_ms + self.skew_ms) // 1000 * 1000 if self.gives_time else None,
            set_apart=tuple(self._odd(at, job) for at, job in enumerate(page) if job.id in odd),
        )

    def _as_configured(self, job: Job) -> Job:
        named = job.status in self.terminal
        return job if named == job.named_terminal else structs.replace(job, named_terminal=named)

    def _odd(self, index: int, job: Job) -> SetApartRow:
        job_id = None if job.id in self.nameless else job.id
        problem = "job_type: expected a text"
        return SetApartRow(index, job_id, job.status, job.created_ms, problem, digest=f"#{job.id}")

    def _values(self, given: tuple[str, ...]) -> tuple[str, ...]:
        """Return the values that this server reads from an array."""
        if self.arrays == "comma":
            return tuple(given[-1].split(",")) if given else ()
        if self.arrays == "refuses" and (len(given) > 1 or any("," in value for value in given)):
            raise ContractError("bad parameter", status=400)
        return given[:1] if self.arrays == "first" else given

    def _matches(self, job: Job, query: ListQuery) -> bool:
        statuses, job_types = self._values(query.statuses), self._values(query.job_types)
        wanted = {
            "id": query.job_id in (None, job.id),
            "statuses": not statuses or job.status in statuses,
            "job_types": not job_types or job.job_type in job_types,
            "start_time": query.start_time_ms is None or job.created_ms >= query.start_time_ms,
        }
        return all(fits for name, fits in wanted.items() if name not in self.ignored)


def put_changed_now(api: FakeApi, job_ids: Iterable[int], status: str, first_ms: int) -> None:
    """List jobs in a status that changed just now; job N was created N seconds after `first_ms`."""
    for job_id in job_ids:
        created_ms = first_ms + 1_000 * job_id
        times = {"created_ms": created_ms, "started_ms": created_ms + 1, "updated_ms": api.now_ms}
        ended = {"ended_ms": api.now_ms} if status == "FINISHED" else {}
        api.put(a_job(job_id, status, **times, **ended))
