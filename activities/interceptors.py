"""What a worker tells beside history: hints that a run moved on, and the attempts that history forgets."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from time import perf_counter
from typing import Any
from uuid import UUID

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from structlog.contextvars import bind_contextvars
from temporalio import activity
from temporalio.client import Interceptor as ClientInterceptor
from temporalio.exceptions import ApplicationError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)
from uuid_utils.compat import uuid7

from activities.metrics import Metrics
from db import logs, mirrors, news
from db.mirrors import Hint
from db.session import Database
from workflows.failures import QUEUE_LIMITED
from workflows.graph import split_key
from workflows.messages import Outcome, StepInput

logger = logging.getLogger(__name__)

HINT = "flowtrack_hint"
PREFIX = "execution-"
PAUSE = 0.05
"""Seconds between two batches; what comes after a pause goes at once."""
LATER = 3.0
"""Seconds after which a run is hinted at whose first workflow task is not done yet."""
PATIENCE = 5.0
"""Seconds until the next try when PostgreSQL is away."""
MOST = 5_000
"""Hints or attempts that wait for PostgreSQL; what is beyond goes lost, and the sweep finds the runs."""
LONGEST = 2_000


class MirrorInterceptor(ClientInterceptor, Interceptor):
    """Collects hints and attempts; while `sending` they go to PostgreSQL in batches, off the steps' path.

    It stands on the client, from which every worker takes it.
    """

    def __init__(
        self,
        database: Database,
        metrics: Metrics | None = None,
        *,
        tell: Callable[[Hint], None] | None = None,
    ) -> None:
        """Prepare; hints go to `tell` where the mirror is in this very process."""
        self._database = database
        self._tell = tell
        self.metrics = metrics or Metrics()
        self._hints: dict[Hint, Hint] = {}
        self._later: dict[Hint, asyncio.TimerHandle] = {}
        self._attempts: deque[tuple[UUID, dict[str, Any]]] = deque(maxlen=MOST)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news = asyncio.Event()

    def intercept_activity(self, inner: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Watch the attempts of activities."""
        return _Attempts(inner, self)

    def workflow_interceptor_class(
        self, given: WorkflowInterceptorClassInput
    ) -> type[WorkflowInboundInterceptor] | None:
        """Leave the sandbox's runner the function that hints (sandbox.Sandbox); workflows pay for nothing."""
        given.unsafe_extern_functions[HINT] = self.hint
        return None

    def hint(self, workflow_id: str, run_id: str, *, soon: bool = True, is_over: bool = False) -> None:
        """Note that a run moves on; called from the threads that workflows run on.

        History grows with the end of a workflow task. To look before that costs a read and finds nothing, so
        that a task has begun is told only if it does not end in a moment.
        """
        if not workflow_id.startswith(PREFIX) or self._loop is None:
            return
        with suppress(ValueError, RuntimeError):
            execution_id = UUID(workflow_id.removeprefix(PREFIX))
            hint = Hint(execution_id, run_id, is_over)
            self._loop.call_soon_threadsafe(self._note if soon else self._postpone, hint)

    def _note(self, hint: Hint) -> None:
        later = self._later.pop(hint, None)
        if later is not None:
            later.cancel()
        if len(self._hints) < MOST:
            self._hints[hint] = hint
            self._news.set()

    def _postpone(self, hint: Hint) -> None:
        if hint not in self._later and len(self._later) < MOST:
            loop = asyncio.get_running_loop()
            self._later[hint] = loop.call_later(LATER, self._note, hint)

    def record(self, workspace_id: UUID, row: dict[str, Any]) -> None:
        """Note an attempt."""
        self._attempts.append((workspace_id, row))
        self._wake()

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        """Send what is collected, and the rest at the end."""
        self._loop = asyncio.get_running_loop()
        task = asyncio.create_task(self._send_on(), name="mirror hints")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            for hint in list(self._later):
                self._note(hint)
            await self._send()
            self._loop = None

    def _wake(self) -> None:
        if self._loop is not None and not self._news.is_set():
            self._loop.call_soon_threadsafe(self._news.set)

    async def _send_on(self) -> None:
        is_away = False
        while True:
            await self._news.wait()
            self._news.clear()
            was_away, is_away = is_away, not await self._send()
            if is_away:
                self._news.set()
            if is_away and not was_away:
                logger.warning("hints and attempts wait for the database")
            await asyncio.sleep(PATIENCE if is_away else PAUSE)

    async def _send(self) -> bool:
        """Send one batch; False if the database is away, and then it waits for the next try."""
        hints, self._hints = self._hints, {}
        attempts = list(self._attempts)
        self._attempts.clear()
        try:
            await self._send_hints(list(hints.values()))
            while attempts:
                await self._send_attempts(attempts)
        except (OSError, PoolTimeout, DBAPIError):
            # They are few for each run: one that was lost would leave the run to the sweep.
            self._hints = dict(islice({**hints, **self._hints}.items(), MOST))
            return False
        finally:
            # What was not sent stays to be sent, also when the sending was cancelled on the way out.
            self._attempts.extendleft(reversed(attempts))
        return True

    async def _send_hints(self, hints: list[Hint]) -> None:
        if self._tell is not None:
            for hint in hints:
                self._tell(hint)
        elif hints:
            await mirrors.hint(self._database.single_door(), hints)

    async def _send_attempts(self, attempts: list[tuple[UUID, dict[str, Any]]]) -> None:
        """Send, and take from the list, those of the first one's workspace."""
        workspace_id = attempts[0][0]
        rows = [row for owner, row in attempts if owner == workspace_id]
        try:
            async with self._database.workspace(workspace_id) as session:
                await logs.add(session, workspace_id, rows, source="attempt")
                await news.tell(session, workspace_id, {UUID(row["execution_id"]) for row in rows})
        except DBAPIError as error:
            if not isinstance(error, DataError | IntegrityError | ProgrammingError):
                raise
            logger.exception("attempts refused", extra={"workspace_id": str(workspace_id)})
            self.metrics.attempts_lost.inc(len(rows))
        attempts[:] = [entry for entry in attempts if entry[0] != workspace_id]


class _Attempts(ActivityInboundInterceptor):
    """Records attempts that failed, and those that came after one."""

    def __init__(self, inner: ActivityInboundInterceptor, mirror: MirrorInterceptor) -> None:
        super().__init__(inner)
        self._mirror = mirror

    async def execute_activity(self, given: ExecuteActivityInput) -> Any:
        began, clock = datetime.now(UTC), perf_counter()
        # Each attempt is a task of its own, and what the SDK says of its end belongs to it, too.
        bind_contextvars(**about(given))
        this = _Attempt(activity.info().activity_id, attempt_of(given), began)
        try:
            result = await super().execute_activity(given)
        except Exception as error:
            self._failed(given, replace(this, ms=since(clock)), error)
            raise
        if this.number > 1:
            self._note(given, replace(this, ms=since(clock)), None)
        for further in result.then if isinstance(result, Outcome) else ():
            if further.error is not None:
                passed = timedelta(milliseconds=further.ago + further.ms)
                that = _Attempt(further.key, 1, datetime.now(UTC) - passed, further.ms)
                self._failed(given, that, ApplicationError(further.error.message, type=further.error.type))
        return result

    def _failed(self, given: ExecuteActivityInput, attempt: "_Attempt", error: Exception) -> None:
        kind = error.type if isinstance(error, ApplicationError) else None
        if kind == "quota_exceeded":
            self._mirror.metrics.refusals.labels(activity.info().activity_type).inc()
        # What goes on in its queue was no attempt.
        if kind != QUEUE_LIMITED:
            self._note(given, attempt, error)

    def _note(self, given: ExecuteActivityInput, attempt: "_Attempt", error: Exception | None) -> None:
        asked = given.args[0] if given.args else None
        workspace_id = getattr(asked, "workspace_id", None)
        execution_id = getattr(asked, "execution_id", None)
        if not isinstance(workspace_id, UUID) or not isinstance(execution_id, UUID):
            return
        named = split_key(attempt.key)
        self._mirror.record(
            workspace_id,
            {
                "id": str(uuid7()),
                "execution_id": str(execution_id),
                "created_at": attempt.began.isoformat(),
                "node_id": named[0] if named else None,
                "visit": named[1] if named else None,
                "log_level": "WARN" if error else "INFO",
                "message": told(error, attempt.number),
                "data": data_of(error, attempt.ms),
                "run_id": activity.info().workflow_run_id,
                "attempt": attempt.number,
            },
        )


@dataclass(frozen=True)
class _Attempt:
    """One attempt of one step."""

    key: str
    number: int
    began: datetime
    ms: float = 0


def since(clock: float) -> float:
    """Count the milliseconds since a reading of the clock."""
    return round((perf_counter() - clock) * 1000, 1)


def about(given: ExecuteActivityInput) -> dict[str, str]:
    """Say for the log which workspace, execution and step an attempt belongs to, as far as it does."""
    asked = given.args[0] if given.args else None
    ids = {name: getattr(asked, name, None) for name in ("workspace_id", "execution_id")}
    step = {"step": activity.info().activity_id} if isinstance(asked, StepInput) else {}
    return {name: str(value) for name, value in ids.items() if value is not None} | step


def attempt_of(given: ExecuteActivityInput) -> int:
    """Count an attempt from the step's first, made as a local activity or not."""
    asked = given.args[0] if given.args else None
    earlier = asked.first_attempt - 1 if isinstance(asked, StepInput) else 0
    return earlier + activity.info().attempt


def told(error: Exception | None, attempt: int) -> str:
    """Say how an attempt ended."""
    if error is None:
        return f"Attempt {attempt} succeeded"
    message = error.message if isinstance(error, ApplicationError) else str(error)
    return f"Attempt {attempt} failed: {message}"[:LONGEST]


def data_of(error: Exception | None, milliseconds: float) -> dict[str, Any]:
    """Say how long an attempt took, and by which type of error it failed."""
    if error is None:
        return {"ms": milliseconds}
    kind = error.type if isinstance(error, ApplicationError) else None
    return {"ms": milliseconds, "type": kind or type(error).__name__}
