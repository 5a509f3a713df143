"""News of runs: which execution changed, as a trigger tells those who listen (ADR 0019)."""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncSession

from db import listening
from db.feed import PLACE, Place
from db.session import fetch

CHANNEL = "flowtrack_news"
"""Named in the trigger, too."""
TELL = """
    SELECT pg_notify(%(channel)s, %(workspace_id)s || ' ' || id) FROM unnest(%(ids)s::text[]) AS id
"""
MARK: LiteralString = "SELECT " + PLACE + ", pg_notify(%(channel)s, 'mark ' || %(word)s)"


@dataclass(frozen=True)
class News:
    """An execution changed."""

    workspace_id: UUID
    execution_id: UUID
    is_status: bool = False
    """Its status is another one, or it is new."""


async def tell(session: AsyncSession, workspace_id: UUID, execution_ids: Iterable[UUID]) -> None:
    """Tell of what no row of the execution itself shows, once the transaction commits."""
    given = {"channel": CHANNEL, "workspace_id": str(workspace_id), "ids": list(map(str, execution_ids))}
    await fetch(session, TELL, given)


@dataclass(frozen=True)
class Mark:
    """All news from before a place have been heard: PostgreSQL tells them in the order of their commits."""

    word: str


async def mark(session: AsyncSession, word: str) -> Place:
    """Have a mark told once the transaction commits; what is seen from its place was told before."""
    ((snapshot, at, _),) = await fetch(session, MARK, {"channel": CHANNEL, "word": word})
    return Place(snapshot, at)


async def listen(url: str | URL) -> AsyncGenerator[News | Mark | None]:
    """Yield None once news are heard, and then each; ends with the connection."""
    async with aclosing(listening.notices(url, CHANNEL, name="flowtrack viewers")) as heard:
        async for payload in heard:
            if payload is None:
                yield None
            elif (news := read(payload)) is not None:
                yield news


def read(payload: str) -> News | Mark | None:
    """Read a notice; anybody may send one that is none."""
    if payload.startswith("mark "):
        return Mark(payload.removeprefix("mark "))
    try:
        workspace_id, execution_id, *rest = payload.split(" ")
        return News(UUID(workspace_id), UUID(execution_id), is_status=rest == ["status"])
    except ValueError:
        return None
