"""
Everything that can go wrong, as a tree.

    ExporterError
      ConfigError                bad file or flag; one line per problem          -> exit 2
      StartError                 a port or a ledger that cannot be used          -> exit 3
        CannotListen             an address that cannot be listened on
      OutputError                standard output cannot be written to            -> exit 1
        ReaderGone               the program that read it has ended; nothing is printed
      BackfillError              history cannot be written, or Prometheus asked        -> exit 1
      PollError                  a poll fails; `.reason` is the value of the metric's label
        ApiError                 `.status`, `.url` without query, `.request_id`, `.code`
          AuthError              reason auth: 401; the token is renewed once, then the poll fails
            CredentialsRefused   a wrong password or key, or a locked one: not tried again for a while
          PermissionRefused      reason permission: 403
          RateLimited            reason throttled: 429; `.retry_after_seconds`, `.limit`
          ApiUnavailable         reason unavailable: 5xx, no connection; retried with backoff
            ApiTimeout           reason timeout: no response in time; retried with backoff
          ContractError          reason contract: a response that differs from the API's documentation
            AnswerTooLarge       a response longer than the limit: a smaller page may fit
        LedgerError              reason ledger: the record could not be read or written
        InternalFault            reason internal: an unexpected exception, a fault of this program
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

Reason = Literal[
    "auth", "permission", "throttled", "unavailable", "timeout", "contract", "ledger", "internal"
]
REASONS: tuple[Reason, ...] = get_args(Reason)
_LONGEST_LINE = 300
RETRY_REASONS: tuple[Reason, ...] = ("throttled", "unavailable", "timeout", "auth", "contract")

_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def without_controls(text: str) -> str:
    """Replace control characters, which a terminal may execute; tabs and line ends stay."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def one_line(text: str) -> str:
    """Turn a text from outside into one printable line of bounded length."""
    line = " ".join(text.split())[:_LONGEST_LINE]
    return "".join(character if character.isprintable() else "?" for character in line)


class ExporterError(Exception):
    """Base of every error this program raises on purpose."""


class ForcedStop(Exception):
    """Told to stop a second time. No error of the program: nothing is printed."""


class ConfigError(ExporterError):
    """
    A configuration or a flag that cannot be used.

    Shape: `problems`, one line each, naming where, what was found and what was expected.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class StartError(ExporterError):
    """The exporter cannot start."""


class CannotListen(StartError):
    """An address that cannot be listened on; the message gets a hint how to choose another."""


class OutputError(ExporterError, OSError):
    """Standard output is closed or its disk is full. Also an OSError, which libraries that write expect."""


class ReaderGone(OutputError):
    """The program that read standard output has ended, as `head` does."""


class BackfillError(ExporterError):
    """A backfill that failed; nothing that it wrote is left."""


class PollError(ExporterError):
    """A poll that failed. `reason` is one of REASONS."""

    reason: ClassVar[Reason]


class LedgerError(PollError):
    reason = "ledger"


class InternalFault(PollError):
    """An unexpected exception, as it is shown to users."""

    reason = "internal"

    def __init__(self, cause: BaseException) -> None:
        what = one_line(f"{type(cause).__name__}: {cause}")
        super().__init__(f"a fault of the exporter, please report it: {what}")


class ApiError(PollError):
    """
    A request to the API failed.

    Shape: `status` is 0 where no response came; `url` has no query; `code` is the API's own error code or "".
    `given_up` once all retries have failed too.
    """

    given_up = False

    def __init__(
        self, message: str, *, status: int = 0, url: str = "", code: str = "", request_id: str = ""
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.url = url
        self.code = code
        self.request_id = request_id

    def __str__(self) -> str:
        parts = [
            self.message,
            f"status={self.status}" if self.status else "",
            f"code={self.code}" if self.code else "",
            f"url={self.url}" if self.url else "",
            f"request_id={self.request_id}" if self.request_id else "",
        ]
        return " ".join(part for part in parts if part)


class AuthError(ApiError):
    reason = "auth"


class CredentialsRefused(AuthError):
    """A wrong password or key: trying again would only lock the account."""


class PermissionRefused(ApiError):
    reason = "permission"


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `requests` in `period_seconds`."""

    requests: float
    period_seconds: float


class RateLimited(ApiError):
    """Units: `retry_after_seconds` from Retry-After, or None; `limit` from the message, or None."""

    reason = "throttled"

    def __init__(
        self,
        message: str,
        *,
        retry_after_seconds: float | None = None,
        limit: RateLimit | None = None,
        status: int = 429,
        **details: str,
    ) -> None:
        super().__init__(message, status=status, **details)
        self.retry_after_seconds = retry_after_seconds
        self.limit = limit


class ApiUnavailable(ApiError):
    reason: ClassVar[Reason] = "unavailable"


class ApiTimeout(ApiUnavailable):
    reason = "timeout"


class ContractError(ApiError):
    """Names the field. Not retried: the same request would get the same response."""

    reason = "contract"


class AnswerTooLarge(ContractError):
    """The response is longer than this program reads. A request for fewer rows may succeed."""
