"""Starting runs: after the commit by the API, and by the dispatcher whatever stayed queued (design §4)."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from time import monotonic
from uuid import UUID

import structlog
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from structlog.contextvars import bound_contextvars
from temporalio.client import (
    Client,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from activities.clients import runs
from activities.clients.keyring import NoKey
from activities.clients.runs import NotStartable, unless_not_found, workflow_id_of
from api.batches import Batches
from api.metrics import Metrics
from api.rewinder import Rewinder
from api.traffic import Traffic
from db import runs as orders
from db import starts
from db.session import Database
from db.starts import Start
from workflows.graph import Graph
from workflows.messages import Command, Heard
from workflows.rewind import Unkept

log = structlog.get_logger()

OUTAGES = (RPCError, RuntimeError, OSError, DBAPIError, PoolTimeout)
"""A lazy Temporal client whose server is away raises RuntimeError."""
UPDATE_TIMEOUT = timedelta(seconds=10)
"""An update waits for a worker to take it in."""
PAUSE = 5.0
"""Seconds during which no start is tried after Temporal did not answer, unless it is heard of before."""
AT_ONCE = 4
"""Starts under way at once: more take the time of those who submit, and Temporal is no faster."""
NOTES = 64
"""Starts noted in one transaction."""


class Starter:
    """Starts and cancels the Temporal workflows of executions; an outage leaves the row queued."""

    def __init__(
        self,
        database: Database,
        temporal: Client,
        *,
        task_queue: str,
        public_url: str = "",
        hint: Callable[[UUID], None] = lambda execution_id: None,
        expect: Callable[[UUID], None] = lambda execution_id: None,
        traffic: Traffic | None = None,
        metrics: Metrics | None = None,
        host: Callable[[], Client | None] = lambda: None,
    ) -> None:
        """Prepare; the mirror is told what moved (`hint`) and what began (`expect`).

        `host` gives the client whose own worker, in this process, may take runs at once.
        """
        self._host = host
        self._traffic = traffic or Traffic()
        self._metrics = metrics or Metrics()
        self._database = database
        self._temporal = temporal
        self._where = {"task_queue": task_queue, "public_url": public_url}
        self._hint = hint
        self._rewinder = Rewinder(temporal)
        self._expect = expect
        self._away_until = 0.0
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._rewinds = asyncio.Semaphore(1)
        self._notes = Batches[UUID, tuple[UUID, str | None], None](self._note, lanes=2, most=NOTES)
        self._left = Batches[UUID, UUID, None](self._release, lanes=1, most=NOTES)

    @property
    def is_away(self) -> bool:
        """Tell whether Temporal did not answer lately: a start would be in vain."""
        return monotonic() < self._away_until

    async def start(self, workspace_id: UUID, execution_id: UUID) -> bool:
        """Start a queued execution if Temporal can be reached; never raises for an outage."""
        with bound_contextvars(workspace_id=str(workspace_id), execution_id=str(execution_id)):
            return await self._start_stored(workspace_id, execution_id)

    async def _start_stored(self, workspace_id: UUID, execution_id: UUID) -> bool:
        try:
            async with self._turns:
                await self._traffic.give_way()
                if self.is_away:
                    return False
                async with self._database.workspace(workspace_id) as session:
                    start = await starts.load(session, workspace_id, execution_id)
                if start is None or start.rerun is None:
                    return start is not None and await self._start(start)
            # What a rerun keeps takes long to read: that holds up other reruns only.
            complete = await self._complete(start, start.rerun)
            async with self._turns:
                return complete is not None and await self._start(complete)
        except OUTAGES as error:
            self._postpone(error)
        except ValidationError:
            refusal = NotStartable("graph_unreadable", "This version's graph cannot be read.")
            await self._refuse(workspace_id, execution_id, refusal)
        return False

    async def launch(self, start: Start) -> bool:
        """Start an execution that was ordered just now and left to us; as `start`, without reading it."""
        ids = {"workspace_id": str(start.workspace_id), "execution_id": str(start.execution_id)}
        with bound_contextvars(**ids):
            return await self._launch(start)

    async def _launch(self, start: Start) -> bool:
        async with self._turns:
            await self._traffic.give_way()
            try:
                if not self.is_away:
                    return await self._start(start)
            except OUTAGES as error:
                self._postpone(error)
        with suppress(*OUTAGES):
            await self._left.add(start.workspace_id, start.execution_id)
        return False

    async def cancel(self, execution_id: UUID, *, reason: str) -> bool:
        """Ask Temporal to cancel a run; False if it knows no such open run.

        Raises RPCError or RuntimeError when Temporal cannot be reached.
        """
        try:
            is_open = await runs.cancel(self._temporal, execution_id, reason=reason)
        except (RPCError, RuntimeError):
            self._metrics.cancels.labels("postponed").inc()
            raise
        self._metrics.cancels.labels("asked").inc()
        if not is_open:
            return False
        self._hint(execution_id)
        return True

    async def command(self, execution_id: UUID, name: str, command: Command) -> bool:
        """Have a run carry an update out; False if there is no such open run.

        Raises ApplicationError when its validator refuses, RPCError or RuntimeError in an outage.
        """
        handle = self._temporal.get_workflow_handle(workflow_id_of(execution_id))
        try:
            await handle.execute_update(name, command, rpc_timeout=UPDATE_TIMEOUT)
        except WorkflowUpdateFailedError as refusal:
            if isinstance(refusal.cause, ApplicationError):
                raise refusal.cause from refusal
            raise RuntimeError(str(refusal.cause)) from refusal
        except WorkflowUpdateRPCTimeoutOrCancelledError as silence:
            raise RPCError("no worker took it in", RPCStatusCode.DEADLINE_EXCEEDED, b"") from silence
        except RPCError as error:
            return unless_not_found(error)
        self._hint(execution_id)
        return True

    async def tell(self, execution_id: UUID, event: Heard) -> bool:
        """Tell a run of an event; False if there is no such open run. Raises as `command` in an outage."""
        if not await runs.tell(self._temporal, execution_id, event):
            return False
        self._hint(execution_id)
        return True

    async def check_rerun(self, rerun: starts.Rerun, graph: Graph, trigger_id: str) -> None:
        """Raise Unkept if a rerun could not keep what it is to keep. Raises as `cancel` in an outage."""
        await self._rewinder.state(rerun, graph, trigger_id)

    async def is_reachable(self) -> bool:
        """Tell whether Temporal answers."""
        try:
            answers = await self._temporal.service_client.check_health(timeout=timedelta(seconds=2))
        except (RPCError, RuntimeError):
            return False
        if answers:
            self._away_until = 0.0
        return answers

    def _postpone(self, error: Exception) -> None:
        self._away_until = monotonic() + PAUSE
        self._metrics.starts.labels("postponed").inc()
        log.warning("start postponed", reason=str(error)[:200])

    async def _start(self, start: Start) -> bool:
        start = await starts.admitted(self._database, start)
        try:
            host = self._host()
            run_id = await runs.begin(host or self._temporal, start, is_host=host is not None, **self._where)
        except NotStartable as refusal:
            await self._refuse(start.workspace_id, start.execution_id, refusal)
            return False
        except NoKey as error:
            # The trouble is this workspace's own: nobody else's start waits for it.
            self._metrics.starts.labels("postponed").inc()
            log.error("start postponed", reason=str(error))
            return False
        self._metrics.starts.labels("started").inc()
        self._expect(start.execution_id)
        await self._notes.add(start.workspace_id, (start.execution_id, run_id))
        return True

    async def _complete(self, start: Start, rerun: starts.Rerun) -> Start | None:
        """Complete what a rerun starts with, the same whenever it is worked out; None if it cannot start."""
        try:
            async with self._rewinds:
                state = await self._rewinder.state(rerun, start.input.graph, start.input.trigger_node_id)
        except Unkept as unkept:
            refusal = NotStartable(unkept.code, str(unkept), reason=unkept.code)
            await self._refuse(start.workspace_id, start.execution_id, refusal)
            return None
        except RPCError as error:
            if error.status == RPCStatusCode.UNAVAILABLE:
                raise
            # The trouble is this history's own: it tells nothing of Temporal.
            log.warning("rerun postponed", reason=str(error)[:200])
            return None
        return replace(start, input=start.input.model_copy(update={"state": state}))

    async def _refuse(self, workspace_id: UUID, execution_id: UUID, refusal: NotStartable) -> None:
        """Fail a run whose start would be refused for ever."""
        self._metrics.starts.labels("refused").inc()
        log.warning("start refused", reason=refusal.type)
        told = {"reason": refusal.reason, "type_": refusal.type, "message": str(refusal)}
        try:
            async with self._database.workspace(workspace_id) as session:
                await orders.refuse(session, workspace_id, execution_id, **told)
        except (OSError, DBAPIError, PoolTimeout) as error:
            log.warning("refusal postponed", reason=type(error).__name__)

    async def _note(self, workspace_id: UUID, runs: Sequence[tuple[UUID, str | None]]) -> list[None]:
        await starts.note_dispatched(self._database.single(workspace_id), workspace_id, dict(runs))
        return [None] * len(runs)

    async def _release(self, workspace_id: UUID, execution_ids: Sequence[UUID]) -> list[None]:
        await starts.release(self._database.single(workspace_id), workspace_id, execution_ids)
        return [None] * len(execution_ids)
