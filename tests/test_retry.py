from __future__ import annotations

import pytest

from exporter.errors import (
    ApiError,
    ApiTimeout,
    ApiUnavailable,
    AuthError,
    ContractError,
    CredentialsRefused,
    PermissionRefused,
    RateLimited,
)
from exporter.octopus.retry import LONGEST_WAIT_SECONDS, retry_wait


def waits(error: ApiError, draw: float = 1.0) -> list[float]:
    """All the waits until it is given up."""
    found: list[float] = []
    while (wait := retry_wait(error, len(found) + 1, lambda: draw)) is not None:
        found.append(wait)
    return found


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RateLimited("x"), [0.5, 1, 2, 4, 8]),
        (RateLimited("x", retry_after_seconds=3), [3, 3, 3, 4, 8]),
        (ApiUnavailable("x", status=503), [0.5, 1, 2, 4]),
        (ApiUnavailable("no connection"), [0.5, 1, 2, 4]),
        (ApiUnavailable("cut short", status=200), [0.5, 1, 2, 4]),
        (ApiUnavailable("x", status=500), [0.5, 1]),
        (ApiTimeout("x"), [0.5, 1]),
        (RateLimited("x", retry_after_seconds=LONGEST_WAIT_SECONDS + 1), []),
        (AuthError("x"), []),
        (CredentialsRefused("x"), []),
        (PermissionRefused("x"), []),
        (ContractError("x"), []),
    ],
)
def test_the_table_of_waits(error: ApiError, expected: list[float]) -> None:
    assert waits(error) == expected


def test_the_jitter_goes_down_to_nothing_but_not_below_what_was_asked() -> None:
    assert waits(ApiUnavailable("x"), draw=0.0) == [0, 0, 0, 0]
    assert waits(RateLimited("x", retry_after_seconds=3), draw=0.0) == [3] * 5
