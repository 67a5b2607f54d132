"""The edge of the first contact: asks what `questions` wants to know, within bounds of requests and time."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass, replace

import structlog

from exporter.clients import ClientFactory
from exporter.commands.check.answers import Answer, Question, RawAnswer, read_raw
from exporter.commands.check.findings import Cost
from exporter.commands.check.questions import first_page, next_questions
from exporter.config import Config
from exporter.errors import ApiError, ApiTimeout, InternalFault, PollError
from exporter.masking import Secrets
from exporter.model import Target
from exporter.octopus.client import OctopusClient, RequestCounter
from exporter.octopus.messages import NullObserver, Response
from exporter.octopus.transport import open_session
from exporter.octopus.wire import Page
from exporter.state_log import FaultLog

# Each question under way may take three requests more: all together they stay below 60.
MOST_REQUESTS = 45
MOST_SECONDS = 55.0
_AT_ONCE = 4
_TARGETS_AT_ONCE = 8
# A server that fails so often in a row is not asked any more.
_MOST_FAILURES = 4


@dataclass(frozen=True, slots=True)
class Contact:
    """
    What one target answered.

    Shape: `error` says why no page came; an answer may still tell what its rows are like.
    """

    target: Target
    answers: tuple[Answer, ...]
    cost: Cost
    error: PollError | None = None


async def contact(config: Config, secrets: Secrets) -> list[Contact]:
    """Ask every target, some at once. Nothing is written anywhere."""
    turns = asyncio.Semaphore(_TARGETS_AT_ONCE)

    async def one(access: ClientFactory, target: Target) -> Contact:
        async with turns:
            asker = _Asker(access.client(target), target)
            try:
                return await asker.ask()
            except Exception as exc:
                FaultLog(structlog.get_logger(), project=target.project, workspace=target.workspace).log(
                    "check failed", exc
                )
                return asker.failed(InternalFault(exc))

    async with open_session() as session:
        access = ClientFactory(config, session, NullObserver(), secrets, interactive=True)
        return await asyncio.gather(*(one(access, target) for target in config.targets()))


class _Asker:
    """Asks one target."""

    def __init__(self, client: OctopusClient, target: Target) -> None:
        self._client = client
        self._target = target
        self._counter = RequestCounter()
        self._answers: list[Answer] = []
        self._latencies: list[float] = []
        self._began = time.monotonic()
        self._failures = 0
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._left_out = False

    async def ask(self) -> Contact:
        while (questions := next_questions(self._answers, self._target.path)) and not self._must_stop:
            answers = await asyncio.gather(*map(self._answer, questions))
            # In the order of the questions, whichever answer came first.
            self._answers += [answer for answer in answers if answer is not None]
        self._left_out = self._left_out or bool(questions)
        error = None if first_page(self._answers) is not None else self._answers[0].error
        return Contact(self._target, tuple(self._answers), self._cost(), error)

    def failed(self, error: InternalFault) -> Contact:
        """Give what was asked until a fault of this program put an end to it."""
        return Contact(self._target, (), self._cost(), error)

    @property
    def _must_stop(self) -> bool:
        return self._counter.sent >= MOST_REQUESTS or self._left <= 0 or self._failures >= _MOST_FAILURES

    @property
    def _left(self) -> float:
        return MOST_SECONDS - (time.monotonic() - self._began)

    async def _answer(self, question: Question) -> Answer | None:
        async with self._turns:
            if self._answers and self._must_stop:
                self._left_out = True
                return None
            return await self._asked(question)

    async def _asked(self, question: Question) -> Answer:
        raw: list[RawAnswer | None] = [None]

        def on_response(response: Response) -> None:
            self._latencies.append(response.received_at - response.sent_at)
            raw[0] = read_raw(response)

        target = self._target
        if question.workspace_id is not None:
            target = replace(target, workspace_id=question.workspace_id)
        if question.path is not None:
            target = replace(target, path=question.path)
        page: Page | None = None
        error: ApiError | None = None
        asked_ms = _now_ms()
        try:
            async with asyncio.timeout(max(self._left, 0.0)):
                page = await self._client.list_page(
                    target, question.query, self._counter, on_response=on_response
                )
            self._failures = 0
        except TimeoutError:
            error = ApiTimeout(f"no answer within the {MOST_SECONDS:g} s that a target is given")
        except ApiError as exc:
            error = exc
        if error is not None and error.reason in ("unavailable", "timeout", "throttled"):
            self._failures += 1
        return Answer(question, asked_ms, _now_ms(), page, error, raw[0])

    def _cost(self) -> Cost:
        return Cost(
            requests=self._counter.sent,
            seconds=round(time.monotonic() - self._began, 1),
            median=round(statistics.median(self._latencies), 3) if self._latencies else 0.0,
            longest=round(max(self._latencies, default=0.0), 3),
            complete=not self._left_out,
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
