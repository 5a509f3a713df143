"""Hearing what PostgreSQL is told by NOTIFY, on a connection of its own."""

from collections.abc import AsyncGenerator

import psycopg
from psycopg import sql
from sqlalchemy.engine import URL

from db.session import driver_url


async def notices(url: str | URL, channel: str, *, name: str) -> AsyncGenerator[str | None]:
    """Yield None once the channel is heard, and then every notice's payload; ends with the connection."""
    plain = driver_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await psycopg.AsyncConnection.connect(
        plain,
        autocommit=True,
        connect_timeout=5,
        # It only listens, so nothing else tells that the other end is gone: a minute, not the system's hours.
        keepalives_idle=30,
        keepalives_interval=10,
        keepalives_count=3,
        application_name=name,
    )
    async with connection:
        await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        yield None
        async for notice in connection.notifies():
            yield notice.payload
