"""Published versions: immutable graphs, numbered per workflow, one of which is current (design §5)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Row, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from db import workflows
from db.graphs import Stale
from db.models import Workflow, WorkflowExecution, WorkflowVersion
from db.models.executions import OPEN_STATUSES
from workflows import publish as publishing
from workflows import reactflow
from workflows.graph import Graph, Node
from workflows.publish import awaited, inputs
from workflows.questions import Field
from workflows.reactflow import Draft


@dataclass(frozen=True)
class Published:
    """The current version after publishing, and whether this call made it."""

    id: UUID
    version: int
    is_new: bool


@dataclass(frozen=True)
class Drawn:
    """What is drawn and asked: when it is published it is kept, so that it can come back."""

    draft: Draft
    form: Sequence[Field] = ()


@dataclass(frozen=True)
class Listed:
    """A version without its graph."""

    version: int
    content_hash: str
    published_at: datetime
    published_by: UUID | None


@dataclass(frozen=True)
class Current:
    """What a new run of a workflow starts with."""

    workflow_id: UUID
    status: str
    version_id: UUID
    version: int
    graph: Graph

    @property
    def trigger(self) -> Node | None:
        """The node at which the run begins; validation lets no graph pass without one."""
        return trigger_of(self.graph)


def trigger_of(graph: Graph) -> Node | None:
    """Find a graph's trigger."""
    return next((node for node in graph.nodes if node.type.startswith("TRIGGER_")), None)


async def publish(
    session: AsyncSession,
    workspace_id: UUID,
    workflow_id: UUID,
    graph: Graph,
    *,
    graph_version: int,
    drawn: Drawn | None = None,
    user_id: UUID | None = None,
) -> Published | None:
    """Make a graph the current version and the workflow active; equal content makes no new version.

    `drawn` is what it was compiled from, and `graph_version` the draft's: raises Stale if that has changed
    since.
    A paused workflow stays paused. None if there is no such workflow.
    """
    workflow = await workflows.lock(session, workspace_id, workflow_id)
    if workflow is None:
        return None
    if workflow.status == "archived":
        raise workflows.WrongStatus("archived", "An archived workflow is not published: resume it first.")
    if workflow.graph_version != graph_version:
        raise Stale(workflow.graph_version)
    latest = await _latest(session, workspace_id, workflow)
    if latest is None or latest.content_hash != graph.content_hash:
        made = await _insert(session, workspace_id, workflow_id, graph, drawn=drawn, user_id=user_id)
        await _make_current(session, workflow, made.id, graph)
        return made
    if workflow.status == "draft":
        await _make_current(session, workflow, latest.id, graph)
    return Published(latest.id, latest.version, is_new=False)


async def get(
    session: AsyncSession, workspace_id: UUID, workflow_id: UUID, version: int
) -> WorkflowVersion | None:
    """Read one version by its number."""
    query = select(WorkflowVersion).where(
        WorkflowVersion.workspace_id == workspace_id,
        WorkflowVersion.workflow_id == workflow_id,
        WorkflowVersion.version == version,
    )
    return (await session.execute(query)).scalar_one_or_none()


def drawn(version: WorkflowVersion) -> Drawn:
    """Give back what a version was drawn as; of the oldest ones only the graph is known."""
    form = [Field.model_validate(field) for field in version.form or ()]
    if version.document is not None:
        draft = reactflow.read(version.document).draft
        if draft is not None:
            return Drawn(draft, form)
    return Drawn(publishing.draft_of(Graph.model_validate(version.graph)), form)


async def page(
    session: AsyncSession, workspace_id: UUID, workflow_id: UUID, *, limit: int, before: int | None = None
) -> Sequence[Listed]:
    """List versions, newest first; `before` is the number of the last one seen."""
    columns = (getattr(WorkflowVersion, name) for name in Listed.__dataclass_fields__)
    query = select(*columns).where(
        WorkflowVersion.workspace_id == workspace_id, WorkflowVersion.workflow_id == workflow_id
    )
    if before is not None:
        query = query.where(WorkflowVersion.version < before)
    found = await session.execute(query.order_by(WorkflowVersion.version.desc()).limit(limit))
    return [Listed(*row) for row in found]


async def in_flight(session: AsyncSession, workspace_id: UUID, workflow_id: UUID) -> Mapping[int, int]:
    """Count the open executions of each version that has any, newest version first."""
    version = (
        (WorkflowVersion.workspace_id == WorkflowExecution.workspace_id)
        & (WorkflowVersion.workflow_id == WorkflowExecution.workflow_id)
        & (WorkflowVersion.id == WorkflowExecution.workflow_version_id)
    )
    query = (
        select(WorkflowVersion.version, func.count().label("executions"))
        .join(WorkflowExecution, version)
        .where(
            WorkflowExecution.workspace_id == workspace_id,
            WorkflowExecution.workflow_id == workflow_id,
            WorkflowExecution.status.in_(OPEN_STATUSES),
        )
        .group_by(WorkflowVersion.version)
        .order_by(WorkflowVersion.version.desc())
    )
    return {row.version: row.executions for row in await session.execute(query)}


async def current(session: AsyncSession, workspace_id: UUID, workflow_id: UUID) -> Current | None:
    """Return what a new run starts with; None if there is no such workflow or it was never published."""
    published = (WorkflowVersion.workspace_id == Workflow.workspace_id) & (
        WorkflowVersion.id == Workflow.published_version_id
    )
    query = (
        select(Workflow.status, WorkflowVersion.id, WorkflowVersion.version, WorkflowVersion.graph)
        .join(WorkflowVersion, published)
        .where(
            Workflow.workspace_id == workspace_id,
            Workflow.id == workflow_id,
            Workflow.deleted_at.is_(None),
        )
    )
    row = (await session.execute(query)).one_or_none()
    if row is None:
        return None
    return Current(workflow_id, row.status, row.id, row.version, Graph.model_validate(row.graph))


async def _latest(
    session: AsyncSession, workspace_id: UUID, workflow: Workflow
) -> Row[UUID, int, str] | None:
    if workflow.published_version_id is None:
        return None
    # A version's graph and drawing may be megabytes, which nobody asks for here.
    query = select(WorkflowVersion.id, WorkflowVersion.version, WorkflowVersion.content_hash).where(
        WorkflowVersion.workspace_id == workspace_id, WorkflowVersion.id == workflow.published_version_id
    )
    return (await session.execute(query)).one()


async def _insert(
    session: AsyncSession,
    workspace_id: UUID,
    workflow_id: UUID,
    graph: Graph,
    *,
    drawn: Drawn | None,
    user_id: UUID | None,
) -> Published:
    number = (
        select(func.coalesce(func.max(WorkflowVersion.version), 0) + 1)
        .where(WorkflowVersion.workspace_id == workspace_id, WorkflowVersion.workflow_id == workflow_id)
        .scalar_subquery()
    )
    statement = (
        insert(WorkflowVersion)
        .values(
            workspace_id=workspace_id,
            id=uuid7(),
            workflow_id=workflow_id,
            version=number,
            content_hash=graph.content_hash,
            graph=graph.model_dump(mode="json"),
            document=reactflow.write(drawn.draft) if drawn else None,
            form=[field.stored() for field in drawn.form] if drawn else None,
            inputs=inputs(graph),
            awaits=list(awaited(graph)),
            published_by=user_id,
        )
        .returning(WorkflowVersion.id, WorkflowVersion.version)
    )
    row = (await session.execute(statement)).one()
    return Published(row.id, row.version, is_new=True)


async def _make_current(session: AsyncSession, workflow: Workflow, version_id: UUID, graph: Graph) -> None:
    trigger = trigger_of(graph)
    await session.execute(
        update(Workflow)
        .where(Workflow.workspace_id == workflow.workspace_id, Workflow.id == workflow.id)
        .values(
            published_version_id=version_id,
            trigger_type=trigger.type if trigger else None,
            trigger=trigger.model_dump(mode="json", include={"id", "type", "config"}) if trigger else None,
            status="paused" if workflow.status == "paused" else "active",
        )
    )
