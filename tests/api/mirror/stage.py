"""What the mirror's tests share: real runs of small graphs, with activities that do as they are told."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select
from temporalio import activity
from temporalio.api.common.v1 import WorkflowExecution as WorkflowExecutionId
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest, ResetWorkflowExecutionRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.worker import Worker
from uuid_utils.compat import uuid7

from activities.sandbox import sandbox
from api.mirror.follower import Follower
from api.mirror.history import Histories
from db import doors, executions, steps
from db.models import ExecutionLog, ExecutionStep, Workflow, WorkflowExecution, WorkflowVersion
from db.session import Database
from workflows import nodes
from workflows.execution import ExecutionWorkflow
from workflows.graph import Edge, Graph, Node
from workflows.messages import (
    BeginInput,
    Begun,
    Ending,
    ExecutionInput,
    LogLine,
    Outcome,
    RunState,
    StepInput,
)
from workflows.run import UNTOUCHED

QUEUES = ("mail", "webhooks")


def graph(*drawn: Node, edges: Sequence[str]) -> Graph:
    """Draw a graph; an edge is written "a>b", or "a:handle>b"."""
    lines = []
    for text in edges:
        source, _, target = text.partition(">")
        node, _, handle = source.partition(":")
        lines.append(Edge(id=text, source=node, target=target, source_handle=handle or None))
    return Graph(nodes=drawn, edges=tuple(lines))


def node(
    node_id: str, kind: str = "UTILITY_LOG", *, does: dict[str, Any] | None = None, **fields: Any
) -> Node:
    """Draw a node; the test's activity reads from its notes what to do."""
    config = {"message": "hello"} if kind == "UTILITY_LOG" else {}
    return Node(
        id=node_id,
        type=kind,
        config={**config, **fields.pop("config", {}), "notes": repr(does or {})},
        **fields,
    )


START = node("start", "TRIGGER_MANUAL")


BEGUN = Begun(workspace={"name": "Here"}, workflow={"name": "Intake"}, lead={"email": "a@b.example"})


class Doings:
    """Activities by the node types' names; a node's notes say how each attempt goes."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []
        self.gate = asyncio.Event()

    def all(self, queue: str | None = None) -> list[Callable[..., Any]]:
        """Return what a worker of this queue carries out."""
        names = [t.name for t in nodes.types().values() if not t.passes]
        found = [activity.defn(name=name)(self._act()) for name in names]
        return found if queue else [*found, activity.defn(name=UNTOUCHED)(self._act()), self.begin]

    @activity.defn(name="begin")
    async def begin(self, asked: BeginInput) -> Begun:
        """Admit everybody."""
        return BEGUN

    def _act(self) -> Callable[[StepInput], Any]:
        async def act(given: StepInput) -> Outcome:
            attempt = given.first_attempt - 1 + activity.info().attempt
            self.seen.append((given.node.id, attempt))
            return await self._do(given, attempt, eval(given.node.config["notes"]))  # noqa: S307 - written by the tests

        return act

    async def _do(self, given: StepInput, attempt: int, does: dict[str, Any]) -> Outcome:
        if attempt <= does.get("fails", 0):
            raise ApplicationError(
                does.get("message", "it broke"),
                type=does.get("type", "broken"),
                non_retryable=does.get("final", False),
            )
        if does.get("hangs"):
            await self.gate.wait()
        await asyncio.sleep(does.get("takes", 0))
        sleeps = does.get("sleeps")
        return Outcome(
            output=does.get("output", {"from": given.node.id}),
            input={"asked": given.node.id},
            handles=does.get("handles", ("default",)),
            wake_at=datetime.now(UTC) + timedelta(seconds=sleeps) if sleeps is not None else None,
            ending=Ending(**does["ending"]) if "ending" in does else None,
            log=tuple(LogLine(**line) for line in does.get("log", ()))
            + tuple(LogLine(message=f"line {number}") for number in range(does.get("lines", 0))),
            ms=1.5,
        )


@dataclass
class Runs:
    """Starts executions and reads what the mirror made of them."""

    client: Client
    database: Database
    task_queue: str
    workspace_id: UUID
    workflow_id: UUID
    version_id: UUID
    doings: Doings
    follower: Follower
    started: list[UUID] = field(default_factory=list)

    async def start(self, drawn: Graph, **more: Any) -> WorkflowHandle[Any, Any]:
        """Write a queued execution and start its run."""
        return await self.begin(drawn, await self.queue(drawn), **more)

    async def begin(self, drawn: Graph, execution_id: UUID, **more: Any) -> WorkflowHandle[Any, Any]:
        """Start the run of an execution."""
        return await self.client.start_workflow(
            ExecutionWorkflow.run,
            self.input(drawn, execution_id, state=more.pop("state", None), begun=more.pop("begun", None)),
            id=f"execution-{execution_id}",
            task_queue=self.task_queue,
            **more,
        )

    async def queue(self, drawn: Graph) -> UUID:
        """Write a queued execution only."""
        execution_id = uuid7()
        async with self.database.workspace(self.workspace_id) as session:
            session.add(
                WorkflowExecution(
                    workspace_id=self.workspace_id,
                    id=execution_id,
                    workflow_id=self.workflow_id,
                    workflow_version_id=self.version_id,
                    trigger_type="MANUAL",
                    dispatched_at=datetime.now(UTC),
                )
            )
        self.started.append(execution_id)
        return execution_id

    def input(
        self,
        drawn: Graph,
        execution_id: UUID,
        *,
        state: RunState | None = None,
        begun: Begun | None = None,
    ) -> ExecutionInput:
        """Build what a run starts with."""
        return ExecutionInput(
            workspace_id=self.workspace_id,
            workflow_id=self.workflow_id,
            execution_id=execution_id,
            version=1,
            trigger_type="MANUAL",
            trigger_node_id="start",
            trigger_data={"budget": 5000},
            graph=drawn,
            state=state,
            begun=begun,
        )

    async def row(self, execution_id: UUID) -> WorkflowExecution:
        """Read the execution."""
        async with self.database.workspace(self.workspace_id) as session:
            row = await executions.get(session, self.workspace_id, execution_id)
        assert row is not None
        return row

    async def steps(self, execution_id: UUID) -> dict[str, ExecutionStep]:
        """Read the steps by key, in order."""
        async with self.database.workspace(self.workspace_id) as session:
            rows = await steps.page(session, self.workspace_id, execution_id, limit=10_000)
        return {f"{row.node_id}:{row.visit}": row for row in rows}

    async def logs(self, execution_id: UUID) -> list[ExecutionLog]:
        """Read the log in order."""
        async with self.database.workspace(self.workspace_id) as session:
            found = await session.scalars(
                select(ExecutionLog)
                .where(ExecutionLog.execution_id == execution_id)
                .order_by(ExecutionLog.created_at, ExecutionLog.id)
            )
            return list(found)

    async def everything(self, execution_id: UUID) -> dict[str, Any]:
        """Read all rows that history tells, field by field."""
        row = columns(await self.row(execution_id), without=frozenset({"mirrored_at", "updated_at"}))
        lines = [columns(line) for line in await self.logs(execution_id) if line.source != "attempt"]
        return {
            "execution": row,
            "steps": [columns(step) for step in (await self.steps(execution_id)).values()],
            "logs": lines,
        }


async def reset(
    runs: Runs, handle: WorkflowHandle[Any, Any], *, to_event: int = 4, run_id: str = "", request: str = "1"
) -> str:
    """Have a run begin again behind a workflow task; return the id of the run that takes its place."""
    current = run_id or (await runs.client.get_workflow_handle(handle.id).describe()).run_id
    answer = await runs.client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=runs.client.namespace,
            workflow_execution=WorkflowExecutionId(workflow_id=handle.id, run_id=current or ""),
            reason="again",
            request_id=f"{current} {request}",
            workflow_task_finish_event_id=to_event,
        )
    )
    return answer.run_id


async def gone(runs: Runs, handle: WorkflowHandle[Any, Any], run_id: str) -> None:
    """Delete one of an execution's runs from Temporal."""
    request = DeleteWorkflowExecutionRequest(
        namespace=runs.client.namespace,
        workflow_execution=WorkflowExecutionId(workflow_id=handle.id, run_id=run_id),
    )
    await runs.client.workflow_service.delete_workflow_execution(request)

    async def forgotten() -> bool:
        try:
            await runs.client.get_workflow_handle(handle.id, run_id=run_id).describe()
        except RPCError:
            return True
        return False

    await until(forgotten)


def columns(row: Any, *, without: frozenset[str] = frozenset()) -> dict[str, Any]:
    """Turn a row into plain data."""
    return {c.key: getattr(row, c.key) for c in row.__table__.columns if c.key not in without}


def id_of(handle: WorkflowHandle[Any, Any]) -> UUID:
    """Name the execution of a run."""
    return UUID(handle.id.removeprefix("execution-"))


async def until(check: Callable[[], Any], *, seconds: float = 15) -> Any:
    """Wait for something to become true."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        found = await check()
        if found:
            return found
        assert asyncio.get_running_loop().time() < deadline, "it did not happen in time"
        await asyncio.sleep(0.03)


@asynccontextmanager
async def workers(client: Client, task_queue: str, doings: Doings, **more: Any) -> AsyncIterator[None]:
    """Run workers on the workflow's queue and on those of the vendors."""
    common: dict[str, Any] = {"workflow_runner": sandbox(), **more}
    main = Worker(
        client, task_queue=task_queue, workflows=[ExecutionWorkflow], activities=doings.all(), **common
    )
    vendors = [
        Worker(client, task_queue=f"{task_queue}-{queue}", activities=doings.all(queue), **more)
        for queue in QUEUES
    ]
    async with main, vendors[0], vendors[1]:
        yield


async def settle(client: Client, database: Database, task_queue: str, doings: Doings) -> Runs:
    """Sign a workspace up, with one published workflow."""
    async with database.door() as session:
        made = await doors.create_workspace(
            session, email="here@example.com", name="Here", slug="here", today=datetime.now(UTC).date()
        )
    workflow_id, version_id = uuid7(), uuid7()
    key = {"workspace_id": made.workspace_id}
    async with database.workspace(made.workspace_id) as session:
        session.add(Workflow(**key, id=workflow_id, name="Intake", slug="intake", status="active"))
        await session.flush()
        session.add(
            WorkflowVersion(
                **key, id=version_id, workflow_id=workflow_id, version=1, content_hash="0", graph={}
            )
        )
    follower = Follower(Histories(client), database)
    ids = made.workspace_id, workflow_id, version_id
    return Runs(client, database, task_queue, *ids, doings, follower)
