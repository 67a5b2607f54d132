"""
Two clusters with projects and exporters of the same names, told apart by `keep_labels`.

Each of promtool's tests is run again with the series of another test as the other cluster: its alerts are as
they would be if it were alone.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.rules import RULES, generate
from tests.e2e.prometheus import program
from tests.promtool_rules import with_needed_rules
from tests.test_rules import PROMETHEUS, changed

pytestmark = pytest.mark.prometheus

# The other cluster has exporters, so Prometheus knows of some: tests of their own tell what is seen then.
OF_ALL_CLUSTERS = {
    "Prometheus knows of no exporter: fires, resolves",
    "the only exporter vanishes from service discovery: fires, resolves",
    "the watchdog fires from the first evaluation on, whatever happens",
}
SERIES = "up{{job='octopus',instance='a',cluster='{}'}}"
DOWN = "ALERTS{alertname='OctopusExporterDown',alertstate='firing'}"


def run(folder: Path, tests: list[dict[str, Any]]) -> None:
    """Let promtool run the tests on rules that keep the label `cluster`."""
    rules = generate(changed(keep_labels=["cluster"]))[RULES]
    # Groups that are not named are evaluated in an order that is drawn anew at each run.
    order = [group["name"] for group in yaml.load(rules, yaml.CSafeLoader)["groups"]]
    document = {"evaluation_interval": "1m", "group_eval_order": order, "tests": tests}
    command = [program("promtool"), "test", "rules", *with_needed_rules(folder, document, rules)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["exporter", "spikes"])
def test_a_cluster_alerts_as_if_it_were_alone(tmp_path: Path, name: str) -> None:
    document = yaml.safe_load((PROMETHEUS / "tests" / f"{name}.yml").read_text(encoding="utf-8"))
    tests = [test for test in document["tests"] if test["name"] not in OF_ALL_CLUSTERS]
    pairs = [beside(one, other) for one, other in zip(tests, [*tests[1:], tests[0]], strict=True)]
    assert sum(bool(check.get("exp_samples")) for pair in pairs for check in pair["promql_expr_test"]) >= 5
    run(tmp_path, pairs)


def beside(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Give a test in which one is cluster a and the other cluster b, with what is told of cluster a."""
    return {
        "name": one["name"],
        "interval": one["interval"],
        "input_series": [*of_cluster("a", one), *of_cluster("b", other)],
        "promql_expr_test": [
            {
                "expr": labelled("a", check["expr"]),
                "eval_time": check["eval_time"],
                "exp_samples": [
                    {"labels": labelled("a", sample["labels"]), "value": sample["value"]}
                    for sample in check.get("exp_samples", ())
                ],
            }
            for check in one["promql_expr_test"]
            if check["expr"].startswith("ALERTS{")
        ],
    }


def of_cluster(cluster: str, test: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for series in test["input_series"]:
        yield {"series": labelled(cluster, series["series"]), "values": series["values"]}


def labelled(cluster: str, selector: str) -> str:
    """Add the label of the cluster: up{job="a"} becomes up{job="a",cluster="b"}."""
    return re.sub(r"\}$", f',cluster="{cluster}"}}', selector)


def test_a_cluster_without_exporters_is_told_for_a_day(tmp_path: Path) -> None:
    """Of one that never had any, or had none for a day, nothing is known while another one has some."""
    run(
        tmp_path,
        [
            {
                "interval": "1m",
                "input_series": [
                    {"series": SERIES.format("gone"), "values": "1x10 stale _x1600"},
                    {"series": SERIES.format("well"), "values": "1x1600"},
                ],
                "promql_expr_test": [
                    {"expr": DOWN, "eval_time": "14m"},
                    {"expr": DOWN, "eval_time": "20m", "exp_samples": down(cluster="gone")},
                    {"expr": DOWN, "eval_time": "24h", "exp_samples": down(cluster="gone")},
                    {"expr": DOWN, "eval_time": "1500m"},
                ],
            }
        ],
    )


def test_where_all_clusters_lose_their_exporters_each_is_told_and_after_a_day_that_there_are_none(
    tmp_path: Path,
) -> None:
    run(
        tmp_path,
        [
            {
                "interval": "1m",
                "input_series": [
                    {"series": SERIES.format(cluster), "values": "1x10 stale _x1600"} for cluster in "ab"
                ],
                "promql_expr_test": [
                    {
                        "expr": DOWN,
                        "eval_time": "20m",
                        "exp_samples": [*down(cluster="a"), *down(cluster="b")],
                    },
                    {"expr": DOWN, "eval_time": "1500m", "exp_samples": down()},
                ],
            }
        ],
    )


def series(metric: str, values: dict[str, str], **labels: str) -> list[dict[str, Any]]:
    """Give the series of an exporter that has the same name in both clusters."""
    pairs = ",".join(f'{name}="{value}"' for name, value in labels.items())
    where = f'job="octopus",instance="octopus-exporter"{pairs and ","}{pairs}'
    return [
        {"series": f'{metric}{{{where},cluster="{cluster}"}}', "values": text}
        for cluster, text in values.items()
    ]


def test_an_exporter_of_the_same_name_elsewhere_hides_nothing(tmp_path: Path) -> None:
    """One cluster's exporter is gone; or its target never had a success, which is told by its start."""
    target = {"project": "p", "workspace": "0"}
    success, up = "octopus_poll_last_success_timestamp_seconds", "octopus_up"
    started = "octopus_exporter_config_last_reload_success_timestamp_seconds"
    pairs = 'cluster="a",project="p",severity="critical",workspace="0"'
    stale = [{"labels": f'ALERTS{{alertname="OctopusTargetStale",alertstate="firing",{pairs}}}', "value": 1}]
    gone = [
        *series("up", {"a": "1x20 stale", "b": "1x60"}),
        *series(success, {"a": "-15+60x20 stale", "b": "-15+60x60"}, **target),
    ]
    never = [
        *series("up", {"a": "1x60", "b": "1x60"}),
        *series(started, {"a": "0x60", "b": "0x60"}),
        *series(up, {"a": "0x60", "b": "1x60"}, **target),
        *series(success, {"b": "-15+60x60"}, **target),
    ]
    expr = "ALERTS{alertname='OctopusTargetStale',alertstate='firing'}"
    look = [
        {"expr": expr, "eval_time": "10m"},
        {"expr": expr, "eval_time": "45m", "exp_samples": stale},
    ]
    run(
        tmp_path,
        [
            {"interval": "1m", "input_series": input_series, "promql_expr_test": look}
            for input_series in (gone, never)
        ],
    )


def down(**labels: str) -> list[dict[str, Any]]:
    fixed = {
        "alertname": "OctopusExporterDown",
        "alertstate": "firing",
        "job": "octopus",
        "severity": "critical",
    }
    pairs = ",".join(f'{name}="{value}"' for name, value in sorted((fixed | labels).items()))
    return [{"labels": f"ALERTS{{{pairs}}}", "value": 1}]


def test_an_external_label_may_be_kept_too(tmp_path: Path) -> None:
    """It is on no series, and Prometheus adds it to alerts on their way: the texts must do without."""
    document = yaml.safe_load((PROMETHEUS / "tests" / "texts.yml").read_text(encoding="utf-8"))
    # The shortest is enough: its texts ask for runs, codes and the time by all labels of the alert.
    test = min(document["tests"], key=lambda test: len(str(test["input_series"])))
    run(tmp_path, [test | {"external_labels": {"cluster": "a", **test.get("external_labels", {})}}])
