"""Completion callbacks: Temporal itself tells the API that a run has closed, whoever ended it (ADR 0018).

A callback stands in the request that starts a run. It adds no event and no call; the server POSTs it once for
each chain of runs. What it says is a hint and nothing more: the mirror reads history.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hmac import compare_digest, digest
from time import monotonic
from typing import Any
from uuid import UUID

from temporalio.api.workflowservice.v1 import StartWorkflowExecutionRequest, StartWorkflowExecutionResponse
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.clients.keyring import execution_of

logger = logging.getLogger(__name__)

PATH = "/internal/temporal/closed"
WORKFLOW, SIGNATURE = "x-flowtrack-workflow", "x-flowtrack-signature"
"""Our own headers: what has closed, and the proof that we asked to be told."""
CLOSED_AT = "nexus-operation-close-time"
"""Temporal's: the time of the run's last event."""
WATCHED = "ExecutionWorkflow"
PROBE_AFTER = 600.0
"""Seconds until a server that refused the address is asked again."""


@dataclass(frozen=True)
class Close:
    """What a callback tells."""

    execution_id: UUID
    at: datetime | None
    """When the run closed, if that could be read."""


class Callbacks:
    """Has every run that a client starts tell the API of its close, where the server does that."""

    def __init__(self, url: str, master_key: bytes, *, probe_after: float = PROBE_AFTER) -> None:
        self._url = f"{url.rstrip('/')}{PATH}"
        self._master_key = master_key
        self._probe_after = probe_after
        self._refused_until = 0.0
        self._is_degraded = False

    def attach(self, client: Client) -> None:
        """Complete what the client sends: its own methods have no argument for callbacks."""
        service = client.workflow_service
        send = service.start_workflow_execution

        async def start(
            request: StartWorkflowExecutionRequest, **options: Any
        ) -> StartWorkflowExecutionResponse:
            if request.workflow_type.name != WATCHED or monotonic() < self._refused_until:
                return await send(request, **options)
            self._add(request)
            try:
                answer = await send(request, **options)
            except RPCError as error:
                if error.status != RPCStatusCode.INVALID_ARGUMENT:
                    raise
                return await self._without(send, request, options, error)
            self._recover()
            return answer

        service.start_workflow_execution = start  # type: ignore[assignment,method-assign] # the only seam

    def _add(self, request: StartWorkflowExecutionRequest) -> None:
        asked = request.completion_callbacks.add().nexus
        asked.url = self._url
        asked.header.update(signed(self._master_key, request.workflow_id))

    async def _without(
        self, send: Any, request: StartWorkflowExecutionRequest, options: dict[str, Any], error: RPCError
    ) -> StartWorkflowExecutionResponse:
        """Start again without; only if that goes well it was the callback that was refused."""
        del request.completion_callbacks[:]
        answer: StartWorkflowExecutionResponse = await send(request, **options)
        self._refused_until = monotonic() + self._probe_after
        if not self._is_degraded:
            self._is_degraded = True
            logger.warning(
                "degraded: closes are found by the sweep; Temporal refuses the API's address",
                extra={"url": self._url, "reason": error.message},
            )
        return answer

    def _recover(self) -> None:
        if self._is_degraded:
            self._is_degraded = False
            logger.info("Temporal tells of closes again", extra={"url": self._url})


def signed(master_key: bytes, workflow_id: str) -> dict[str, str]:
    """Write the headers by which a callback is known again."""
    return {WORKFLOW: workflow_id, SIGNATURE: _sign(master_key, workflow_id)}


def read(master_key: bytes, headers: Mapping[str, str]) -> Close | None:
    """Read what a callback tells; None if we did not ask for it. Nothing is parsed before that is known."""
    workflow_id = headers.get(WORKFLOW, "")
    given = headers.get(SIGNATURE, "").encode()
    if not compare_digest(given, _sign(master_key, workflow_id).encode()):
        return None
    execution_id = execution_of(workflow_id)
    return Close(execution_id, _moment(headers.get(CLOSED_AT, ""))) if execution_id else None


def _sign(master_key: bytes, workflow_id: str) -> str:
    """Sign with a key for this purpose alone."""
    key = digest(master_key, b"flowtrack/temporal/closed", "sha256")
    return digest(key, workflow_id.encode(), "sha256").hex()


def _moment(text: str) -> datetime | None:
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        return None
    return told if told.tzinfo else None
