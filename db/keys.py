"""API keys: `ft_<id>_<secret><checksum>`; the id finds a key, the SHA-256 of its secret proves it."""

import hashlib
import hmac
import secrets
import string
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from db import doors
from db.models import ApiKey

PREFIX = "ft"
ALPHABET = string.digits + string.ascii_letters
ID_LENGTH = 12
SECRET_LENGTH = 43
"""Of 62 letters: 256 bits."""
CHECKSUM_LENGTH = 6
LAST_USED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True)
class Created:
    """A new key and its token, which is shown this once."""

    key: ApiKey
    token: str


async def create(
    session: AsyncSession,
    workspace_id: UUID,
    *,
    name: str,
    scopes: Sequence[str],
    expires_at: datetime | None = None,
    created_by_user_id: UUID | None = None,
) -> Created:
    """Make a key; only the hash of its secret is stored."""
    key_id, secret = _chance(ID_LENGTH), _chance(SECRET_LENGTH)
    key = ApiKey(
        workspace_id=workspace_id,
        name=name,
        key_id=key_id,
        secret_hash=_hash(secret),
        scopes=list(scopes),
        expires_at=expires_at,
        created_by_user_id=created_by_user_id,
    )
    session.add(key)
    await session.flush()
    await session.refresh(key)
    return Created(key, f"{PREFIX}_{key_id}_{secret}{_checksum(key_id, secret)}")


async def authenticate(
    session: AsyncSession, token: str, *, now: datetime | None = None
) -> doors.KeyRecord | None:
    """Find the live key that a token proves, in a door's transaction; a mistyped token costs no query."""
    parts = split(token)
    if parts is None:
        return None
    key_id, secret = parts
    found = await doors.api_key(session, key_id)
    proved = hmac.compare_digest(found.secret_hash if found else b"", _hash(secret))
    if found is None or not proved or not _is_live(found, now or datetime.now(UTC)):
        return None
    return found


async def touch(session: AsyncSession, workspace_id: UUID, api_key_id: UUID) -> None:
    """Note that a key was used, at most once a minute."""
    stale = (ApiKey.last_used_at.is_(None)) | (ApiKey.last_used_at < func.now() - LAST_USED_EVERY)
    await session.execute(
        update(ApiKey)
        .where(ApiKey.workspace_id == workspace_id, ApiKey.id == api_key_id, stale)
        .values(last_used_at=func.now(), updated_at=ApiKey.updated_at)
    )


async def revoke(session: AsyncSession, workspace_id: UUID, api_key_id: UUID) -> bool:
    """End a key at once; tell whether there was one to end."""
    revoked = await session.execute(
        update(ApiKey)
        .where(ApiKey.workspace_id == workspace_id, ApiKey.id == api_key_id, ApiKey.revoked_at.is_(None))
        .values(revoked_at=func.now())
        .returning(ApiKey.id)
    )
    return revoked.first() is not None


async def live_scopes(session: AsyncSession, workspace_id: UUID, api_key_id: UUID) -> list[str] | None:
    """Return the scopes of a key that is still good; None for any other."""
    query = select(ApiKey.scopes).where(
        ApiKey.workspace_id == workspace_id,
        ApiKey.id == api_key_id,
        ApiKey.revoked_at.is_(None),
        ApiKey.expires_at.is_(None) | (ApiKey.expires_at > func.now()),
    )
    return (await session.execute(query)).scalar_one_or_none()


async def page(
    session: AsyncSession, workspace_id: UUID, *, limit: int, before: UUID | None = None
) -> Sequence[ApiKey]:
    """List keys, newest first, revoked ones too."""
    query = select(ApiKey).where(ApiKey.workspace_id == workspace_id)
    if before is not None:
        query = query.where(ApiKey.id < before)
    return (await session.execute(query.order_by(ApiKey.id.desc()).limit(limit))).scalars().all()


def split(token: str) -> tuple[str, str] | None:
    """Take a token apart into id and secret; None if its checksum is wrong."""
    prefix, _, rest = token.partition("_")
    key_id, _, tail = rest.partition("_")
    secret, checksum = tail[:-CHECKSUM_LENGTH], tail[-CHECKSUM_LENGTH:]
    if prefix != PREFIX or len(key_id) != ID_LENGTH or len(secret) != SECRET_LENGTH or not tail.isascii():
        return None
    return (key_id, secret) if key_id.isascii() and checksum == _checksum(key_id, secret) else None


def _is_live(key: doors.KeyRecord, now: datetime) -> bool:
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > now)


def _hash(secret: str) -> bytes:
    # The secret has 256 random bits: a slow hash would protect nothing and cost every request.
    return hashlib.sha256(secret.encode()).digest()


def _chance(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def _checksum(key_id: str, secret: str) -> str:
    number = zlib.crc32(f"{key_id}_{secret}".encode())
    letters = []
    for _ in range(CHECKSUM_LENGTH):
        number, place = divmod(number, len(ALPHABET))
        letters.append(ALPHABET[place])
    return "".join(letters)
