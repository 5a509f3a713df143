"""What changed since a look, exactly: no clock, no column, no commit missed that was under way then."""

from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from uuid_utils.compat import uuid7

from db import feed
from db.models import ExecutionStep
from db.session import Database, fetch
from tests.db.conftest import Place, Superuser, queued

pytestmark = pytest.mark.anyio


def step(place: Place, execution_id: UUID, number: int, **more: Any) -> ExecutionStep:
    return ExecutionStep(
        workspace_id=place.workspace_id,
        id=uuid7(),
        execution_id=execution_id,
        node_id=f"n{number}",
        node_type="UTILITY_LOG",
        step_number=number,
        **{"status": "running", **more},
    )


@pytest.fixture
async def execution_id(database: Database, here: Place) -> UUID:
    """A run with three steps."""
    made: UUID = uuid7()
    async with database.workspace(here.workspace_id) as session:
        session.add(queued(here, id=made))
        await session.flush()
        session.add_all(step(here, made, number) for number in (1, 2, 3))
    return made


async def change(database: Database, place: Place, node_id: str, status: str = "completed") -> None:
    async with database.workspace(place.workspace_id) as session:
        statement = text("UPDATE execution_steps SET status = :status WHERE node_id = :node_id")
        await session.execute(statement, {"node_id": node_id, "status": status})


async def whole(database: Database, place: Place, execution_id: UUID) -> feed.Look:
    async with database.workspace(place.workspace_id) as session:
        look = await feed.run(session, place.workspace_id, execution_id)
    assert look is not None
    return look


async def since(
    database: Database, place: Place, execution_id: UUID, look: feed.Look | str
) -> feed.Look | None:
    snapshot = look if isinstance(look, str) else look.snapshot
    async with database.workspace(place.workspace_id) as session:
        return await feed.run_since(session, place.workspace_id, execution_id, since=snapshot)


def names(look: feed.Look | None) -> list[str]:
    assert look is not None
    return [each["node_id"] for each in look.steps]


async def test_a_look_shows_all_and_the_next_one_only_what_changed(
    database: Database, here: Place, execution_id: UUID
):
    look = await whole(database, here, execution_id)
    assert (names(look), look.step_count, look.run["status"]) == (["n1", "n2", "n3"], 3, "queued")
    assert names(await since(database, here, execution_id, look)) == []
    await change(database, here, "n2")
    after = await since(database, here, execution_id, look)
    assert names(after) == ["n2"]
    assert after is not None
    assert names(await since(database, here, execution_id, after)) == []
    # The older look still is what it was.
    await change(database, here, "n1")
    assert names(await since(database, here, execution_id, look)) == ["n1", "n2"]


async def test_what_was_being_written_during_a_look_is_shown_by_the_next_one(
    database: Database, here: Place, execution_id: UUID
):
    """A clock, or the highest id so far, would lose it: others began later and have ended."""
    async with database.workspace(here.workspace_id) as slow:
        await slow.execute(text("UPDATE execution_steps SET status = 'failed' WHERE node_id = 'n1'"))
        await change(database, here, "n2")
        look = await whole(database, here, execution_id)
        assert [each["status"] for each in look.steps] == ["running", "completed", "running"]
        await change(database, here, "n3")
        between = await since(database, here, execution_id, look)
        assert names(between) == ["n3"]
    assert between is not None
    assert names(await since(database, here, execution_id, between)) == ["n1"]
    assert names(await since(database, here, execution_id, look)) == ["n1", "n3"]


async def test_what_was_rolled_back_is_no_change(database: Database, here: Place, execution_id: UUID):
    look = await whole(database, here, execution_id)
    with suppress(RuntimeError):
        async with database.workspace(here.workspace_id) as session:
            await session.execute(text("UPDATE execution_steps SET status = 'failed'"))
            raise RuntimeError
    assert names(await since(database, here, execution_id, look)) == []


async def test_a_look_at_another_database_and_one_too_far_back_give_no_changes(
    database: Database, here: Place, execution_id: UUID
):
    assert await since(database, here, execution_id, "1:999999999999:") is None
    look = await whole(database, here, execution_id)
    async with database.workspace(here.workspace_id) as session:
        session.add_all(step(here, execution_id, number) for number in range(4, feed.MOST_STEPS + 5))
    assert await since(database, here, execution_id, look) is None
    large = await whole(database, here, execution_id)
    assert len(large.steps) == feed.MOST_STEPS
    assert (large.steps[-1]["step_number"], large.step_count) == (feed.MOST_STEPS + 4, feed.MOST_STEPS + 4)


async def test_what_changed_of_many_runs_is_found_without_reading_all(
    database: Database, here: Place, superuser: Superuser
):
    """A workspace with many runs that ended long ago, and few that are open or ended lately."""
    with superuser() as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            "INSERT INTO workflow_executions (workspace_id, id, workflow_id, workflow_version_id,"
            " trigger_type, status, updated_at, finished_at)"
            " SELECT %s, gen_random_uuid(), %s, %s, 'FORM', 'completed', at, at"
            " FROM generate_series(1, 20000) n, LATERAL (SELECT now() - n * interval '2 hours' AS at)",
            [here.workspace_id, here.workflow_id, here.version_id],
        )
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE workflow_executions")
    async with database.workspace(here.workspace_id) as session:
        place = (await feed.newest(session, here.workspace_id)).place
    open_one, ended = uuid7(), uuid7()
    async with database.workspace(here.workspace_id) as session:
        session.add(queued(here, id=open_one))
        session.add(queued(here, id=ended, status="failed", finished_at=place.at))
    given = {
        "workspace_id": here.workspace_id,
        "since": place.snapshot,
        "written_after": place.at,
        "finished_after": place.at,
        "limit": feed.MOST_RUNS,
    }
    async with database.workspace(here.workspace_id) as session:
        seen = await feed.runs_since(session, here.workspace_id, since=place)
        (((plan,),),) = (await fetch(session, "EXPLAIN (ANALYZE, FORMAT JSON) " + feed.RUNS_SINCE, given),)
    assert seen is not None
    assert [run["id"] for run in seen.runs] == [str(ended), str(open_one)]
    nodes, waiting = [], [plan[0]["Plan"]]
    while waiting:
        nodes.append(waiting.pop())
        waiting += nodes[-1].get("Plans", [])
    indexes = {node["Index Name"] for node in nodes if "Index Name" in node}
    assert "workflow_executions_finished_at" in indexes, indexes
    read = [node for node in nodes if node.get("Relation Name") == "workflow_executions"]
    assert read
    for node in read:
        assert node["Node Type"] != "Seq Scan"
        assert node["Actual Rows"] + node.get("Rows Removed by Filter", 0) < 10, node


async def test_what_changed_is_not_told_to_another_workspace_and_nothing_twice(
    database: Database, here: Place, there: Place
):
    async with database.workspace(there.workspace_id) as session:
        theirs = (await feed.newest(session, there.workspace_id)).place
    one = uuid7()
    async with database.workspace(here.workspace_id) as session:
        session.add(queued(here, id=one))
    async with database.workspace(there.workspace_id) as session:
        assert (await feed.runs_since(session, there.workspace_id, since=theirs)) is not None
        assert (await feed.runs_since(session, here.workspace_id, since=theirs)).runs == []  # type: ignore[union-attr]
    async with database.workspace(here.workspace_id) as session:
        seen = await feed.runs_since(session, here.workspace_id, since=theirs)
        assert seen is not None
        assert [run["id"] for run in seen.runs] == [str(one)]
        again = await feed.runs_since(session, here.workspace_id, since=seen.place)
        assert again is not None
        assert again.runs == []


async def test_another_workspace_sees_nothing(
    database: Database, here: Place, there: Place, execution_id: UUID
):
    async with database.workspace(there.workspace_id) as session:
        assert await feed.run(session, there.workspace_id, execution_id) is None
        assert await feed.run(session, here.workspace_id, execution_id) is None
        assert await feed.run_status(session, here.workspace_id, execution_id) is None
        assert (await feed.newest(session, there.workspace_id)).runs == []
        assert await feed.these(session, here.workspace_id, [execution_id]) == []
