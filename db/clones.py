"""A workflow made from another: its settings, form and draft, and nothing that belongs to the other alone."""

from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from db import workflows
from db.models import Workflow

# However large the graph, one statement. Tokens, secrets, versions, schedules, leads and runs are not copied:
# a hook gets its own when the clone is published.
COPY = text("""
    WITH drawn AS (
        INSERT INTO workflow_nodes (workspace_id, id, workflow_id, react_flow_node_id, node_type, label,
                                    config, position, extra, ordinal)
        SELECT workspace_id, gen_random_uuid(), :clone_id, react_flow_node_id, node_type, label, config,
               position, extra, ordinal
        FROM workflow_nodes WHERE workspace_id = :workspace_id AND workflow_id = :workflow_id
    ), connected AS (
        INSERT INTO workflow_edges (workspace_id, id, workflow_id, react_flow_edge_id, source_node_id,
                                    target_node_id, source_handle, target_handle, condition, is_enabled,
                                    extra, ordinal)
        SELECT workspace_id, gen_random_uuid(), :clone_id, react_flow_edge_id, source_node_id,
               target_node_id, source_handle, target_handle, condition, is_enabled, extra, ordinal
        FROM workflow_edges WHERE workspace_id = :workspace_id AND workflow_id = :workflow_id
    ), asked AS (
        INSERT INTO form_fields (workspace_id, id, workflow_id, field_key, label, field_type, options,
                                 is_required, placeholder, help_text, validation, position)
        SELECT workspace_id, gen_random_uuid(), :clone_id, field_key, label, field_type, options,
               is_required, placeholder, help_text, validation, position
        FROM form_fields WHERE workspace_id = :workspace_id AND workflow_id = :workflow_id
    )
    UPDATE workflows AS clone SET viewport = source.viewport
    FROM workflows AS source
    WHERE clone.workspace_id = :workspace_id AND clone.id = :clone_id
      AND source.workspace_id = :workspace_id AND source.id = :workflow_id""")


async def make(session: AsyncSession, workspace_id: UUID, workflow_id: UUID, *, name: str) -> Workflow | None:
    """Clone a workflow's draft into a new one with a free slug; None if there is no such workflow."""
    # The share lock keeps a save out until the copy is made: it would be taken half.
    query = (
        select(Workflow.description, Workflow.settings)
        .where(
            Workflow.workspace_id == workspace_id,
            Workflow.id == workflow_id,
            Workflow.deleted_at.is_(None),
        )
        .with_for_update(read=True)
    )
    source = (await session.execute(query)).one_or_none()
    if source is None:
        return None
    clone = await workflows.create(
        session,
        workspace_id,
        name=name,
        description=source.description,
        settings=source.settings,
        template_id=workflow_id,
    )
    ids = {"workspace_id": workspace_id, "workflow_id": workflow_id, "clone_id": clone.id}
    await session.execute(COPY, ids)
    return clone
