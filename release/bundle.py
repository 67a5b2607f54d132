"""The bundle: all that an installation in a network without the internet needs, in one archive."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from exporter import __version__
from release.archives import pack, write_checksums
from release.distributions import NAME
from release.images import build_archive
from release.wheels import Machine, download, offline_requirements

_OWN_FILES = Path(__file__).with_name("bundle")
# Where they are in the repository, so that their links lead to each other.
_SHIPPED = (
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "README.zh-CN.md",
    "config.example.yaml",
    "deploy",
    "docs",
    "grafana/dashboards",
    "grafana/provisioning",
    "prometheus/README.md",
    "prometheus/README.zh-CN.md",
    "prometheus/alertmanager.yml",
    "prometheus/octopus.tmpl",
    "prometheus/prometheus.yml",
    "prometheus/receivers",
    "prometheus/rules",
    "prometheus/settings.yaml",
)


def write_bundle(
    output: Path,
    scratch: Path,
    wheel: Path,
    chart: Path | None,
    machines: Sequence[Machine],
    *,
    with_image: bool,
    builder: str,
) -> tuple[Path, list[str]]:
    """
    Write the bundle; return it, and a line for each part that is left out.

    Raises: CalledProcessError (a wheel or the image cannot be had).
    """
    left_out = []
    name = f"{NAME}-{__version__}-bundle"
    folder = scratch / name
    for file in sorted(_OWN_FILES.iterdir()):
        _copy(file, folder / file.name)
    for shipped in _SHIPPED:
        if Path(shipped).exists():
            _copy(Path(shipped), folder / shipped)

    wheels = folder / "wheels"
    _copy(wheel, wheels / wheel.name)
    download(machines, wheels, scratch)
    (folder / "requirements.txt").write_text(offline_requirements(wheels), encoding="utf-8")

    if chart is None:
        left_out.append("the chart: there is none in deploy/helm")
    else:
        _copy(chart, folder / "chart" / chart.name)
    if with_image and builder:
        build_archive(builder, folder / "image", scratch)
    else:
        why = "neither docker nor podman nor buildah works here" if with_image else "by --no-image"
        left_out.append(f"the container image: {why}")

    write_checksums(folder)
    # Nearly all of it is compressed already.
    archive = output / f"{name}.tar"
    pack(folder, archive, name)
    return archive, left_out


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".lint"))
    else:
        shutil.copy(source, target)
