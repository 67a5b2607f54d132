"""The container image as an archive, which `docker load` and `podman load` read."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from pathlib import Path

from exporter import __version__
from release.archives import epoch

IMAGE = f"octopus-exporter:{__version__}"
# What the Dockerfile takes from the environment of make.
_ARGUMENTS = ("PYTHON_IMAGE", "REGISTRY", "PIP_INDEX_URL", "REPOSITORY_URL", "REVISION")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def build_archive(builder: str, folder: Path, scratch: Path) -> Path:
    """
    Build the image for this machine, and write it as an archive.

    Shape: `builder` is docker, podman or buildah. Raises: CalledProcessError.
    """
    given = [f"{name}={os.environ[name]}" for name in _ARGUMENTS if os.environ.get(name)]
    arguments = [part for one in (f"VERSION={__version__}", *given) for part in ("--build-arg", one)]
    tags = ["--tag", IMAGE, "--tag", "octopus-exporter"]
    # The times of the layers' files are part of the image.
    times = [] if builder == "docker" else ["--timestamp", str(epoch())]
    environment = os.environ | {"BUILDAH_FORMAT": "docker"}
    build = [builder, "build", "--quiet", *times, *tags, *arguments, "."]
    subprocess.run(build, check=True, env=environment, stdout=subprocess.DEVNULL)
    plain = scratch / "image.tar"
    if builder == "buildah":
        save = [builder, "push", "--quiet", IMAGE, f"docker-archive:{plain}:{IMAGE}"]
    else:
        save = [builder, "save", "--output", str(plain), IMAGE]
    subprocess.run(save, check=True)
    machine = os.uname().machine
    name = f"octopus-exporter-{__version__}-{_ARCHITECTURES.get(machine, machine)}.tar.gz"
    folder.mkdir(parents=True, exist_ok=True)
    with (
        plain.open("rb") as content,
        (folder / name).open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=6, mtime=epoch()) as packed,
    ):
        shutil.copyfileobj(content, packed, 1 << 20)
    return folder / name
