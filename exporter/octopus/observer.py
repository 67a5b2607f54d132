"""Who is told what the client and the credentials do: the seam to the self metrics."""

from __future__ import annotations

from typing import Protocol


class ApiObserver(Protocol):
    def request(self, project: str, code: str, seconds: float) -> None:
        """One HTTP exchange ended. `code` is the HTTP status, or "error" where no answer came."""

    def retry(self, project: str, reason: str) -> None:
        """A request is about to be sent again. `reason` is one of errors.REASONS."""

    def clock_skew(self, project: str, seconds: float) -> None:
        """The server's clock minus ours."""


class NullObserver:
    """An ApiObserver for programs that measure nothing."""

    def request(self, project: str, code: str, seconds: float) -> None:
        pass

    def retry(self, project: str, reason: str) -> None:
        pass

    def clock_skew(self, project: str, seconds: float) -> None:
        pass
