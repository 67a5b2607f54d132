"""From the answers of a first contact to what was found out: pure."""

from __future__ import annotations

from collections.abc import Sequence

from exporter.commands.check.answers import Answer
from exporter.commands.check.findings import Findings
from exporter.commands.check.judge_filters import judge_filters
from exporter.commands.check.judge_listing import (
    judge_clock,
    judge_order,
    judge_page,
    judge_totals,
    server_limit,
)
from exporter.commands.check.judge_rows import judge_body, judge_rows, seen_words


def judge(answers: Sequence[Answer], workspace_id: str | None) -> Findings:
    """
    Judge all answers of one target together.

    Shape: `workspace_id` is the one that was asked for, None where none was sent.
    """
    totals = judge_totals(answers)
    has_totals = totals.verdict not in ("missing", "unusable")
    job_types, statuses, codes, specs = seen_words(answers)
    return Findings(
        filters=judge_filters(answers, server_limit(answers), has_totals=has_totals),
        page=judge_page(answers),
        order=judge_order(answers),
        totals=totals,
        clock=judge_clock(answers),
        job_types=job_types,
        statuses=statuses,
        codes=codes,
        resource_specs=specs,
        rows=judge_rows(answers, workspace_id),
        body=judge_body(answers),
    )
