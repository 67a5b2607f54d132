"""The container image as an archive, which `docker load` and `podman load` read."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tarfile
from pathlib import Path

from exporter import __version__
from release.archives import epoch, pack

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
    archive = folder / f"octopus-exporter-{__version__}-{_ARCHITECTURES.get(machine, machine)}.tar.gz"
    same_each_time(plain, archive, scratch / "image")
    return archive


def same_each_time(saved: Path, archive: Path, scratch: Path) -> None:
    """
    Write a saved image without what differs with each build: id, host name and tags of where it was built.

    Shape: only what manifest.json names is kept, which is all that is loaded.
    """
    scratch.mkdir()
    with tarfile.open(saved) as tar:

        def read(name: str) -> bytes:
            content = tar.extractfile(name)
            assert content is not None, name  # noqa: S101 - a builder that writes another format
            return content.read()

        (manifest,) = json.loads(read("manifest.json"))
        config = json.loads(read(manifest["Config"]))
        config.pop("container", None)
        for part in ("config", "container_config"):
            config.get(part, {}).pop("Hostname", None)
        manifest["Config"] = _add(scratch, ".json", json.dumps(config, sort_keys=True).encode())
        manifest["Layers"] = [_add(scratch, ".tar", read(layer)) for layer in manifest["Layers"]]
    # As docker, podman and containerd all name it.
    kept = {
        "Config": manifest["Config"],
        "RepoTags": [f"docker.io/library/{IMAGE}"],
        "Layers": manifest["Layers"],
    }
    (scratch / "manifest.json").write_text(json.dumps([kept]), encoding="utf-8")
    pack(scratch, archive, "")


def _add(folder: Path, ending: str, content: bytes) -> str:
    name = hashlib.sha256(content).hexdigest() + ending
    (folder / name).write_bytes(content)
    return name
