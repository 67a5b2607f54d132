"""What the variables of socket activation say; e2e/test_socket_activation.py has the sockets themselves."""

from __future__ import annotations

import os

import pytest

from exporter.errors import StartError
from exporter.web.server import passed_count, take_sockets

OURS = {"LISTEN_PID": str(os.getpid())}


@pytest.mark.parametrize(
    ("environ", "count"),
    [
        ({}, 0),
        ({"LISTEN_FDS": "1"}, 0),
        ({"LISTEN_FDS": "1", "LISTEN_PID": "1"}, 0),
        (OURS, 0),
        (OURS | {"LISTEN_FDS": "two"}, 0),
        (OURS | {"LISTEN_FDS": "-1"}, 0),
        (OURS | {"LISTEN_FDS": "2"}, 2),
    ],
)
def test_sockets_are_ours_if_they_were_passed_to_this_process(environ: dict[str, str], count: int) -> None:
    assert passed_count(environ) == count


def test_no_child_is_told_of_them() -> None:
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web", "HOME": "/"}
    with pytest.raises(StartError, match="systemd has passed no socket to this process"):
        take_sockets(environ)
    assert environ == {"HOME": "/"}


def test_a_descriptor_that_is_no_socket_is_named() -> None:
    with pytest.raises(StartError, match=r"descriptor \d+ \(unnamed\) is no socket"):
        take_sockets(OURS | {"LISTEN_FDS": "1", "LISTEN_FDNAMES": ""}, first=_free_descriptor())


def _free_descriptor() -> int:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)
    return descriptor
