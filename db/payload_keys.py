"""Keys of payloads: made when a workspace first needs one, kept as long as it is there, rotated on demand."""

import os
from dataclasses import dataclass, field
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from db import doors, secrets
from db.models import PayloadKey

KEY_BYTES = 32
TABLE, COLUMN = PayloadKey.__tablename__, "key_sealed"


@dataclass(frozen=True)
class DataKey:
    """A key of a workspace, opened."""

    workspace_id: UUID
    id: UUID
    key: bytes = field(repr=False)


async def current(session: AsyncSession, workspace_id: UUID, *, key: bytes) -> DataKey:
    """Return the key that writes, made now if the workspace has none; the master `key` seals it.

    Raises IntegrityError if there is no such workspace, secrets.Unopenable if another master key sealed it.
    """
    found = await _current(session, workspace_id)
    if found is None:
        await _insert(session, workspace_id, key=key)
        # Two that find none make one: the other's insert waits for this one's, and then does nothing.
        found = await _current(session, workspace_id)
    if found is None:
        raise LookupError(f"workspace {workspace_id} has no key")
    return _opened(found, key=key)


async def by_id(session: AsyncSession, key_id: UUID, *, key: bytes) -> DataKey | None:
    """Find a key by its id in a door's transaction; None if its workspace is gone."""
    found = await doors.payload_key(session, key_id)
    return _opened(found, key=key) if found else None


async def rotate(session: AsyncSession, workspace_id: UUID, *, key: bytes) -> DataKey:
    """Make a new key current; the ones before still read."""
    await session.execute(
        update(PayloadKey)
        .where(PayloadKey.workspace_id == workspace_id, PayloadKey.retired_at.is_(None))
        .values(retired_at=func.now())
    )
    return await current(session, workspace_id, key=key)


async def _current(session: AsyncSession, workspace_id: UUID) -> doors.SealedKey | None:
    row = (
        await session.execute(
            select(PayloadKey.workspace_id, PayloadKey.id, PayloadKey.key_sealed).where(
                PayloadKey.workspace_id == workspace_id, PayloadKey.retired_at.is_(None)
            )
        )
    ).first()
    return doors.SealedKey(row.workspace_id, row.id, row.key_sealed) if row else None


async def _insert(session: AsyncSession, workspace_id: UUID, *, key: bytes) -> None:
    key_id = UUID(bytes=uuid7().bytes)
    sealed = secrets.seal(
        os.urandom(KEY_BYTES), key=key, table=TABLE, column=COLUMN, row_id=key_id, workspace_id=workspace_id
    )
    row = {"workspace_id": workspace_id, "id": key_id, "key_sealed": sealed}
    await session.execute(insert(PayloadKey).values(row).on_conflict_do_nothing())


def _opened(found: doors.SealedKey, *, key: bytes) -> DataKey:
    opened = secrets.open_(
        found.key_sealed,
        key=key,
        table=TABLE,
        column=COLUMN,
        row_id=found.id,
        workspace_id=found.workspace_id,
    )
    return DataKey(found.workspace_id, found.id, opened)
