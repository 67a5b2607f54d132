"""`web.job_url`: what is taken as a template, and that nothing filled in can change the URL."""

from __future__ import annotations

import pytest

from exporter.config import Config, JobUrl, load
from exporter.config.addresses import JOB_URL
from exporter.errors import ConfigError
from tests.test_config import SAMPLES, SECRET


@pytest.mark.parametrize(
    ("template", "url"),
    [
        ("https://console.example/{project_id}/{workspace}/{job_id}", "https://console.example/p1/0/42"),
        ("http://[::1]:8080/jobs?id={job_id}#{workspace}", "http://[::1]:8080/jobs?id=42#0"),
        ("https://console.example/{job_id}/{job_id}", "https://console.example/42/42"),
    ],
)
def test_a_template_is_filled_in(template: str, url: str) -> None:
    assert JobUrl.parse(template).fill(project_id="p1", workspace="0", job_id="42") == url


def test_what_is_filled_in_is_percent_encoded() -> None:
    url = JobUrl.parse("https://console.example/{project_id}/{workspace}?id={job_id}")
    assert url.fill(project_id="{job_id}", workspace="../a b&c?#\"<'", job_id="1\udcff") == (
        "https://console.example/%7Bjob_id%7D/..%2Fa%20b%26c%3F%23%22%3C%27?id=1%3F"
    )


@pytest.mark.parametrize(
    "template",
    [
        "",
        "console.example/{job_id}",
        "/{job_id}",
        "javascript:alert({job_id})",
        "data:text/html,{job_id}",
        "ftp://console.example/{job_id}",
        "https:///{job_id}",
        "https://{project_id}.example/{job_id}",
        "https://console.example:{job_id}/",
        "https://console.example:99999/{job_id}",
        "https://user:secret@console.example/{job_id}",
        "https://console.example/jobs",
        "https://console.example/{project_id}",
        "https://console.example/{job_id}/{region}",
        "https://console.example/{job_id}/{}",
        "https://console.example/{job_id}/{job_id!r}",
        "https://console.example/{{job_id}}",
        "https://console.example/{job_id",
        "https://console.example/{job_id}/a b",
        "https://console.example/{job_id}\n",
        "https://console.example\\@other.example/{job_id}",
    ],
)
def test_anything_else_is_refused(template: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - Parsed says what is expected, whatever is wrong
        JobUrl.parse(template)


def test_a_wrong_template_is_one_line_of_the_configurations_errors() -> None:
    with pytest.raises(ConfigError) as caught:
        load(SAMPLES / "invalid-sections.yaml", {})
    (line,) = [problem for problem in caught.value.problems if "web.job_url" in problem]
    assert line.endswith(f"web.job_url: found https://console.example/{{id}}, expected {JOB_URL}")


def test_there_is_none_by_default_and_the_dump_has_what_the_file_says() -> None:
    config: Config = load(SAMPLES / "good.yaml", {"PASSWORD": SECRET})
    template = "https://console.example/{project_id}/{workspace}?job={job_id}"
    assert (str(config.web.job_url), config.redacted()["web"]["job_url"]) == (template, template)
    assert load(SAMPLES / "good-minimal.yaml", {}).web.job_url is None
