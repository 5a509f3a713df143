"""Effects under their key: what a step does to the world is done once (design §6)."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, and_, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from db.models import Effect

State = Literal["new", "reserved", "confirmed", "unknown"]
KEY = ("workspace_id", "execution_id", "node_id", "visit", "effect")


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


async def reserve(session: AsyncSession, key: EffectKey) -> Reservation:
    """Take an effect before making it, or learn what became of it."""
    taken = await session.execute(
        insert(Effect)
        .values(id=uuid7(), **key.values)
        .on_conflict_do_update(
            index_elements=KEY,
            set_={"status": "reserved", "reserved_at": func.now(), "output": None},
            where=Effect.status == "released",
        )
        .returning(Effect.id)
    )
    if taken.first() is not None:
        return Reservation("new")
    return await _known(session, key)


async def confirm(session: AsyncSession, key: EffectKey, output: dict[str, Any]) -> bool:
    """Record that an effect was made and what came of it; False if that is recorded already."""
    values = {"status": "confirmed", "output": output, "confirmed_at": func.now()}
    return await _move(session, key, ("reserved", "unknown"), values)


async def release(session: AsyncSession, key: EffectKey) -> bool:
    """Give a reservation back: the effect certainly did not happen."""
    return await _move(session, key, ("reserved", "unknown"), {"status": "released"})


async def doubt(session: AsyncSession, key: EffectKey) -> bool:
    """Record that nobody can say whether an effect happened."""
    return await _move(session, key, ("reserved",), {"status": "unknown"})


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


async def _known(session: AsyncSession, key: EffectKey) -> Reservation:
    found = (await session.execute(select(Effect.status, Effect.output).where(_is(key)))).one()
    return Reservation(found.status, found.output)


async def _move(
    session: AsyncSession, key: EffectKey, allowed: tuple[str, ...], values: dict[str, Any]
) -> bool:
    moved = await session.execute(
        update(Effect).where(_is(key), Effect.status.in_(allowed)).values(**values).returning(Effect.id)
    )
    return moved.first() is not None


def _is(key: EffectKey) -> ColumnElement[bool]:
    return and_(*(getattr(Effect, name) == value for name, value in key.values.items()))
