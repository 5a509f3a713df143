"""Transactions: a workspace's, or a door's. Nothing else opens one, and nothing else commits."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, LiteralString, cast
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.pool import PoolProxiedConnection
from sqlalchemy.util import greenlet_spawn

from db import wire
from db.wire import Plans, Rows, Statement

# Everything is set in the transaction only: a pooled connection, ours or a pooler's, carries nothing over.
# Begun and set in one message, which PostgreSQL's simple protocol allows: one wait instead of two.
BEGIN = (
    "BEGIN; SELECT set_config('flowtrack.workspace_id', '{workspace_id}', true),"
    " set_config('statement_timeout', '{statement}', true),"
    " set_config('lock_timeout', '{lock}', true),"
    " set_config('idle_in_transaction_session_timeout', '{idle}', true)"
)

# The same before the statements of a single message, which never leaves its transaction idle. They look rows
# up by their keys: one plan does for all values, and PostgreSQL would make five others on each connection.
SETTINGS = """
    SELECT set_config('flowtrack.workspace_id', %(workspace_id)s, true),
        set_config('statement_timeout', %(statement)s, true), set_config('lock_timeout', %(lock)s, true),
        set_config('plan_cache_mode', 'force_generic_plan', true)
"""


def driver_url(url: str | URL) -> URL:
    """Name psycopg as the driver of any PostgreSQL URL."""
    parsed = make_url(url)
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise ValueError(f"not a PostgreSQL URL: {parsed.render_as_string(hide_password=True)}")
    return parsed.set(drivername="postgresql+psycopg")


def workspace_of(session: AsyncSession) -> UUID:
    """Name the workspace whose transaction this is."""
    workspace_id = session.info.get("workspace_id")
    if not isinstance(workspace_id, UUID):
        raise LookupError("this transaction belongs to no workspace")
    return workspace_id


@dataclass(frozen=True)
class Single:
    """Stands where a session may stand, for a statement that is a transaction of its own."""

    database: "Database"
    workspace_id: UUID | None


async def fetch(
    session: AsyncSession | Single, statement: LiteralString, values: Mapping[str, Any]
) -> list[Any]:
    """Run a statement by the driver itself and return its rows, for what every run pays for.

    Building, caching and sending a statement by way of SQLAlchemy costs four times the CPU. Values stand as
    `%(name)s`; an object is JSON, a list an array.
    """
    if isinstance(session, Single):
        return (await session.database.exchange(session.workspace_id, (statement, values)))[0]
    if session.new or session.dirty or session.deleted:
        await session.flush()
    driver = session.info["driver"]
    given = _given(values)
    try:
        cursor = await driver.execute(statement, given)
        return await cursor.fetchall() if cursor.description else []
    except psycopg.Error as error:
        if driver.closed:
            await (await session.connection()).invalidate(error)
        raise _translated(error, is_dead=driver.closed) from error


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: Jsonb(value, dumps=to_json) if isinstance(value, dict) else value
        for name, value in values.items()
    }


def to_json(value: Any) -> str:
    """Write JSON that PostgreSQL can hold: NaN and Infinity are refused, nothing is coerced."""
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))


class Database:
    """The application's way into PostgreSQL: short transactions, each with its tenant and its limits."""

    def __init__(
        self,
        url: str | URL,
        *,
        pool_size: int = 10,
        max_overflow: int = 0,
        pool_timeout: float = 5.0,
        statement_timeout: timedelta = timedelta(seconds=5),
        lock_timeout: timedelta = timedelta(seconds=2),
        idle_timeout: timedelta = timedelta(seconds=10),
        prepare_threshold: int | None = 1,
        application_name: str = "flowtrack",
    ) -> None:
        """Prepare the pool; `prepare_threshold=None` is for a transaction pooler in front of PostgreSQL."""
        self.engine = create_async_engine(
            driver_url(url),
            pool_size=pool_size,
            max_overflow=max_overflow,
            pool_timeout=pool_timeout,
            # The connection used last has its statements planned; one in turn would have each plan them anew.
            pool_use_lifo=True,
            json_serializer=to_json,
            # Transactions are begun here, with their settings, and not by the driver.
            isolation_level="AUTOCOMMIT",
            # What is bound is people's data; it must not stand in tracebacks and logs.
            hide_parameters=True,
            connect_args={
                "prepare_threshold": prepare_threshold,
                "application_name": application_name,
                "connect_timeout": 5,
            },
        )
        self._most_dead = pool_size + max_overflow
        self._plans = prepare_threshold is not None
        self._limits = {
            "statement": _milliseconds(statement_timeout),
            "lock": _milliseconds(lock_timeout),
            "idle": _milliseconds(idle_timeout),
        }

    @asynccontextmanager
    async def workspace(self, workspace_id: UUID) -> AsyncIterator[AsyncSession]:
        """Open one transaction that sees this workspace and nothing else."""
        async with self._transaction(_named(workspace_id)) as session:
            yield session

    @asynccontextmanager
    async def door(self) -> AsyncIterator[AsyncSession]:
        """Open one transaction that sees no workspace: doors and the list of plans only."""
        async with self._transaction(None) as session:
            yield session

    def single(self, workspace_id: UUID) -> Single:
        """Give what lets one statement be a transaction of its own."""
        return Single(self, _named(workspace_id))

    def single_door(self) -> Single:
        """Give the same for a statement that sees no workspace."""
        return Single(self, None)

    async def at_once(self, workspace_id: UUID, *statements: Statement) -> list[Rows]:
        """Run statements as one transaction in one message, and return the rows of each.

        There is one wait where a `workspace` has one for each statement and two more, at a fifth of the CPU.
        All of it is committed or nothing is: no decision of ours can come in between.
        """
        return await self.exchange(_named(workspace_id), *statements)

    async def exchange(self, workspace_id: UUID | None, *statements: Statement) -> list[Rows]:
        """Do the same, a door's where no workspace is named."""
        settings = {"workspace_id": str(workspace_id or ""), **self._limits}
        message = [(SETTINGS, settings), *((text, _given(values)) for text, values in statements)]
        pooled = await self._pooled()
        driver = cast("psycopg.AsyncConnection[Any]", pooled.driver_connection)
        try:
            plans = pooled.info.setdefault("plans", Plans()) if self._plans else None
            return (await wire.exchange(driver, message, plans))[1:]
        except psycopg.Error as error:
            raise _translated(error, is_dead=driver.closed) from error
        finally:
            await greenlet_spawn(pooled.invalidate if driver.closed else pooled.close)

    async def close(self) -> None:
        """Close every pooled connection."""
        await self.engine.dispose()

    async def _pooled(self) -> PoolProxiedConnection:
        """Take a connection out of the pool; dead ones (PostgreSQL restarted) are thrown away."""
        try:
            for _ in range(self._most_dead):
                pooled = await self.engine.raw_connection()
                if wire.is_fit(cast("psycopg.AsyncConnection[Any]", pooled.driver_connection)):
                    return pooled
                await greenlet_spawn(pooled.invalidate)
            return await self.engine.raw_connection()
        except psycopg.Error as error:
            raise _translated(error, is_dead=True) from error

    @asynccontextmanager
    async def _transaction(self, workspace_id: UUID | None) -> AsyncIterator[AsyncSession]:
        session = await self._begin(workspace_id)
        try:
            yield session
            await _commit(session)
        finally:
            await session.close()

    async def _begin(self, workspace_id: UUID | None) -> AsyncSession:
        # The first statement tells a dead connection of the pool (PostgreSQL restarted) from a live one, at
        # no extra round trip. It has done nothing yet, so it can be repeated; a dead one is thrown away.
        for _ in range(self._most_dead):
            try:
                return await self._open(workspace_id)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
        return await self._open(workspace_id)

    async def _open(self, workspace_id: UUID | None) -> AsyncSession:
        session = AsyncSession(self.engine, expire_on_commit=False, info={"workspace_id": workspace_id})
        try:
            connection = await session.connection()
            raw = await connection.get_raw_connection()
            driver = cast("psycopg.AsyncConnection[Any]", raw.driver_connection)
            session.info["driver"] = driver
            # Nothing but UUIDs and whole numbers is written into it.
            begin = BEGIN.format(workspace_id=workspace_id or "", **self._limits)
            try:
                await driver.execute(begin, prepare=False)
            except psycopg.Error as error:
                if driver.closed:
                    await connection.invalidate(error)
                raise _translated(error, is_dead=driver.closed) from error
        except BaseException:
            await session.close()
            raise
        return session


def _named(workspace_id: UUID) -> UUID:
    if not isinstance(workspace_id, UUID):
        raise TypeError("a workspace is named by its UUID")
    return workspace_id


async def _commit(session: AsyncSession) -> None:
    if session.new or session.dirty or session.deleted:
        await session.flush()
    driver = session.info["driver"]
    try:
        await driver.commit()
    except psycopg.Error as error:
        raise _translated(error, is_dead=driver.closed) from error


def _translated(error: psycopg.Error, *, is_dead: bool) -> DBAPIError:
    """Wrap an error of the driver as SQLAlchemy does, without the statement: it may hold people's data."""
    made = DBAPIError.instance(
        None, None, error, psycopg.Error, hide_parameters=True, connection_invalidated=is_dead
    )
    return cast(DBAPIError, made)


def _milliseconds(limit: timedelta) -> str:
    return str(int(limit.total_seconds() * 1000))
