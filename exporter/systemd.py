"""
Tells systemd, by sd_notify(3), that the exporter has started, reloads, stops and is alive, and how polls go.

Without NOTIFY_SOCKET, which systemd sets for services of type notify, nothing is sent.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import structlog

from exporter.model import TargetSnapshot

# How often the status is looked at; the watchdog may ask for more.
_INTERVAL_SECONDS = 2.0
# A start may take longer than TimeoutStartSec= as long as the event loop says so this often.
_START_EXTENSION_USEC = 30_000_000
# The longest datagram that systemd reads is 4,096 bytes.
_LONGEST_STATUS = 500
_NAMED_TARGETS = 3


class SystemdNotifier:
    """
    Sends the states of this process.

    Shape: `environment` has what systemd sets: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID; `status` gives
    the line that `systemctl status` shows.
    """

    def __init__(self, environment: Mapping[str, str], status: Callable[[], str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # @ stands for the NUL byte of an abstract address.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog_seconds = _watchdog_seconds(environment)
        self._status = status
        self._told_status = ""
        self._is_ready = self._is_stopping = self._has_failed = False

    async def run(self) -> None:
        """
        Tell systemd again and again that the event loop works, and how polls go.

        Pings are sent by the loop itself: a loop that hangs sends none, and systemd restarts the service.
        """
        if not self._address:
            return
        interval = _INTERVAL_SECONDS
        if self._watchdog_seconds is not None:
            interval = min(interval, self._watchdog_seconds / 3)
            # systemd ends a service that hangs by SIGABRT. With this, the log shows where it hung.
            faulthandler.enable()
        while True:
            self._send(
                "WATCHDOG=1" if self._is_ready else f"EXTEND_TIMEOUT_USEC={_START_EXTENSION_USEC}",
                *self._changed_status(),
            )
            await asyncio.sleep(interval)

    def ready(self) -> None:
        """The exporter serves, and has taken up its targets."""
        self._is_ready = True
        self._send("READY=1", *self._changed_status())

    @contextmanager
    def reloading(self) -> Iterator[None]:
        """
        Reload within this block.

        By the time, systemd tells this reload from one that had begun before it asked. It knows no reload
        that has failed: the status says so.
        """
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            yield
        finally:
            if not self._is_stopping:
                self.ready()

    def stopping(self) -> None:
        """The exporter ends; nothing is sent after this."""
        self._send("STOPPING=1", "STATUS=stopping")
        self._is_stopping = True

    def _changed_status(self) -> Iterator[str]:
        # One line: another one would be another message.
        status = " ".join(self._status().split())[:_LONGEST_STATUS]
        if status != self._told_status:
            self._told_status = status
            yield f"STATUS={status}"

    def _send(self, *lines: str) -> None:
        if not self._address or self._is_stopping:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                # The event loop must not wait for systemd.
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), self._address)
        except OSError as exc:
            if not self._has_failed:
                structlog.get_logger().warning("systemd cannot be notified", error=str(exc))
            self._has_failed = True


def _watchdog_seconds(environment: Mapping[str, str]) -> float | None:
    """Return after how much silence systemd restarts this process; None where it does not watch it."""
    usec = environment.get("WATCHDOG_USEC", "")
    meant = environment.get("WATCHDOG_PID") or str(os.getpid())
    return int(usec) / 1e6 if usec.isdecimal() and int(usec) and meant == str(os.getpid()) else None


def polls_in_a_line(targets: int, shown: Iterable[TargetSnapshot]) -> str:
    """Say how the last polls of so many configured targets went; the first failing ones are named."""
    polls = [(one.target, one.poll) for one in shown if one.poll.up is not None]
    failing = [
        f"{target.project}/{target.workspace} ({poll.error.reason if poll.error else 'unknown'})"
        for target, poll in polls
        if not poll.up
    ]
    parts = [f"{len(polls) - len(failing)} of {targets} targets up"]
    if failing:
        more = len(failing) - _NAMED_TARGETS
        named = ", ".join(failing[:_NAMED_TARGETS]) + (f" and {more} more" if more > 0 else "")
        parts.append(f"failing: {named}")
    if len(polls) < targets:
        parts.append(f"not polled yet: {targets - len(polls)}")
    return "; ".join(parts)
