"""What Temporal keeps of runs: the keys that it lies under, and what is too large for it (ADR 0020, 0023)."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, PrimaryKeyConstraint, text
from sqlalchemy.orm import Mapped, mapped_column
from uuid_utils.compat import uuid7

from db.models.base import Base, Created, door_index, of_workspace, parent


class PayloadKey(Created, Base):
    """A workspace's key for its payloads in Temporal, sealed (db/secrets.py); all but one are retired."""

    __tablename__ = "payload_keys"
    __table_args__ = (
        PrimaryKeyConstraint("workspace_id", "id"),
        of_workspace(),
        Index(
            "payload_keys_current", "workspace_id", unique=True, postgresql_where=text("retired_at IS NULL")
        ),
        door_index("door_payload_keys_id", "id", is_unique=True),
    )

    workspace_id: Mapped[UUID]
    id: Mapped[UUID] = mapped_column(default=uuid7)
    key_sealed: Mapped[bytes]
    retired_at: Mapped[datetime | None]


class PayloadBlob(Created, Base):
    """A payload that is too large for a history, as it is encrypted; it goes with its execution."""

    __tablename__ = "payload_blobs"
    __table_args__ = (
        PrimaryKeyConstraint("workspace_id", "execution_id", "address"),
        parent("execution_id", "workflow_executions"),
        CheckConstraint("octet_length(address) = 32", name="address"),
    )

    workspace_id: Mapped[UUID]
    execution_id: Mapped[UUID]
    address: Mapped[bytes]
    """A hash of what it says, keyed; Temporal keeps it in its place."""
    content: Mapped[bytes]
