"""Temporal's histories, read the way a mirror can trust: backwards, where transient events never show."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    GetWorkflowExecutionHistoryRequest,
    GetWorkflowExecutionHistoryReverseRequest,
    ListWorkflowExecutionsRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.clients.callbacks import WATCHED
from activities.clients.keyring import execution_of
from activities.clients.runs import workflow_id_of
from api.mirror.claims import bring_in
from api.mirror.decoding import decode, time_of
from api.mirror.events import Event
from db.doors import Seen

Answer = TypeVar("Answer")

BATCHES = 4
"""Transactions in the first page; the further ones grow, for a reader that is far behind."""
TIMEOUT = timedelta(seconds=5)


class UnknownRun(Exception):
    """Temporal has no such run: it never began, or its history has expired."""


@dataclass(frozen=True)
class Page:
    """The newest part of a run's history, oldest event first, and how to read on towards its beginning."""

    events: list[HistoryEvent]
    token: bytes

    @property
    def is_whole(self) -> bool:
        """Tell whether the run's first event is among them."""
        return bool(self.events) and self.events[0].event_id == 1


@dataclass(frozen=True)
class Current:
    """The run that counts, and when it closed if it has."""

    run_id: str
    closed_at: datetime | None


class Histories:
    """Reads runs through one Temporal client; its converter decodes what they hold."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def newest(self, execution_id: UUID, *, run_id: str = "") -> Page:
        """Read a run's newest events, of the current run if none is named."""
        return await self._page(execution_id, run_id, b"", BATCHES)

    async def since(self, execution_id: UUID, run_id: str, *, event_id: int) -> list[HistoryEvent]:
        """Read a run back to an event, without it; oldest first."""
        page = await self.newest(execution_id, run_id=run_id)
        found, batches = page.events, BATCHES
        while page.token and found[0].event_id > event_id + 1:
            batches = min(batches * 4, 256)
            page = await self._page(execution_id, run_id, page.token, batches)
            found = page.events + found
        return [event for event in found if event.event_id > event_id]

    async def first(self, execution_id: UUID, run_id: str) -> HistoryEvent:
        """Read a run's first event."""
        request = GetWorkflowExecutionHistoryRequest(
            namespace=self._client.namespace,
            execution=WorkflowExecution(workflow_id=workflow_id_of(execution_id), run_id=run_id),
            maximum_page_size=1,
        )
        answer = await _ask(self._client.workflow_service.get_workflow_execution_history, request)
        return answer.history.events[0]

    async def current(self, execution_id: UUID) -> Current:
        """Ask for the execution's current run."""
        request = DescribeWorkflowExecutionRequest(
            namespace=self._client.namespace,
            execution=WorkflowExecution(workflow_id=workflow_id_of(execution_id)),
        )
        answer = await _ask(self._client.workflow_service.describe_workflow_execution, request)
        info = answer.workflow_execution_info
        closed_at = time_of(info.close_time) if info.HasField("close_time") else None
        return Current(info.execution.run_id, closed_at)

    async def moved_since(self, moment: datetime) -> AsyncIterator[list[Seen]]:
        """List the runs that closed since and those that began and are open, a page at a time.

        Of each execution the newest only. A run that was continued as new is not over.
        """
        since = f"'{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}'"
        query = (
            f"WorkflowType = '{WATCHED}' AND ExecutionStatus != 'ContinuedAsNew'"
            f" AND (CloseTime >= {since} OR (ExecutionStatus = 'Running' AND StartTime >= {since}))"
        )
        listed = set[UUID]()
        # Open ones come first, then the latest close.
        async for page in self._listed(query):
            yield [seen for seen in map(_seen, page) if seen and _is_first(seen, listed)]

    async def runs(self, execution_id: UUID) -> list[str]:
        """List an execution's runs as they began; the list may be a second behind."""
        pages = self._listed(f"WorkflowId = '{workflow_id_of(execution_id)}'")
        found = [info async for page in pages for info in page]
        found.sort(key=lambda info: info.start_time.ToNanoseconds())
        return [info.execution.run_id for info in found]

    async def _listed(self, query: str) -> AsyncIterator[Sequence[WorkflowExecutionInfo]]:
        token = b""
        while True:
            request = ListWorkflowExecutionsRequest(
                namespace=self._client.namespace, query=query, page_size=500, next_page_token=token
            )
            answer = await _ask(self._client.workflow_service.list_workflow_executions, request)
            yield answer.executions
            token = answer.next_page_token
            if not token:
                return

    async def decode(self, events: list[HistoryEvent]) -> list[Event]:
        """Decode those that the projection reads; what is large is fetched for all of them at once."""
        await bring_in(events, self._client.data_converter)
        read = [await decode(event, self._client.data_converter) for event in events]
        return [event for event in read if event is not None]

    async def _page(self, execution_id: UUID, run_id: str, token: bytes, batches: int) -> Page:
        request = GetWorkflowExecutionHistoryReverseRequest(
            namespace=self._client.namespace,
            execution=WorkflowExecution(workflow_id=workflow_id_of(execution_id), run_id=run_id),
            maximum_page_size=batches,
            next_page_token=token,
        )
        answer = await _ask(self._client.workflow_service.get_workflow_execution_history_reverse, request)
        return Page(list(reversed(answer.history.events)), answer.next_page_token)


def _seen(info: WorkflowExecutionInfo) -> Seen | None:
    execution_id = execution_of(info.execution.workflow_id)
    if execution_id is None:
        return None
    is_open = info.status == WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING
    return Seen(execution_id, info.execution.run_id, is_open)


def _is_first(seen: Seen, listed: set[UUID]) -> bool:
    is_first = seen.execution_id not in listed
    listed.add(seen.execution_id)
    return is_first


async def _ask(call: Callable[..., Awaitable[Answer]], request: object) -> Answer:
    try:
        return await call(request, retry=True, timeout=TIMEOUT)
    except RPCError as error:
        if error.status == RPCStatusCode.NOT_FOUND:
            raise UnknownRun from error
        raise
