"""
The report of a first contact: what was found out, in a closed schema, to be attached to a bug report: pure.

Nothing in it is free text: `encoded` reads what it wrote by the schema, and refuses what does not fit.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from exporter.commands.check.findings import Cost, Finding, Findings, Refusal
from exporter.model import Target

FORMAT = 1
# Where the API is documented; any other region is `other`.
# Source: API reference, "regions and endpoints", read 2026-04.
DOCUMENTED_REGIONS = ("cn-north-11", "cn-south-1", "cn-southwest-2")

Region = Literal["cn-north-11", "cn-south-1", "cn-southwest-2", "other", "none"]
CredentialsType = Literal["token", "password", "aksk", "chain"]


class TargetReport(Finding, frozen=True, kw_only=True):
    """
    One target, by its number in the configuration and that of its project.

    Shape: `refusal` says why there are no findings; `other_path` is the documented path that answers instead.
    `job_types` is how many the configuration names.
    """

    target: int
    project: int
    region: Region
    endpoint: Literal["of the region", "another"]
    path: Literal["system-jobs", "system-job", "another"]
    workspace: Literal["none sent", "0", "another"]
    job_types: int
    credentials: CredentialsType
    refusal: Refusal | None
    other_path: Literal["system-jobs", "system-job"] | None
    findings: Findings | None
    cost: Cost


class Report(Finding, frozen=True, kw_only=True):
    """The whole report. Shape: `version` is the exporter's; `date` is YYYY-MM-DD in UTC."""

    report: Literal["octopus-exporter first contact"] = "octopus-exporter first contact"
    format: Literal[1] = 1
    version: Annotated[str, msgspec.Meta(pattern=r"^[0-9]+(?:\.[0-9]+){1,3}[a-z0-9.+]{0,20}$")]
    date: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]
    targets: tuple[TargetReport, ...]


def target_report(
    target: Target,
    number: int,
    project: int,
    *,
    region_endpoint: str,
    credentials: CredentialsType,
    refusal: Refusal | None,
    other_path: str | None,
    findings: Findings | None,
    cost: Cost,
) -> TargetReport:
    """Describe a target without naming it; `region_endpoint` is where its region has the API."""
    return TargetReport(
        target=number,
        project=project,
        region=_region(target.region),
        endpoint="of the region" if target.endpoint == region_endpoint else "another",
        path=_documented_path(target.path) or "another",
        workspace=_workspace(target.workspace_id),
        job_types=len(target.job_types),
        credentials=credentials,
        refusal=refusal,
        other_path=None if other_path is None else _documented_path(other_path),
        findings=findings,
        cost=cost,
    )


def _region(region: str) -> Region:
    if not region:
        return "none"
    return region if region in DOCUMENTED_REGIONS else "other"  # type: ignore[return-value] # they are the literals


def _documented_path(path: str) -> Literal["system-jobs", "system-job"] | None:
    if path == "system-jobs":
        return "system-jobs"
    return "system-job" if path == "system-job" else None


def _workspace(workspace_id: str | None) -> Literal["none sent", "0", "another"]:
    if workspace_id is None:
        return "none sent"
    return "0" if workspace_id == "0" else "another"


def encoded(report: Report) -> bytes:
    """
    Write a report as JSON, one key to a line.

    Raises: ValueError (something in it does not fit the schema).
    """
    written = msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
    decoded(written)
    return written


def decoded(report: bytes) -> Report:
    """Read a report by its schema. Raises: ValueError (it does not fit)."""
    try:
        return msgspec.json.decode(report, type=Report)
    except msgspec.ValidationError as exc:
        raise ValueError(f"the report does not fit its own schema: {exc}") from exc
