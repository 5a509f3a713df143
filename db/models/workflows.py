"""Workflows: the draft graph, its form and its published versions (ERD §4-8)."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import (
    Base,
    Tenant,
    Timestamps,
    door_index,
    forgets,
    indexed,
    json_column,
    of_workspace,
    one_of,
    parent,
    unique,
    user_link,
)

WORKFLOW_STATUSES = ("draft", "active", "paused", "archived")
FIELD_TYPES = ("TEXT", "EMAIL", "DROPDOWN", "NUMBER", "DATE", "CHECKBOX")


class Workflow(Tenant, Timestamps, Base):
    """A workflow; nodes and edges are its draft, `published_version_id` is what runs."""

    __tablename__ = "workflows"
    __table_args__ = (
        of_workspace(),
        parent("template_id", "workflows", ondelete=forgets("template_id")),
        # The third column makes sure that the published version is one of this very workflow.
        ForeignKeyConstraint(
            ["workspace_id", "id", "published_version_id"],
            ["workflow_versions.workspace_id", "workflow_versions.workflow_id", "workflow_versions.id"],
            name="published_version_id",
            use_alter=True,
        ),
        one_of("status", WORKFLOW_STATUSES),
        CheckConstraint("slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'", name="slug"),
        indexed("workflows_slug", "slug", where="deleted_at IS NULL", is_unique=True),
        indexed("workflows_template_id", "template_id", where="template_id IS NOT NULL"),
        indexed("workflows_trigger_type", "trigger_type", where="deleted_at IS NULL"),
        door_index("door_workflows_scheduled", "id", where="trigger_type = 'TRIGGER_SCHEDULE'"),
    )

    name: Mapped[str]
    description: Mapped[str | None]
    slug: Mapped[str | None]
    status: Mapped[str] = mapped_column(default="draft", server_default=text("'draft'"))
    template_id: Mapped[UUID | None]
    published_version_id: Mapped[UUID | None]
    trigger_type: Mapped[str | None]
    trigger: Mapped[dict[str, Any] | None]
    """The published version's (id, type, config): who reacts to an event is one indexed question."""
    settings: Mapped[dict[str, Any]] = json_column()
    viewport: Mapped[dict[str, Any] | None]
    graph_version: Mapped[int] = mapped_column(default=1, server_default=text("1"))
    deleted_at: Mapped[datetime | None]


class WorkflowNode(Tenant, Timestamps, Base):
    """A node of the draft; `extra` keeps what React Flow sent and we don't know."""

    __tablename__ = "workflow_nodes"
    __table_args__ = (
        parent("workflow_id", "workflows"),
        unique("react_flow_node_id", "workflow_id", "react_flow_node_id"),
        indexed("workflow_nodes_node_type", "node_type", "workflow_id"),
    )

    workflow_id: Mapped[UUID]
    react_flow_node_id: Mapped[str]
    node_type: Mapped[str]
    label: Mapped[str | None]
    config: Mapped[dict[str, Any]] = json_column()
    position: Mapped[dict[str, Any]] = json_column()
    ordinal: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    extra: Mapped[dict[str, Any]] = json_column()


class WorkflowEdge(Tenant, Timestamps, Base):
    """An edge of the draft between two React Flow ids; it survives its nodes until it is cleaned up."""

    __tablename__ = "workflow_edges"
    __table_args__ = (
        parent("workflow_id", "workflows"),
        unique("react_flow_edge_id", "workflow_id", "react_flow_edge_id"),
        CheckConstraint("source_node_id <> target_node_id", name="no_self_loop"),
        indexed("workflow_edges_source", "workflow_id", "source_node_id"),
        indexed("workflow_edges_target", "workflow_id", "target_node_id"),
    )

    workflow_id: Mapped[UUID]
    react_flow_edge_id: Mapped[str]
    source_node_id: Mapped[str]
    target_node_id: Mapped[str]
    source_handle: Mapped[str | None]
    target_handle: Mapped[str | None]
    condition: Mapped[dict[str, Any] | None]
    is_enabled: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    ordinal: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    extra: Mapped[dict[str, Any]] = json_column()


class WorkflowVersion(Tenant, Base):
    """A published graph, never changed: a run stays on the version it started with."""

    __tablename__ = "workflow_versions"
    __table_args__ = (
        parent("workflow_id", "workflows"),
        unique("version", "workflow_id", "version"),
        unique("workflow_id_id", "workflow_id", "id"),
        CheckConstraint("version > 0", name="version"),
    )

    workflow_id: Mapped[UUID]
    version: Mapped[int]
    content_hash: Mapped[str]
    graph: Mapped[dict[str, Any]] = mapped_column(JSONB)
    document: Mapped[dict[str, Any] | None]
    """React Flow's JSON as it was drawn; the graph has lost positions, notes and what we don't know."""
    form: Mapped[list[Any] | None]
    """The form's fields as they stood; the form itself is not versioned."""
    inputs: Mapped[dict[str, Any] | None]
    """By node what its steps record as input before templates are rendered: rows of steps hold the rest
    (db/steps.py)."""
    awaits: Mapped[list[str]] = mapped_column(server_default=text("'{}'::text[]"))
    """Types of lead events that its runs may wait for: they are told of no others."""
    published_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    published_by: Mapped[UUID | None] = mapped_column(user_link("published_by"))


class WorkflowHook(Tenant, Timestamps, Base):
    """The address at which a workflow takes webhooks: found by its hash, shown from its sealed form."""

    __tablename__ = "workflow_hooks"
    __table_args__ = (
        parent("workflow_id", "workflows"),
        unique("workflow_id", "workflow_id"),
        door_index("door_workflow_hooks_token_hash", "token_hash", is_unique=True),
    )

    workflow_id: Mapped[UUID]
    token_hash: Mapped[bytes]
    token_sealed: Mapped[bytes]
    secret_sealed: Mapped[bytes | None]
    previous_secret_sealed: Mapped[bytes | None]
    previous_secret_expires_at: Mapped[datetime | None]


class FormField(Tenant, Timestamps, Base):
    """A question of the workflow's public form."""

    __tablename__ = "form_fields"
    __table_args__ = (
        parent("workflow_id", "workflows"),
        unique("field_key", "workflow_id", "field_key"),
        one_of("field_type", FIELD_TYPES),
    )

    workflow_id: Mapped[UUID]
    field_key: Mapped[str]
    label: Mapped[str]
    field_type: Mapped[str]
    options: Mapped[list[Any]] = mapped_column(default=list, server_default=text("'[]'::jsonb"))
    is_required: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    placeholder: Mapped[str | None]
    help_text: Mapped[str | None]
    validation: Mapped[dict[str, Any]] = json_column()
    position: Mapped[int] = mapped_column(default=0, server_default=text("0"))
