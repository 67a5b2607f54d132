"""
A real Chromium without a window, driven over its DevTools pipe: no port, no driver, no package.

Protocol: JSON messages that end in a zero byte, commands on descriptor 3, answers and events on 4.
Source: https://chromedevtools.github.io/devtools-protocol/ and Chromium's --remote-debugging-pipe.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.processes import plain_environment
from tests.e2e.waiting import PATIENCE_SECONDS, until

CHROMIUM = shutil.which("chromium")
_FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--remote-debugging-pipe",
]


def needs_chromium() -> None:
    """Skip where there is no Chromium; in CI that is a failure."""
    if CHROMIUM is None:
        said = "chromium is not installed (Debian's package chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(said)
        pytest.skip(said)


class Refused(AssertionError):
    """The browser or the page refused a command."""


class Browser:
    """One browser process. Commands are sent and answered one after the other."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands = commands
        self._answers = answers
        self._unread = b""
        self._sent = 0
        self.events: list[dict[str, Any]] = []

    def command(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result. Events that arrive before it are kept."""
        self._sent += 1
        order = {"id": self._sent, "method": method, "params": parameters}
        text = json.dumps(order | ({"sessionId": session} if session else {}))
        os.write(self._commands, text.encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._sent:
                if "error" in answer:
                    raise Refused(f"{method}: {answer['error']}")
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _read(self) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._answers], [], [], max(deadline - time.monotonic(), 0))
            assert ready, "the browser does not answer"
            chunk = os.read(self._answers, 2**16)
            assert chunk, "the browser has ended"
            self._unread += chunk
        message, _, self._unread = self._unread.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer

    @contextmanager
    def tab(self, *, width: int = 1280, height: int = 900, **settings: Any) -> Iterator[Tab]:
        """Open a tab with storage of its own; `settings` as Tab.set_up takes them."""
        context = self.command("Target.createBrowserContext")["browserContextId"]
        target = self.command("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session)
        tab.set_up(width, height, **settings)
        try:
            yield tab
        finally:
            self.command("Target.disposeBrowserContext", browserContextId=context)


class Tab:
    """A page in the browser, read and used like by a person."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        self._scripts = True

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._browser.command(method, self._session, **parameters)

    def set_up(
        self, width: int, height: int, *, dark: bool = False, scripts: bool = True, languages: str = "en"
    ) -> None:
        self._scripts = scripts
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.command(f"{domain}.enable")
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.command("Emulation.setEmulatedMedia", features=[scheme])
        self.command("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.command("Network.setExtraHTTPHeaders", headers={"Accept-Language": languages})

    def open(self, url: str) -> None:
        """Open an address and wait until the page is loaded."""
        assert "errorText" not in (answer := self.command("Page.navigate", url=url)), answer
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def ask(self, expression: str) -> Any:
        """Evaluate JavaScript, also where the page's own is off, and return its value. Raises: Refused."""
        answer = self.command("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise Refused(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, expression: str) -> Any:
        """Evaluate JavaScript until its value is truthy, also while other pages are loaded."""

        return until(lambda: self.ask_anywhere(expression), expression)

    def ask_anywhere(self, expression: str) -> Any:
        """Evaluate JavaScript in the current page. Returns None if there is none: between two pages."""
        try:
            return self.ask(expression)
        except Refused:
            return None

    def text(self, selector: str) -> str:
        """Return the text that the element shows."""
        return str(self.ask(f"document.querySelector({json.dumps(selector)}).innerText"))

    def click(self, selector: str) -> None:
        """
        Click in the middle of the element, after scrolling to it.

        A page that refreshes itself may replace the element between the press and the release. Then the click
        misses it, and is repeated.
        """
        element = f"document.querySelector({json.dumps(selector)})"
        note = f"(event) => {{ window.met ||= event.target.closest({json.dumps(selector)}) !== null }}"
        met = False
        while met is False:
            self.ask(f"window.met = false; document.addEventListener('click', {note}, {{capture: true}})")
            self.ask(f"{element}.scrollIntoView({{block: 'center'}})")
            box = self.ask(f"{element}.getBoundingClientRect().toJSON()")
            x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
            for kind in ("mousePressed", "mouseReleased"):
                self.command("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
            # Another page knows nothing of it. Without scripts none refreshes itself, nor can it be known.
            met = self.ask_anywhere("window.met") if self._scripts else True

    def pass_time(self, seconds: float) -> None:
        """Advance the page's timers by this time, as fast as possible."""
        expired = "Emulation.virtualTimeBudgetExpired"
        self._browser.events[:] = (event for event in self._browser.events if event["method"] != expired)
        budget = {"policy": "advance", "budget": seconds * 1000}
        self.command("Emulation.setVirtualTimePolicy", **budget)
        until(lambda: self.ask("1") and self._happened(expired), "the time to pass")

    def _happened(self, method: str) -> bool:
        return any(
            event["method"] == method and event.get("sessionId") == self._session
            for event in self._browser.events
        )

    def complaints(self) -> list[Mapping[str, Any]]:
        """Return console messages, exceptions, and what the Content-Security-Policy refused."""
        self.ask("1")  # so that what was said before has come
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [
            event["params"]
            for event in self._browser.events
            if event.get("sessionId") == self._session and event["method"] in kinds
        ]


def _moved(descriptor: int) -> int:
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 100)
    os.close(descriptor)
    return moved


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Run a browser with a profile in this folder until the end of the block."""
    command_end, commands = os.pipe()
    answers, answer_end = os.pipe()
    # Out of the way of 3 and 4, which the shell lets them become: Chromium knows its pipes by these numbers.
    passed = tuple(_moved(descriptor) for descriptor in (command_end, answer_end))
    wiring = f'exec "$@" 3<&{passed[0]} 4>&{passed[1]}'
    with (folder / "chromium.err").open("ab") as errors:
        process = subprocess.Popen(
            [
                "/bin/bash",
                "-c",
                wiring,
                "bash",
                CHROMIUM or "chromium",
                *_FLAGS,
                f"--user-data-dir={folder}/profile",
            ],
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            env=plain_environment() | {"HOME": str(folder)},
            pass_fds=passed,
            start_new_session=True,
        )
    for descriptor in passed:
        os.close(descriptor)
    try:
        running = Browser(commands, answers)
        yield running
        running.command("Browser.close")
    finally:
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)  # a session of its own: nothing but this browser
            process.wait()
        for descriptor in (commands, answers):
            os.close(descriptor)
