"""The order in which recording rules get their history."""

from __future__ import annotations

import json

import yaml

from exporter.backfill.rule_history import RecordingRule, in_stages, rules_of
from exporter.config.durations import parse_duration
from exporter.exposition.families import TARGET_FAMILIES
from exporter.rules import RULES, generate, load_settings

SAMPLES = ("octopus_jobs", "octopus_jobs_completed_total")


def rule(record: str, expression: str, seconds: float = 30, **labels: str) -> RecordingRule:
    return RecordingRule(record, expression, tuple(sorted(labels.items())), seconds)


def records(stages: tuple[str, ...]) -> list[list[str]]:
    """Give the records of each stage."""
    return [
        sorted(one["record"] for group in json.loads(stage)["groups"] for one in group["rules"])
        for stage in stages
    ]


def test_a_rule_comes_after_those_that_it_reads() -> None:
    history = in_stages(
        [
            rule("c:x", 'avg_over_time(b:x[7d]) + on (project) b:y{status="a:x"}'),
            rule("b:x", "a:x offset 1d"),
            rule("a:x", "sum(octopus_jobs)"),
            rule("b:y", "a:x"),
        ],
        SAMPLES,
    )
    assert records(history.stages) == [["a:x"], ["b:x", "b:y"], ["c:x"]]
    assert history.left_out == ()


def test_rules_that_read_no_sample_of_the_history_have_none() -> None:
    history = in_stages(
        [
            rule("a:limit", "vector(3600)"),
            rule("a:up", "octopus_up"),
            rule("a:x", "octopus_jobs > on () a:limit"),
        ],
        SAMPLES,
    )
    assert records(history.stages) == [["a:x"]]


def test_a_name_in_a_string_is_not_read() -> None:
    assert in_stages([rule("a:x", 'label_replace(up, "octopus_jobs", "x", "", "")')], SAMPLES).stages == ()


def test_all_rules_of_one_record_are_in_one_stage() -> None:
    history = in_stages(
        [
            rule("a:x", "octopus_jobs", leg="short"),
            rule("a:x", "b:x", leg="long"),
            rule("b:x", "octopus_jobs"),
            rule("c:x", "a:x"),
        ],
        SAMPLES,
    )
    assert records(history.stages) == [["b:x"], ["a:x", "a:x"], ["c:x"]]
    second = json.loads(history.stages[1])["groups"][0]["rules"]
    assert [one["labels"] for one in second] == [{"leg": "short"}, {"leg": "long"}]


def test_rules_that_read_each_other_are_named_and_left_out() -> None:
    history = in_stages(
        [
            rule("a:x", "b:x or octopus_jobs"),
            rule("b:x", "a:x"),
            rule("c:x", "b:x"),
            rule("d:x", "octopus_jobs"),
        ],
        SAMPLES,
    )
    assert records(history.stages) == [["d:x"]]
    assert history.left_out == ("a:x", "b:x", "c:x")


def test_groups_keep_their_interval_but_no_finer_one_than_the_samples() -> None:
    history = in_stages([rule("a:x", "octopus_jobs", 30), rule("a:hour", "octopus_jobs", 3600)], SAMPLES)
    groups = json.loads(history.stages[0])["groups"]
    assert [(group["name"], group["interval"]) for group in groups] == [
        ("every-240s", "240s"),
        ("every-3600s", "3600s"),
    ]


def test_of_the_rules_that_ship_those_that_read_themselves_are_left_out() -> None:
    groups = yaml.safe_load(generate(load_settings())[RULES])["groups"]
    rules = rules_of({**group, "interval": parse_duration(group["interval"])} for group in groups)
    history = in_stages(rules, [family.name for family in TARGET_FAMILIES])
    assert all(record.startswith("project_resource_spec:octopus_resource_") for record in history.left_out)
    flat = [record for stage in records(history.stages) for record in stage]
    assert flat.index("project_job_type:octopus_job_runs:hour_difference") < flat.index(
        "project_job_type:octopus_job_runs:dispersion_week"
    )
    assert "project_job_type_status:octopus_jobs_completed:spike_leg" in flat


def test_samples_with_a_name_and_without_one_are_one_series() -> None:
    history = in_stages([rule("a:x", "last_over_time(octopus_jobs[1d]) or 0 * octopus_jobs")], SAMPLES)
    ((group,),) = (json.loads(stage)["groups"] for stage in history.stages)
    expression = group["rules"][0]["expr"]
    assert "".join(expression.split()) == "(last_over_time(octopus_jobs[1d])or0*octopus_jobs)+0"
