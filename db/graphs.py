"""The draft graph of a workflow: its nodes and edges, read and replaced as a whole (ERD §5-7)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BindParameter, Text, all_, delete, literal, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from db.models import Workflow, WorkflowEdge, WorkflowNode
from db.session import to_json
from workflows.reactflow import Draft, DraftEdge, DraftNode

# A graph of thousands of nodes is one statement with one parameter. Nodes keep their ids over a save, since
# the steps of earlier runs point to them.
SAVE_NODES = text("""
    INSERT INTO workflow_nodes AS n (workspace_id, id, workflow_id, react_flow_node_id, node_type, label,
                                     config, position, extra, ordinal)
    SELECT :workspace_id, r.id, :workflow_id, r.react_flow_node_id, r.node_type, r.label,
           r.config, r.position, r.extra, r.ordinal
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (id uuid, react_flow_node_id text, node_type text,
        label text, config jsonb, position jsonb, extra jsonb, ordinal integer)
    ON CONFLICT (workspace_id, workflow_id, react_flow_node_id) DO UPDATE SET
        node_type = excluded.node_type, label = excluded.label, config = excluded.config,
        position = excluded.position, extra = excluded.extra, ordinal = excluded.ordinal, updated_at = now()
    WHERE (n.node_type, n.label, n.config, n.position, n.extra, n.ordinal) IS DISTINCT FROM
          (excluded.node_type, excluded.label, excluded.config, excluded.position, excluded.extra,
           excluded.ordinal)""")
SAVE_EDGES = text("""
    INSERT INTO workflow_edges AS e (workspace_id, id, workflow_id, react_flow_edge_id, source_node_id,
                                     target_node_id, source_handle, target_handle, condition, is_enabled,
                                     extra, ordinal)
    SELECT :workspace_id, r.id, :workflow_id, r.react_flow_edge_id, r.source_node_id, r.target_node_id,
           r.source_handle, r.target_handle, r.condition, r.is_enabled, r.extra, r.ordinal
    FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r (id uuid, react_flow_edge_id text, source_node_id text,
        target_node_id text, source_handle text, target_handle text, condition jsonb, is_enabled boolean,
        extra jsonb, ordinal integer)
    ON CONFLICT (workspace_id, workflow_id, react_flow_edge_id) DO UPDATE SET
        source_node_id = excluded.source_node_id, target_node_id = excluded.target_node_id,
        source_handle = excluded.source_handle, target_handle = excluded.target_handle,
        condition = excluded.condition, is_enabled = excluded.is_enabled, extra = excluded.extra,
        ordinal = excluded.ordinal, updated_at = now()""")


class Stale(Exception):
    """The draft was changed since the caller read it."""

    def __init__(self, version: int) -> None:
        super().__init__(f"the draft is at version {version}")
        self.version = version


@dataclass(frozen=True)
class Loaded:
    """A draft and the version that a save has to name."""

    draft: Draft
    version: int


async def load(session: AsyncSession, workspace_id: UUID, workflow_id: UUID) -> Loaded | None:
    """Read a workflow's draft in the order it was drawn; None if there is no such workflow."""
    query = select(Workflow.graph_version, Workflow.viewport).where(
        Workflow.workspace_id == workspace_id, Workflow.id == workflow_id, Workflow.deleted_at.is_(None)
    )
    workflow = (await session.execute(query)).one_or_none()
    if workflow is None:
        return None
    nodes = await session.execute(
        select(WorkflowNode)
        .where(WorkflowNode.workspace_id == workspace_id, WorkflowNode.workflow_id == workflow_id)
        .order_by(WorkflowNode.ordinal, WorkflowNode.id)
        .execution_options(populate_existing=True)
    )
    edges = await session.execute(
        select(WorkflowEdge)
        .where(WorkflowEdge.workspace_id == workspace_id, WorkflowEdge.workflow_id == workflow_id)
        .order_by(WorkflowEdge.ordinal, WorkflowEdge.id)
        .execution_options(populate_existing=True)
    )
    draft = Draft(
        nodes=tuple(_draft_node(node) for node in nodes.scalars()),
        edges=tuple(_draft_edge(edge) for edge in edges.scalars()),
        viewport=workflow.viewport,
    )
    return Loaded(draft, workflow.graph_version)


async def replace(
    session: AsyncSession, workspace_id: UUID, workflow_id: UUID, draft: Draft, *, expected_version: int
) -> int | None:
    """Save a draft over the version it was made from and return the new one; edges without their nodes go.

    None if there is no such workflow; raises Stale if somebody else was faster.
    """
    one = (Workflow.workspace_id == workspace_id, Workflow.id == workflow_id, Workflow.deleted_at.is_(None))
    locked = select(Workflow.graph_version).where(*one).with_for_update()
    version = (await session.execute(locked)).scalar_one_or_none()
    if version is None:
        return None
    if version != expected_version:
        raise Stale(version)
    await session.execute(
        update(Workflow).where(*one).values(graph_version=version + 1, viewport=draft.viewport)
    )
    await _save_nodes(session, workspace_id, workflow_id, draft.nodes)
    known = {node.id for node in draft.nodes}
    edges = [edge for edge in draft.edges if edge.source in known and edge.target in known]
    await _save_edges(session, workspace_id, workflow_id, edges)
    return version + 1


async def trigger_nodes(
    session: AsyncSession, workspace_id: UUID, workflow_id: UUID
) -> Sequence[WorkflowNode]:
    """Find where runs of a draft begin (ERD pattern 2, step 1)."""
    query = (
        select(WorkflowNode)
        .where(
            WorkflowNode.workspace_id == workspace_id,
            WorkflowNode.workflow_id == workflow_id,
            WorkflowNode.node_type.startswith("TRIGGER_", autoescape=True),
        )
        .order_by(WorkflowNode.ordinal, WorkflowNode.id)
    )
    return (await session.execute(query)).scalars().all()


async def next_nodes(
    session: AsyncSession, workspace_id: UUID, workflow_id: UUID, node_id: str
) -> Sequence[WorkflowNode]:
    """Find where the enabled edges of a node lead (ERD pattern 2, step 2).

    Edges name nodes by React Flow's ids, which repeat among workflows: the join holds the workflow together.
    """
    meets = (
        (WorkflowEdge.workspace_id == WorkflowNode.workspace_id)
        & (WorkflowEdge.workflow_id == WorkflowNode.workflow_id)
        & (WorkflowEdge.target_node_id == WorkflowNode.react_flow_node_id)
    )
    query = (
        select(WorkflowNode)
        .join(WorkflowEdge, meets)
        .where(
            WorkflowEdge.workspace_id == workspace_id,
            WorkflowEdge.workflow_id == workflow_id,
            WorkflowEdge.source_node_id == node_id,
            WorkflowEdge.is_enabled,
        )
        .order_by(WorkflowEdge.ordinal, WorkflowEdge.id)
    )
    return (await session.execute(query)).scalars().all()


async def _save_nodes(
    session: AsyncSession, workspace_id: UUID, workflow_id: UUID, nodes: Sequence[DraftNode]
) -> None:
    await session.execute(
        delete(WorkflowNode).where(
            WorkflowNode.workspace_id == workspace_id,
            WorkflowNode.workflow_id == workflow_id,
            WorkflowNode.react_flow_node_id != all_(_texts(node.id for node in nodes)),
        )
    )
    rows = [
        {
            "id": str(uuid7()),
            "react_flow_node_id": node.id,
            "node_type": node.type,
            "label": node.label,
            "config": node.config,
            "position": node.position,
            "extra": node.extra,
            "ordinal": ordinal,
        }
        for ordinal, node in enumerate(nodes)
    ]
    await _save(session, SAVE_NODES, workspace_id, workflow_id, rows)


async def _save_edges(
    session: AsyncSession, workspace_id: UUID, workflow_id: UUID, edges: Sequence[DraftEdge]
) -> None:
    await session.execute(
        delete(WorkflowEdge).where(
            WorkflowEdge.workspace_id == workspace_id,
            WorkflowEdge.workflow_id == workflow_id,
            WorkflowEdge.react_flow_edge_id != all_(_texts(edge.id for edge in edges)),
        )
    )
    rows = [
        {
            "id": str(uuid7()),
            "react_flow_edge_id": edge.id,
            "source_node_id": edge.source,
            "target_node_id": edge.target,
            "source_handle": edge.source_handle,
            "target_handle": edge.target_handle,
            "condition": edge.condition,
            "is_enabled": edge.is_enabled,
            "extra": edge.extra,
            "ordinal": ordinal,
        }
        for ordinal, edge in enumerate(edges)
    ]
    await _save(session, SAVE_EDGES, workspace_id, workflow_id, rows)


async def _save(
    session: AsyncSession, statement: Any, workspace_id: UUID, workflow_id: UUID, rows: list[dict[str, Any]]
) -> None:
    if rows:
        ids = {"workspace_id": workspace_id, "workflow_id": workflow_id}
        await session.execute(statement, {**ids, "rows": to_json(rows)})


def _texts(values: Iterable[str]) -> BindParameter[list[str]]:
    # One array instead of thousands of parameters.
    return literal(list(values), ARRAY(Text))


def _draft_node(node: WorkflowNode) -> DraftNode:
    return DraftNode(
        id=node.react_flow_node_id,
        type=node.node_type,
        label=node.label,
        position=node.position,
        config=node.config,
        extra=node.extra,
    )


def _draft_edge(edge: WorkflowEdge) -> DraftEdge:
    return DraftEdge(
        id=edge.react_flow_edge_id,
        source=edge.source_node_id,
        target=edge.target_node_id,
        source_handle=edge.source_handle,
        target_handle=edge.target_handle,
        condition=edge.condition,
        is_enabled=edge.is_enabled,
        extra=edge.extra,
    )
