"""What a release consists of: the same bytes each time, and links that work wherever they are shown."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from exporter import __version__
from hatch_build import with_absolute_links
from release.__main__ import release_notes
from release.archives import pack, sha256, write_checksums
from release.distributions import build_python, pack_chart, write_bill_of_materials
from release.images import same_each_time
from release.wheels import PYTHONS, Machine, locked, offline_requirements

ROOT = Path(__file__).parent.parent
REPOSITORY = "https://git.example/team/octopus-exporter"


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1790000000")


def test_wheel_and_sdist_are_the_same_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPOSITORY_URL", REPOSITORY)
    sums = []
    for number in range(2):
        folder = tmp_path / str(number)
        build_python(folder)
        sums.append({file.name: sha256(file) for file in folder.iterdir()})
    assert sums[0] == sums[1]
    assert len(sums[0]) == 2


def metadata(**environment: str) -> dict[str, Any]:
    """Give the package's metadata as the build sees it."""
    command = [sys.executable, "-m", "hatchling", "metadata"]
    kept = {name: value for name, value in os.environ.items() if name != "REPOSITORY_URL"}
    done = subprocess.run(
        command, cwd=ROOT, env=kept | environment, capture_output=True, text=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_links_lead_to_the_repository_at_this_version() -> None:
    shown = metadata(REPOSITORY_URL=REPOSITORY)
    assert shown["urls"]["Changelog"] == f"{REPOSITORY}/blob/v{__version__}/CHANGELOG.md"
    links = re.findall(r"\]\(([^)\s]+)\)", shown["readme"]["text"])
    assert [link for link in links if not link.startswith(("https://", "http://", "#"))] == []
    for link in links:
        if link.startswith(f"{REPOSITORY}/"):
            file = re.sub(rf"{REPOSITORY}/(blob|raw)/v[\d.]+/", "", link).partition("#")[0]
            assert (ROOT / file).exists(), link


def test_no_address_is_made_up() -> None:
    shown = metadata()
    assert "urls" not in shown
    assert shown["readme"]["text"] == (ROOT / "README.md").read_text(encoding="utf-8")


def test_pictures_are_shown_and_anchors_stay() -> None:
    text = "[a](docs/a.md#b) ![p](docs/p.png) [here](#there) [out](https://example.com/x)"
    assert with_absolute_links(text, "https://r", "1.2.3") == (
        "[a](https://r/blob/v1.2.3/docs/a.md#b) ![p](https://r/raw/v1.2.3/docs/p.png)"
        " [here](#there) [out](https://example.com/x)"
    )


@pytest.mark.skipif(
    find_spec("cyclonedx_py") is None and "CI" not in os.environ, reason="make release installs cyclonedx_py"
)
def test_the_bill_of_materials_has_every_package_of_the_lock(tmp_path: Path) -> None:
    bill = json.loads(write_bill_of_materials(tmp_path).read_text(encoding="utf-8"))
    # Another one would differ each time.
    assert "serialNumber" not in bill
    assert bill["metadata"]["timestamp"].startswith("2026-09-21T")  # SOURCE_DATE_EPOCH
    assert (bill["metadata"]["component"]["name"], bill["metadata"]["component"]["version"]) == (
        "octopus-exporter",
        __version__,
    )
    names = {component["name"] for component in bill["components"]}
    assert names == {requirement.name for requirement, _ in locked(Path("requirements/run.txt"))}
    assert all(component["purl"].startswith("pkg:pypi/") for component in bill["components"])


def test_an_archive_is_the_same_whenever_it_is_made(tmp_path: Path) -> None:
    sums = []
    for number, umask in enumerate((0o022, 0o077)):
        folder = tmp_path / str(number)
        before = os.umask(umask)
        try:
            (folder / "b").mkdir(parents=True)
            (folder / "b" / "run.sh").write_text("#!/bin/sh\n")
            (folder / "b" / "run.sh").chmod(0o755)
            (folder / "a").write_text("a")
        finally:
            os.umask(before)
        os.utime(folder / "a", (number, number))
        for kind in ("tar", "tgz"):
            pack(folder, tmp_path / f"{number}.{kind}", "name")
        sums.append([sha256(tmp_path / f"{number}.{kind}") for kind in ("tar", "tgz")])
    assert sums[0] == sums[1]
    with tarfile.open(tmp_path / "1.tgz") as archive:
        assert [(one.name, one.mode, one.uid, one.mtime) for one in archive] == [
            ("name/a", 0o644, 0, 1_790_000_000),
            ("name/b/run.sh", 0o755, 0, 1_790_000_000),
        ]


def saved_image(file: Path, host: str) -> None:
    """Write what a builder saves, on a host of this name."""
    config = {"container": host, "config": {"Hostname": host, "User": "65532"}, "rootfs": {"type": "layers"}}
    manifest = [{"Config": "c.json", "RepoTags": ["octopus-exporter:1"], "Layers": ["l.tar"]}]
    parts = {
        "c.json": json.dumps(config),
        "l.tar": "layer",
        "manifest.json": json.dumps(manifest),
        "id": host,
    }
    with tarfile.open(file, "w") as archive:
        for name, text in parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))


def test_an_image_archive_does_not_name_the_container_that_built_it(tmp_path: Path) -> None:
    for host in ("one", "two"):
        saved_image(tmp_path / host, host)
        same_each_time(tmp_path / host, tmp_path / f"{host}.tar.gz", tmp_path / f"{host}.d")
    assert sha256(tmp_path / "one.tar.gz") == sha256(tmp_path / "two.tar.gz")
    with tarfile.open(tmp_path / "one.tar.gz") as archive:
        (manifest,) = json.loads((archive.extractfile("manifest.json") or io.BytesIO()).read())
        assert {manifest["Config"], *manifest["Layers"], "manifest.json"} == set(archive.getnames())
        config = json.loads((archive.extractfile(manifest["Config"]) or io.BytesIO()).read())
    assert config == {"config": {"User": "65532"}, "rootfs": {"type": "layers"}}


def test_checksums_are_what_sha256sum_reads(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("content")
    for _ in range(2):
        write_checksums(tmp_path)
    check = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    done = subprocess.run(check, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "folder/file: OK\n")


@pytest.mark.parametrize("python", PYTHONS)
def test_every_machine_gets_what_it_needs_and_nothing_else(python: str) -> None:
    """pip would judge the markers by the Python that it runs on."""
    environment = Machine("aarch64", python).marker_environment
    names = {
        one.name
        for one, _ in locked(Path("requirements/run.txt"))
        if one.marker is None or one.marker.evaluate(environment)
    }
    assert names >= {"aiohttp", "psycopg-binary", "huaweicloudsdkcore"}
    assert not names & {"colorama", "tzdata"}  # those are for Windows


def test_requirements_of_a_bundle_have_the_hashes_of_its_wheels(tmp_path: Path) -> None:
    for name in ("rich-1-py3-none-any", "rich-1-cp311-cp311-linux_x86_64", "pip-1-py3-none-any"):
        (tmp_path / f"{name}.whl").write_text(name)
    hashes = [sha256(file) for file in sorted(tmp_path.glob("rich*.whl"))]
    assert (
        offline_requirements(tmp_path)
        == "rich==1 \\\n    " + " \\\n    ".join(f"--hash=sha256:{each}" for each in hashes) + "\n"
    )


def test_a_release_has_the_tag_of_its_version_and_a_date() -> None:
    with pytest.raises(SystemExit, match=f"the tag is v9.9.9, and exporter/__init__.py says {__version__}"):
        release_notes("v9.9.9")
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    if f"## [{__version__}] - unreleased" in changes:
        with pytest.raises(SystemExit, match="has no section"):
            release_notes(f"v{__version__}")
    else:
        assert release_notes(f"v{__version__}").startswith("### ")


def test_the_chart_is_packed_without_what_helm_ignores(tmp_path: Path) -> None:
    package = pack_chart(tmp_path)
    assert package is not None
    with tarfile.open(package) as archive:
        names = archive.getnames()
    assert {"octopus-exporter/Chart.yaml", "octopus-exporter/values.schema.json"} <= set(names)
    assert [name for name in names if "/ci/" in name or name.endswith("/.lint")] == []
