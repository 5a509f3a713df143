"""Leads, their answers and their history (ERD §9-12)."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, PrimaryKeyConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column
from uuid_utils.compat import uuid7

from db.models.base import (
    Base,
    Created,
    Tenant,
    Timestamps,
    forgets,
    indexed,
    of_workspace,
    parent,
    unique,
    user_link,
)


class Lead(Tenant, Timestamps, Base):
    """A contact that a workflow captured; the status is its column on the board."""

    __tablename__ = "leads"
    __table_args__ = (
        of_workspace(),
        parent("workflow_id", "workflows"),
        # The address first: who is known by it is asked across workflows as well.
        unique("workflow_id_email", "email", "workflow_id"),
        CheckConstraint("workspace_id IS NOT NULL", name="workspace_id"),
        CheckConstraint("email = lower(email)", name="email_lower"),
        CheckConstraint("status <> ''", name="status"),
        # created_at is in the key so that the pipeline summary is answered from the index alone.
        indexed("leads_pipeline", "status", "created_at", where="deleted_at IS NULL"),
        indexed("leads_workflow_id", "workflow_id"),
    )

    workflow_id: Mapped[UUID]
    email: Mapped[str]
    first_name: Mapped[str | None]
    last_name: Mapped[str | None]
    phone: Mapped[str | None]
    company: Mapped[str | None]
    status: Mapped[str] = mapped_column(default="NEW", server_default=text("'NEW'"))
    source: Mapped[str | None]
    timezone: Mapped[str | None]
    unsubscribed_at: Mapped[datetime | None]
    erased_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]


class LeadFieldData(Base):
    """One answer; a form field that has answers can't be deleted alone, a whole workflow can."""

    __tablename__ = "lead_field_data"
    __table_args__ = (
        parent("lead_id", "leads"),
        # NO ACTION: a field that has answers stays. A workflow's cascade clears them first (08_triggers.sql).
        parent("form_field_id", "form_fields", ondelete=None),
        PrimaryKeyConstraint("workspace_id", "lead_id", "form_field_id"),
        indexed("lead_field_data_form_field_id", "form_field_id"),
    )

    workspace_id: Mapped[UUID]
    id: Mapped[UUID] = mapped_column(default=uuid7)
    lead_id: Mapped[UUID]
    form_field_id: Mapped[UUID]
    value: Mapped[str | None]


class LeadEvent(Tenant, Created, Base):
    """What happened to a lead. Append-only: by grant and by trigger."""

    __tablename__ = "lead_events"
    __table_args__ = (
        parent("lead_id", "leads"),
        parent(
            "triggered_by_workflow_execution_id",
            "workflow_executions",
            ondelete=forgets("triggered_by_workflow_execution_id"),
        ),
        # Equal entries are stored once, and a lead's events are few enough to be sorted.
        indexed("lead_events_lead_id", "lead_id"),
        indexed(
            "lead_events_execution",
            "triggered_by_workflow_execution_id",
            where="triggered_by_workflow_execution_id IS NOT NULL",
        ),
    )

    lead_id: Mapped[UUID]
    event_type: Mapped[str]
    description: Mapped[str | None]
    event_metadata: Mapped[dict[str, Any]] = mapped_column(
        "metadata", JSONB, default=dict, server_default=text("'{}'::jsonb")
    )
    triggered_by_user_id: Mapped[UUID | None] = mapped_column(user_link("triggered_by_user_id"))
    triggered_by_workflow_execution_id: Mapped[UUID | None]
