"""Completion callbacks: Temporal itself tells the API that a run has closed, whoever ended it (ADR 0018).

It is asked to for the runs that the mirror leaves out of sight while they are open; the others end under its
eyes. The server POSTs once for each chain of runs. What it says is a hint and nothing more: the mirror reads
history.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hmac import compare_digest, digest
from time import monotonic
from uuid import UUID

from temporalio.api.common.v1 import WorkflowType
from temporalio.api.enums.v1 import WorkflowIdConflictPolicy, WorkflowIdReusePolicy
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import OnConflictOptions
from temporalio.api.workflowservice.v1 import StartWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.clients.keyring import PREFIX, execution_of

logger = logging.getLogger(__name__)

PATH = "/internal/temporal/closed"
WORKFLOW, SIGNATURE = "x-flowtrack-workflow", "x-flowtrack-signature"
"""Our own headers: what has closed, and the proof that we asked to be told."""
CLOSED_AT = "nexus-operation-close-time"
"""Temporal's: the time of the run's last event."""
WATCHED = "ExecutionWorkflow"
PROBE_AFTER = 600.0
"""Seconds until a server that refused the address is asked again."""
REQUEST = "flowtrack/closed"
"""Temporal knows by it that it was asked before; asking again changes nothing and adds no event."""
NOBODY = "flowtrack-nobody"
"""No worker polls it: see `_request`."""
TIMEOUT = timedelta(seconds=5)


@dataclass(frozen=True)
class Close:
    """What a callback tells."""

    execution_id: UUID
    at: datetime | None
    """When the run closed, if that could be read."""


class Callbacks:
    """Asks Temporal to tell the API of the close of runs that are open, where the server does that."""

    def __init__(
        self, client: Client, url: str, master_key: bytes, *, probe_after: float = PROBE_AFTER
    ) -> None:
        self._client = client
        self._url = f"{url.rstrip('/')}{PATH}"
        self._master_key = master_key
        self._probe_after = probe_after
        self._refused_until = 0.0
        self._is_degraded = False

    async def ask(self, execution_id: UUID) -> bool:
        """Ask to be told of an open run's close; False if it has closed. Raises RPCError in an outage.

        Where the server refuses the address nothing is asked for a while: the sweep finds those closes.
        """
        if monotonic() < self._refused_until:
            return True
        request = self._request(f"{PREFIX}{execution_id}")
        try:
            await self._client.workflow_service.start_workflow_execution(request, retry=True, timeout=TIMEOUT)
        except RPCError as error:
            if error.status == RPCStatusCode.ALREADY_EXISTS:
                return False
            if error.status != RPCStatusCode.INVALID_ARGUMENT:
                raise
            self._refuse(error)
            return True
        self._recover()
        return True

    def _request(self, workflow_id: str) -> StartWorkflowExecutionRequest:
        """Build the only request that adds a callback to a run: a start of what is there already.

        Were the run deleted in this very moment, the start would be one that nobody carries out.
        """
        request = StartWorkflowExecutionRequest(
            namespace=self._client.namespace,
            workflow_id=workflow_id,
            workflow_type=WorkflowType(name=WATCHED),
            task_queue=TaskQueue(name=NOBODY),
            identity=self._client.identity,
            request_id=REQUEST,
            workflow_id_reuse_policy=WorkflowIdReusePolicy.WORKFLOW_ID_REUSE_POLICY_REJECT_DUPLICATE,
            workflow_id_conflict_policy=WorkflowIdConflictPolicy.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING,
            on_conflict_options=OnConflictOptions(attach_request_id=True, attach_completion_callbacks=True),
        )
        request.workflow_execution_timeout.FromTimedelta(timedelta(seconds=1))
        asked = request.completion_callbacks.add().nexus
        asked.url = self._url
        asked.header.update(signed(self._master_key, workflow_id))
        return request

    def _refuse(self, error: RPCError) -> None:
        self._refused_until = monotonic() + self._probe_after
        if not self._is_degraded:
            self._is_degraded = True
            logger.warning(
                "degraded: closes are found by the sweep; Temporal refuses the API's address",
                extra={"url": self._url, "reason": error.message},
            )

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
