"""
A Prometheus with the rules that scrapes a running demo.

    python -m prometheus.demo [--exporter 10877] [--port 9090]

It starts the installed program `prometheus` with prometheus.yml of this folder, but with the demo as target
and with shorter intervals. Its data is in a temporary folder, which is removed at the end.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import ProxyHandler, build_opener

import yaml

from exporter.rules import generate, load_settings

FOLDER = Path(__file__).resolve().parent
HOST = "127.0.0.1"
INTERVAL = "5s"
GRAPHS = {
    "jobs by status": "sum by (status) (octopus_jobs) > 0",
    "failed runs by code": "increase(octopus_job_failures_total[5m]) > 0",
}
_READY_SECONDS = 60.0
_TIMEOUT_SECONDS = 5.0
# The demo is on this machine: a proxy from the environment could not reach it.
_OPENER = build_opener(ProxyHandler({}))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m prometheus.demo", description="Watch a running demo.")
    parser.add_argument("--exporter", type=int, default=10877, metavar="N", help="the demo's port")
    parser.add_argument("--port", type=int, default=9090, metavar="N", help="where Prometheus listens")
    arguments = parser.parse_args()
    program = shutil.which("prometheus")
    if program is None:
        fail("prometheus is not installed: on Debian and Ubuntu, apt-get install prometheus")
    if not answers(f"http://{HOST}:{arguments.exporter}/-/healthy"):
        fail(f"no demo answers on port {arguments.exporter}: start it in another terminal with `make demo`")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="octopus-prometheus-") as folder:
        watch(program, Path(folder), arguments.exporter, free_port(arguments.port))


def watch(program: str, folder: Path, exporter: int, port: int) -> None:
    """Run Prometheus until Ctrl-C or SIGTERM. It is an error if it ends by itself."""
    file = folder / "prometheus.yml"
    file.write_text(json.dumps(configuration(exporter)), encoding="utf-8")
    # Without the dead man's switch: a demo without problems shows no alert.
    for name, text in generate(load_settings().model_copy(update={"watchdog": False})).items():
        (folder / name).write_text(text, encoding="utf-8")
    process = subprocess.Popen(  # noqa: S603 - the program that the user has installed
        [
            program,
            f"--config.file={file}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--storage.tsdb.retention.time=15d",
            "--enable-feature=exemplar-storage",
            f"--web.listen-address={HOST}:{port}",
            "--log.level=warn",
        ]
    )
    try:
        wait_until_ready(process, f"http://{HOST}:{port}")
        greet(f"http://{HOST}:{port}")
        process.wait()
        fail(f"Prometheus has ended with exit code {process.returncode}")
    except KeyboardInterrupt:
        process.terminate()
        process.wait()


def configuration(exporter: int) -> dict[str, Any]:
    """Return prometheus.yml with the demo's address and intervals, and without an Alertmanager."""
    config: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    del config["alerting"]
    config["global"] = {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL}
    config["rule_files"] = ["octopus*.yml"]
    for scrape in config["scrape_configs"]:
        scrape["scrape_interval"] = INTERVAL
        scrape["static_configs"] = [{"targets": [f"{HOST}:{exporter}"]}]
    return config


def wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    until = time.monotonic() + _READY_SECONDS
    while not answers(f"{url}/-/ready"):
        if process.poll() is not None or time.monotonic() > until:
            process.kill()
            fail("Prometheus has not started; what it says is above")
        time.sleep(0.1)


def greet(url: str) -> None:
    graphs = "".join(
        f"  {name:21}{url}/graph?g0.tab=0&g0.range_input=15m&g0.expr={quote(query)}\n"
        for name, query in GRAPHS.items()
    )
    sys.stdout.write(
        f"""
Prometheus with the rules of prometheus/rules, on the demo:

  {"alerts":21}{url}/alerts
  {"rules":21}{url}/rules
{graphs}
The demo is well where no alert fires. Stop: Ctrl-C; nothing is left behind.

"""
    )
    sys.stdout.flush()


def answers(url: str) -> bool:
    try:
        with _OPENER.open(url, timeout=_TIMEOUT_SECONDS):
            return True
    except (URLError, OSError):
        return False


def free_port(wanted: int) -> int:
    """Return the port if it is free, else another one: Debian's package runs a Prometheus on 9090."""
    try:
        probe = socket.create_server((HOST, wanted))
    except OSError:
        probe = socket.create_server((HOST, 0))
    with probe:
        return int(probe.getsockname()[1])


def fail(message: str) -> NoReturn:
    sys.exit(f"prometheus.demo: {message}")


if __name__ == "__main__":
    main()
