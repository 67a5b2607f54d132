"""Take secrets out of a page, before anything of it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from exporter.masking import Secrets
from exporter.model import JOB_TYPES, STATUSES, Job
from exporter.octopus.wire import Page

_DOCUMENTED = frozenset((*JOB_TYPES, *STATUSES))
# The fields of a job that hold a text of the server's and become labels; msg_error is shown as a text.
_LABELS = ("job_type", "status", "msg_code")
_DETAILS = ("data_id", "resource_spec")


def masked_page(page: Page, secrets: Secrets) -> Page:
    """
    Mask the texts of a page's rows.

    A page of jobs that did not fail, in documented words, costs little and is given back as it is.
    """
    if _holds_secret(page.jobs, secrets):
        page = replace(page, jobs=tuple(_with_masked_details(job, secrets) for job in page.jobs))
    plain = all(
        not job.msg_error and not job.msg_code and job.job_type in _DOCUMENTED and job.status in _DOCUMENTED
        for job in page.jobs
    )
    if plain and not page.set_apart:
        return page
    rows = tuple(replace(row, status=secrets.masked_label(row.status)) for row in page.set_apart)
    return replace(page, jobs=tuple(_masked(job, secrets) for job in page.jobs), set_apart=rows)


def _holds_secret(jobs: Sequence[Job], secrets: Secrets) -> bool:
    """
    Tell whether one of the short texts of these jobs may hold a secret.

    One look at all of them: every row has two, and a look at each would cost more than to read the page.
    """
    texts = {text for job in jobs for text in (job.data_id, job.resource_spec)}
    return secrets.may_be_in(texts)


def _with_masked_details(job: Job, secrets: Secrets) -> Job:
    changed = {
        name: masked
        for name in _DETAILS
        if (text := getattr(job, name)) and (masked := _masked_detail(text, secrets)) != text
    }
    return msgspec.structs.replace(job, **changed) if changed else job


def _masked_detail(text: str, secrets: Secrets) -> str:
    return text if text.isascii() and text.isdigit() else secrets.masked(text)


def _masked(job: Job, secrets: Secrets) -> Job:
    changed: dict[str, str] = {}
    for name in _LABELS:
        label = getattr(job, name)
        if label and label not in _DOCUMENTED and (masked := secrets.masked_label(label)) != label:
            changed[name] = masked
    if job.msg_error and (text := secrets.masked(job.msg_error)) != job.msg_error:
        changed["msg_error"] = text
    return msgspec.structs.replace(job, **changed) if changed else job
