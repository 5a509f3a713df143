"""What is counted for operators over all workspaces: numbers only, all of one moment."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


@dataclass(frozen=True)
class Measure:
    """One number: `measure` is what was counted, `label` which kind of it."""

    measure: str
    label: str
    rows: int
    oldest_seconds: float | None = None
    """How long the first of them has waited, where they wait."""


async def read(session: AsyncSession, *, doubtful_after: timedelta) -> list[Measure]:
    """Count; effects reserved for less than `doubtful_after` are merely under way. Runs in a door."""
    found = await session.execute(
        text("SELECT * FROM door_measures(:doubtful_after)"), {"doubtful_after": doubtful_after}
    )
    return [Measure(**row) for row in found.mappings()]
