"""Outgoing webhooks: where they go and every attempt made (ERD §20-21)."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, func, text
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
)

DELIVERY_STATUSES = ("pending", "delivered", "failed", "cancelled")


class WebhookEndpoint(Tenant, Timestamps, Base):
    """A receiver of events; its secret is sealed, and an old one stays valid for a while after a rotation."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (
        of_workspace(),
        CheckConstraint("max_attempts BETWEEN 1 AND 100", name="max_attempts"),
    )

    url: Mapped[str]
    description: Mapped[str | None]
    subscribed_events: Mapped[list[str]] = mapped_column(default=list, server_default=text("'{}'"))
    secret_sealed: Mapped[bytes]
    previous_secret_sealed: Mapped[bytes | None]
    previous_secret_expires_at: Mapped[datetime | None]
    is_enabled: Mapped[bool] = mapped_column(default=True, server_default=text("true"))
    disabled_reason: Mapped[str | None]
    max_attempts: Mapped[int] = mapped_column(default=8, server_default=text("8"))
    headers: Mapped[dict[str, Any]] = json_column()


class WebhookDelivery(Tenant, Timestamps, Base):
    """One attempt to deliver one message; `body` holds the bytes that are signed, until they have arrived."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        parent("webhook_endpoint_id", "webhook_endpoints"),
        parent("execution_id", "workflow_executions", ondelete=forgets("execution_id")),
        unique("attempt_number", "webhook_endpoint_id", "message_id", "attempt_number"),
        one_of("status", DELIVERY_STATUSES),
        CheckConstraint("attempt_number > 0", name="attempt_number"),
        indexed("webhook_deliveries_endpoint", "webhook_endpoint_id", "id"),
        indexed("webhook_deliveries_execution", "execution_id", where="execution_id IS NOT NULL"),
        door_index("door_webhook_deliveries_due", "scheduled_at", where="status = 'pending'"),
    )

    webhook_endpoint_id: Mapped[UUID]
    message_id: Mapped[str]
    execution_id: Mapped[UUID | None]
    event_type: Mapped[str]
    payload: Mapped[dict[str, Any]] = json_column()
    body: Mapped[str | None]
    status: Mapped[str] = mapped_column(default="pending", server_default=text("'pending'"))
    http_status_code: Mapped[int | None]
    response_body: Mapped[str | None]
    error: Mapped[str | None]
    attempt_number: Mapped[int] = mapped_column(default=1, server_default=text("1"))
    scheduled_at: Mapped[datetime] = mapped_column(server_default=func.now())
    attempted_at: Mapped[datetime | None]
    duration_ms: Mapped[int | None]
    lock_acquired_at: Mapped[datetime | None]
    locked_by: Mapped[str | None]
