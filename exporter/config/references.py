"""What holds between the parts: names that are unique, and names that are known."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from pydantic_core import InitErrorDetails

from exporter.config.problems import Location, Problem, expected, found, quote, refused


@dataclass(frozen=True, slots=True)
class Reference:
    """What a project is called (None: not known) and which credentials it names (None: none)."""

    index: int
    name: str | None
    credentials: str | None


@dataclass(frozen=True, slots=True)
class BadReference:
    """A name that is taken, not known, or (`value` None) missing."""

    location: Location
    value: str | None
    what: str

    def as_problem(self) -> Problem:
        if self.value is None:
            return Problem(self.location, f"missing, expected {self.what}")
        return found(self.location, self.value, f"expected {self.what}")

    def as_error(self) -> InitErrorDetails:
        kind = refused(f"missing, expected {self.what}") if self.value is None else expected(self.what)
        return InitErrorDetails(type=kind, loc=self.location, input=self.value)


def check_references(projects: Sequence[Reference], known: Collection[str]) -> Iterator[BadReference]:
    """Find the projects that share a name, and those whose credentials are not known or not decided."""
    yield from _shared_names(projects)
    names = ", ".join(map(quote, known))
    for project in projects:
        location = ("projects", project.index, "credentials")
        if project.credentials is None and len(known) > 1:
            yield BadReference(location, None, f"one of the credentials: {names}")
        elif project.credentials is not None and known and project.credentials not in known:
            yield BadReference(location, project.credentials, f"one of the credentials: {names}")


def _shared_names(projects: Sequence[Reference]) -> Iterator[BadReference]:
    first: dict[str, int] = {}
    for project in projects:
        if project.name is None:
            continue
        owner = first.setdefault(project.name, project.index)
        if owner != project.index:
            what = f"another name than that of projects[{owner}]"
            yield BadReference(("projects", project.index, "name"), project.name, what)
