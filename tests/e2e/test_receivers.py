"""What the examples for receivers send: a real Alertmanager sends it to services of the loopback."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml

from tests.e2e.http import ask, try_to_ask
from tests.e2e.mail import mailbox
from tests.e2e.processes import free_port, started
from tests.e2e.prometheus import program
from tests.e2e.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.prometheus]

PROMETHEUS = Path(__file__).parents[2] / "prometheus"
RECEIVERS = PROMETHEUS / "receivers"
ROBOTS = sorted(path.stem for path in RECEIVERS.glob("*-robot.yml"))
GROUP = {"alertname": "OctopusRunFailedSpike", "project": "p&q", "job_type": "FRAME_EXTRACT"}
STATUS = "http://exporter.example:10877/?project=p%26q&job_type=FRAME_EXTRACT&status=RUN_FAILED&since=1h"
RUNBOOK = "https://git.example/team/octopus-exporter/blob/v0.1.0/docs/runbooks/OctopusRunFailedSpike.md"
BOARD = "https://grafana.example/d/octopus-project"


def spike() -> dict[str, Any]:
    """Give the alert that the rules fire in `promtool test rules`, with all its texts."""
    tests = yaml.safe_load((PROMETHEUS / "tests" / "texts.yml").read_text(encoding="utf-8"))["tests"]
    alert = next(
        alert
        for test in tests
        for expected in test["alert_rule_test"]
        if expected["alertname"] == GROUP["alertname"]
        for alert in expected["exp_alerts"]
        if alert["exp_labels"]["severity"] == "critical" and "3001" in alert["exp_annotations"]["description"]
    )
    return {"labels": {**alert["exp_labels"], **GROUP}, "annotations": alert["exp_annotations"]}


SPIKE = spike()
TEXTS = SPIKE["annotations"]
SUMMARY, CODES = TEXTS["summary_zh"], TEXTS["description_zh"].splitlines()[0]


class Service:
    """Takes what is sent, and answers as WeCom, Slack and the robots do."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.url = ""

    @contextmanager
    def serving(self) -> Iterator[None]:
        bodies = self.bodies

        class Request(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer({"errcode": 0, "errmsg": "ok", "access_token": "token"})

            def do_POST(self) -> None:
                bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.answer({"errcode": 0, "errmsg": "ok", "ok": True})

            def answer(self, body: dict[str, Any]) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_: Any) -> None:
                """Write only errors to standard error."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Request) as server:
            self.url = f"http://127.0.0.1:{server.server_address[1]}/"
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()


def alertmanager() -> str:
    return "alertmanager" if shutil.which("alertmanager") else "prometheus-alertmanager"


def has_payloads() -> bool:
    """Tell whether the Alertmanager is of 0.33 or later."""
    done = subprocess.run([program(alertmanager()), "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"version (\d+)\.(\d+)", done.stdout + done.stderr)
    return found is not None and (int(found[1]), int(found[2])) >= (0, 33)


@contextmanager
def telling(folder: Path, config: dict[str, Any], alert: dict[str, Any]) -> Iterator[None]:
    """Run an Alertmanager with this configuration, and tell it of the alert."""
    config["route"] |= {"group_wait": "0s"}
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    shutil.copy(PROMETHEUS / "octopus.tmpl", folder)
    port = free_port()
    command = [
        *(program(alertmanager()), "--config.file=alertmanager.yml", "--storage.path=data"),
        *(f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=", "--log.level=error"),
        "--web.external-url=http://alertmanager.example:9093",
    ]
    with started(command, folder, name="alertmanager") as running:

        def is_ready() -> bool:
            running.must_run()
            answer = try_to_ask(f"http://127.0.0.1:{port}/-/ready")
            return answer is not None and answer.status == 200

        until(is_ready, "Alertmanager")
        posted = ask(
            f"http://127.0.0.1:{port}/api/v2/alerts",
            method="POST",
            headers={"Content-Type": "application/json"},
            body=[alert],
        )
        assert posted.status == 200, posted.text
        yield


def example(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((RECEIVERS / f"{name}.yml").read_text(encoding="utf-8"))
    return config


def sent(folder: Path, config: dict[str, Any], service: Service, stack: ExitStack) -> dict[str, Any]:
    """Give the first message that the service gets."""
    stack.enter_context(telling(folder, config, SPIKE))
    bodies = until(lambda: service.bodies, "a message")
    return bodies[0]


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    with service.serving():
        yield service


def silenced(text: str) -> dict[str, str]:
    """Give the labels of the silence that a message offers to make."""
    (link,) = re.findall(r"http://alertmanager\.example:9093/#/silences/new\?[^)\s>]+", text)
    (matchers,) = parse_qs(urlsplit(link).fragment.partition("?")[2])["filter"]
    return dict(re.findall(r'(\w+)="([^"]*)"', unquote(matchers)))


def says_all(text: str) -> None:
    """A message in Chinese says what it is about, the codes, and where to go on."""
    assert SUMMARY in text
    assert CODES in text
    assert f"[状态页]({STATUS}&lang=zh)" in text
    assert f"[处理手册]({RUNBOOK}#中文)" in text
    assert f"[仪表盘]({BOARD}-zh?" in text
    assert silenced(text) == GROUP


def test_mail(tmp_path: Path) -> None:
    config = example("mail")
    with mailbox() as box:
        (mail,) = config["receivers"][0]["email_configs"]
        mail |= {"smarthost": f"127.0.0.1:{box.port}", "require_tls": False}
        del mail["auth_username"], mail["auth_password_file"]
        with telling(tmp_path, config, SPIKE):
            (message, *_) = until(lambda: box.mails, "a mail")
    assert message.subject == f"[严重] {SUMMARY}"
    assert CODES in message.text
    assert f"{STATUS}&lang=zh\n" in message.text
    assert f"{RUNBOOK}#中文\n" in message.text
    assert silenced(message.text) == GROUP


def test_slack(tmp_path: Path, service: Service) -> None:
    config = example("slack")
    (slack,) = config["receivers"][0]["slack_configs"]
    del slack["api_url_file"]
    slack["api_url"] = service.url
    with ExitStack() as stack:
        (attachment,) = sent(tmp_path, config, service, stack)["attachments"]
    assert attachment["color"] == "danger"
    assert attachment["title_link"] == STATUS
    assert attachment["title"] == f"[FIRING critical] {TEXTS['summary']}"
    assert TEXTS["description"] in attachment["text"]
    buttons = {action["text"]: action["url"] for action in attachment["actions"]}
    assert (buttons["Runbook"], buttons["Dashboard"].partition("?")[0]) == (RUNBOOK, BOARD)
    assert silenced(buttons["Silence"]) == GROUP


def test_wecom(tmp_path: Path, service: Service) -> None:
    config = example("wecom")
    config["receivers"][0]["wechat_configs"][0]["api_url"] = service.url
    with ExitStack() as stack:
        message = sent(tmp_path, config, service, stack)
    assert (message["msgtype"], message["agentid"], message["toparty"]) == ("markdown", "1000002", "2")
    says_all(message["markdown"]["content"])


def test_dingtalk_through_its_bridge(tmp_path: Path, service: Service) -> None:
    """The bridge has the templates' language and the data of Alertmanager, which renders them here."""
    message = example("dingtalk-bridge")["targets"]["octopus"]["message"]
    config = example("slack")
    config["receivers"][0]["slack_configs"] = [
        {"api_url": service.url, "channel": "#octopus", "title": message["title"], "text": message["text"]}
    ]
    with ExitStack() as stack:
        (attachment,) = sent(tmp_path, config, service, stack)["attachments"]
    assert attachment["title"] == f"[严重] {SUMMARY}"
    says_all(attachment["text"])


@pytest.mark.parametrize("name", ROBOTS)
def test_robots(tmp_path: Path, service: Service, name: str) -> None:
    if not has_payloads():
        pytest.skip("needs an Alertmanager of 0.33 or later")
    config = example(name)
    (webhook,) = config["receivers"][0]["webhook_configs"]
    del webhook["url_file"]
    webhook["url"] = service.url
    with ExitStack() as stack:
        message = sent(tmp_path, config, service, stack)
    match name:
        case "feishu-robot":
            assert (message["msg_type"], message["card"]["header"]["template"]) == ("interactive", "red")
            assert "octopus" in message["card"]["header"]["title"]["content"]
            text = message["card"]["elements"][0]["content"]
        case "dingtalk-robot":
            assert "octopus" in message["markdown"]["title"]
            text = message["markdown"]["text"]
        case _:
            text = message["markdown"]["content"]
    says_all(text)


RENDER = """
package main

import (
    "encoding/json"
    "os"
    "text/template"
)

func main() {
    var data map[string]any
    if err := json.NewDecoder(os.Stdin).Decode(&data); err != nil {
        panic(err)
    }
    text := template.Must(template.ParseFiles(os.Args[1]))
    if err := text.Execute(os.Stdout, data); err != nil {
        panic(err)
    }
}
"""


def test_feishu_through_prometheusalert(tmp_path: Path, service: Service) -> None:
    """PrometheusAlert gives a template the JSON that Alertmanager sends; the language is Go's."""
    if not shutil.which("go"):
        pytest.skip("needs Go")
    config = example("feishu")
    config["receivers"][0]["webhook_configs"][0]["url"] = service.url
    with ExitStack() as stack:
        message = sent(tmp_path, config, service, stack)
    (tmp_path / "render.go").write_text(RENDER, encoding="utf-8")
    done = subprocess.run(
        ["go", "run", tmp_path / "render.go", RECEIVERS / "feishu-prometheusalert.tmpl"],
        input=json.dumps(message),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for part in (SUMMARY, CODES, f"[状态页]({STATUS}&lang=zh)", f"[处理手册]({RUNBOOK}#中文)"):
        assert part in done.stdout
    assert silenced(done.stdout) == GROUP
