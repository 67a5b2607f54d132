"""Failed runs as a status page reads them: the last hour of every target, and the groups it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from exporter.runs import FailureGroup, FailureGroups, FailuresOfAnHour

Masked = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class FailuresRead:
    """
    What was read of failed runs for one page.

    Shape: `hours` of every target, whatever the filters; `chosen` are the groups that the page is asked for;
    `problem` says that nothing could be read, and `error` why, "" where there is no more to say.
    """

    hours: tuple[FailuresOfAnHour, ...] = ()
    chosen: FailureGroups = field(default_factory=FailureGroups)
    problem: Literal["busy", "unread"] | None = None
    error: str = ""

    def masked(self, masked: Masked) -> FailuresRead:
        """Take the secrets out: the runs may have been recorded by a process that knew others."""
        groups = tuple(_masked_group(group, masked) for group in self.chosen.groups)
        return FailuresRead(
            tuple(_masked_hour(hour, masked) for hour in self.hours),
            replace(self.chosen, groups=groups),
            self.problem,
            masked(self.error),
        )


def _masked_group(group: FailureGroup, masked: Masked) -> FailureGroup:
    return replace(
        group,
        job_type=_masked_label(group.job_type, masked),
        status=_masked_label(group.status, masked),
        msg_code=_masked_label(group.msg_code, masked),
        message=masked(group.message),
    )


def _masked_hour(hour: FailuresOfAnHour, masked: Masked) -> FailuresOfAnHour:
    kinds = {
        (_masked_label(job_type, masked), _masked_label(msg_code, masked)): runs
        for (job_type, msg_code), runs in hour.kinds.items()
    }
    return replace(hour, kinds=kinds)


def _masked_label(text: str, masked: Masked) -> str:
    """A number is never masked."""
    return text if text.isascii() and text.isdigit() else masked(text)
