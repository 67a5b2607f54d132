"""
What a StatefulSet asks of its one container, as variables of bash: `eval "$(python .ci/pod.py FILE PORT)"`.

PORT stands in for the container's own port: on this machine others may use that one.
"""

import shlex
import sys
from pathlib import Path

import yaml


def main(file: str, port: str) -> None:
    (document,) = yaml.safe_load_all(Path(file).read_text(encoding="utf-8"))
    pod = document["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (own,) = (str(one["containerPort"]) for one in container["ports"])
    security = pod["securityContext"] | container["securityContext"]
    # `inside` of .ci/image runs it so.
    wanted = {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    if differing := [key for key, value in wanted.items() if security[key] != value]:
        sys.exit(f"{file}: {', '.join(differing)}: differs from how the image is tried")
    found = {
        "user": [f"{security['runAsUser']}:{security['runAsGroup']}"],
        "groups": [str(security["fsGroup"])],
        "arguments": [one.replace(own, port) for one in container["args"]],
        "variables": [f"{one['name']}={one['value'].replace(own, port)}" for one in container["env"]],
        "mounts": [f"{one['name']}:{one['mountPath']}" for one in container["volumeMounts"]],
        "mode": [f"{one['projected']['defaultMode']:o}" for one in pod["volumes"] if "projected" in one],
        "probes": [
            f"http://127.0.0.1:{port}{container[f'{kind}Probe']['httpGet']['path']}"
            for kind in ("liveness", "readiness")
        ],
    }
    for name, values in found.items():
        print(f"pod_{name}=({shlex.join(values)})")  # noqa: T201 - its output


if __name__ == "__main__":
    main(*sys.argv[1:])
