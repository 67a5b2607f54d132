"""How long pages are, how rows are ordered, what totals count and which clock stamps them: pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from operator import attrgetter

from exporter.commands.check.answers import Answer, NumberForm, pages_of
from exporter.commands.check.findings import Above, ClockFindings, OrderedBy, PageFindings, TotalFindings
from exporter.commands.check.questions import DOCUMENTED_LIMIT, first_page
from exporter.errors import AnswerTooLarge
from exporter.model import Job
from exporter.octopus.wire import clock_skew
from exporter.sync.server_clock import Clocks

_KEYS: tuple[tuple[str, Callable[[Job], int]], ...] = (
    ("created", attrgetter("created_ms")),
    ("updated", attrgetter("updated_ms")),
    ("id", attrgetter("id")),
)
_LEAST_ORDERED = 3
# A row whose times are wrong breaks the order once or twice; another order is broken by many rows.
_ONE_ODD_IN = 100


# -- pages -----------------------------------------------------------------------------------------------


def judge_page(answers: Sequence[Answer]) -> PageFindings:
    """Judge how long a page can be, and what becomes of a larger limit."""
    # Behind an offset rows may be repeated on top of what a page can have.
    longest = max((a.rows for a in pages_of(answers) if not a.question.query.offset), default=0)
    above, is_largest = _above(answers, longest)
    return PageFindings(
        longest=longest, is_largest=is_largest, above=above, repeated_rows=repeated_rows(answers)
    )


def _above(answers: Sequence[Answer], longest: int) -> tuple[Above, bool]:
    asked = [a for a in answers if a.question.topic in ("page", "size", "long")]
    if any(isinstance(a.error, AnswerTooLarge) for a in asked):
        return "too long", False
    if server_limit(answers) is not None:
        return "clamped", True
    if any(a.status == 400 for a in asked):
        accepted = max((a.question.query.limit for a in pages_of(asked)), default=0)
        return "refused", longest >= accepted > 0
    if longest > DOCUMENTED_LIMIT:
        return "accepted", False
    return ("clamped", True) if _more_follow(answers) and pages_of(asked, "long") else ("unknown", False)


def _more_follow(answers: Sequence[Answer]) -> bool:
    """Tell whether the list goes on behind the first page."""
    first = first_page(answers)
    behind = pages_of(answers, "next", "end")
    return first is not None and any(answer.ids - first.ids for answer in behind)


def server_limit(answers: Sequence[Answer]) -> int | None:
    """Give the server's own limit of rows per page; None where it is not known to be less than was asked."""
    first = first_page(answers)
    if first is None or first.rows >= first.question.query.limit or not _more_follow(answers):
        return None
    return first.rows


def repeated_rows(answers: Sequence[Answer]) -> int:
    """
    Count the rows that stand before an offset and came all the same, beyond the limit.

    Within the limit they would be what a list that moves shows too.
    """
    first = first_page(answers)
    jobs = () if first is None else first.jobs
    for answer in pages_of(answers, "one"):
        query = answer.question.query
        before = {job.id for job in jobs[: query.offset]}
        if answer.rows > query.limit:
            return sum(job.id in before for job in answer.jobs)
    return 0


# -- order -----------------------------------------------------------------------------------------------


def judge_order(answers: Sequence[Answer]) -> tuple[OrderedBy, ...]:
    """Name every order that all pages fit, but for a few odd rows; by id only where no time fits."""
    pages = [a.jobs for a in pages_of(answers) if len(a.jobs) >= _LEAST_ORDERED]
    fits: list[OrderedBy] = []
    for name, key in _KEYS:
        if name == "id" and fits:
            break
        stamps = [list(map(key, jobs)) for jobs in pages]
        if not any(len(set(some)) >= _LEAST_ORDERED for some in stamps):
            continue
        pairs = [pair for some in stamps for pair in pairwise(some)]
        few = len(pairs) // _ONE_ODD_IN
        if sum(left < right for left, right in pairs) <= few:
            fits.append(f"{name}, descending")  # type: ignore[arg-type] # the names are those of OrderedBy
        elif sum(left > right for left, right in pairs) <= few:
            fits.append(f"{name}, ascending")  # type: ignore[arg-type] # likewise
    return tuple(fits)


# -- totals ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Compared:
    """
    A total and the rows that it is held against.

    Shape: `off` is total minus rows, exact where the listing was shown to its end; 0 where a full page does
    not contradict the total, which is then no proof.
    """

    total: int
    rows: int
    off: int
    is_proof: bool


def judge_totals(answers: Sequence[Answer]) -> TotalFindings:
    """Judge page_info.total by the rows of every answer."""
    pages = pages_of(answers)
    forms = tuple(dict.fromkeys(a.raw.total_form for a in pages if a.raw is not None))
    told = [a for a in pages if a.total is not None]
    if not told:
        return _totals("missing" if set(forms) <= {"missing", "null"} else "unusable", forms)
    return _judged_totals(told, list(chain.from_iterable(_compared(a, answers) for a in told)), forms)


def _judged_totals(
    told: Sequence[Answer], compared: Sequence[_Compared], forms: tuple[NumberForm, ...]
) -> TotalFindings:
    low = [one for one in compared if one.off < 0]
    high = [one for one in compared if one.off > 0]
    if low and _all_of_the_page(told):
        return _totals("of the page", forms)
    if low and not high and _is_capped(low, compared):
        return _totals("capped", forms, cap=low[0].total)
    if low and high:
        is_constant = len({a.total for a in told}) == 1
        farthest = max(compared, key=lambda one: abs(one.off)).off
        return _totals("constant" if is_constant else "differ both ways", forms, rows_off=farthest)
    if low:
        return _totals("too low", forms, rows_off=min(one.off for one in low))
    if high:
        return _totals("too high", forms, rows_off=max(one.off for one in high))
    return _totals("agree" if any(one.is_proof for one in compared) else "unknown", forms)


def _totals(
    verdict: str, forms: tuple[NumberForm, ...], *, rows_off: int | None = None, cap: int | None = None
) -> TotalFindings:
    return TotalFindings(verdict=verdict, rows_off=rows_off, cap=cap, forms=forms)  # type: ignore[arg-type] # see TotalsVerdict


def _compared(answer: Answer, answers: Sequence[Answer]) -> Iterable[_Compared]:
    """Hold an answer's total against its own rows: those came at one moment."""
    total, offset, limit = answer.total or 0, answer.question.query.offset, answer.question.query.limit
    rows = answer.rows - (repeated_rows(answers) if offset else 0)
    longest = server_limit(answers)
    end = offset + max(rows, 0)
    if answer.rows >= (limit if longest is None else min(limit, longest)):
        yield _Compared(total, end, min(total - end, 0), is_proof=False)
    # Where nothing stands, the total is too high if it says that rows are there, and else may be right.
    elif answer.rows or not offset or total > offset:
        yield _Compared(total, end, total - end, is_proof=True)


def _all_of_the_page(told: Iterable[Answer]) -> bool:
    return all(answer.total == answer.rows for answer in told)


def _is_capped(low: Sequence[_Compared], compared: Sequence[_Compared]) -> bool:
    """Tell whether totals are right up to some number, and stay there."""
    cap = low[0].total
    return (
        all(one.total == cap for one in low)
        and all(one.total <= cap for one in compared)
        and (any(0 < one.total < cap for one in compared) or cap == 0)
    )


# -- clocks ----------------------------------------------------------------------------------------------


def judge_clock(answers: Sequence[Answer]) -> ClockFindings:
    """Compare the server's current_time and the stamps of its rows with our clock."""
    clocks, skews, newest = Clocks(), list[float](), list[float]()
    for answer in pages_of(answers):
        if answer.page is None:
            continue
        server_ms, raw = answer.page.server_time_ms, answer.raw
        clocks.answered(server_ms, answer.asked_ms, answer.answered_ms, answer.jobs)
        if server_ms is not None and raw is not None:
            skews.append(clock_skew(server_ms, raw.sent_at, raw.received_at))
        newest += [
            (max(job.updated_ms, job.ended_ms or 0) - answer.answered_ms) / 1000 for job in answer.jobs
        ]
    now_ms = answers[-1].answered_ms if answers else 0
    forms = [answer.raw.time_form for answer in pages_of(answers) if answer.raw is not None]
    return ClockFindings(
        current_time=next((form for form in forms if form != "read"), "read" if forms else "missing"),
        least=round(min(skews), 1) if skews else None,
        most=round(max(skews), 1) if skews else None,
        newest_row=round(max(newest), 1) if newest else None,
        rows_ahead=round(max([*newest, 0.0]), 1),
        polls_go_by=round((clocks.by_rows(now_ms) - now_ms) / 1000, 1),
    )
