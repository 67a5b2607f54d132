"""
Sockets that systemd has opened for us.

Source: systemd, sd_listen_fds(3), read 2026-11.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from contextlib import ExitStack
from itertools import chain, repeat

from exporter.errors import StartError

_FIRST_DESCRIPTOR = 3
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def passed_count(environ: MutableMapping[str, str] = os.environ) -> int:
    """Tell how many sockets were passed to this very process."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return 0
    count = environ.get("LISTEN_FDS", "")
    return int(count) if count.isascii() and count.isdecimal() else 0


def take_sockets(
    environ: MutableMapping[str, str] = os.environ, first: int = _FIRST_DESCRIPTOR
) -> list[socket.socket]:
    """
    Take the sockets that were passed, and the variables that told of them, which no child is to see.

    Raises: StartError (none was passed, or one that does not listen).
    """
    count, names = passed_count(environ), environ.get("LISTEN_FDNAMES", "").split(":")
    for variable in _VARIABLES:
        environ.pop(variable, None)
    if count == 0:
        raise StartError("--web.systemd-socket: systemd has passed no socket to this process")
    with ExitStack() as taken:
        sockets = [
            taken.enter_context(_take(first + index, name))
            for index, name in zip(range(count), chain(names, repeat("")), strict=False)
        ]
        taken.pop_all()
    return sockets


def _take(descriptor: int, name: str) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        taken = socket.socket(fileno=descriptor)
    except OSError as error:
        raise StartError(_refusal(descriptor, name, "is no socket")) from error
    if taken.type != socket.SOCK_STREAM or not taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        taken.close()
        raise StartError(_refusal(descriptor, name, "does not listen for connections"))
    return taken


def _refusal(descriptor: int, name: str, fault: str) -> str:
    return f"--web.systemd-socket: descriptor {descriptor} ({name or 'unnamed'}) {fault}"
