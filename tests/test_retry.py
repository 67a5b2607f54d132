from __future__ import annotations

from collections.abc import Awaitable, Callable

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
from exporter.octopus.retry import LONGEST_WAIT_SECONDS, Retrier, retry_wait
from tests.octopus_fakes import Clock, Observer


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
        (RateLimited("x", retry_after_seconds=60), [60] * 5),
        (RateLimited("x", retry_after_seconds=60.5), []),
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


def failing(*errors: ApiError) -> Callable[[], Awaitable[str]]:
    """Give a call that fails with these errors in turn and then succeeds."""
    left = list(errors)

    async def call() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return call


@pytest.mark.parametrize(
    ("failures", "attempts", "slept"),
    [(0, None, []), (2, None, [0.5, 1.0]), (2, 3, [0.5, 1.0]), (5, None, [0.5, 1, 2, 4]), (2, 2, [0.5])],
)
async def test_a_call_is_repeated_after_each_wait_until_it_succeeds_or_is_given_up(
    failures: int, attempts: int | None, slept: list[float]
) -> None:
    clock, observer = Clock(), Observer()
    errors = [ApiUnavailable("x", status=503) for _ in range(failures)]
    run = Retrier(observer, clock.sleep, lambda: 1.0, attempts).run(failing(*errors), "perception")
    if failures > len(slept):
        with pytest.raises(ApiUnavailable) as caught:
            await run
        assert caught.value is errors[len(slept)]
        assert caught.value.given_up
    else:
        assert await run == "done"
    assert clock.slept == slept
    assert observer.retries == [("perception", ApiUnavailable.reason)] * len(slept)


async def test_an_error_that_another_retrier_gave_up_is_not_retried() -> None:
    clock, observer = Clock(), Observer()
    error = ApiUnavailable("x", status=503)
    error.given_up = True
    with pytest.raises(ApiUnavailable):
        await Retrier(observer, clock.sleep, lambda: 1.0).run(failing(error), "perception")
    assert (clock.slept, observer.retries) == ([], [])
