"""Effects under their key: what a step does to the world is done once (design §6)."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, LiteralString
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from db.session import Single, fetch

State = Literal["new", "reserved", "confirmed", "unknown"]
KEY = ("workspace_id", "execution_id", "node_id", "visit", "effect")
# A row that was there before is locked to be changed, which its xmax tells.
RESERVE = """
    INSERT INTO effects (workspace_id, execution_id, node_id, visit, effect)
    VALUES (%(workspace_id)s, %(execution_id)s, %(node_id)s, %(visit)s, %(effect)s)
    ON CONFLICT (workspace_id, execution_id, node_id, visit, effect) DO UPDATE
        SET status = 'reserved', reserved_at = now(), output = NULL WHERE effects.status = 'released'
    RETURNING xmax = 0
"""
THIS: LiteralString = """
    workspace_id = %(workspace_id)s AND execution_id = %(execution_id)s AND node_id = %(node_id)s
    AND visit = %(visit)s AND effect = %(effect)s
"""
KNOWN = f"SELECT status, output FROM effects WHERE {THIS}"
CONFIRM: LiteralString = f"""
    UPDATE effects SET status = 'confirmed', output = %(output)s, confirmed_at = now()
    WHERE {THIS} AND status IN ('reserved', 'unknown') RETURNING 1
"""
RELEASE = (
    f"UPDATE effects SET status = 'released' WHERE {THIS} AND status IN ('reserved', 'unknown') RETURNING 1"
)
DOUBT = f"UPDATE effects SET status = 'unknown' WHERE {THIS} AND status = 'reserved' RETURNING 1"

# For statements that make an effect inside PostgreSQL and its record at once. Where the key is known already
# they do nothing at all, and the caller goes on by `once`, which can say why.
UNKNOWN: LiteralString = f"NOT EXISTS (SELECT FROM effects WHERE {THIS})"
CONFIRMED: LiteralString = """
    INSERT INTO effects (workspace_id, execution_id, node_id, visit, effect, status, confirmed_at, output)
    SELECT %(workspace_id)s, %(execution_id)s, %(node_id)s, %(visit)s, %(effect)s, 'confirmed', now(), """
"""What follows is the output and where its row comes from."""
UNLESS_KNOWN: LiteralString = """
    ON CONFLICT (workspace_id, execution_id, node_id, visit, effect) DO NOTHING
"""


class InDoubt(Exception):
    """The effect was begun elsewhere and nobody knows how it ended."""


@dataclass(frozen=True)
class EffectKey:
    """Names an effect; run ids and attempts are no part of it, as a reset changes both."""

    workspace_id: UUID
    execution_id: UUID
    node_id: str
    visit: int
    effect: str

    @property
    def values(self) -> dict[str, Any]:
        """The key's columns."""
        return {name: getattr(self, name) for name in KEY}


@dataclass(frozen=True)
class Reservation:
    """What is known of an effect: `new` is the caller's to make, `reserved` is in doubt."""

    state: State
    output: dict[str, Any] | None = None
    is_first: bool = False
    """Nobody had taken it before: not even someone who gave it back."""


async def reserve(session: AsyncSession, key: EffectKey) -> Reservation:
    """Take an effect before making it, or learn what became of it."""
    taken = await fetch(session, RESERVE, key.values)
    if taken:
        return Reservation("new", is_first=taken[0][0])
    ((status, output),) = await fetch(session, KNOWN, key.values)
    return Reservation(status, output)


async def made(session: AsyncSession | Single, key: EffectKey) -> dict[str, Any] | None:
    """Read what came of an effect that was made; None where that is not known."""
    known = await fetch(session, KNOWN, key.values)
    return known[0][1] if known and known[0][0] == "confirmed" else None


async def confirm(session: AsyncSession, key: EffectKey, output: dict[str, Any]) -> bool:
    """Record that an effect was made and what came of it; False if that is recorded already."""
    return bool(await fetch(session, CONFIRM, {"output": output, **key.values}))


async def release(session: AsyncSession, key: EffectKey) -> bool:
    """Give a reservation back: the effect certainly did not happen."""
    return bool(await fetch(session, RELEASE, key.values))


async def doubt(session: AsyncSession, key: EffectKey) -> bool:
    """Record that nobody can say whether an effect happened."""
    return bool(await fetch(session, DOUBT, key.values))


async def once(
    session: AsyncSession, key: EffectKey, make: Callable[[], Awaitable[dict[str, Any]]]
) -> dict[str, Any]:
    """Make an effect inside PostgreSQL and its record in the same transaction; a repeat gets the record.

    Raises InDoubt if the key was reserved for an effect outside.
    """
    reservation = await reserve(session, key)
    if reservation.state == "new":
        output = await make()
        await confirm(session, key, output)
        return output
    if reservation.state != "confirmed" or reservation.output is None:
        raise InDoubt(f"{key.node_id}:{key.visit} {key.effect} is {reservation.state}")
    return reservation.output
