"""Take secrets out of a page, before anything of it is kept."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from exporter.masking import Secrets
from exporter.model import JOB_TYPES, STATUSES, Job
from exporter.octopus.wire import Page

_DOCUMENTED = frozenset((*JOB_TYPES, *STATUSES))
# The fields of a job that hold a text of the server's and become labels; msg_error is shown as a text.
_LABELS = ("job_type", "status", "msg_code")


def masked_page(page: Page, secrets: Secrets) -> Page:
    """
    Mask the texts of a page's rows.

    A page of jobs that did not fail, in documented words, costs next to nothing and is given back as it is.
    """
    plain = all(
        not job.msg_error and not job.msg_code and job.job_type in _DOCUMENTED and job.status in _DOCUMENTED
        for job in page.jobs
    )
    if plain and not page.set_apart:
        return page
    rows = tuple(replace(row, status=secrets.masked_label(row.status)) for row in page.set_apart)
    return replace(page, jobs=tuple(_masked(job, secrets) for job in page.jobs), set_apart=rows)


def _masked(job: Job, secrets: Secrets) -> Job:
    changed: dict[str, str] = {}
    for name in _LABELS:
        label = getattr(job, name)
        if label and label not in _DOCUMENTED and (masked := secrets.masked_label(label)) != label:
            changed[name] = masked
    if job.msg_error and (text := secrets.masked(job.msg_error)) != job.msg_error:
        changed["msg_error"] = text
    return msgspec.structs.replace(job, **changed) if changed else job
