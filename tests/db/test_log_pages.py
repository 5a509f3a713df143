"""A page of a log is read by its index from the months that can hold it, whatever else is stored."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy.dialects import postgresql
from uuid_utils.compat import uuid7

from db import doors, listing, live, logs
from db.listing import Lines
from db.models import ExecutionStep
from db.session import Database
from tests.db.conftest import Place, Superuser, queued

pytestmark = pytest.mark.anyio

MONTHS = [datetime(2031, month, 10, 12, tzinfo=UTC) for month in (2, 3, 4, 5)]
INDEX = "_pkey"
BY_STEP = "workspace_id_execution_step_id_idx"


@pytest.fixture
async def executions(database: Database, here: Place, superuser: Superuser) -> list[UUID]:
    """Keep 20 runs in each of four months, with 200 lines each; the statistics know."""
    async with database.door() as session:
        await doors.log_partitions(session, MONTHS[0].date(), keep_days=100_000)
    runs = [(uuid7(), month) for month in MONTHS for _ in range(20)]
    async with database.workspace(here.workspace_id) as session:
        session.add_all(queued(here, id=id_, queued_at=month) for id_, month in runs)
    for id_, month in runs:
        async with database.workspace(here.workspace_id) as session:
            await logs.add(session, here.workspace_id, list(lines(id_, month)), source="history")
    with superuser() as connection:
        connection.execute("ANALYZE execution_logs")
    return [id_ for id_, _ in runs]


def lines(execution_id: UUID, month: datetime) -> Iterator[dict[str, Any]]:
    for n in range(200):
        yield {
            "id": str(uuid7()),
            "execution_id": str(execution_id),
            "created_at": (month + timedelta(seconds=n)).isoformat(),
            "log_level": "INFO" if n % 10 else "ERROR",
            "message": f"line {n}",
        }


def scans(connection: psycopg.Connection[Any], query: Any) -> dict[str, str | None]:
    """Tell which months a statement reads, and by which index."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call] # SQLAlchemy leaves it so
    written = query.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    (((plan,),),) = (connection.execute(f"EXPLAIN (FORMAT JSON) {written}").fetchall(),)
    plan = plan if isinstance(plan, list) else json.loads(plan)
    found: dict[str, str | None] = {}

    def walk(node: dict[str, Any], index: str | None = None) -> None:
        index = node.get("Index Name", index)
        if "Relation Name" in node:
            below = [below.get("Index Name") for below in node.get("Plans", [])]
            found[node["Relation Name"]] = index or (below[0] if below else None)
        for below_ in node.get("Plans", []):
            walk(below_)

    walk(plan[0]["Plan"])
    return found


FILTERS = (Lines(), Lines(level="ERROR"), Lines(text="line 1"), Lines(of_steps=True))
EMPTY = "execution_logs_default"
"""What reaches into the future takes a look at it, too: nothing is in it, so no index is worth it."""


async def test_a_page_reads_the_months_that_can_hold_it_and_those_by_an_index(
    here: Place, executions: list[UUID], superuser: Superuser
):
    first, last = executions[0], executions[-1]
    with superuser() as connection:

        def read(execution_id: UUID, wanted: Lines = FILTERS[0], **bounds: Any) -> dict[str, str | None]:
            query = listing.log_lines(here.workspace_id, execution_id, wanted, limit=51, **bounds)
            return scans(connection, query)

        for wanted in FILTERS:
            found = read(last, wanted, queued_at=MONTHS[-1])
            assert found.keys() - {EMPTY} == {"execution_logs_2031_05"}
            assert (found["execution_logs_2031_05"] or "").endswith(INDEX), found
        by_step = read(last, Lines(step_id=uuid7()), queued_at=MONTHS[-1])
        assert (by_step["execution_logs_2031_05"] or "").endswith(BY_STEP), by_step
        march = Lines(after=MONTHS[1], before=MONTHS[1] + timedelta(days=2))
        assert read(first, march).keys() == {"execution_logs_2031_03"}
        cursor = (MONTHS[0], uuid7())
        assert read(first, queued_at=MONTHS[0], older_than=cursor).keys() == {"execution_logs_2031_02"}


async def test_a_steps_attempts_and_who_paused_a_run_are_read_from_its_months_only(
    database: Database, here: Place, executions: list[UUID], superuser: Superuser
):
    last = executions[-1]
    step = ExecutionStep(execution_id=last, node_id="n", visit=1)
    given = {"workspace_id": here.workspace_id, "execution_id": last, "since": MONTHS[-1]}
    with superuser() as connection:
        query = live.attempt_lines(here.workspace_id, step, queued_at=MONTHS[-1])
        assert scans(connection, query).keys() - {EMPTY} == {"execution_logs_2031_05"}
        assert scans(connection, live.PAUSED.bindparams(**given)).keys() - {EMPTY} == {
            "execution_logs_2031_05"
        }
    async with database.workspace(here.workspace_id) as session:
        line = next(lines(last, MONTHS[-1])) | {"node_id": "n", "visit": 1}
        await logs.add(session, here.workspace_id, [line], source="attempt")
        assert len(await live.attempts(session, here.workspace_id, step)) == 1


async def test_pages_of_thousands_of_lines_meet_without_gap_or_repeat(database: Database, here: Place):
    run, now = queued(here), datetime.now(UTC)
    async with database.workspace(here.workspace_id) as session:
        session.add(run)
        await session.flush()
        written = [line | {"created_at": now.isoformat()} for _ in range(25) for line in lines(run.id, now)]
        await logs.add(session, here.workspace_id, written, source="history")
    seen: list[UUID] = []
    older_than = None
    async with database.workspace(here.workspace_id) as session:
        while True:
            page = await listing.logs(
                session, here.workspace_id, run.id, Lines(), limit=1000, older_than=older_than
            )
            if not page:
                break
            seen += [line.id for line in page]
            older_than = page[-1].created_at, page[-1].id
    assert sorted(map(str, seen)) == sorted(line["id"] for line in written)
