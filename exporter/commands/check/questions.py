"""
What to ask at the first contact: pure.

`next_questions` is asked again after each round of answers, until it has no more. A first page decides the
rest: which values of a filter to ask for, from when on, for which id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Literal

from exporter.commands.check.answers import Answer, Question, pages_of
from exporter.errors import AnswerTooLarge
from exporter.model import FAILED_STATUSES, JOB_TYPES, STATUSES, Job, is_terminal
from exporter.octopus.wire import ListQuery
from exporter.sync.filters import ArrayStyle, value_batches
from exporter.sync.server_traits import smaller_page

ArrayTopic = Literal["statuses", "job_types"]

DOCUMENTED_LIMIT = 200
# More than is documented, to see whether it is refused or cut.
LONG_LIMIT = 500
# No workspace has it, as far as anybody can know.
NO_WORKSPACE = "999999999"
# The documentation names the first in its table of URIs and the second in its example.
DOCUMENTED_PATHS = ("system-jobs", "system-job")
_END_ROWS = 10
_DAY_MS = 86_400_000
# More than a server that compares by the second rounds away.
_AFTER_MS = 2_000
_FORMS: tuple[ArrayStyle, ...] = ("single", "array", "comma")


@dataclass(frozen=True, slots=True)
class Choice:
    """
    The values that an array filter is tried with.

    Shape: `one` is asked for alone, `two` together; `known` are the values that the first page showed.
    """

    one: str
    two: tuple[str, str]
    known: frozenset[str]


def first_page(answers: Iterable[Answer]) -> Answer | None:
    """Give the first page that came."""
    return next(iter(pages_of(answers, "page")), None)


def next_questions(answers: Sequence[Answer], path: str) -> list[Question]:
    """
    Give what to ask next, in the order of its worth; nothing once everything is asked.

    Shape: `path` is the target's.
    """
    first = first_page(answers)
    wanted = _first_questions(answers, path) if first is None else _questions(first, answers)
    asked = {answer.question for answer in answers}
    return [question for question in wanted if question not in asked]


def _first_questions(answers: Sequence[Answer], path: str) -> Iterator[Question]:
    """
    Ask for a first page; for a smaller one where its length may be what was refused, and at the other path
    where there is nothing at this one.
    """
    if not answers:
        yield Question("page", ListQuery(limit=DOCUMENTED_LIMIT))
        return
    last = answers[-1]
    smaller = smaller_page(last.question.query.limit)
    if smaller is not None and (last.status == 400 or isinstance(last.error, AnswerTooLarge)):
        yield Question("page", ListQuery(limit=smaller))
    if last.status == 404:
        others = (other for other in DOCUMENTED_PATHS if other != path)
        yield from (Question("path", ListQuery(limit=1), path=other) for other in others)


def _questions(first: Answer, answers: Sequence[Answer]) -> Iterator[Question]:
    limit = first.question.query.limit
    yield from _array_questions("statuses", status_choice(first.jobs), limit)
    yield from _array_questions("job_types", type_choice(first.jobs), limit)
    yield from _pairs("statuses", first, status_choice(first.jobs), answers)
    yield from _pairs("job_types", first, type_choice(first.jobs), answers)
    yield from _single_filters(first, answers, limit)
    yield from _paging(first, limit)
    if _honours_a_status(first, answers):
        yield from (Question("failed", ListQuery(statuses=(s,), limit=limit)) for s in FAILED_STATUSES)
    yield from _sizes(answers)


def missing_values(topic: ArrayTopic, choice: Choice, answer: Answer) -> list[str]:
    """Give the values that were asked for, that are known to have jobs, and that none of the rows has."""
    found = {value_of(topic, job) for job in answer.jobs}
    return [value for value in answer.question.values if value in choice.known and value not in found]


def value_of(topic: ArrayTopic, job: Job) -> str:
    """Give what an array filter looks at."""
    return job.status if topic == "statuses" else job.job_type


def _pairs(topic: ArrayTopic, first: Answer, choice: Choice, answers: Sequence[Answer]) -> Iterator[Question]:
    """
    Ask once more for two values, and for a single job that has the one that was missing.

    A page may have been full of jobs with the other value; of a single job there is always room.
    """
    for answer in pages_of(answers, topic):
        for missing in missing_values(topic, choice, answer)[: int(answer.rows > 0)]:
            job_id = next(job.id for job in first.jobs if value_of(topic, job) == missing)
            query = replace(answer.question.query, job_id=job_id)
            yield replace(answer.question, topic="pair", query=query)


def _array_questions(topic: ArrayTopic, choice: Choice, limit: int) -> Iterator[Question]:
    for form in _FORMS:
        wanted = (choice.one,) if form == "single" else choice.two
        (sent,) = value_batches(form, wanted)
        query = (
            ListQuery(statuses=sent, limit=limit)
            if topic == "statuses"
            else ListQuery(job_types=sent, limit=limit)
        )
        yield Question(topic, query, form, wanted)


def _single_filters(first: Answer, answers: Sequence[Answer], limit: int) -> Iterator[Question]:
    yield Question("workspace_id", ListQuery(limit=limit), workspace_id=NO_WORKSPACE)
    yield Question(
        "future", ListQuery(start_time_ms=_whole_seconds(first.answered_ms) + _DAY_MS, limit=limit)
    )
    if not first.jobs:
        return
    yield Question("start_time", ListQuery(start_time_ms=middle_time_ms(first.jobs), limit=limit))
    middle = len(first.jobs) // 2
    yield Question("id", ListQuery(job_id=first.jobs[middle].id, limit=limit))
    asked = [answer for answer in answers if answer.question.topic == "id"]
    if asked and asked[0].page is not None and not asked[0].rows:
        # It may have been deleted meanwhile.
        yield Question("id", ListQuery(job_id=first.jobs[0].id, limit=limit))


def _whole_seconds(time_ms: int) -> int:
    return time_ms // 1000 * 1000


def middle_time_ms(jobs: Sequence[Job]) -> int:
    """Give a time that some job was created before: in the middle, or after all of them."""
    times = sorted(job.created_ms for job in jobs)
    middle = times[len(times) // 2]
    return middle if times[0] < middle - _AFTER_MS else times[-1] + _AFTER_MS


def _paging(first: Answer, limit: int) -> Iterator[Question]:
    if not first.rows:
        return
    yield Question("next", ListQuery(offset=first.rows, limit=limit))
    yield Question("one", ListQuery(offset=first.rows // 2, limit=1))
    if first.total is not None and first.total > first.rows:
        offset = max(first.total - _END_ROWS, first.rows)
        yield Question("end", ListQuery(offset=offset, limit=2 * _END_ROWS))


def _honours_a_status(first: Answer, answers: Iterable[Answer]) -> bool:
    """Tell whether a listing by one status can be asked for."""
    wanted = status_choice(first.jobs).one
    asked = [answer for answer in pages_of(answers, "statuses") if answer.question.form == "single"]
    return bool(asked) and all(job.status == wanted for job in asked[0].jobs)


def _sizes(answers: Sequence[Answer]) -> Iterator[Question]:
    """Ask for the largest page: between the largest limit that was accepted and the least refused."""
    asked = [answer for answer in answers if answer.question.topic in ("page", "size")]
    refused = [a.question.query.limit for a in asked if a.status == 400]
    accepted = max(a.question.query.limit for a in pages_of(asked))
    if not refused:
        if not any(isinstance(a.error, AnswerTooLarge) for a in asked):
            yield Question("long", ListQuery(limit=LONG_LIMIT))
        return
    least = min(refused)
    if least - accepted > 1:
        # The limit is most likely a round number, so one row more is tried first.
        is_begun = any(answer.question.topic == "size" for answer in asked)
        limit = (accepted + least) // 2 if is_begun else accepted + 1
        yield Question("size", ListQuery(limit=limit))


def status_choice(jobs: Iterable[Job]) -> Choice:
    """Choose statuses to ask for: such as jobs stay in, if there are any."""
    found = Counter(map(attrgetter("status"), jobs))
    return _choice(found, STATUSES, lambda status: not is_terminal(status))


def type_choice(jobs: Iterable[Job]) -> Choice:
    """Choose job types to ask for."""
    return _choice(Counter(map(attrgetter("job_type"), jobs)), JOB_TYPES, lambda job_type: False)


def _choice(found: Counter[str], documented: Sequence[str], is_passing: Callable[[str], bool]) -> Choice:
    """
    Choose values: two that are rare, so that one page may hold all their jobs, and that more do not have.

    They stand in the order in which repeated keys are sent, which is sorted. Where only one value is known,
    one that no job has stands in front of it, if there is such a one: it must not hide the other.
    """
    known = sorted(
        (value for value in found if value in documented), key=lambda v: (is_passing(v), found[v], v)
    )
    absent = sorted(value for value in documented if value not in found)
    if len(known) > 1:
        return Choice(known[0], _in_order(known[0], known[1]), frozenset(found))
    if known and absent:
        return Choice(absent[0], _in_order(absent[0], known[0]), frozenset(found))
    return Choice(documented[0], _in_order(documented[0], documented[1]), frozenset(found))


def _in_order(one: str, other: str) -> tuple[str, str]:
    return min(one, other), max(one, other)
