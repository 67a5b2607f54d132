from __future__ import annotations

import pytest

from exporter.exposition.render import Format
from exporter.web.negotiation import accepts_gzip, choose_format

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    "accept",
    [
        PROMETHEUS_2,
        PROMETHEUS_3,
        "application/openmetrics-text",
        'application/openmetrics-text; version="1.0.0"; charset=utf-8',
        "Application/OpenMetrics-Text;Version=1.0.0;Q=0.5",
        "text/plain;q=0.5, application/openmetrics-text;q=0.501",
        "application/openmetrics-text, */*",
        "text/plain;q=0.1, application/openmetrics-text;q=0.2, */*;q=0.9",
        "application/*",
        "application/*;q=0.2, text/*;q=0.1",
        "text/plain;q=0, */*;q=0.1",
        "application/openmetrics-text;version=2.0.0, application/*;q=0.5",
    ],
)
def test_openmetrics_is_chosen(accept: str) -> None:
    assert choose_format(accept) is Format.OPENMETRICS


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "text/plain;version=0.0.4",
        "text/*, application/*",
        "application/openmetrics-text;q=0",
        "application/openmetrics-text;q=0, application/*",
        "application/openmetrics-text;q=0, */*;q=0.1",
        "text/plain;q=0, */*;q=0",
        "application/openmetrics-text;q=0.4, text/plain;q=0.5",
        "application/openmetrics-text;version=0.0.1",
        "application/openmetrics-text;version=2.0.0",
        "application/openmetrics-text;q=lots",
        "application/openmetrics-text;q=nan",
        "image/png",
        ";;==,,q",
    ],
)
def test_text_is_chosen(accept: str) -> None:
    assert choose_format(accept) is Format.TEXT


@pytest.mark.parametrize(
    ("accept_encoding", "compressed"),
    [
        ("gzip", True),
        ("gzip, deflate, br", True),
        ("x-gzip", True),
        ("GZIP;q=0.5", True),
        ("*", True),
        ("gzip;q=0.5, identity;q=0.5", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("gzip;q=0.5, identity", False),
        ("br", False),
        ("gzip;q=maybe", False),
    ],
)
def test_gzip_is_sent_where_it_is_wanted(accept_encoding: str, compressed: bool) -> None:
    assert accepts_gzip(accept_encoding) is compressed
