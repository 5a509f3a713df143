"""Sums over many runs: right, within their workspace, and found by the indexes that are there."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from uuid_utils.compat import uuid7

from db import overlays
from db.models import ExecutionStep
from db.overlays import Asked, Sum
from db.session import Database, fetch
from tests.db.conftest import Place, Superuser

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
WEEK = timedelta(days=7)


def asked(place: Place, **more: Any) -> Asked:
    return Asked(**{"workflow_id": place.workflow_id, "since": NOW - WEEK, "until": NOW, **more})


def id_at(moment: datetime, number: int) -> UUID:
    """Make the id of a run that was queued then."""
    return UUID(int=overlays.first_id(moment).int | number)


def grow(superuser: Superuser, place: Place, runs: int, *, age: timedelta = timedelta(hours=1)) -> None:
    """Write finished runs of two steps each; the second failed, or, in every fifth, still runs."""
    mine = {
        "workspace_id": place.workspace_id,
        "workflow_id": place.workflow_id,
        "version_id": place.version_id,
    }
    moment = id_at(NOW - age, 0).hex[:12]
    with superuser() as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            "WITH run AS (INSERT INTO workflow_executions (workspace_id, id, workflow_id,"
            " workflow_version_id, trigger_type, status)"
            " SELECT %(workspace_id)s, (%(moment)s || lpad(to_hex(n), 20, '0'))::uuid, %(workflow_id)s,"
            " %(version_id)s, 'FORM', CASE WHEN n %% 5 = 0 THEN 'running' ELSE 'completed' END"
            " FROM generate_series(1, %(runs)s) n RETURNING id, status)"
            " INSERT INTO execution_steps (workspace_id, id, execution_id, node_id, node_type, step_number,"
            " status, handle, started_at, finished_at)"
            " SELECT %(workspace_id)s, gen_random_uuid(), run.id, n.name, 'UTILITY_LOG', n.place,"
            " CASE WHEN n.place = 1 THEN 'completed' WHEN run.status = 'running' THEN 'running'"
            " ELSE 'failed' END, CASE n.place WHEN 1 THEN 'default' END, now(),"
            " CASE WHEN n.place = 1 THEN now() + interval '2 seconds' END"
            " FROM run, (VALUES ('a', 1), ('b', 2)) n (name, place)",
            {**mine, "moment": moment, "runs": runs},
        )
        connection.commit()
        connection.autocommit = True
        for table in ("workflow_executions", "execution_steps"):
            connection.execute(f"VACUUM ANALYZE {table}")


async def sums(database: Database, place: Place, wanted: Asked) -> dict[tuple[str, str | None], Sum]:
    async with database.workspace(place.workspace_id) as session:
        found = await overlays.of_workflow(session, place.workspace_id, wanted)
    return {(each.node_id, each.status): each for each in found}


async def test_steps_add_up_by_node_and_by_the_way_they_went(
    database: Database, here: Place, superuser: Superuser
):
    grow(superuser, here, 50)
    grow(superuser, here, 20, age=timedelta(days=30))
    found = await sums(database, here, asked(here))
    assert {key: each.count for key, each in found.items()} == {
        ("a", None): 50,
        ("a", "completed"): 50,
        ("b", None): 50,
        ("b", "running"): 10,
        ("b", "failed"): 40,
    }
    assert (found["a", None].leads, found["a", None].ms) == (50, 100_000)
    assert list(found["a", None].percentiles or ()) == [2000, 2000]
    assert (found["b", None].ms, found["b", None].percentiles) == (None, None)
    async with database.workspace(here.workspace_id) as session:
        assert await overlays.runs(session, here.workspace_id, asked(here)) == 50
        # What waits now waits whenever it began.
        assert await overlays.waiting(session, here.workspace_id, asked(here)) == {"b": 14}
    assert await sums(database, here, asked(here, version_id=uuid7())) == {}
    both = asked(here, since=NOW - timedelta(days=40))
    assert (await sums(database, here, both))["a", None].count == 70


async def test_what_a_rerun_keeps_is_not_counted_again(database: Database, here: Place, superuser: Superuser):
    grow(superuser, here, 1)
    ways = [
        ("completed", "kept", NOW),
        ("skipped", "disabled", NOW),
        ("skipped", "branch_not_taken", NOW),
        ("skipped", "disabled", None),
        ("skipped", "skipped_by_user", NOW),
    ]
    async with database.workspace(here.workspace_id) as session:
        for number, (status, reason, began) in enumerate(ways):
            step = {"status": status, "skip_reason": reason, "started_at": began, "step_number": 3 + number}
            session.add(
                ExecutionStep(
                    workspace_id=here.workspace_id,
                    id=uuid7(),
                    execution_id=id_at(NOW - timedelta(hours=1), 1),
                    node_id="c",
                    node_type="UTILITY_LOG",
                    visit=1 + number,
                    **step,
                )
            )
        await session.flush()
        found = await overlays.of_workflow(session, here.workspace_id, asked(here))
    told = [(each.skip_reason, each.count) for each in found if each.node_id == "c" and each.status]
    assert sorted(told) == [("disabled", 1), ("skipped_by_user", 1)]


async def test_another_workspace_adds_nothing(
    database: Database, here: Place, there: Place, superuser: Superuser
):
    grow(superuser, here, 10)
    async with database.workspace(there.workspace_id) as session:
        for owner in (here, there):
            assert await overlays.of_workflow(session, owner.workspace_id, asked(here)) == []
            assert await overlays.waiting(session, owner.workspace_id, asked(here)) == {}
            assert await overlays.runs(session, owner.workspace_id, asked(here)) == 0
        assert await overlays.drawn_by_workflow(session, there.workspace_id, here.workflow_id, 1) is None


async def test_runs_of_a_time_are_found_by_an_index_and_their_steps_by_theirs(
    database: Database, here: Place, there: Place, superuser: Superuser
):
    grow(superuser, here, 40)
    grow(superuser, here, 4_000, age=timedelta(days=30))
    grow(superuser, there, 30_000, age=timedelta(hours=2))
    used = await indexes(database, here, overlays.OF_WORKFLOW)
    assert used == {"workflow_executions_workflow_id", "execution_steps_pkey"}
    of_run = {"execution_id": id_at(NOW - timedelta(hours=1), 1)}
    assert await indexes(database, here, overlays.OF_RUN, **of_run) == {"execution_steps_pkey"}


async def indexes(database: Database, place: Place, statement: Any, **more: Any) -> set[str]:
    """Name what a statement reads its tables by: an index, or `Seq Scan`."""
    values = {**asked(place).values(place.workspace_id), **more}
    async with database.workspace(place.workspace_id) as session:
        ((found,),) = await fetch(session, "EXPLAIN (FORMAT JSON) " + statement, values)
        assert await session.scalar(text("SELECT 1")) == 1
    used, waiting = set[str](), [found[0]["Plan"]]
    while waiting:
        node = waiting.pop()
        waiting += node.get("Plans", [])
        if "Index Name" in node or node["Node Type"] == "Seq Scan":
            used.add(node.get("Index Name", "Seq Scan"))
    assert used, json.dumps(found)
    return used


def test_an_id_tells_the_moment():
    made = uuid7()
    milliseconds = made.int >> 80
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    assert (
        overlays.first_id(moment)
        <= UUID(int=made.int)
        < overlays.first_id(moment + timedelta(milliseconds=2))
    )
