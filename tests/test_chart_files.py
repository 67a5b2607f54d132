"""What is made from the Helm chart and its values: README, schema, package, plain manifests; and its page."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.helm.generate import CHART, MANIFESTS, made, manifests
from exporter.config import load
from release.distributions import pack_chart
from tests.charts import (
    KUBERNETES,
    NAMESPACE,
    VALUES,
    Object,
    chart_tool,
    helm,
    parsed,
    problems,
    text_of,
    the,
)
from tests.e2e.prometheus import program
from tests.test_readme import blocks

ROOT = Path(__file__).parent.parent
FOLDERS = sorted(folder for folder in MANIFESTS.iterdir() if folder.is_dir())

manifest_folders = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def test_the_package_of_a_release_renders_as_the_chart_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rules and dashboards are links in the chart, and files in its package."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    monkeypatch.chdir(ROOT)
    package = pack_chart(tmp_path)
    assert package is not None
    done = helm("template", "octopus", package, "--namespace", NAMESPACE, "--values", VALUES["monitoring"])
    assert (done.returncode, done.stdout) == (0, text_of("monitoring")), done.stderr
    assert helm("package", CHART, "--destination", tmp_path / "helm").returncode == 0
    assert files_in(package) == files_in(tmp_path / "helm" / package.name)


def files_in(package: Path) -> dict[str, bytes]:
    """Give the files of a package but for Chart.yaml, which helm writes anew."""
    with tarfile.open(package) as archive:
        read = {one.name: archive.extractfile(one) for one in archive}
        return {name: file.read() for name, file in read.items() if file and not name.endswith("Chart.yaml")}


def test_the_readme_and_the_schema_are_made_from_the_values() -> None:
    """If not: make chart"""
    assert [file.name for file, text in made(None) if file.read_text(encoding="utf-8") != text] == []


def test_the_plain_manifests_are_made_from_the_chart() -> None:
    """If not: make chart"""
    rendered = dict(manifests(chart_tool("helm")))
    assert [file for file, text in rendered.items() if file.read_text(encoding="utf-8") != text] == []
    own = {"kustomization.yaml", "config.yaml"}
    there = {file for folder in FOLDERS for file in folder.iterdir() if file.name not in own}
    assert there == rendered.keys()


def manifests_of(folder: Path) -> list[Object]:
    names = kustomization(folder)["resources"]
    return [one for name in names for one in parsed((folder / name).read_text(encoding="utf-8"))]


def kustomization(folder: Path) -> Any:
    return yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))


def test_the_examples_of_the_documentation_work(tmp_path: Path) -> None:
    page = ROOT / "docs" / "kubernetes.md"
    sqlite, postgresql, scrape, job = (yaml.safe_load(block) for block in blocks(page, "yaml"))
    assert problems(job) == []
    arguments = job["spec"]["template"]["spec"]["containers"][0]["args"]
    assert f"--to={postgresql['ledger']['postgresql']['url']}" in arguments
    # Debian's promtool knows no Kubernetes.
    discovery = scrape["scrape_configs"][0].pop("kubernetes_sd_configs")
    assert discovery == [{"role": "pod", "namespaces": {"names": ["octopus"]}}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(scrape))
    checked = [program("promtool"), "check", "config", tmp_path / "prometheus.yml"]
    assert subprocess.run(checked, capture_output=True, check=False).returncode == 0
    files = []
    for number, example in enumerate((sqlite, postgresql)):
        files += ["--values", tmp_path / f"{number}.yaml"]
        files[-1].write_text(yaml.safe_dump(example))
        done = helm("template", "octopus", CHART, *files)
        assert done.returncode == 0, done.stderr
    claims = job["spec"]["template"]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"]
    stateful = the("StatefulSet", "sqlite")
    (claim,) = stateful["spec"]["volumeClaimTemplates"]
    assert claims == f"{claim['metadata']['name']}-{stateful['metadata']['name']}-0"


@manifest_folders
@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_the_plain_manifests(folder: Path, version: str) -> None:
    assert [found for one in manifests_of(folder) for found in problems(one, version)] == []


@manifest_folders
def test_a_kustomization_has_all_that_its_pods_name(folder: Path, tmp_path: Path) -> None:
    one = kustomization(folder)
    assert {*one["resources"], "servicemonitor.yaml"} == {
        file.name for file in folder.iterdir() if file.name not in {"kustomization.yaml", "config.yaml"}
    }
    (stateful,) = (found for found in manifests_of(folder) if found["kind"] == "StatefulSet")
    template = stateful["spec"]["template"]["spec"]
    (volume,) = template["volumes"]
    (generated,) = one["secretGenerator"]
    assert generated["files"] == ["config.yaml"]
    assert volume["projected"]["sources"][0] == {"secret": {"name": generated["name"]}}
    assert template["containers"][0]["image"].split(":")[0] == one["images"][0]["name"]
    shutil.copy(folder / "config.yaml", tmp_path)
    environ = {f"OCTOPUS_{key}": "text" for key in ("DOMAIN", "USER", "PASSWORD")}
    assert load(tmp_path / "config.yaml", environ).ledger.url.backend == folder.name
