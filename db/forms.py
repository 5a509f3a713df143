"""Public forms and hooks as they are published: what their submissions are checked against."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from db import plans
from workflows.fields import Field
from workflows.graph import Graph

STAMP = f"""
    w.slug || ' ' || f.xmin || (
        SELECT coalesce(string_agg(' ' || q.xmin, '' ORDER BY q.id), '') FROM form_fields q
        WHERE q.workspace_id = f.workspace_id AND q.workflow_id = f.id)
    || coalesce(' ' || {plans.PLAN}, '')
"""
"""Changes with everything a form is made of: its workspace's slug and plan, its workflow's row, its fields.

Whoever keeps a form in memory shows its stamp when writing, in the same statement (db/intake.py): a form
that another process changed, paused or published anew is noticed before anything is written.
"""
FORM = text(f"""
    SELECT f.name, f.description, f.status, f.settings, f.published_version_id, v.version, v.graph,
      {STAMP} AS stamp, {plans.WEIGHT} AS weight, asked.questions,
      octet_length(v.graph::text) + octet_length(asked.questions::text) AS size
    FROM workflows f JOIN workspaces w ON w.id = f.workspace_id JOIN workflow_versions v
      ON v.workspace_id = f.workspace_id AND v.workflow_id = f.id AND v.id = f.published_version_id
    CROSS JOIN LATERAL (
      SELECT coalesce(jsonb_agg(to_jsonb(q) ORDER BY q.position, q.id), '[]'::jsonb) AS questions
      FROM form_fields q WHERE q.workspace_id = f.workspace_id AND q.workflow_id = f.id) asked
    WHERE f.workspace_id = :workspace_id AND f.id = :workflow_id AND f.deleted_at IS NULL
      AND f.status IN ('active', 'paused')
""")


@dataclass(frozen=True, kw_only=True)
class Channel:
    """The door that a submission came in by, in the words of the tables it is written to."""

    trigger: str
    trigger_type: str
    event_type: str
    usage_type: str
    source: Literal["form", "webhook"]
    told: str


FORMS = Channel(
    trigger="TRIGGER_FORM",
    trigger_type="FORM",
    event_type="FORM_SUBMITTED",
    usage_type="form_submission",
    source="form",
    told="Submitted the form “{}”",
)
HOOKS = Channel(
    trigger="TRIGGER_WEBHOOK",
    trigger_type="WEBHOOK",
    event_type="WEBHOOK_RECEIVED",
    usage_type="webhook_received",
    source="webhook",
    told="Came in by the webhook of “{}”",
)


@dataclass(frozen=True, kw_only=True)
class Form:
    """A published form that takes submissions."""

    workspace_id: UUID
    workflow_id: UUID
    version_id: UUID
    version: int
    graph: Graph
    """What its runs follow."""
    stamp: str | None
    name: str
    description: str | None
    status: str
    settings: Mapping[str, Any]
    trigger_node_id: str
    trigger_config: Mapping[str, Any]
    weight: float = 1
    """The share of a busy worker that its runs have."""
    fields: tuple[Field, ...]
    field_ids: Mapping[str, UUID]
    channel: Channel = FORMS
    size: int = 0
    """Bytes of its graph and questions as JSON; read, they take several times as much."""


async def load(
    session: AsyncSession, workspace_id: UUID, workflow_id: UUID, channel: Channel = FORMS
) -> Form | None:
    """Return the published form or hook of an active or paused workflow and its fields, in one statement."""
    row = (
        await session.execute(FORM, {"workspace_id": workspace_id, "workflow_id": workflow_id})
    ).one_or_none()
    if row is None:
        return None
    graph = Graph.model_validate(row.graph)
    trigger = next((node for node in graph.nodes if node.type == channel.trigger), None)
    if trigger is None:
        return None
    return Form(
        workspace_id=workspace_id,
        workflow_id=workflow_id,
        version_id=row.published_version_id,
        version=row.version,
        graph=graph,
        stamp=row.stamp,
        name=row.name,
        description=row.description,
        status=row.status,
        settings=row.settings,
        trigger_node_id=trigger.id,
        trigger_config=trigger.config,
        weight=row.weight,
        fields=tuple(Field.model_validate(question) for question in row.questions),
        field_ids={question["field_key"]: UUID(question["id"]) for question in row.questions},
        channel=channel,
        size=row.size,
    )
