"""The compose file's parts, run here one by one: its own commands on its own configuration files."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana.boards import DASHBOARDS
from grafana.preview.queries import Prometheus
from tests.e2e.http import try_to_ask
from tests.e2e.processes import EXPORTER, Program, free_port, started
from tests.e2e.prometheus import program
from tests.e2e.waiting import until
from tests.postgres import PostgresServer

FOLDER = Path(__file__).parent.parent.parent / "deploy" / "compose"
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
# Two exporters on one PostgreSQL ledger: the same things hold for it, as far as they are of the file alone.
HA = yaml.safe_load((FOLDER / "ha.yaml").read_text(encoding="utf-8"))
PROVISIONING = FOLDER.parent.parent / "grafana" / "provisioning"

services = pytest.mark.parametrize(
    ("file", "name"), [(file, name) for file in (COMPOSE, HA) for name in file["services"]]
)


def mounts(name: str, file: dict[str, Any] = COMPOSE) -> dict[str, Path]:
    """Give the files and folders of the host that a service sees, by where it sees them."""
    split = (volume.split(":") for volume in file["services"][name].get("volumes", ()))
    return {there: FOLDER / here for here, there, *_ in split if here.startswith(".")}


def ports(name: str, file: dict[str, Any] = COMPOSE) -> list[str]:
    return [published.rpartition(":")[2] for published in file["services"][name]["ports"]]


@services
def test_what_is_mounted_is_there(file: dict[str, Any], name: str) -> None:
    assert all(path.exists() for path in mounts(name, file).values())
    volumes = {volume.split(":")[0] for volume in file["services"][name].get("volumes", ())}
    assert {volume for volume in volumes if not volume.startswith(".")} <= file["volumes"].keys()


@services
def test_images_are_pinned_and_ports_are_on_this_machine_only(file: dict[str, Any], name: str) -> None:
    service = file["services"][name]
    assert "build" in service or re.fullmatch(
        r"\$\{REGISTRY:-docker\.io\}/[\w/]+:v?\d+\.\d+(\.\d+)?", service["image"]
    )
    assert all(published.startswith("127.0.0.1:") for published in service["ports"])
    assert set(service.get("depends_on", ())) <= file["services"].keys()


def test_the_ports_of_a_file_are_of_one_service_each() -> None:
    for file in (COMPOSE, HA):
        ours = [one.rpartition(":")[0] for service in file["services"].values() for one in service["ports"]]
        assert len(set(ours)) == len(ours)


def test_grafana_finds_prometheus_and_the_dashboards() -> None:
    seen = mounts("grafana")
    (source,) = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yaml").read_text())["datasources"]
    assert source["url"] == f"http://prometheus:{ports('prometheus')[0]}"
    assert source["type"] == "prometheus"
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards" / "octopus.yaml").read_text())["providers"]
    assert seen[provider["options"]["path"]].resolve() == DASHBOARDS.resolve()
    assert provider["allowUiUpdates"] is False
    assert seen["/etc/grafana/provisioning"].resolve() == PROVISIONING.resolve()
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (seen[str(home.parent)] / home.name).is_file()


def test_the_datasource_scrapes_as_prometheus_does() -> None:
    """Graphs take their windows from what the data source says."""
    (source,) = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yaml").read_text())["datasources"]
    scraped = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scraped


@dataclass
class Stage:
    """
    The services as processes on this machine.

    Shape: a service's address, as `exporter:10877`, becomes one of the loopback's; a path in a container
    becomes one below `folder`. Of the rest only the pace is changed: nobody waits here for half a minute.
    """

    folder: Path
    file: dict[str, Any] = field(default_factory=lambda: COMPOSE)
    addresses: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.file["services"]:
            for port in ports(name, self.file):
                self.addresses[f"{name}:{port}"] = f"127.0.0.1:{free_port()}"

    def address(self, name: str) -> str:
        return self.addresses[f"{name}:{ports(name, self.file)[0]}"]

    def lay_out(self, name: str) -> None:
        """Copy what a service sees to where it sees it."""
        for there, here in mounts(name, self.file).items():
            files = [here] if here.is_file() else [path for path in here.rglob("*") if path.is_file()]
            for file in files:
                copy = (
                    self.folder / name / there.lstrip("/") / ("" if file == here else file.relative_to(here))
                )
                copy.parent.mkdir(parents=True, exist_ok=True)
                text = self.moved(file.read_text(encoding="utf-8"))
                text = text.replace(" /run/", f" {self.folder / name}/run/")
                copy.write_text(text, encoding="utf-8")

    def moved(self, text: str) -> str:
        for there, here in self.addresses.items():
            text = text.replace(there, here)
        return text.replace("scrape_interval: 30s", "scrape_interval: 1s")

    def command(self, name: str) -> list[str]:
        return [re.sub(r"(^|=)/", rf"\1{self.folder / name}/", part) for part in self.parts(name)]

    def parts(self, name: str) -> list[str]:
        command: list[str] = self.file["services"][name]["command"]
        return command

    @contextmanager
    def running(self, name: str, *command: str | Path) -> Iterator[Program]:
        self.lay_out(name)
        with started(
            command, self.folder / name if (self.folder / name).is_dir() else self.folder, name=name
        ) as one:
            yield one


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("compose"))
    (stage.folder / "exporter").mkdir()
    with ExitStack() as stack:
        simulate(stage, stack)
        listen = f"--web.listen-address={stage.address('exporter')}"
        stack.enter_context(stage.running("exporter", *EXPORTER, *stage.command("exporter"), listen))
        for name, besides in (("alertmanager", ["--cluster.listen-address="]), ("prometheus", [])):
            listen = f"--web.listen-address={stage.address(name)}"
            binary = program({"alertmanager": "prometheus-alertmanager"}.get(name, name))
            stack.enter_context(stage.running(name, binary, *stage.command(name), listen, *besides))
            until(lambda name=name: is_ready(stage.address(name)), name)  # type: ignore[misc]
        yield stage


def simulate(stage: Stage, stack: ExitStack) -> None:
    port = stage.address("simulator").rpartition(":")[2]
    command = [
        {"0.0.0.0": "127.0.0.1", "10878": port, "20000": "300"}.get(part, part)
        for part in stage.parts("simulator")
    ]
    stack.enter_context(stage.running("simulator", *EXPORTER, *command))
    until(lambda: try_to_ask(f"http://{stage.address('simulator')}/"), "the simulator")


def is_ready(address: str) -> bool:
    answer = try_to_ask(f"http://{address}/-/ready")
    return answer is not None and answer.status == 200


@pytest.mark.e2e
@pytest.mark.prometheus
def test_prometheus_scrapes_the_exporter_that_polls_the_simulator(stage: Stage) -> None:
    server = Prometheus(f"http://{stage.address('prometheus')}")
    found = until(lambda: server.instant('octopus_jobs{job="octopus", project="demo"}', time.time()), "jobs")
    assert sum(one.last for one in found) >= 300


@pytest.mark.e2e
@pytest.mark.prometheus
def test_prometheus_has_the_rules_and_the_alertmanager(stage: Stage) -> None:
    answer = try_to_ask(f"http://{stage.address('prometheus')}/api/v1/rules")
    assert answer is not None
    files = {Path(group["file"]).name for group in answer.json["data"]["groups"]}
    assert files == {file.name for file in mounts("prometheus")["/etc/prometheus/rules"].glob("*.yml")}
    known = f"http://{stage.address('alertmanager')}/api/v2/alerts"

    def alertmanagers() -> list[str]:
        answer = try_to_ask(f"http://{stage.address('prometheus')}/api/v1/alertmanagers")
        return [] if answer is None else [one["url"] for one in answer.json["data"]["activeAlertmanagers"]]

    assert until(alertmanagers, "an Alertmanager") == [known]


@pytest.mark.e2e
def test_the_exporters_of_one_ledger_share_the_targets(tmp_path: Path, postgres: PostgresServer) -> None:
    """PostgreSQL is that of the tests, with the user, database and password that its container would make."""
    stage = Stage(tmp_path, HA)
    made = HA["services"]["postgres"]["environment"]
    password = mounts("postgres", HA)[made["POSTGRES_PASSWORD_FILE"]].read_text().strip()
    stage.addresses["postgres:5432"] = f"127.0.0.1:{postgres.port}"
    user, database = "compose_user", "compose_octopus"
    assert (made["POSTGRES_USER"], made["POSTGRES_DB"]) == ("octopus", "octopus")
    stage.addresses["postgresql://octopus@postgres:5432/octopus"] = (
        f"postgresql://{user}@127.0.0.1:{postgres.port}/{database}"
    )
    stage.addresses = dict(sorted(stage.addresses.items(), key=lambda item: -len(item[0])))
    postgres.sql(f"CREATE ROLE {user} LOGIN PASSWORD '{password}'")
    postgres.sql(f"CREATE DATABASE {database} OWNER {user}")
    exporters = ("exporter-1", "exporter-2")
    try:
        with ExitStack() as stack:
            simulate(stage, stack)
            for name in exporters:
                listen = f"--web.listen-address={stage.address(name)}"
                (stage.folder / name).mkdir()
                stack.enter_context(stage.running(name, *EXPORTER, *stage.command(name), listen))
            for name in exporters:
                until(lambda name=name: held(stage.address(name)) == [0, 1], name)  # type: ignore[misc]
    finally:
        postgres.sql(f"DROP DATABASE {database} WITH (FORCE)")
        postgres.sql(f"DROP ROLE {user}")
    scraped = yaml.safe_load((FOLDER / "ha" / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = scraped["scrape_configs"]
    assert job["static_configs"][0]["targets"] == [f"{name}:{ports(name, HA)[0]}" for name in exporters]


def held(address: str) -> list[float] | None:
    """Tell whether an exporter holds some of its eight targets and not others; None before all are there."""
    answer = try_to_ask(f"http://{address}/metrics")
    found = re.findall(
        r"^octopus_exporter_lease_held\{.*\} (\S+)$", answer.text if answer else "", re.MULTILINE
    )
    return sorted({float(value) for value in found}) if len(found) == 8 else None
