"""Hooks: the address at which a workflow takes webhooks, and the secret that proves who calls."""

import hashlib
import secrets as chance
import string
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from db import secrets
from db.models import WorkflowHook

TABLE = "workflow_hooks"
TOKEN, SECRET, PREVIOUS = "token_sealed", "secret_sealed", "previous_secret_sealed"
ALPHABET = string.digits + string.ascii_letters
TOKEN_LENGTH = 43
"""Of 62 letters: 256 bits."""
SECRET_PREFIX = "whsec_"  # noqa: S105 - what every secret begins with
SECRET_BYTES = 32
OVERLAP = timedelta(hours=24)
"""How long the former secret is good after a rotation, so that callers can change over."""


@dataclass(frozen=True)
class Hook:
    """A hook as its owner may see it; the secret itself is shown by the rotation that made it."""

    token: str
    has_secret: bool
    previous_secret_expires_at: datetime | None


async def ensure(session: AsyncSession, workspace_id: UUID, workflow_id: UUID, *, key: bytes) -> None:
    """Give a workflow an address unless it has one."""
    values = _new(workspace_id, workflow_id, key=key)
    statement = (
        insert(WorkflowHook)
        .values(**values)
        .on_conflict_do_nothing(constraint="workflow_hooks_workflow_id_key")
    )
    await session.execute(statement)


async def get(session: AsyncSession, workspace_id: UUID, workflow_id: UUID, *, key: bytes) -> Hook | None:
    """Read a workflow's hook, its address opened."""
    row = await _row(session, workspace_id, workflow_id)
    if row is None:
        return None
    token = _open(row, TOKEN, key=key)
    return Hook(token, row.secret_sealed is not None, row.previous_secret_expires_at)


async def rotate_token(session: AsyncSession, workspace_id: UUID, workflow_id: UUID, *, key: bytes) -> None:
    """Give a workflow a new address; the former one leads nowhere at once."""
    statement = insert(WorkflowHook).values(**_new(workspace_id, workflow_id, key=key))
    # The row keeps its id, to which what is sealed is bound: so it is sealed for that row, once it is there.
    made = await session.execute(
        statement.on_conflict_do_update(
            constraint="workflow_hooks_workflow_id_key", set_={"updated_at": func.now()}
        ).returning(WorkflowHook.id)
    )
    hook_id, token = made.scalar_one(), _new_token()
    sealed = _seal(token, TOKEN, workspace_id, hook_id, key=key)
    await _write(session, workspace_id, hook_id, token_hash=hash_of(token), token_sealed=sealed)


async def rotate_secret(session: AsyncSession, workspace_id: UUID, workflow_id: UUID, *, key: bytes) -> str:
    """Give a hook a new secret, shown this once; the former one is good for another day."""
    row = await _row(session, workspace_id, workflow_id, lock=True)
    if row is None:
        raise LookupError(workflow_id)
    secret = SECRET_PREFIX + b64encode(chance.token_bytes(SECRET_BYTES)).decode()
    former = _open(row, SECRET, key=key) if row.secret_sealed else None
    await _write(
        session,
        workspace_id,
        row.id,
        secret_sealed=_seal(secret, SECRET, workspace_id, row.id, key=key),
        previous_secret_sealed=_seal(former, PREVIOUS, workspace_id, row.id, key=key) if former else None,
        previous_secret_expires_at=func.now() + OVERLAP if former else None,
    )
    return secret


async def live_secrets(
    session: AsyncSession, workspace_id: UUID, workflow_id: UUID, *, key: bytes
) -> Sequence[str]:
    """Open the secrets that prove a caller now, the newest first."""
    is_live = WorkflowHook.previous_secret_expires_at > func.now()
    query = select(WorkflowHook, is_live.label("is_live")).where(*_one(workspace_id, workflow_id))
    found = (await session.execute(query)).one_or_none()
    if found is None or found[0].secret_sealed is None:
        return ()
    row, former_is_live = found
    current = _open(row, SECRET, key=key)
    return (current, _open(row, PREVIOUS, key=key)) if former_is_live else (current,)


def hash_of(token: str) -> bytes:
    """Return what a token is looked up by; it has 256 random bits, so a slow hash would protect nothing."""
    return hashlib.sha256(token.encode()).digest()


def is_token(text: str) -> bool:
    """Tell whether a text may be a token at all."""
    return len(text) == TOKEN_LENGTH and text.isascii() and text.isalnum()


def _new(workspace_id: UUID, workflow_id: UUID, *, key: bytes) -> dict[str, object]:
    hook_id, token = uuid7(), _new_token()
    return {
        "workspace_id": workspace_id,
        "id": hook_id,
        "workflow_id": workflow_id,
        "token_hash": hash_of(token),
        "token_sealed": _seal(token, TOKEN, workspace_id, hook_id, key=key),
    }


def _new_token() -> str:
    return "".join(chance.choice(ALPHABET) for _ in range(TOKEN_LENGTH))


async def _row(
    session: AsyncSession, workspace_id: UUID, workflow_id: UUID, *, lock: bool = False
) -> WorkflowHook | None:
    query = select(WorkflowHook).where(*_one(workspace_id, workflow_id))
    query = query.with_for_update() if lock else query
    found = await session.execute(query.execution_options(populate_existing=True))
    return found.scalar_one_or_none()


async def _write(session: AsyncSession, workspace_id: UUID, hook_id: UUID, **values: object) -> None:
    ours = WorkflowHook.workspace_id == workspace_id, WorkflowHook.id == hook_id
    statement = update(WorkflowHook).where(*ours).values(**values)
    await session.execute(statement.execution_options(synchronize_session=False))


def _one(workspace_id: UUID, workflow_id: UUID) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return WorkflowHook.workspace_id == workspace_id, WorkflowHook.workflow_id == workflow_id


def _seal(text: str, column: str, workspace_id: UUID, hook_id: UUID, *, key: bytes) -> bytes:
    return secrets.seal(
        text.encode(), key=key, table=TABLE, column=column, row_id=hook_id, workspace_id=workspace_id
    )


def _open(row: WorkflowHook, column: str, *, key: bytes) -> str:
    place = {"table": TABLE, "column": column}
    sealed: bytes = getattr(row, column)
    return secrets.open_(sealed, key=key, row_id=row.id, workspace_id=row.workspace_id, **place).decode()
