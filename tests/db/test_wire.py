"""One message is one transaction: all of it or nothing, in its workspace, within its limits, for one wait."""

import asyncio
import gc
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from random import Random, randrange
from typing import Any, LiteralString, cast
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool
from uuid_utils.compat import uuid7

from db import leads
from db.session import Database, fetch
from db.wire import numbered
from local.postgres import plain
from tests.db.conftest import Place, Superuser

pytestmark = pytest.mark.anyio

RENAME: LiteralString = "UPDATE workspaces SET name = %(name)s RETURNING name"
NAMES: LiteralString = "SELECT name FROM workspaces"
PLANNED: LiteralString = "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'flowtrack%%'"


async def test_each_statement_gives_its_rows_and_sees_what_came_before_it(database: Database, here: Place):
    found = await database.at_once(
        here.workspace_id,
        (NAMES, {}),
        (RENAME, {"name": "Two"}),
        ("DELETE FROM lead_field_data", {}),
        (NAMES, {}),
    )
    assert found == [[("Here",)], [("Two",)], [], [("Two",)]]
    assert await database.at_once(here.workspace_id, (NAMES, {})) == [[("Two",)]]


async def test_values_arrive_as_what_they_are(database: Database, here: Place):
    moment = datetime(2026, 1, 31, 12, tzinfo=UTC)
    values: dict[str, Any] = {
        "id": here.workspace_id,
        "json": {"a": [1, None], "b": "ä"},
        "names": ["x", "y, z"],
        "none": None,
        "yes": True,
        "number": 2**40,
        "moment": moment,
        "pause": timedelta(seconds=90),
        "bytes": b"\0\1",
    }
    statement: LiteralString = """
        SELECT %(id)s::uuid, %(json)s::jsonb, %(names)s::text[], %(none)s::text, %(yes)s::bool,
            %(number)s::bigint, %(moment)s::timestamptz, %(pause)s::interval, %(bytes)s::bytea, 7 %% 4
    """
    for _ in range(2):
        ((row,),) = await database.at_once(here.workspace_id, (statement, values))
        assert row == (*values.values(), 3)


def test_a_value_that_stands_twice_is_sent_once():
    assert numbered("SELECT %(b)s, %(a)s, %(b)s, 1 %% 2") == (b"SELECT $1, $2, $1, 1 % 2", ("b", "a"))


async def test_what_fails_undoes_all_of_it_and_says_why(database_url: str, here: Place):
    database = Database(database_url, pool_size=1)
    with pytest.raises(DBAPIError) as failed:
        await database.at_once(
            here.workspace_id, (RENAME, {"name": "Undone"}), ("SELECT 1 / 0", {}), (RENAME, {"name": "Later"})
        )
    assert isinstance(failed.value.orig, psycopg.errors.DivisionByZero)
    assert not failed.value.connection_invalidated
    assert await database.at_once(here.workspace_id, (NAMES, {})) == [[("Here",)]]
    await database.close()


@pytest.mark.parametrize("value", ["\0", {"a": "\0"}], ids=["text", "json"])
async def test_a_value_that_postgresql_cannot_hold_is_an_error_of_the_database(
    database: Database, here: Place, value: object
):
    with pytest.raises(DBAPIError):
        await database.at_once(
            here.workspace_id,
            ("SELECT %(v)s::text, %(w)s::jsonb", {"v": "a", "w": {}}),
            ("SELECT %(v)s", {"v": value}),
        )
    assert await database.at_once(here.workspace_id, (NAMES, {})) == [[("Here",)]]


async def test_t5_it_sees_its_workspace_and_leaves_nothing_behind(
    database_url: str, here: Place, there: Place
):
    database = Database(database_url, pool_size=1)
    for place in (here, there) * 3:
        ((found,),) = await database.at_once(place.workspace_id, ("SELECT slug FROM workspaces", {}))
        assert found == (place.slug,)
        with pytest.raises(DBAPIError):
            await database.at_once(place.workspace_id, ("SELECT 1 / 0", {}))
        async with database.engine.connect() as connection:
            setting = text("SELECT current_setting('flowtrack.workspace_id', true)")
            assert await connection.scalar(setting) in ("", None)
            assert await connection.scalar(text("SHOW statement_timeout")) == "0"
            assert await connection.scalar(text("SELECT count(*) FROM workspaces")) == 0
    await database.close()


@pytest.mark.parametrize("workspace_id", [None, "", "x", 7])
async def test_a_workspace_is_named_by_its_uuid(database: Database, workspace_id: Any):
    with pytest.raises(TypeError):
        await database.at_once(workspace_id, (NAMES, {}))


async def test_mixed_tenants_and_kinds_of_transactions_never_see_each_other(
    database_url: str, here: Place, there: Place
):
    database = Database(database_url, pool_size=2, pool_timeout=30)

    async def look(number: int) -> None:
        place = (here, there)[number % 2]
        if number % 3 == 0:
            async with database.workspace(place.workspace_id) as session:
                ((slug,),) = await fetch(session, "SELECT slug FROM workspaces", {})
                if number % 9 == 0:
                    # An error of a session has the driver roll back, and drop every plan.
                    with pytest.raises(DBAPIError):
                        await session.execute(text("SELECT 1 / 0"))
                    await session.rollback()
        else:
            ((slug,),) = await fetch(database.single(place.workspace_id), "SELECT slug FROM workspaces", {})
        assert slug == place.slug

    await asyncio.gather(*(look(number) for number in range(200)))
    await database.close()


async def test_plans_that_the_driver_dropped_are_made_again(database_url: str, here: Place):
    database = Database(database_url, pool_size=1)
    counts = []
    for _ in range(3):
        assert await database.at_once(here.workspace_id, (NAMES, {})) == [[("Here",)]]
        for statement in (PLANNED, PLANNED, "SELECT 1 / 0"):
            # Rolling back drops what is planned, ours too.
            with suppress(DBAPIError):
                async with database.workspace(here.workspace_id) as session:
                    counts.append((await fetch(session, statement, {}))[0][0])
    async with database.workspace(here.workspace_id) as session:
        counts.append((await fetch(session, PLANNED, {}))[0][0])
    assert counts == [2, 2] * 3 + [0]
    await database.close()


async def test_a_statement_is_planned_once_for_all_values(database_url: str, here: Place):
    database = Database(database_url, pool_size=1)
    made: LiteralString = """
        SELECT generic_plans, custom_plans FROM pg_prepared_statements
        WHERE statement LIKE 'UPDATE workspaces%%'
    """
    for name in ("Here", "There", "Nowhere"):
        await database.at_once(here.workspace_id, (RENAME, {"name": name}))
    assert await fetch(database.single(here.workspace_id), made, {}) == [(3, 0)]
    async with database.engine.connect() as connection:
        assert await connection.scalar(text("SHOW plan_cache_mode")) == "auto"
    await database.close()


async def test_a_transaction_pooler_finds_no_plan_left_on_a_connection(database_url: str, here: Place):
    counts = []
    for threshold in (None, 1):
        database = Database(database_url, pool_size=1, prepare_threshold=threshold)
        assert await database.at_once(here.workspace_id, (NAMES, {})) == [[("Here",)]]
        counts.append((await fetch(database.single(here.workspace_id), PLANNED, {}))[0][0])
        await database.close()
    assert counts[0] == 0
    assert counts[1] > 0


async def test_a_long_statement_and_a_held_lock_are_stopped(
    database_url: str, here: Place, superuser: Superuser
):
    brief = timedelta(milliseconds=100)
    slow, waiting = (
        Database(database_url, statement_timeout=brief),
        Database(database_url, lock_timeout=brief),
    )
    with pytest.raises(DBAPIError) as stopped:
        await slow.at_once(here.workspace_id, ("SELECT pg_sleep(5)", {}))
    assert isinstance(stopped.value.orig, psycopg.errors.QueryCanceled)
    with superuser() as connection:
        connection.execute("SELECT FROM workspaces FOR UPDATE")
        with pytest.raises(DBAPIError) as stopped:
            await waiting.at_once(here.workspace_id, (RENAME, {"name": "x"}))
    assert isinstance(stopped.value.orig, psycopg.errors.LockNotAvailable)
    await slow.close()
    await waiting.close()


async def test_a_cancelled_message_is_undone_and_its_connection_is_clean(database_url: str, here: Place):
    database = Database(database_url, pool_size=1)
    slow: LiteralString = "SELECT pg_sleep(4)"
    task = asyncio.create_task(database.at_once(here.workspace_id, (RENAME, {"name": "Undone"}), (slow, {})))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await database.at_once(here.workspace_id, (NAMES, {})) == [[("Here",)]]
    await database.close()


async def test_whenever_a_message_is_cancelled_its_connection_goes_back(database_url: str, here: Place):
    dice = Random(seed := randrange(10**6))
    database = Database(database_url, pool_size=2, pool_timeout=30)
    pids: LiteralString = "SELECT pg_backend_pid()"
    for _ in range(300):
        tasks = [asyncio.create_task(database.at_once(here.workspace_id, (pids, {}))) for _ in range(3)]
        await asyncio.sleep(dice.uniform(0, 0.004))
        for task in tasks:
            task.cancel()
            # Whoever is in a hurry does so twice.
            asyncio.get_running_loop().call_later(dice.uniform(0, 0.001), task.cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0.1)
    pool = cast(QueuePool, database.engine.pool)
    assert pool.checkedout() == 0, f"seed {seed}"
    # What was left behind would be said now.
    gc.collect()
    await database.close()


async def test_connections_that_died_in_the_pool_are_replaced_unnoticed(
    database: Database, here: Place, admin_url: str
):
    async def look() -> int:
        # It takes its time, so that each of them has a connection of its own.
        found = await database.at_once(here.workspace_id, ("SELECT pg_backend_pid(), pg_sleep(0.1)", {}))
        pid: int = found[0][0][0]
        return pid

    before = await asyncio.gather(*(look() for _ in range(5)))
    await ended(admin_url, "")
    after = await asyncio.gather(*(look() for _ in range(5)))
    assert (len(set(before)), len(set(after))) == (5, 5)
    assert set(before).isdisjoint(after)


async def test_a_connection_that_dies_under_a_message_is_an_outage(
    database: Database, here: Place, admin_url: str
):
    task = asyncio.create_task(database.at_once(here.workspace_id, ("SELECT pg_sleep(4)", {})))
    await asyncio.sleep(0.3)
    await ended(admin_url, "AND state = 'active'")
    with pytest.raises(DBAPIError) as lost:
        await task
    assert lost.value.connection_invalidated
    assert await database.at_once(here.workspace_id, (NAMES, {})) == [[("Here",)]]


async def ended(admin_url: str, which: LiteralString) -> None:
    """End the app's connections from PostgreSQL's side."""
    kill: LiteralString = (
        "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND usename = 'flowtrack_app'"
    )
    async with await psycopg.AsyncConnection.connect(plain(admin_url), autocommit=True) as connection:
        assert (await connection.execute(f"{kill} {which}")).rowcount > 0


async def test_a_full_pool_says_so_in_time_and_an_absent_database_too(database_url: str, here: Place):
    database = Database(database_url, pool_size=1, pool_timeout=0.1)
    async with database.door():
        with pytest.raises(PoolTimeout):
            await database.at_once(here.workspace_id, (NAMES, {}))
    await database.close()
    away = Database("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(DBAPIError) as failed:
        await away.at_once(here.workspace_id, (NAMES, {}))
    assert failed.value.connection_invalidated
    await away.close()


async def test_a_single_statement_stands_where_a_session_may_stand(database: Database, here: Place):
    unknown: UUID = uuid7()
    assert await leads.contact(database.single(here.workspace_id), here.workspace_id, unknown) is None
