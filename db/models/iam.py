"""Identity and access: users, workspaces, members, connections, keys (ERD §1-3)."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, PrimaryKeyConstraint, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import (
    Base,
    Keyed,
    Tenant,
    Timestamps,
    door_index,
    json_column,
    of_workspace,
    one_of,
    unique,
    user_link,
)

ROLES = ("owner", "admin", "member", "viewer")
PROVIDERS = ("GOOGLE_EMAIL", "OUTLOOK_EMAIL", "CALENDLY")


class User(Keyed, Timestamps, Base):
    """A person, known in any number of workspaces."""

    __tablename__ = "users"
    __table_args__ = (
        UniqueConstraint("clerk_user_id", name="clerk_user_id"),
        UniqueConstraint("email", name="email"),
        CheckConstraint("email = lower(email)", name="email_lower"),
    )

    clerk_user_id: Mapped[str | None]
    email: Mapped[str]
    first_name: Mapped[str | None]
    last_name: Mapped[str | None]


class Workspace(Keyed, Timestamps, Base):
    """A tenant. Its owner can't be deleted before the workspace is handed over or gone."""

    __tablename__ = "workspaces"
    __table_args__ = (
        UniqueConstraint("slug", name="slug"),
        UniqueConstraint("intake_email", name="intake_email"),
        UniqueConstraint("owner_user_id", name="owner_user_id"),
        CheckConstraint("slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'", name="slug"),
        CheckConstraint("intake_email = lower(intake_email)", name="intake_email_lower"),
    )

    name: Mapped[str]
    slug: Mapped[str]
    intake_email: Mapped[str | None]
    owner_user_id: Mapped[UUID] = mapped_column(
        ForeignKey("users.id", name="owner_user_id", ondelete="RESTRICT")
    )
    timezone: Mapped[str] = mapped_column(default="UTC", server_default=text("'UTC'"))
    settings: Mapped[dict[str, Any]] = json_column()


class WorkspaceMember(Tenant, Timestamps, Base):
    """A user's place in a workspace; `permissions` widens or narrows the role."""

    __tablename__ = "workspace_members"
    __table_args__ = (
        of_workspace(),
        unique("user_id", "user_id"),
        one_of("role", ROLES),
        Index(
            "workspace_members_one_owner",
            "workspace_id",
            unique=True,
            postgresql_where=text("role = 'owner'"),
        ),
        door_index("door_workspace_members_user", "user_id"),
    )

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", name="user_id", ondelete="CASCADE"))
    role: Mapped[str]
    permissions: Mapped[dict[str, Any]] = json_column()
    invited_at: Mapped[datetime] = mapped_column(server_default=func.now())
    joined_at: Mapped[datetime | None]


class OAuthCredential(Tenant, Timestamps, Base):
    """A connection to a provider; its tokens are sealed (db/secrets.py) and lost with the row."""

    __tablename__ = "oauth_credentials"
    __table_args__ = (
        of_workspace(),
        unique("provider_type", "provider_type"),
        one_of("provider_type", PROVIDERS),
        one_of("status", ("active", "expired", "revoked")),
    )

    provider_type: Mapped[str]
    account_email: Mapped[str | None]
    access_token_sealed: Mapped[bytes]
    refresh_token_sealed: Mapped[bytes | None]
    scopes: Mapped[list[str]] = mapped_column(default=list, server_default=text("'{}'"))
    status: Mapped[str] = mapped_column(default="active", server_default=text("'active'"))
    status_reason: Mapped[str | None]
    expires_at: Mapped[datetime | None]
    connected_by_user_id: Mapped[UUID | None] = mapped_column(user_link("connected_by_user_id"))


class ApiKey(Tenant, Timestamps, Base):
    """A client's key: the public part finds it, the hash proves it."""

    __tablename__ = "api_keys"
    __table_args__ = (
        of_workspace(),
        door_index("door_api_keys_key_id", "key_id", is_unique=True),
    )

    name: Mapped[str]
    key_id: Mapped[str]
    secret_hash: Mapped[bytes]
    scopes: Mapped[list[str]] = mapped_column(default=list, server_default=text("'{}'"))
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    created_by_user_id: Mapped[UUID | None] = mapped_column(user_link("created_by_user_id"))


class IdempotencyKey(Base):
    """The answer a repeated POST gets again; no answer yet means that the first one is still at work."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (
        PrimaryKeyConstraint("workspace_id", "scope", "idempotency_key"),
        of_workspace(),
    )

    workspace_id: Mapped[UUID]
    scope: Mapped[str]
    idempotency_key: Mapped[str]
    request_hash: Mapped[bytes]
    response_status: Mapped[int | None]
    response_headers: Mapped[dict[str, Any]] = json_column()
    response_body: Mapped[str | None]
    expires_at: Mapped[datetime]
