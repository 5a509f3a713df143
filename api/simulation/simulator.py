"""Playing a simulation: a run of its own namespace and clock, led from event to event and read once."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any
from uuid import UUID

import structlog
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import (
    Client,
    WorkflowHandle,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import TimeSkipper, TimeSkippingConfig

from activities.clients import payloads
from activities.clients.runs import workflow_id_of
from api.mirror.events import Event, RunEnded
from api.mirror.history import Histories, UnknownRun
from api.simulation.script import COMMANDS, Course, Scripted
from workflows.messages import SIMULATION, ExecutionInput, Heard
from workflows.simulation import LONGEST_DAYS, Plan

log = structlog.get_logger()

RPC_TIMEOUT = timedelta(seconds=5)
LONGEST = timedelta(days=LONGEST_DAYS)
MOST_WAITING = 12
"""Simulations under way or waiting for their turn, one for each workspace."""
LARGEST = 16 * 1024 * 1024
"""Bytes of histories that are read of one simulation."""
READING = 10
"""Seconds that reading may take."""
MOST_CHAPTERS = 50
"""Runs of one chain that are read: each is some thousand events long."""


class Unsupported(Exception):
    """This installation cannot simulate; the message says what it lacks."""


class Away(Exception):
    """Temporal, or the worker of simulations, does not answer."""


class Clock:
    """The run's own time since its start, as far as one can tell from outside."""

    def __init__(self) -> None:
        self._skipped = timedelta(0)
        self._begun = monotonic()

    def elapsed(self) -> timedelta:
        """Say how long the run has lasted."""
        return self._skipped + timedelta(seconds=monotonic() - self._begun)

    def set(self, elapsed: timedelta) -> None:
        """Stand where time was skipped to."""
        self._skipped, self._begun = elapsed, monotonic()


class Simulator:
    """Plays simulations in their own namespace; `client` is connected to that one."""

    def __init__(self, client: Client, *, task_queue: str, seconds: float = 20, at_once: int = 4) -> None:
        self._client = client
        self._task_queue = task_queue
        self._seconds = seconds
        self._slots = asyncio.Semaphore(at_once)
        self._busy: set[UUID] = set()
        self._histories = Histories(client)
        self._leaving: set[asyncio.Task[None]] = set()

    async def play(
        self, given: ExecutionInput, plan: Plan, script: Sequence[Scripted]
    ) -> tuple[Course, list[list[Event]]]:
        """Play a simulation to its end, or to its limits; return its course and the events of its runs.

        Raises Unsupported, or Away in an outage and while too much is being played.
        """
        if given.workspace_id in self._busy:
            raise Away("A simulation of this workspace is under way: try again when it is over.")
        if len(self._busy) >= MOST_WAITING:
            raise Away("Too many simulations are under way: try again in a moment.")
        self._busy.add(given.workspace_id)
        try:
            async with self._slots:
                return await self._play(given, plan, script)
        except (RPCError, RuntimeError, OSError, UnknownRun) as error:
            raise self._explained(error) from error
        finally:
            self._busy.discard(given.workspace_id)

    async def _play(
        self, given: ExecutionInput, plan: Plan, script: Sequence[Scripted]
    ) -> tuple[Course, list[list[Event]]]:
        # Nothing is skipped before the first event is due: an unbounded skip would run past it.
        payloads.tell(self._client, workflow_id_of(given.execution_id), given.workspace_id)
        skipper = TimeSkipper(self._client, config=TimeSkippingConfig(enabled=False))
        handle = await skipper.client.start_workflow(
            "ExecutionWorkflow",
            given,
            id=workflow_id_of(given.execution_id),
            task_queue=self._task_queue,
            memo={SIMULATION: plan},
            rpc_timeout=RPC_TIMEOUT,
        )
        course = Course(run_ids=[handle.first_execution_run_id or handle.result_run_id or ""])
        try:
            try:
                async with asyncio.timeout(self._seconds):
                    course.is_over = await self._lead(skipper, handle, script, course)
            except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError):
                course.stopped_by = "time_limit"
            return course, await self._read(given, course)
        finally:
            self._leave(handle, course)

    async def _lead(
        self,
        skipper: TimeSkipper,
        handle: WorkflowHandle[Any, Any],
        script: Sequence[Scripted],
        course: Course,
    ) -> bool:
        """Let each event happen at its time, then let the run go on; False if it does not come to its end."""
        clock = Clock()
        for event in sorted(script, key=lambda event: event.after):
            if not await self._skip_to(event.after, skipper, handle, clock):
                return True
            course.fates[event.id] = await self._happen(event, handle)
        if await self._skip_to(LONGEST, skipper, handle, clock):
            course.stopped_by = "virtual_time_limit"
            return False
        return True

    async def _skip_to(
        self, moment: timedelta, skipper: TimeSkipper, handle: WorkflowHandle[Any, Any], clock: Clock
    ) -> bool:
        """Skip time up to a moment; False if the run ended before."""
        left = moment - clock.elapsed()
        if left <= timedelta(0):
            return True
        try:
            if not await skipper.fast_forward(handle, left):
                return False
        except RPCError as error:
            if error.status in (RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION):
                return False  # it ended before it was asked
            raise
        clock.set(moment)
        return True

    async def _happen(self, event: Scripted, handle: WorkflowHandle[Any, Any]) -> Any:
        try:
            if event.type == "cancel":
                # No reason: Temporal would keep it in the clear.
                await handle.cancel(rpc_timeout=RPC_TIMEOUT)
            elif event.type in COMMANDS:
                await handle.execute_update(event.type, event.command, rpc_timeout=RPC_TIMEOUT)
            else:
                # Its worker gives it the run's own time.
                heard = Heard(type=event.type, at=datetime.now(UTC), id=event.id, data=event.data)
                await handle.signal("event", heard, rpc_timeout=RPC_TIMEOUT)
        except WorkflowUpdateFailedError as refusal:
            cause = refusal.cause
            return "refused", cause.message if isinstance(cause, ApplicationError) else str(cause)
        except RPCError as error:
            if error.status != RPCStatusCode.NOT_FOUND:
                raise
            return "too_late", "The run had ended."
        return "delivered", ""

    async def _read(self, given: ExecutionInput, course: Course) -> list[list[Event]]:
        chapters: list[list[Event]] = []
        try:
            async with asyncio.timeout(READING):
                await self._chapters(given, course, chapters)
        except TimeoutError:
            course.stopped_by = "time_limit"
        return chapters

    async def _chapters(self, given: ExecutionInput, course: Course, chapters: list[list[Event]]) -> None:
        """Read every run of the chain, up to its limit."""
        size = 0
        for run_id in course.run_ids:
            read = await self._histories.since(given.execution_id, run_id, event_id=0)
            size += sum(event.ByteSize() for event in read)
            if size > LARGEST and chapters:
                course.stopped_by = "size_limit"
                return
            chapters.append(await self._histories.decode(read))
            last = chapters[-1][-1] if chapters[-1] else None
            if isinstance(last, RunEnded) and last.next_run_id and len(chapters) < MOST_CHAPTERS:
                course.run_ids.append(last.next_run_id)

    def _leave(self, handle: WorkflowHandle[Any, Any], course: Course) -> None:
        """Have the run removed, without keeping anybody waiting for that."""
        # One that was stopped may be at a run that was not read: the current one, whichever it is.
        task = asyncio.create_task(self._remove(handle, course.run_ids if course.is_over else [""]))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _remove(self, handle: WorkflowHandle[Any, Any], run_ids: Sequence[str]) -> None:
        """End what is open and delete the rest; what is missed here goes with the namespace's retention."""
        for run_id in run_ids:
            with suppress(RPCError, RuntimeError):
                await self._client.workflow_service.delete_workflow_execution(
                    DeleteWorkflowExecutionRequest(
                        namespace=self._client.namespace,
                        workflow_execution=WorkflowExecution(workflow_id=handle.id, run_id=run_id),
                    ),
                    timeout=RPC_TIMEOUT,
                )

    def _explained(self, error: Exception) -> Exception:
        log.warning("simulation not played", reason=str(error)[:200])
        if isinstance(error, RPCError) and error.status == RPCStatusCode.NOT_FOUND:
            return Unsupported(
                f"Temporal has no namespace {self._client.namespace}: make it with "
                f"`temporal operator namespace create --namespace {self._client.namespace}`, "
                "then restart the worker."
            )
        refused = (
            RPCStatusCode.INVALID_ARGUMENT,
            RPCStatusCode.UNIMPLEMENTED,
            RPCStatusCode.PERMISSION_DENIED,
        )
        if isinstance(error, RPCError) and error.status in refused:
            return Unsupported(
                "Temporal does not skip time here: it needs a server of 1.32 or newer with the dynamic "
                f"configuration frontend.WorkflowTimeSkippingEnabled=true. It said: {error.message[:200]}"
            )
        return Away("Temporal does not answer.")
