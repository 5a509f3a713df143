"""Transactions know their workspace, their limits and their end, and carry nothing over."""

import asyncio
import re
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from uuid_utils.compat import uuid7

import db
from db.session import Database, driver_url, to_json, workspace_of
from local.postgres import plain
from tests.db.conftest import Place, Superuser

pytestmark = pytest.mark.anyio
SETTING = text("SELECT current_setting('flowtrack.workspace_id', true)")


async def test_a_transaction_is_committed_at_its_end_and_undone_by_an_error(database: Database, here: Place):
    async with database.workspace(here.workspace_id) as session:
        await session.execute(text("UPDATE workspaces SET name = 'kept'"))
    with pytest.raises(RuntimeError):  # noqa: PT012 - the transaction is what is tested
        async with database.workspace(here.workspace_id) as session:
            await session.execute(text("UPDATE workspaces SET name = 'undone'"))
            raise RuntimeError
    async with database.workspace(here.workspace_id) as session:
        assert await session.scalar(text("SELECT name FROM workspaces")) == "kept"


async def test_a_cancelled_transaction_is_undone_and_its_connection_is_clean(database_url: str, here: Place):
    database = Database(database_url, pool_size=1)

    async def slow() -> None:
        async with database.workspace(here.workspace_id) as session:
            await session.execute(text("UPDATE workspaces SET name = 'undone'"))
            await session.execute(text("SELECT pg_sleep(4)"))

    task = asyncio.create_task(slow())
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with database.workspace(here.workspace_id) as session:
        assert await session.scalar(text("SELECT name FROM workspaces")) == "Here"
    await database.close()


async def test_t5_nothing_is_left_on_a_pooled_connection(database_url: str, here: Place, there: Place):
    database = Database(database_url, pool_size=1)
    for place in (here, there) * 3:
        async with database.workspace(place.workspace_id) as session:
            assert await session.scalar(SETTING) == str(place.workspace_id)
            assert workspace_of(session) == place.workspace_id
        with pytest.raises(ZeroDivisionError):
            async with database.workspace(place.workspace_id):
                raise ZeroDivisionError
        async with database.engine.connect() as connection:
            assert await connection.scalar(SETTING) in ("", None)
            assert await connection.scalar(text("SELECT count(*) FROM leads")) == 0
        async with database.door() as session:
            assert await session.scalar(SETTING) == ""
            with pytest.raises(LookupError):
                workspace_of(session)
    await database.close()


async def test_t5_a_leaked_session_setting_does_not_reach_the_next_transaction(
    database_url: str, here: Place, there: Place
):
    database = Database(database_url, pool_size=1)
    async with database.engine.connect() as connection:
        leak = text("SELECT set_config('flowtrack.workspace_id', :id, false)")
        await connection.execute(leak, {"id": str(there.workspace_id)})
        await connection.commit()
    async with database.door() as session:
        assert await session.scalar(text("SELECT count(*) FROM workspaces")) == 0
    async with database.workspace(here.workspace_id) as session:
        assert (await session.execute(text("SELECT slug FROM workspaces"))).scalars().all() == ["here"]
    await database.close()


async def test_t5_mixed_tenants_on_two_connections_never_see_each_other(
    database_url: str, here: Place, there: Place
):
    database = Database(database_url, pool_size=2, pool_timeout=30)

    async def look(number: int) -> list[str]:
        place = (here, there)[number % 2]
        try:
            async with database.workspace(place.workspace_id) as session:
                slugs = (await session.execute(text("SELECT slug FROM workspaces"))).scalars().all()
                if number % 5 == 0:
                    raise ZeroDivisionError
                if number % 7 == 0:
                    await session.execute(text("SELECT 1 / 0"))
        except (ZeroDivisionError, DBAPIError):
            pass
        assert slugs == [place.slug]
        return list(slugs)

    seen = await asyncio.gather(*(look(number) for number in range(400)))
    assert len(seen) == 400
    await database.close()


@pytest.mark.parametrize("workspace_id", [None, "", "x", 7])
async def test_a_workspace_is_named_by_its_uuid(database: Database, workspace_id: object):
    with pytest.raises(TypeError):
        async with database.workspace(workspace_id):  # type: ignore[arg-type] # on purpose
            pass


async def test_an_unknown_workspace_sees_nothing(database: Database, here: Place):
    async with database.workspace(uuid7()) as session:
        assert await session.scalar(text("SELECT count(*) FROM workspaces")) == 0


async def test_o4_a_long_statement_is_stopped(database_url: str):
    database = Database(database_url, statement_timeout=timedelta(milliseconds=100))
    with pytest.raises(DBAPIError) as stopped:
        async with database.door() as session:
            await session.execute(text("SELECT pg_sleep(5)"))
    assert isinstance(stopped.value.orig, psycopg.errors.QueryCanceled)
    await database.close()


async def test_o4_a_held_lock_costs_no_more_than_its_limit(
    database_url: str, here: Place, superuser: Superuser
):
    database = Database(database_url, lock_timeout=timedelta(milliseconds=100))
    with superuser() as connection:
        connection.execute("SELECT FROM workspaces FOR UPDATE")
        with pytest.raises(DBAPIError) as stopped:
            async with database.workspace(here.workspace_id) as session:
                await session.execute(text("UPDATE workspaces SET name = 'x'"))
    assert isinstance(stopped.value.orig, psycopg.errors.LockNotAvailable)
    await database.close()


async def test_o4_an_idle_transaction_is_ended(database_url: str):
    database = Database(database_url, idle_timeout=timedelta(milliseconds=100))
    with pytest.raises(DBAPIError):  # noqa: PT012 - the transaction is what is tested
        async with database.door() as session:
            await asyncio.sleep(0.4)
            await session.execute(text("SELECT 1"))
    async with database.door() as session:
        assert await session.scalar(text("SELECT 1")) == 1
    await database.close()


async def test_the_standard_limits_are_those_of_o4(database: Database):
    async with database.door() as session:
        found = [
            await session.scalar(text(f"SHOW {name}"))
            for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        ]
    assert found == ["5s", "2s", "10s"]


async def test_a_full_pool_says_so_in_time(database_url: str):
    database = Database(database_url, pool_size=1, pool_timeout=0.1)
    async with database.door():
        with pytest.raises(PoolTimeout):
            async with database.door():
                pass
    await database.close()


async def test_connections_that_died_in_the_pool_are_replaced_unnoticed(
    database: Database, here: Place, admin_url: str
):
    async def look() -> None:
        async with database.workspace(here.workspace_id) as session:
            await session.execute(text("SELECT pg_sleep(0.1)"))

    await asyncio.gather(*(look() for _ in range(5)))
    with psycopg.connect(plain(admin_url), autocommit=True) as connection:
        killed = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND usename = 'flowtrack_app'"
        ).fetchone()
    assert killed == (5,)
    await asyncio.gather(*(look() for _ in range(5)))


async def test_an_error_of_the_database_is_not_repeated_at_the_start(database_url: str):
    database = Database(driver_url(database_url).set(database="no_such_database"))
    with pytest.raises(DBAPIError):
        async with database.door():
            pass
    await database.close()


def test_only_postgresql_is_a_database():
    assert driver_url("postgresql://u@h/d").drivername == "postgresql+psycopg"
    with pytest.raises(ValueError, match="sqlite"):
        driver_url("sqlite:///x")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), {"a": [float("nan")]}])
def test_json_knows_no_nan_and_no_infinity(value: object):
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(value)


@pytest.mark.parametrize(
    "value", [b"x", {1}, uuid7(), object(), timedelta(0)], ids=lambda v: type(v).__name__
)
def test_json_coerces_nothing(value: object):
    with pytest.raises(TypeError):
        to_json({"value": value})


def test_t5_no_code_sets_anything_for_a_whole_session():
    root = Path(db.__file__).parent.parent
    sources = [path for room in ("db", "api", "activities") for path in (root / room).rglob("*.py")]
    assert len(sources) > 30
    for path in sources:
        source = path.read_text(encoding="utf-8")
        for call in re.findall(r"set_config\(((?:%\(\w+\)s|[^)])*)\)", source):
            assert call.rstrip().endswith("true"), path
        assert not re.search(
            r"[\"'(;]\s*SET\s+(?!LOCAL\b|NULL\b|CONSTRAINTS\b)[a-z_.]+\s*(=|TO\b)", source
        ), path
