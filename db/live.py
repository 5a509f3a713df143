"""What the rows know of where a run stands; api/live joins it with what Temporal says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from db import listing
from db.models import ExecutionLog, ExecutionStep, MirrorCursor, Workflow, WorkflowExecution
from db.models.executions import OPEN_STATUSES
from db.session import fetch
from workflows.graph import Edge, Loop

MOST_STEPS = 200
"""Open steps that are looked at: a loop may have a hundred items under way, and so may each item."""
MOST_ATTEMPTS = 1_000

# Of a node only what says how it is tried: configs hold whole mails.
NODES = """
    SELECT n.node ->> 'id', n.node ->> 'type', n.node ->> 'label', n.node -> 'config' -> 'retry',
        n.node -> 'loop'
    FROM workflow_versions v, jsonb_array_elements(v.graph -> 'nodes') AS n (node)
    WHERE v.workspace_id = %(workspace_id)s AND v.workflow_id = %(workflow_id)s AND v.id = %(version_id)s
"""
EDGES = """
    SELECT v.graph -> 'edges' FROM workflow_versions v
    WHERE v.workspace_id = %(workspace_id)s AND v.workflow_id = %(workflow_id)s AND v.id = %(version_id)s
"""
PAUSED = text("""
    SELECT message FROM execution_logs
    WHERE workspace_id = :workspace_id AND execution_id = :execution_id AND source = 'history'
      AND execution_step_id IS NULL AND message LIKE 'Paused by %' AND created_at >= :since
    ORDER BY created_at DESC, id DESC LIMIT 1
""")


@dataclass(frozen=True)
class NodeFacts:
    """A node of the version that runs."""

    type: str
    label: str
    retry: dict[str, Any]
    loop: Loop | None = None
    """The loop that it makes."""


@dataclass(frozen=True)
class Stand:
    """Where a run stands, as its rows tell it."""

    run: WorkflowExecution
    version: int
    workflow_name: str
    workflow_status: str
    state: dict[str, Any] | None = None
    """What the mirror keeps of the open run (api/mirror/state.py); None before it has read it."""
    steps: Sequence[ExecutionStep] = ()
    """Those that have not ended well: running, or failed."""
    nodes: Mapping[str, NodeFacts] = field(default_factory=dict)
    edges: Sequence[Edge] = ()
    """Of a graph with loops: they tell what is inside."""
    paused_by: str | None = None

    @property
    def is_open(self) -> bool:
        """Tell whether the run may go on."""
        return self.run.status in OPEN_STATUSES


async def stand(session: AsyncSession, workspace_id: UUID, execution_id: UUID) -> Stand | None:
    """Read where a run stands; of one that is over only its own row and its workflow's."""
    found = await listing.execution(session, workspace_id, execution_id)
    if found is None:
        return None
    run = found.row
    cursor = (MirrorCursor.workspace_id == workspace_id) & (MirrorCursor.execution_id == execution_id)
    query = (
        select(Workflow.name, Workflow.status, MirrorCursor.state)
        .outerjoin(MirrorCursor, cursor)
        .where(Workflow.workspace_id == workspace_id, Workflow.id == run.workflow_id)
    )
    name, status, state = (await session.execute(query)).one()
    if run.status not in OPEN_STATUSES:
        return Stand(run, found.version, name, status)
    nodes, edges = await _graph(session, run)
    steps = await _open_steps(session, workspace_id, execution_id)
    paused_by = await _paused_by(session, run) if run.status_reason == "paused" else None
    return Stand(run, found.version, name, status, state, steps, nodes, edges, paused_by)


async def step(
    session: AsyncSession, workspace_id: UUID, execution_id: UUID, step_id: UUID
) -> ExecutionStep | None:
    """Read one step of a run."""
    query = select(ExecutionStep).where(
        ExecutionStep.workspace_id == workspace_id,
        ExecutionStep.execution_id == execution_id,
        ExecutionStep.id == step_id,
    )
    return (await session.execute(query)).scalar_one_or_none()


async def attempts(session: AsyncSession, workspace_id: UUID, of: ExecutionStep) -> Sequence[ExecutionLog]:
    """List what workers recorded of a step's attempts, oldest first: those that failed, and those after."""
    run = WorkflowExecution
    theirs = (run.workspace_id == workspace_id, run.id == of.execution_id)
    queued_at = (await session.scalars(select(run.queued_at).where(*theirs))).one()
    query = attempt_lines(workspace_id, of, queued_at=queued_at)
    return list(reversed((await session.scalars(query)).all()))


def attempt_lines(workspace_id: UUID, of: ExecutionStep, *, queued_at: datetime) -> Select[ExecutionLog]:
    """Write the statement of `attempts`; before the run was queued no month needs to be read."""
    return (
        select(ExecutionLog)
        .where(
            ExecutionLog.workspace_id == workspace_id,
            ExecutionLog.execution_id == of.execution_id,
            ExecutionLog.source == "attempt",
            ExecutionLog.node_id == of.node_id,
            ExecutionLog.visit == of.visit,
            ExecutionLog.created_at >= queued_at - listing.CLOCKS,
        )
        .order_by(ExecutionLog.created_at.desc(), ExecutionLog.id.desc())
        .limit(MOST_ATTEMPTS)
    )


async def _graph(
    session: AsyncSession, run: WorkflowExecution
) -> tuple[Mapping[str, NodeFacts], Sequence[Edge]]:
    given = {"workspace_id": run.workspace_id, "workflow_id": run.workflow_id}
    given["version_id"] = run.workflow_version_id
    nodes = {
        node_id: NodeFacts(type_, label or "", retry or {}, Loop.model_validate(loop) if loop else None)
        for node_id, type_, label, retry, loop in await fetch(session, NODES, given)
    }
    if not any(facts.loop for facts in nodes.values()):
        return nodes, ()
    ((edges,),) = await fetch(session, EDGES, given)
    return nodes, [Edge.model_validate(edge) for edge in edges]


async def _open_steps(
    session: AsyncSession, workspace_id: UUID, execution_id: UUID
) -> Sequence[ExecutionStep]:
    query = (
        select(ExecutionStep)
        .where(
            ExecutionStep.workspace_id == workspace_id,
            ExecutionStep.execution_id == execution_id,
            ExecutionStep.status.in_(("running", "failed")),
        )
        # The newest: what failed long ago and was gone on from must not crowd out what is open.
        .order_by(ExecutionStep.step_number.desc(), ExecutionStep.id.desc())
        .limit(MOST_STEPS)
    )
    return list(reversed((await session.scalars(query)).all()))


async def _paused_by(session: AsyncSession, run: WorkflowExecution) -> str | None:
    given: dict[str, Any] = {"workspace_id": run.workspace_id, "execution_id": run.id}
    given["since"] = run.queued_at - listing.CLOCKS
    message: str | None = await session.scalar(PAUSED, given)
    return message.removeprefix("Paused by ") if message else None
