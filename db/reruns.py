"""Reruns: new executions that point to the ones they repeat, ordered by a row like any other (design §5)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import bindparam, exists, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from uuid_utils.compat import uuid7

from db.cancels import TooMany
from db.listing import Wanted
from db.models import Lead, Workflow, WorkflowExecution, WorkflowVersion
from db.models.executions import OPEN_STATUSES
from workflows.graph import Graph

Start = Literal["start", "node", "failure"]

# One statement for one rerun or thousands. What never began keeps nothing, or what it was itself to keep.
QUEUE = text("""
    WITH asked AS (
      SELECT * FROM unnest(CAST(:old AS uuid[]), CAST(:new AS uuid[]), CAST(:usage AS uuid[]))
        AS asked (old_id, new_id, usage_id)),
    run AS (
      INSERT INTO workflow_executions (workspace_id, id, workflow_id, workflow_version_id, lead_id,
                                       trigger_type, trigger_node_id, status, idempotency_key, trigger_data,
                                       rerun_of, rerun_from, cause_execution_id, hops)
      SELECT e.workspace_id, a.new_id, e.workflow_id, v.id, e.lead_id, e.trigger_type, t.node ->> 'id',
             'queued', :key, coalesce(:trigger_data, e.trigger_data), e.id,
             CASE WHEN :start ->> 'from' = 'start' THEN :start
                  WHEN e.started_at IS NULL AND e.dispatched_at IS NULL
                  THEN coalesce(e.rerun_from, '{"from": "start"}'::jsonb)
                  ELSE :start || jsonb_build_object('of', e.id) END,
             e.cause_execution_id, e.hops
      FROM asked a
      JOIN workflow_executions e ON e.workspace_id = :workspace_id AND e.id = a.old_id
      JOIN workflows f ON f.workspace_id = e.workspace_id AND f.id = e.workflow_id
        AND f.status <> 'archived' AND f.deleted_at IS NULL
      JOIN workflow_versions v ON v.workspace_id = e.workspace_id AND v.workflow_id = e.workflow_id
        AND v.id = CASE WHEN :latest THEN f.published_version_id ELSE e.workflow_version_id END
      -- The trigger it began at, if the version still has it.
      JOIN LATERAL (
        SELECT node FROM jsonb_array_elements(v.graph -> 'nodes') AS node
        WHERE node ->> 'type' LIKE 'TRIGGER\\_%'
        ORDER BY node ->> 'id' = e.trigger_node_id DESC LIMIT 1) t ON true
      RETURNING id),
    used AS (
      INSERT INTO usage_events (workspace_id, id, event_type, event_category, quantity, is_billable,
                                related_resource_type, related_resource_id, metadata)
      SELECT :workspace_id, a.usage_id, 'execution_requested', 'api', 1, false, 'workflow_execution',
             a.new_id, jsonb_build_object('rerun_of', a.old_id)
      FROM asked a JOIN run r ON r.id = a.new_id)
    SELECT id FROM run
""").bindparams(bindparam("trigger_data", type_=JSONB(none_as_null=True)), bindparam("start", type_=JSONB()))

OF_WORKFLOW = (Workflow.workspace_id == WorkflowExecution.workspace_id) & (
    Workflow.id == WorkflowExecution.workflow_id
)
OF_LEAD = (Lead.workspace_id == WorkflowExecution.workspace_id) & (Lead.id == WorkflowExecution.lead_id)


@dataclass(frozen=True)
class Origin:
    """An execution that is to run again, and the version it is to run on."""

    row: WorkflowExecution
    workflow_status: str
    has_lead: bool
    """It has one that is still there, or never had one."""
    graph: Graph
    trigger_node_id: str

    @property
    def began(self) -> bool:
        """Tell whether Temporal ever had it."""
        return self.row.started_at is not None or self.row.dispatched_at is not None


async def origin(
    session: AsyncSession, workspace_id: UUID, execution_id: UUID, *, latest: bool
) -> Origin | None:
    """Read an execution with the graph of its own version or the published one.

    Raises ValidationError or IndexError for a graph that today's code cannot read.
    """
    version = Workflow.published_version_id if latest else WorkflowExecution.workflow_version_id
    lost_lead = WorkflowExecution.lead_id.is_not(None) & (Lead.id.is_(None) | Lead.deleted_at.is_not(None))
    query = (
        select(WorkflowExecution, Workflow.status, lost_lead, WorkflowVersion.graph)
        .join(Workflow, OF_WORKFLOW)
        .join(
            WorkflowVersion,
            (WorkflowVersion.workspace_id == WorkflowExecution.workspace_id)
            & (WorkflowVersion.id == version),
        )
        .outerjoin(Lead, OF_LEAD)
        .where(
            WorkflowExecution.workspace_id == workspace_id,
            WorkflowExecution.id == execution_id,
            Workflow.deleted_at.is_(None),
        )
    )
    found = (await session.execute(query)).one_or_none()
    if found is None:
        return None
    row, status, is_lost, drawn = found
    graph = Graph.model_validate(drawn)
    triggers = [node.id for node in graph.nodes if node.type.startswith("TRIGGER_")]
    trigger = row.trigger_node_id if row.trigger_node_id in triggers else triggers[0]
    return Origin(row, status, not is_lost, graph, trigger)


async def queue(
    session: AsyncSession,
    workspace_id: UUID,
    execution_ids: Sequence[UUID],
    *,
    start: Start,
    latest: bool,
    node_id: str | None = None,
    trigger_data: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
) -> list[UUID]:
    """Order reruns of these executions; return the new ones' ids.

    What changed meanwhile is left out: its workflow was archived or deleted, or has no published version.
    """
    made = [uuid7() for _ in execution_ids]
    values = {
        "workspace_id": workspace_id,
        "old": [str(one) for one in execution_ids],
        "new": [str(one) for one in made],
        "usage": [str(uuid7()) for _ in made],
        "start": {"from": start, **({"node_id": node_id} if node_id is not None else {})},
        "latest": latest,
        "trigger_data": None if trigger_data is None else dict(trigger_data),
        "key": idempotency_key,
    }
    ordered = set((await session.scalars(QUEUE, values)).all())
    return [one for one in made if one in ordered]


async def match(
    session: AsyncSession, workspace_id: UUID, wanted: Wanted, *, start: Start, most: int
) -> Sequence[UUID]:
    """Find what a bulk rerun is about, oldest first; others that look for the same wait. Raises TooMany.

    Left out is what is open, what has an open rerun, what failed and was rerun successfully, what did not
    fail (from the failure), what runs again with the run that waited for it, and what could not run: an
    archived workflow's, a deleted lead's.
    """
    await session.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"),
        {"name": f"bulk rerun {workspace_id}"},
    )
    later = aliased(WorkflowExecution)
    settled = (later.status == "completed") & (WorkflowExecution.status != "completed")
    repeated = exists().where(
        later.workspace_id == workspace_id,
        later.rerun_of == WorkflowExecution.id,
        later.status.in_(OPEN_STATUSES) | settled,
    )
    over = ("failed", "cancelled") if start == "failure" else ("failed", "cancelled", "completed")
    waiting = aliased(WorkflowExecution)
    awaited = WorkflowExecution.awaited_step.is_not(None) & exists().where(
        waiting.workspace_id == workspace_id,
        waiting.id == WorkflowExecution.cause_execution_id,
        waiting.status.in_(over),
    )
    query = (
        select(WorkflowExecution.id)
        .join(Workflow, OF_WORKFLOW)
        .outerjoin(Lead, OF_LEAD)
        .where(
            WorkflowExecution.workspace_id == workspace_id,
            WorkflowExecution.status.in_(over),
            *wanted.clauses(),
            ~repeated,
            ~awaited,
            Workflow.status != "archived",
            Workflow.deleted_at.is_(None),
            WorkflowExecution.lead_id.is_(None) | (Lead.id.is_not(None) & Lead.deleted_at.is_(None)),
        )
        .order_by(WorkflowExecution.id)
        .limit(most + 1)
    )
    found = (await session.scalars(query)).all()
    if len(found) > most:
        raise TooMany
    return found
