"""The database's clock: one for all machines, so that periods turn once."""

from datetime import date

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


async def today(session: AsyncSession) -> date:
    """Return the day it is, in UTC, by the database's clock."""
    day: date = (await session.execute(text("SELECT (now() AT TIME ZONE 'utc')::date"))).scalar_one()
    return day
