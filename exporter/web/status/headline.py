"""The first lines of the status page: how the polls go and how the jobs do, the worse first."""

from __future__ import annotations

from dataclasses import dataclass, field

from markupsafe import Markup

from exporter.web.status.failures import Spike, usual_number
from exporter.web.status.overview import SEVERITY_ORDER, Severity, Verdict
from exporter.web.status.wording import Wording, excerpt, number

# A type or a code that somebody has made longer than this is not read in a headline.
_LONGEST_WORD = 60


@dataclass(frozen=True, slots=True)
class Headline:
    """One line: `title` says it in short, `more` follows it."""

    severity: Severity
    title: Markup
    more: Markup = field(default_factory=Markup)


def headlines(verdict: Verdict, spike: Spike | None, t: Wording, *, jobs_known: bool) -> list[Headline]:
    """
    Say how polls and jobs are: one line where nothing is wrong, else one for each of the two that is.

    Shape: `jobs_known` is False where the failed runs cannot be read: then nothing is said to be well.
    """
    polls = _of_polls(verdict, t, jobs_known=jobs_known)
    if spike is None:
        return [polls]
    jobs = _of_jobs(spike, t)
    if verdict.state == "ok":
        return [jobs]
    return sorted([polls, jobs], key=lambda line: SEVERITY_ORDER.index(line.severity))


def _of_polls(verdict: Verdict, t: Wording, *, jobs_known: bool) -> Headline:
    state, severity = verdict.state, verdict.severity
    only = ".only" if verdict.total == 1 else ""
    if state == "ok" and not jobs_known:
        # Not green: there may be a spike behind it.
        return Headline("warn", t(f"verdict.polled{only}"))
    return Headline(severity, t(f"verdict.{state}{only}", n=verdict.n, total=verdict.total))


def _of_jobs(spike: Spike, t: Wording) -> Headline:
    if not spike.targets:
        title = t("spike", n=number(spike.runs))
    elif len(spike.targets) == 1:
        target = spike.targets[0].target
        title = t("spike.of", n=number(spike.runs), target=f"{target.project} / {target.workspace}")
    else:
        title = t("spike.some", n=number(spike.runs), targets=len(spike.targets))
    return Headline(spike.severity, title, _most(spike, t) + _usual(spike.usual, t))


def _most(spike: Spike, t: Wording) -> Markup:
    if spike.of_that_kind == 0:
        return Markup()
    places = {
        "n": number(spike.of_that_kind),
        "type": _isolated(spike.job_type),
        "code": _isolated(spike.msg_code),
    }
    if spike.of_that_kind == spike.runs:
        return t("spike.all", **places) if spike.msg_code else t("spike.all.no_code", **places)
    most = t("spike.most", **places) if spike.msg_code else t("spike.most.no_code", **places)
    return most if spike.second is None else most + _second(*spike.second, t)


def _second(job_type: str, msg_code: str, runs: int, t: Wording) -> Markup:
    places = {"n": number(runs), "type": _isolated(job_type), "code": _isolated(msg_code)}
    return t("spike.second", **places) if msg_code else t("spike.second.no_code", **places)


def _usual(usual: float | None, t: Wording) -> Markup:
    if usual is None:
        return Markup()
    written = usual_number(usual)
    return t("spike.usual.one") if written == "1" else t("spike.usual", usual=written)


def _isolated(word: str) -> Markup:
    """Mark the API's own word up, so that one that turns the direction of the text turns itself only."""
    return Markup("<bdi>{}</bdi>").format(excerpt(word, _LONGEST_WORD))
