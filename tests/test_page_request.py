"""What a link to the status page asks for, and the links of the page itself."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from exporter.runs import RunFilter
from exporter.web.failures import read_failures_request
from exporter.web.status.model import TargetStatus
from exporter.web.status.page_request import PageRequest, read_page_request
from tests.status_states import FAILING, NOW_MS, OK, status_of

HOUR_MS = 3_600_000
EVERY = {
    "project": "per&ception",
    "workspace": "0",
    "job_type": "FRAME_EXTRACT",
    "status": "RUN_FAILED",
    "msg_code": "3001",
    "id": "9223372036854775807",
    "since": "24h",
    "lang": "zh",
}
ADDRESS = (
    "?project=per%26ception&workspace=0&job_type=FRAME_EXTRACT&status=RUN_FAILED&msg_code=3001"
    "&id=9223372036854775807&since=24h&lang=zh"
)


def requested(**query: str) -> PageRequest:
    return read_page_request(query, "", "en", NOW_MS)


def mapping() -> TargetStatus:
    return status_of(FAILING).targets[0]


def test_a_link_without_anything_asks_for_the_last_hour_of_all() -> None:
    assert requested() == PageRequest("en", run_filter=RunFilter(since_ms=NOW_MS - HOUR_MS))
    assert requested().run_filter == RunFilter(since_ms=NOW_MS - HOUR_MS)


def test_every_filter_is_read_under_the_names_of_the_api_and_linked_to_again() -> None:
    asked = requested(**EVERY)
    assert asked.run_filter == RunFilter(
        project="per&ception",
        workspace="0",
        job_type="FRAME_EXTRACT",
        status="RUN_FAILED",
        msg_code="3001",
        job_id=2**63 - 1,
        since_ms=NOW_MS - 24 * HOUR_MS,
    )
    assert asked.address == ADDRESS
    exported = "api/v1/failures" + ADDRESS.removesuffix("lang=zh") + "limit=10000"
    assert asked.export("json") == exported
    assert asked.export("csv", msg_code="") == exported.replace("=3001", "=") + "&format=csv"
    assert read_failures_request(parse_qs(urlsplit(exported).query), NOW_MS).run_filter == asked.run_filter


def test_a_filter_is_set_and_removed_by_a_link() -> None:
    asked = requested(status="RUN_FAILED", since="24h")
    assert asked.only(msg_code="3001") == "?status=RUN_FAILED&msg_code=3001&since=24h"
    assert asked.only(status=None) == "?since=24h"
    assert asked.over("1h") == "?status=RUN_FAILED&since=1h"
    assert asked.link(None) == "?since=24h"
    assert requested().link(None) == "."
    assert asked.link(mapping()) == "?project=mapping&workspace=0&since=24h"
    assert asked.in_language("zh") == "?status=RUN_FAILED&since=24h&lang=zh"


def test_a_code_without_a_value_asks_for_runs_without_a_code_and_others_for_nothing() -> None:
    asked = requested(project="", workspace="", job_type="", status="", msg_code="", id="", since="", lang="")
    assert asked == PageRequest("en", run_filter=RunFilter(msg_code="", since_ms=NOW_MS - HOUR_MS))
    assert asked.address == "?msg_code="
    assert asked.selects_runs


def test_a_job_that_is_named_is_looked_for_in_all_that_is_kept() -> None:
    asked = requested(id="0042")
    assert asked.run_filter == RunFilter(job_id=42)
    assert (asked.address, asked.period_seconds) == ("?id=42", None)
    assert asked.export("json") == "api/v1/failures?id=42&limit=10000"
    assert requested(id="42", since="1h").run_filter == RunFilter(job_id=42, since_ms=NOW_MS - HOUR_MS)


def test_project_and_workspace_choose_targets_only() -> None:
    asked = requested(project="mapping")
    assert not asked.selects_runs
    selected = [asked.run_filter.fits_target(target.key) for target in status_of(OK, FAILING).targets]
    assert selected == [False, True]


def test_a_period_may_begin_at_a_time() -> None:
    at = requested(since="2023-11-14T22:00:00Z")
    assert (at.run_filter.since_ms, at.period_seconds) == (1_699_999_200_000, None)
    assert at.address == "?since=2023-11-14T22%3A00%3A00Z"
    assert (requested().period_seconds, requested(since="90m").period_seconds) == (3600, 5400)


@pytest.mark.parametrize("since", ["h", "-1h", "1h ", "yesterday", "x" * 500])
def test_a_period_that_is_none_is_refused_in_a_line(since: str) -> None:
    with pytest.raises(ValueError, match=r"^since: found '.{1,63}', expected a duration such as 1h, a time"):
        requested(since=since)


@pytest.mark.parametrize("job_id", ["x", "-1", "1.5", "9223372036854775808", "\u0661", "1" * 40, " 1"])
def test_an_id_that_is_none_is_refused_in_a_line(job_id: str) -> None:
    with pytest.raises(ValueError, match=r"^id: found '.+', expected the id of a job, a whole number$"):
        requested(id=job_id)


def test_a_value_that_no_encoding_can_carry_is_linked_to() -> None:
    assert requested(status="\udcff").address == "?status=%3F"
