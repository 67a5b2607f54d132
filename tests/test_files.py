"""The command `files`, from a checkout: what it gives, what it refuses, and what it leaves alone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml

from exporter.rules import RULES
from tests.e2e.processes import run

ROOT = Path(__file__).parent.parent
RULE_FILE = ROOT / "prometheus" / "rules" / RULES
MINE = "links: {grafana: https://grafana.example, status_page: http://exporter.example:10877/}\n"
MINE += "keep_labels: [cluster]\n"


def written(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): file.read_text(encoding="utf-8")
        for file in folder.rglob("*")
        if file.is_file()
    }


def below(name: str) -> dict[str, str]:
    return {f"{name}/{path}": text for path, text in written(ROOT / "grafana" / name).items()}


def test_the_example_configuration_goes_to_standard_output(tmp_path: Path) -> None:
    done = run(("files", "config"), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (ROOT / "config.example.yaml").read_text(encoding="utf-8")


def test_the_rules_come_with_their_settings_and_the_example_for_alertmanager(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "rules"
    done = run(("files", "rules", "--output", folder), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    shipped = written(folder)
    assert done.stdout.splitlines() == [f"{folder / name}: written" for name in shipped_order(shipped)]
    assert shipped == {
        RULES: RULE_FILE.read_text(encoding="utf-8"),
        "octopus-settings.yaml": (ROOT / "prometheus" / "settings.yaml").read_text(encoding="utf-8"),
        "alertmanager/alertmanager.yml": (ROOT / "prometheus" / "alertmanager.yml").read_text("utf-8"),
        "alertmanager/octopus.tmpl": (ROOT / "prometheus" / "octopus.tmpl").read_text("utf-8"),
    }
    assert {stat.S_IMODE((folder / name).stat().st_mode) for name in shipped} == {0o644}
    # What the folder's usual glob gives Prometheus.
    assert [file.name for file in folder.glob("*.yml")] == [RULES]


def shipped_order(names: dict[str, str]) -> list[str]:
    return sorted(names, key=lambda name: (name != RULES, "/" in name, name))


def test_settings_of_ones_own_need_no_clone(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(MINE)
    done = run(("files", "rules", "--settings", "mine.yaml", "--output", "rules"), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    names = [RULES, "alertmanager/alertmanager.yml", "alertmanager/octopus.tmpl"]
    assert done.stdout.splitlines() == [f"rules/{name}: written" for name in names]
    example = yaml.safe_load((tmp_path / "rules" / "alertmanager" / "alertmanager.yml").read_text("utf-8"))
    assert example["route"]["group_by"] == ["alertname", "project", "job_type", "cluster"]
    text = (tmp_path / "rules" / RULES).read_text(encoding="utf-8")
    assert "status_url: 'http://exporter.example:10877/?project=" in text
    assert "dashboard_url: 'https://grafana.example/d/octopus-project?" in text


def test_rules_for_the_operator_are_the_same_rules(tmp_path: Path) -> None:
    done = run(("files", "rules", "--format", "prometheusrule"), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    rule = yaml.safe_load(done.stdout)
    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert rule["metadata"]["name"] == "octopus-exporter"
    assert rule["spec"] == yaml.safe_load(RULE_FILE.read_text(encoding="utf-8"))


def test_dashboards_come_in_both_languages_with_provisioning(tmp_path: Path) -> None:
    done = run(("files", "dashboards", "--output", "grafana"), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert written(tmp_path / "grafana") == below("dashboards") | below("provisioning")


def test_dashboards_lead_to_the_status_page_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(MINE)
    run(("files", "dashboards", "--settings", "mine.yaml", "--output", "grafana"), tmp_path)
    source = tmp_path / "grafana" / "provisioning" / "datasources" / "prometheus.yaml"
    (only,) = yaml.safe_load(source.read_text(encoding="utf-8"))["datasources"]
    (link,) = only["jsonData"]["exemplarTraceIdDestinations"]
    assert link["url"].startswith("http://exporter.example:10877/")
    assert not any("localhost:10877" in text for text in written(tmp_path / "grafana").values())


def test_a_file_that_differs_is_overwritten_only_if_one_says_so(tmp_path: Path) -> None:
    command = ("files", "units", "--output", "units")
    run(command, tmp_path)
    service = tmp_path / "units" / "octopus-exporter.service"
    shipped = service.read_text()
    service.write_text("mine\n")
    (tmp_path / "units" / "octopus-exporter.socket").unlink()
    refused = run(command, tmp_path)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == (
        "octopus-exporter: units/octopus-exporter.service: differs from what would be written\n"
        "octopus-exporter: nothing was written; --force overwrites\n"
    )
    assert service.read_text() == "mine\n"
    assert sorted(written(tmp_path / "units")) == [
        "octopus-exporter-before-253.conf",
        "octopus-exporter.service",
        "octopus-exporter.sysusers.conf",
    ]
    forced = run((*command, "--force"), tmp_path)
    assert forced.stdout.splitlines() == [
        "units/octopus-exporter-before-253.conf: is up to date",
        "units/octopus-exporter.service: overwritten",
        "units/octopus-exporter.socket: written",
        "units/octopus-exporter.sysusers.conf: is up to date",
    ]
    assert service.read_text() == shipped


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("units",), "--output: missing, expected a folder for 4 files"),
        (("rules", "--output", ""), "--output: is empty, expected a folder"),
        (("dashboards", "--output="), "--output: is empty, expected a folder"),
        (("rules", "--settings", ""), "--settings: is empty, expected a file"),
        (("config", "--settings", "mine.yaml"), "--settings: found with config, expected only with rules or"),
        (("units", "--format", "prometheusrule"), "--format: found with units, expected only with rules"),
        (("rules", "--settings", "none.yaml"), "none.yaml: cannot be read (No such file or directory)"),
        (("rules", "--settings", "mine.yaml"), "mine.yaml:1:18: links.grafana: found grafana.example, exp"),
    ],
)
def test_wrong_usage_and_settings_are_told_in_a_line(
    tmp_path: Path, arguments: tuple[str, ...], problem: str
) -> None:
    (tmp_path / "mine.yaml").write_text("links: {grafana: grafana.example}\n")
    done = run(("files", *arguments), tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"octopus-exporter: {problem}")
    assert written(tmp_path).keys() == {"mine.yaml"}


@pytest.mark.parametrize("arguments", [("everything",), ("rules", "--format", "json"), ()])
def test_an_unknown_kind_or_format_is_wrong_usage(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(("files", *arguments), tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_written_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    done = run(("files", "config", "--output", "taken/below"), tmp_path)
    assert done.returncode == 1
    assert done.stderr == "octopus-exporter: taken/below: cannot be written (Not a directory)\n"
