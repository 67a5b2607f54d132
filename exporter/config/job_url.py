"""The address of a job in another system, such as a console: a template that is filled in for each job."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, urlsplit

from exporter.config.endpoints import is_host

PLACEHOLDERS = ("project_id", "workspace", "job_id")
JOB_URL = (
    "an http or https URL with {job_id} behind the host, and no other placeholders than {project_id} and"
    " {workspace}"
)

_BRACES = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class JobUrl:
    """A template that `parse` has checked. str() gives it as it was written."""

    template: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Read a template.

        Raises: ValueError (another scheme, a user, a placeholder in the host or an unknown one, none for the
        job, or a character that no URL has).
        """
        url = urlsplit(text)
        if url.scheme not in ("http", "https") or "@" in url.netloc:
            raise ValueError("not a URL of http or https, or one with a user")
        if not is_host(url.hostname or "", in_brackets="[" in url.netloc) or url.port == 0:
            raise ValueError("not a host")
        names = _BRACES.findall(text)
        if not {"job_id"} <= set(names) <= set(PLACEHOLDERS) or re.search(r"[{}]", _BRACES.sub("", text)):
            raise ValueError("not the placeholders that there are")
        if any(c.isspace() or unicodedata.category(c) in ("Cc", "Cs") for c in text) or "\\" in text:
            raise ValueError("a character that no URL has")
        return cls(text)

    def fill(self, *, project_id: str, workspace: str, job_id: str) -> str:
        """Give the address of one job. The values are percent-encoded: none of them can lead elsewhere."""
        values = {"project_id": project_id, "workspace": workspace, "job_id": job_id}
        return _BRACES.sub(lambda found: quote(values[found[1]], safe="", errors="replace"), self.template)

    def __str__(self) -> str:
        return self.template
