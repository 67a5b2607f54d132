"""Secrets in the texts of rows: taken out before anything of a page is kept."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from exporter.masking import Secrets
from exporter.octopus.tolerant import SetApartRow
from exporter.octopus.wire import Page, masked_page
from exporter.pollers import keep_exported_labels
from tests.fake_api import a_job
from tests.snapshots import TOTALS

TOKEN = "MIIQtoken-0123456789-abcdefghijklmnop"


@pytest.mark.parametrize("field", ["data_id", "resource_spec", "msg_error", "msg_code", "job_type", "status"])
@pytest.mark.parametrize(
    "text",
    [TOKEN, TOKEN[5:17], TOKEN.encode().hex(), base64.b64encode(b"x" + TOKEN.encode()).decode()],
    ids=["whole", "a piece", "hex", "base64"],
)
def test_a_secret_in_a_text_of_a_job_is_masked(field: str, text: str) -> None:
    jobs = (
        a_job(1, data_id="DPK1"),
        a_job(2, **{field: f"A {text} Z"}),
        a_job(3, resource_spec="1Core_4GiB"),
    )
    page = masked_page(Page(jobs), Secrets.of(TOKEN))
    shown = getattr(page.jobs[1], field)
    assert "<secret>" in shown
    assert text not in shown
    assert (page.jobs[0], page.jobs[2]) == (jobs[0], jobs[2])


def test_a_number_is_no_secret_and_a_page_without_secrets_stays_the_same() -> None:
    page = Page((a_job(1, data_id="123456789012345", resource_spec="1Core_4GiB"), a_job(2, data_id="DPK2")))
    assert masked_page(page, Secrets.of(TOKEN)) is page
    assert masked_page(page, Secrets.of("123456789012345")).jobs == page.jobs


def test_a_spec_keeps_its_name_when_a_secret_changes() -> None:
    secrets = Secrets.of(TOKEN)
    before = masked_page(Page((a_job(1, resource_spec="2Core_4GiB"),)), secrets)
    keep_exported_labels(secrets, replace(TOTALS, resource_jobs={("8Core_16GiB", "RUNNING"): 1}))
    secrets.keep("4GiB", "16GiB")
    specs = ("2Core_4GiB", "8Core_16GiB", "1Core_4GiB")
    page = masked_page(Page(tuple(a_job(n, resource_spec=spec) for n, spec in enumerate(specs))), secrets)
    shown = [job.resource_spec for job in (*before.jobs, *page.jobs)]
    assert shown == ["2Core_4GiB", "2Core_4GiB", "8Core_16GiB", "1Core_<secret>"]


def test_each_row_keeps_what_holds_no_secret() -> None:
    jobs = (a_job(1, msg_error="disk full", msg_code="7"), a_job(2, "PAUSED", job_type="DREAMING"))
    assert masked_page(Page(jobs), Secrets.of(TOKEN)).jobs == jobs


def test_a_number_in_other_digits_may_be_a_secret_and_an_empty_text_is_none() -> None:
    secret = "١٢٣٤٥٦٧٨٩٠١٢٣٤٥"  # Arabic digits: no number of the API is written so
    page = Page((a_job(1, data_id=secret), a_job(2, data_id=TOKEN, resource_spec="")))
    masked = masked_page(page, Secrets.of(TOKEN, secret))
    assert [(job.data_id, job.resource_spec) for job in masked.jobs] == [("<secret>", "")] * 2


def test_the_status_of_a_row_set_apart_is_masked() -> None:
    apart = SetApartRow(0, None, f"A {TOKEN}", None, "id: missing", "#1")
    for jobs in ((), (a_job(1),)):
        (masked,) = masked_page(Page(jobs, set_apart=(apart,)), Secrets.of(TOKEN)).set_apart
        assert TOKEN not in masked.status
        assert "<secret>" in masked.status


def test_a_password_of_a_few_characters_is_found_among_many_texts() -> None:
    plain = (a_job(n, data_id=f"DPK{n:07d}") for n in range(200))
    page = Page((*plain, a_job(201, data_id="hunter2")))
    masked = masked_page(page, Secrets.of("hunter2"))
    assert [job.data_id for job in masked.jobs[-2:]] == ["DPK0000199", "<secret>"]


@pytest.mark.parametrize("text", ["cookie:x", "://a:b@", "cookie=hunter"])
def test_a_short_text_that_may_be_a_header_or_a_url_is_looked_at(text: str) -> None:
    page = Page((a_job(1, data_id=text), a_job(2, data_id="DPK2")))
    secrets = Secrets.of(TOKEN)
    masked = masked_page(page, secrets)
    assert masked.jobs[0].data_id == secrets.masked(text) != text
