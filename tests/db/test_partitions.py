"""ERD §15: the log's months are made ahead, dropped after 90 days, and a line is never refused."""

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError
from uuid_utils.compat import uuid7

from db import doors
from db.models import ExecutionLog
from db.session import Database
from tests.db.conftest import Place, Superuser, queued

pytestmark = pytest.mark.anyio
FAR = date(2031, 5, 20)


async def keep(database: Database, today: date = FAR, **values: int) -> list[str]:
    async with database.door() as session:
        return await doors.log_partitions(session, today, **values)


def partitions(superuser: Superuser) -> set[str]:
    with superuser() as connection:
        rows = connection.execute(
            "SELECT relname::text FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid"
            " WHERE inhparent = 'execution_logs'::regclass"
        )
        return {name for (name,) in rows}


async def log(database: Database, place: Place, *moments: datetime) -> None:
    execution = queued(place)
    async with database.workspace(place.workspace_id) as session:
        session.add(execution)
        await session.flush()
        for moment in moments:
            session.add(
                ExecutionLog(
                    workspace_id=place.workspace_id,
                    execution_id=execution.id,
                    created_at=moment,
                    message=moment.isoformat(),
                )
            )


async def where(database: Database, place: Place) -> dict[str, str]:
    async with database.workspace(place.workspace_id) as session:
        rows = await session.execute(text("SELECT message, tableoid::regclass::text FROM execution_logs"))
        return {row.message: row.tableoid for row in rows}


async def test_a_new_database_has_this_month_three_more_and_a_default(superuser: Superuser):
    first = datetime.now(UTC).date().replace(day=1)
    months = [first]
    for _ in range(3):
        months.append((months[-1] + timedelta(days=32)).replace(day=1))
    assert partitions(superuser) == {f"execution_logs_{month:%Y_%m}" for month in months} | {
        "execution_logs_default"
    }


async def test_months_are_made_ahead_once(database: Database, superuser: Superuser):
    made = await keep(database, date(2030, 11, 5), keep_days=100_000)
    assert made == [f"made execution_logs_{month}" for month in ("2030_11", "2030_12", "2031_01", "2031_02")]
    assert await keep(database, date(2030, 11, 30), keep_days=100_000) == []
    assert {"execution_logs_2030_11", "execution_logs_2031_02"} <= partitions(superuser)


async def test_parallel_keepers_do_the_work_once(database: Database, second_database: Database):
    done = await asyncio.gather(keep(database), keep(second_database))
    actions = [action for actions in done for action in actions]
    assert len(actions) == len(set(actions))
    assert sorted(map(bool, done)) == [False, True]


async def test_a_month_is_dropped_when_all_of_it_is_past_its_days(database: Database, superuser: Superuser):
    await keep(database, date(2031, 1, 15), months_ahead=0, keep_days=100_000)
    january_ends = date(2031, 2, 1)
    late = january_ends + timedelta(days=89)
    assert "dropped execution_logs_2031_01" not in await keep(database, late, months_ahead=0)
    due = await keep(database, late + timedelta(days=1), months_ahead=0)
    assert "dropped execution_logs_2031_01" in due
    assert "execution_logs_2031_01" not in partitions(superuser)


async def test_a_line_goes_to_its_month_or_to_the_default(database: Database, here: Place):
    await keep(database, date(2031, 1, 15), months_ahead=0, keep_days=100_000)
    inside, edge, outside = (
        datetime(2031, 1, 31, 23, 59, 59, tzinfo=UTC),
        datetime(2031, 2, 1, tzinfo=UTC),
        datetime(1999, 1, 1, tzinfo=UTC),
    )
    await log(database, here, inside, edge, outside)
    assert await where(database, here) == {
        inside.isoformat(): "execution_logs_2031_01",
        edge.isoformat(): "execution_logs_default",
        outside.isoformat(): "execution_logs_default",
    }


async def test_lines_move_from_the_default_into_their_month_when_it_is_made(database: Database, here: Place):
    early, later = datetime(2031, 2, 1, tzinfo=UTC), datetime(2031, 3, 1, tzinfo=UTC)
    await log(database, here, early, later)
    await keep(database, date(2031, 2, 10), months_ahead=0, keep_days=100_000)
    assert await where(database, here) == {
        early.isoformat(): "execution_logs_2031_02",
        later.isoformat(): "execution_logs_default",
    }


async def test_outlived_lines_of_the_default_are_swept(database: Database, here: Place):
    old, young = datetime(2031, 1, 1, tzinfo=UTC), datetime(2031, 5, 1, tzinfo=UTC)
    await log(database, here, old, young)
    assert "swept execution_logs_default" in await keep(database)
    assert list(await where(database, here)) == [young.isoformat()]


async def test_a_made_month_is_guarded_indexed_and_tied_like_the_first(
    database: Database, superuser: Superuser
):
    await keep(database, months_ahead=0, keep_days=100_000)
    with superuser() as connection:

        def shape(name: str) -> list[Any]:
            queries = (
                "SELECT relrowsecurity, relforcerowsecurity, relowner FROM pg_class WHERE oid = %s::regclass",
                "SELECT polname, polroles, pg_get_expr(polqual, polrelid) FROM pg_policy"
                " WHERE polrelid = %s::regclass ORDER BY polname",
                "SELECT pg_get_constraintdef(oid), contype FROM pg_constraint WHERE conrelid = %s::regclass"
                " AND contype <> 'c' ORDER BY 1",
                "SELECT regexp_replace(pg_get_indexdef(indexrelid), '.*USING', '') FROM pg_index"
                " WHERE indrelid = %s::regclass ORDER BY 1",
                "SELECT relacl IS NULL FROM pg_class WHERE oid = %s::regclass",
            )
            return [connection.execute(query, [name]).fetchall() for query in queries]

        assert shape("execution_logs_2031_05") == shape("execution_logs_default")


async def test_an_open_transaction_holds_the_keeper_no_longer_than_its_lock_limit(
    database_url: str, here: Place, superuser: Superuser
):
    database = Database(database_url, lock_timeout=timedelta(milliseconds=200))
    with superuser() as connection:
        connection.execute("LOCK TABLE execution_logs_default IN ROW EXCLUSIVE MODE")
        with pytest.raises(DBAPIError, match="lock timeout"):
            await keep(database)
    assert await keep(database)
    await database.close()


async def test_a_thousand_lines_of_a_run_are_read_newest_first(database: Database, here: Place):
    start = datetime(2031, 5, 1, tzinfo=UTC)
    await keep(database, months_ahead=0, keep_days=100_000)
    await log(database, here, *(start + timedelta(seconds=n) for n in range(1000)))
    async with database.workspace(here.workspace_id) as session:
        assert await session.scalar(select(func.count()).select_from(ExecutionLog)) == 1000
        found = await session.execute(select(ExecutionLog).order_by(ExecutionLog.created_at.desc()).limit(1))
        assert found.scalar_one().created_at == start + timedelta(seconds=999)
        assert await session.scalar(select(func.count()).where(ExecutionLog.execution_id == uuid7())) == 0


async def test_two_years_of_upkeep_keep_three_months_ahead_and_no_line_past_its_days(
    database: Database, here: Place, superuser: Superuser
):
    today = date(2031, 1, 15)
    while today < date(2033, 1, 15):
        # Some days it does not run at all: the default takes what comes meanwhile.
        await keep(database, today)
        have = {name for name in partitions(superuser) if not name.endswith("default")}
        months = [
            f"execution_logs_{today.year + (today.month + n - 1) // 12}_{(today.month + n - 1) % 12 + 1:02}"
            for n in range(4)
        ]
        assert set(months) <= have
        oldest = today - timedelta(days=90)
        assert min(have) == f"execution_logs_{max(oldest, date(2031, 1, 1)):%Y_%m}"
        noon = datetime(today.year, today.month, today.day, 12, tzinfo=UTC)
        await log(database, here, noon)
        assert (await where(database, here))[noon.isoformat()] == f"execution_logs_{today:%Y_%m}"
        today += timedelta(days=23)
    kept = [datetime.fromisoformat(moment) for moment in await where(database, here)]
    # A month goes as a whole, when its last day is past its days.
    assert min(kept) > datetime(today.year, today.month, today.day, tzinfo=UTC) - timedelta(days=90 + 23 + 31)
