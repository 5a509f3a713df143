"""Webhook endpoints: where a workspace's events go, and the secrets that sign them (ERD §20)."""

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from db import secrets
from db.models import WebhookEndpoint

TABLE = "webhook_endpoints"
SECRET = "secret_sealed"  # noqa: S105 - a column's name
PREVIOUS = "previous_secret_sealed"
PREFIX = "whsec_"
SECRET_BYTES = 32
OVERLAP = timedelta(hours=24)
"""How long both secrets sign after a rotation, so that receivers can change over."""


@dataclass(frozen=True)
class Made:
    """An endpoint and its secret, which is shown this once."""

    endpoint: WebhookEndpoint
    secret: str


async def create(session: AsyncSession, workspace_id: UUID, values: Mapping[str, Any], *, key: bytes) -> Made:
    """Make an endpoint with a new secret, which is stored sealed."""
    endpoint_id, secret = uuid7(), _new_secret()
    endpoint = WebhookEndpoint(
        **values,
        workspace_id=workspace_id,
        id=endpoint_id,
        secret_sealed=_seal(secret, SECRET, workspace_id, endpoint_id, key=key),
    )
    session.add(endpoint)
    await session.flush()
    await session.refresh(endpoint)
    return Made(endpoint, secret)


async def get(session: AsyncSession, workspace_id: UUID, endpoint_id: UUID) -> WebhookEndpoint | None:
    """Read an endpoint."""
    query = select(WebhookEndpoint).where(*_one(workspace_id, endpoint_id))
    return (await session.execute(query)).scalar_one_or_none()


async def page(
    session: AsyncSession, workspace_id: UUID, *, limit: int, before: UUID | None = None
) -> Sequence[WebhookEndpoint]:
    """List endpoints, newest first."""
    query = select(WebhookEndpoint).where(WebhookEndpoint.workspace_id == workspace_id)
    if before is not None:
        query = query.where(WebhookEndpoint.id < before)
    return (await session.execute(query.order_by(WebhookEndpoint.id.desc()).limit(limit))).scalars().all()


async def change(
    session: AsyncSession, workspace_id: UUID, endpoint_id: UUID, values: Mapping[str, Any]
) -> WebhookEndpoint | None:
    """Change an endpoint; switching it on again forgets why it was off."""
    if not values:
        return await get(session, workspace_id, endpoint_id)
    reason = {"disabled_reason": None} if values.get("is_enabled") else {}
    changed = await session.execute(
        update(WebhookEndpoint)
        .where(*_one(workspace_id, endpoint_id))
        .values(**values, **reason)
        .returning(WebhookEndpoint)
        .execution_options(populate_existing=True)
    )
    return changed.scalar_one_or_none()


async def remove(session: AsyncSession, workspace_id: UUID, endpoint_id: UUID) -> bool:
    """Delete an endpoint and, with it, its deliveries."""
    gone = await session.execute(
        delete(WebhookEndpoint).where(*_one(workspace_id, endpoint_id)).returning(WebhookEndpoint.id)
    )
    return gone.first() is not None


async def rotate(session: AsyncSession, workspace_id: UUID, endpoint_id: UUID, *, key: bytes) -> Made | None:
    """Give an endpoint a new secret; the old one goes on signing beside it for a day."""
    query = select(WebhookEndpoint).where(*_one(workspace_id, endpoint_id)).with_for_update()
    endpoint = (await session.execute(query)).scalar_one_or_none()
    if endpoint is None:
        return None
    old = secrets.open_(
        endpoint.secret_sealed,
        key=key,
        table=TABLE,
        column=SECRET,
        row_id=endpoint_id,
        workspace_id=workspace_id,
    ).decode()
    secret = _new_secret()
    changed = await change(
        session,
        workspace_id,
        endpoint_id,
        {
            "secret_sealed": _seal(secret, SECRET, workspace_id, endpoint_id, key=key),
            # A sealed secret opens only in its own column, so the old one is sealed anew for its new place.
            "previous_secret_sealed": _seal(old, PREVIOUS, workspace_id, endpoint_id, key=key),
            "previous_secret_expires_at": func.now() + OVERLAP,
        },
    )
    return Made(changed, secret) if changed else None


def _new_secret() -> str:
    return PREFIX + base64.b64encode(os.urandom(SECRET_BYTES)).decode()


def _seal(secret: str, column: str, workspace_id: UUID, endpoint_id: UUID, *, key: bytes) -> bytes:
    return secrets.seal(
        secret.encode(), key=key, table=TABLE, column=column, row_id=endpoint_id, workspace_id=workspace_id
    )


def _one(workspace_id: UUID, endpoint_id: UUID) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return WebhookEndpoint.workspace_id == workspace_id, WebhookEndpoint.id == endpoint_id
