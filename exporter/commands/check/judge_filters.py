"""Which filters of the list work, judged by what came: pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from exporter.commands.check.answers import Answer, Topic, pages_of
from exporter.commands.check.findings import ArrayFilter, FilterFindings, FormWorks, Works
from exporter.commands.check.questions import (
    ArrayTopic,
    Choice,
    first_page,
    missing_values,
    status_choice,
    type_choice,
    value_of,
)
from exporter.sync.filters import ArrayStyle, FilterName, Filters, rejected_filter, unapplied_filter

_FEW = 4


def judge_filters(answers: Sequence[Answer], longest: int | None, *, has_totals: bool) -> FilterFindings:
    """
    Judge every filter.

    Shape: `longest` is the server's own limit of rows per page, None where it is not known.
    """
    first = first_page(answers)
    jobs = () if first is None else first.jobs
    statuses = _array("statuses", status_choice(jobs), answers, longest)
    job_types = _array("job_types", type_choice(jobs), answers, longest)
    start_time, by_id, workspace = _start_time(answers), _id(answers), _workspace(answers)
    polls = Filters(
        statuses=_style(statuses.used),
        job_types=_style(job_types.used),
        start_time=start_time in ("works", "unknown"),
        id=by_id in ("works", "unknown"),
        workspace=workspace != "ignored",
        totals=has_totals,
    )
    return FilterFindings(
        statuses=statuses,
        job_types=job_types,
        start_time=start_time,
        id=by_id,
        workspace_id=workspace,
        offset=_offset(answers),
        changes_only=polls.can_tell_changes,
    )


def _style(used: ArrayStyle | Literal["unknown"]) -> ArrayStyle:
    """Polls try the documented form first."""
    return "array" if used == "unknown" else used


def _array(name: ArrayTopic, choice: Choice, answers: Sequence[Answer], longest: int | None) -> ArrayFilter:
    by_form = {answer.question.form: answer for answer in answers if answer.question.topic == name}
    first = first_page(answers)
    one = _form(name, choice, by_form.get("single"), first, longest)
    # Where all jobs have one of the two values, the listing of both looks the same whether it is one or not.
    tells = bool(choice.known - set(choice.two))

    def both(form: ArrayStyle) -> FormWorks:
        found = _form(name, choice, by_form.get(form), first, longest)
        if found == "unknown" and (pair := _pair(name, form, answers)) is not None:
            found = _of_pair(name, choice, by_form[form], pair)
        return one if found == "works" and not tells and one != "works" else found

    repeated, comma = both("array"), both("comma")
    return ArrayFilter(one_value=one, repeated_keys=repeated, comma=comma, used=_used(one, repeated, comma))


def _used(one: FormWorks, repeated: FormWorks, comma: FormWorks) -> ArrayStyle | Literal["unknown"]:
    if repeated == "works":
        return "array"
    if comma == "works":
        return "comma"
    if one == "works":
        return "single"
    return "unknown" if "unknown" in (one, repeated, comma) else "none"


def _form(
    name: ArrayTopic, choice: Choice, answer: Answer | None, first: Answer | None, longest: int | None
) -> FormWorks:
    """Judge one way to send an array."""
    if answer is None or answer.page is None:
        return "refused" if answer is not None and _is_blamed(name, answer) else "unknown"
    wanted = answer.question.values
    if _is_ignored(name, answer, first):
        return "ignored"
    missing = missing_values(name, choice, answer)
    if not missing:
        # An empty answer says nothing without a job on the first page; nor does a single value in front.
        is_lone = len(wanted) > 1 and wanted[0] in choice.known and wanted[1] not in choice.known
        return "works" if choice.known and not is_lone else "unknown"
    if answer.rows:
        # The missing value may have jobs on the next page.
        return "unknown" if _is_full(answer, longest) else _lacking(missing, answer)
    front, is_comma = wanted[0], answer.question.form == "comma"
    return "finds nothing" if front in choice.known or is_comma else "first value only"


def _is_ignored(name: ArrayTopic, answer: Answer, first: Answer | None) -> bool:
    """
    Tell whether rows came that were not asked for.

    Beside what polls go by: jobs that the first page showed with another value, and that came all the same.
    A few of them may be jobs that changed while they were listed.
    """
    if unapplied_filter(answer.question.query, answer.jobs) == name:
        return True
    others = {j.id for j in (first.jobs if first else ()) if value_of(name, j) not in answer.question.values}
    return bool(others) and 2 * len(others & answer.ids) >= len(others)


def _lacking(missing: Sequence[str], answer: Answer) -> FormWorks:
    """Say which of the two values the server looks at, where jobs with the other are missing."""
    return "last value only" if answer.question.values[0] in missing else "first value only"


def _pair(name: ArrayTopic, form: ArrayStyle, answers: Sequence[Answer]) -> Answer | None:
    """Give the answer to the question for a job that was missing on a page full of others."""
    for answer in pages_of(answers, "pair"):
        query = answer.question.query
        sent = query.statuses if name == "statuses" else query.job_types
        if sent and answer.question.form == form and answer.ids <= {query.job_id}:
            return answer
    return None


def _of_pair(name: ArrayTopic, choice: Choice, answer: Answer, pair: Answer) -> FormWorks:
    return "works" if pair.rows else _lacking(missing_values(name, choice, answer), answer)


def _is_blamed(name: FilterName, answer: Answer) -> bool:
    return rejected_filter(answer.question.query, answer.status) == name


def _is_full(answer: Answer, longest: int | None) -> bool:
    """Tell whether a page has as many rows as a page can have, so that more may follow."""
    limit = answer.question.query.limit
    return answer.rows >= (limit if longest is None else min(limit, longest))


def _one(answers: Iterable[Answer], *topics: Topic) -> list[Answer]:
    return [answer for answer in answers if answer.question.topic in topics]


def _plain(name: FilterName, asked: Sequence[Answer]) -> Works | None:
    """Judge what any answer shows at once."""
    if not asked:
        return "unknown"
    if any(unapplied_filter(a.question.query, a.jobs) == name for a in asked):
        return "ignored"
    if not pages_of(asked):
        is_refused = any(_is_blamed(name, a) for a in asked)
        return "refused" if is_refused else "unknown"
    return None


def _start_time(answers: Sequence[Answer]) -> Works:
    asked = _one(answers, "start_time", "future")
    if (plain := _plain("start_time", asked)) is not None:
        return plain
    first = first_page(answers)
    middle = pages_of(asked, "start_time")
    if first is None or not first.jobs or not middle:
        return "unknown"
    since_ms = middle[0].question.query.start_time_ms or 0
    is_expected = any(job.created_ms >= since_ms for job in first.jobs)
    return "finds nothing" if is_expected and not middle[0].rows else "works"


def _id(answers: Sequence[Answer]) -> Works:
    asked = _one(answers, "id")
    if (plain := _plain("id", asked)) is not None:
        return plain
    return "works" if any(answer.rows for answer in pages_of(asked)) else "finds nothing"


def _workspace(answers: Sequence[Answer]) -> Works:
    """A workspace that does not exist has no jobs, whether it is answered or refused."""
    first, asked = first_page(answers), _one(answers, "workspace_id")
    if not asked or first is None:
        return "unknown"
    if asked[0].page is None:
        return "works" if asked[0].status in (204, 400, 403, 404) else "unknown"
    if asked[0].rows:
        return "ignored"
    return "works" if first.rows else "unknown"


def _offset(answers: Sequence[Answer]) -> Works:
    first = first_page(answers)
    if first is None or not first.ids:
        return "unknown"
    for answer in pages_of(answers, "next"):
        if answer.ids:
            is_same = answer.ids >= first.ids
            # Of a few rows, all may have been repeated.
            return "works" if not is_same else "ignored" if first.rows > _FEW else "unknown"
    for answer in pages_of(answers, "one"):
        if first.rows > _FEW and answer.jobs and first.jobs:
            return "ignored" if answer.jobs[0].id == first.jobs[0].id else "works"
    return "unknown"
