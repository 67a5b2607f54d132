"""The exporter in its own process: its configuration, start, end and answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from exporter.simulator import SimulatorSettings
from tests.e2e.exposed import POLL_FAMILIES, Exposed, Target
from tests.e2e.http import Answer, ask, try_to_ask
from tests.e2e.processes import EXPORTER, Program, free_port, run, started
from tests.e2e.simulation import PROJECT
from tests.e2e.waiting import until

Section = dict[str, Any]


class Exporter:
    """
    An exporter with its own folder for configuration, ledger and output.

    Shape: `config` is the content of its file. It may be changed and written again.
    """

    def __init__(self, folder: Path, api: str, *, projects: list[Section] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = free_port()
        self.config: dict[str, Section | list[Section]] = {
            "projects": projects or [project(api)],
            "credentials": {"default": password(api)},
            "poll": {"interval": "1s", "requests_per_second": 500, "lookback": "60d"},
            "ledger": {"url": f"sqlite:///{self.ledger}"},
            # A test that is about something else waits for one scrape, and not for a minute and a half.
            "metrics": {"new_series_hold": "0s"},
            "web": {"listen": [f"127.0.0.1:{self.port}"]},
        }

    @property
    def file(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger.db"

    def change(self, **sections: Mapping[str, Any]) -> None:
        """Put these keys into these sections."""
        for name, keys in sections.items():
            section = self.config.setdefault(name, {})
            assert isinstance(section, dict)
            section.update(keys)

    def write(self) -> Path:
        """Write the configuration to its file."""
        self.file.write_text(yaml.safe_dump(self.config))
        return self.file

    def lose_ledger(self) -> None:
        for file in self.folder.glob("ledger.db*"):
            file.unlink()

    @contextmanager
    def running(self, errors_to: int | None = None, output_to: int | None = None) -> Iterator[Program]:
        """Run it. It need not be ready yet, nor even listen."""
        command = (*EXPORTER, "run", "--config", self.write())
        streams = {"errors_to": errors_to, "output_to": output_to}
        with started(command, self.folder, name="exporter", **streams) as program:
            yield program

    @contextmanager
    def ready(self, errors_to: int | None = None, output_to: int | None = None) -> Iterator[Program]:
        """Run it, and wait until every target has been published."""
        with self.running(errors_to, output_to) as program:
            self.wait_until_ready(program)
            yield program

    def wait_until_ready(self, program: Program) -> None:
        until(lambda: self.is_ready(program), f"ready\n{program.errors}")

    def wait_until_listening(self, program: Program) -> None:
        """Wait until it answers, whether its targets are up or not."""

        def listens() -> bool:
            program.must_run()
            return self.try_page("-/healthy") is not None

        until(listens, f"an answer\n{program.errors}")

    def is_ready(self, program: Program) -> bool:
        program.must_run()
        answer = self.try_page("-/ready")
        return answer is not None and answer.status == 200

    def page(self, path: str, method: str = "GET", **headers: str) -> Answer:
        return ask(f"http://127.0.0.1:{self.port}/{path}", method=method, headers=headers)

    def try_page(self, path: str) -> Answer | None:
        return try_to_ask(f"http://127.0.0.1:{self.port}/{path}")

    def scrape(self) -> Exposed:
        return Exposed.of_text(self._metrics())

    def scrape_names(self, *names: str) -> Exposed:
        """Scrape only these samples: this is fast even with many targets."""
        answer = self.page("metrics?" + "&".join(f"name[]={name}" for name in names))
        assert answer.status == 200, answer.text
        return Exposed.of_text(answer.text)

    def _metrics(self) -> str:
        answer = self.page("metrics")
        assert answer.status == 200, answer.text
        return answer.text

    def scrape_when(self, seen: Callable[[Exposed], bool], what: str, *names: str) -> Exposed:
        """Scrape until the samples whose names begin so are as they should be; give that whole exposition."""

        def look() -> str | None:
            text = self._metrics()
            return text if seen(Exposed.of_text(text, names)) else None

        return Exposed.of_text(until(look, what) or "")

    def scrape_until_polled(self) -> Exposed:
        """Scrape until every target has had a poll that succeeded."""
        return self.scrape_when(
            lambda exposed: all(exposed.successes().values()), "a poll of every target", *POLL_FAMILIES
        )

    def scrape_after_polls(self, polls: int) -> Exposed:
        """
        Wait until every target has had so many successful polls that began from now on, and scrape.

        New series of these polls show their values.
        """
        now, first = time.time(), dict[Target, int]()

        def enough(exposed: Exposed) -> bool:
            successes = exposed.successes()
            for target in exposed.polled_since(now):
                first.setdefault(target, successes[target])
            # While a reload replaces the only target, there is none for a moment.
            return (
                bool(successes)
                and first.keys() == successes.keys()
                and all(count >= first[target] + polls - 1 for target, count in successes.items())
            )

        self.scrape_when(enough, f"{polls} polls of every target that succeed", *POLL_FAMILIES)
        return Exposed.of_text(until(self.scrape_if_released, "the release of all new series") or "")

    def scrape_if_released(self) -> str | None:
        """Scrape, so that new series are released. Returns None while a series is held at 0."""
        is_released = not any(target["held_series"] for target in self.targets())
        text = self._metrics()
        return text if is_released else None

    def scrape_until(self, name: str, wanted: float | None, **labels: str) -> Exposed:
        """Scrape until a sample has this value (None: is missing)."""
        return self.scrape_when(
            lambda exposed: exposed.value(name, **labels) == wanted, f"{name}{labels} at {wanted}", name
        )

    def scrape_until_risen(self, name: str, least: float, **labels: str) -> Exposed:
        """Scrape until a counter has at least this value."""
        return self.scrape_when(
            lambda exposed: (exposed.value(name, **labels) or 0) >= least, f"{name}{labels} at {least}", name
        )

    def scrape_until_failed(self, reason: str, times: int = 1) -> Exposed:
        """Scrape until so many more polls have failed for this reason."""
        name = "octopus_poll_failures_total"
        wanted = self.scrape().total(name, reason=reason) + times
        return self.scrape_when(
            lambda exposed: exposed.total(name, reason=reason) >= wanted,
            f"{times} polls that fail for the reason {reason}",
            name,
        )

    def targets(self) -> list[dict[str, Any]]:
        """Return the targets of /api/v1/status."""
        targets: list[dict[str, Any]] = self.page("api/v1/status").json["targets"]
        return targets


def run_once(exporter: Exporter, exit_code: int = 0) -> Exposed:
    """Run the command `once` and return the exposition that it prints."""
    done = run(("once", "--config", exporter.write()), exporter.folder)
    assert done.returncode == exit_code, done.stderr
    return Exposed.of_text(done.stdout)


def project(api: str, name: str = "perception", project_id: str = PROJECT, **keys: Any) -> Section:
    """Return the configuration of a project."""
    return {"id": project_id, "name": name, "endpoint": api, "workspaces": ["0"], **keys}


def access_key() -> Section:
    """Give credentials that every simulator accepts, also one that has just begun: it gives no token."""
    key = SimulatorSettings().credentials
    return {"type": "aksk", "access_key": key.access_key, "secret_key": key.secret_key}


def password(api: str, **keys: Any) -> Section:
    """Return credentials that a simulator accepts."""
    known = {"domain": "octopus-demo", "user": "exporter", "password": "demo-password"}
    return {"type": "password", "iam_endpoint": api, **known, **keys}
