"""Mirrors race with each other, and with those who save drafts; histories are told by the test."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from psycopg.errors import CheckViolation
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from uuid_utils.compat import uuid7

from activities.clients.keyring import KeyGone
from api.mirror.events import Event, Recorded, RunEnded, Started
from api.mirror.follower import Follower
from api.mirror.history import Current, Page
from api.mirror.mirror import Mirror
from db import executions
from db.models import WorkflowNode
from db.session import Database
from tests.api.mirror.stage import START, graph, node, until
from tests.db.conftest import Place, queued, settle
from workflows.messages import Begun, ExecutionInput, Outcome

pytestmark = pytest.mark.anyio

NOW = datetime.now(UTC)
DRAWN = graph(START, node("a"), node("b"), edges=["start>a", "a>b"])
LOCKED = (
    "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)


@pytest.fixture
async def here(database: Database) -> Place:
    """Settle a workspace."""
    return await settle(database, "here")


def told(here: Place, execution_id: UUID) -> list[Event]:
    """Tell a run of two steps."""
    given = ExecutionInput(
        workspace_id=here.workspace_id,
        workflow_id=here.workflow_id,
        execution_id=execution_id,
        version=1,
        trigger_type="MANUAL",
        trigger_node_id="start",
        graph=DRAWN,
    )
    done = Outcome(output={"x": 1}, handles=("default",))
    at = [NOW + timedelta(seconds=number) for number in range(6)]
    return [
        Started(1, at[1], "R1", "", given),
        Recorded(5, at[2], result=Begun(workspace={}, workflow={}, lead=None), key="begin"),
        Recorded(6, at[3], result=done, key="a:1"),
        Recorded(9, at[4], result=done, key="b:1"),
        RunEnded(11, at[5], "completed"),
    ]


class Written:
    """A history as one reader finds it; one that is not short comes in more than a page."""

    def __init__(self, events: Sequence[Event], *, is_short: bool = True) -> None:
        self.events, self.is_short = events, is_short
        self.reading, self.may_read = asyncio.Event(), asyncio.Event()
        self.may_read.set()
        self.error: Exception | None = None

    async def newest(self, execution_id: UUID, *, run_id: str = "") -> Page:
        found = self.events if self.is_short else self.events[-1:]
        return Page(raw(found), b"" if self.is_short else b"more")

    async def since(self, execution_id: UUID, run_id: str, *, event_id: int) -> list[Any]:
        found = [event for event in self.events if event.id > event_id]
        self.reading.set()
        await self.may_read.wait()
        return raw(found)

    async def decode(self, events: list[Any]) -> list[Event]:
        if self.error:
            raise self.error
        ids = {event.event_id for event in events}
        return [event for event in self.events if event.id in ids]

    async def current(self, execution_id: UUID) -> Current:
        return Current("R1", None)


def raw(events: Sequence[Event]) -> list[Any]:
    return [SimpleNamespace(event_id=event.id) for event in events]


def follower(written: Written, database: Database) -> Follower:
    return Follower(written, database)  # type: ignore[arg-type] # it reads as histories are read


async def status(database: Database, here: Place, execution_id: UUID) -> str:
    async with database.workspace(here.workspace_id) as session:
        row = await executions.get(session, here.workspace_id, execution_id)
    assert row is not None
    return str(row.status)


async def started(database: Database, here: Place) -> UUID:
    execution_id = uuid7()
    async with database.workspace(here.workspace_id) as session:
        session.add(queued(here, id=execution_id, dispatched_at=NOW))
        session.add(
            WorkflowNode(
                workspace_id=here.workspace_id,
                id=uuid7(),
                workflow_id=here.workflow_id,
                react_flow_node_id="a",
                node_type="UTILITY_LOG",
            )
        )
    return execution_id


async def test_a_node_that_is_deleted_while_its_step_is_written_costs_the_run_nothing(
    database: Database, here: Place
):
    execution_id = await started(database, here)
    mirror = follower(Written(told(here, execution_id)), database)

    async def waits() -> bool:
        async with database.door() as session:
            return bool(await session.scalar(text(LOCKED)))

    async with database.workspace(here.workspace_id) as session:
        await session.execute(text("DELETE FROM workflow_nodes WHERE react_flow_node_id = 'a'"))
        looking = asyncio.create_task(mirror.look(execution_id))
        await until(waits)
    looked = await looking
    assert looked.advanced
    if not looked.closed:
        assert (await mirror.look(execution_id)).closed
    assert await status(database, here, execution_id) == "completed"


async def test_a_run_that_is_deleted_while_it_is_written_is_not_looked_at_again(
    database: Database, here: Place
):
    execution_id = await started(database, here)
    mirror = follower(Written(told(here, uuid7())), database)
    assert not mirror.knows(gone := uuid7())
    assert (await mirror.look(gone)).closed
    assert mirror.knows(gone)
    assert await status(database, here, execution_id) == "queued"


async def test_an_older_story_never_takes_the_place_of_a_newer_one(database: Database, here: Place):
    execution_id = await started(database, here)
    events = told(here, execution_id)
    early, late = Written(events[:3], is_short=False), Written(events, is_short=False)
    early.may_read.clear()
    slow = follower(early, database)
    looking = asyncio.create_task(slow.look(execution_id))
    await early.reading.wait()
    assert (await follower(late, database).look(execution_id)).closed
    early.may_read.set()
    assert (await looking).advanced
    assert await status(database, here, execution_id) == "completed"


async def test_a_rebuild_that_was_overtaken_reads_once_more(database: Database, here: Place):
    execution_id = await started(database, here)
    events = told(here, execution_id)
    early, late = Written(events[:3], is_short=False), Written(events, is_short=False)
    early.may_read.clear()
    rebuilding = asyncio.create_task(follower(early, database).rebuild(execution_id))
    await early.reading.wait()
    assert (await follower(late, database).look(execution_id)).closed
    early.events = events
    early.may_read.set()
    assert await rebuilding
    assert await status(database, here, execution_id) == "completed"


@pytest.mark.parametrize("is_first", [True, False])
async def test_a_rebuild_and_a_write_of_the_same_run_never_wait_for_each_other_in_a_ring(
    database: Database, here: Place, is_first: bool, caplog: pytest.LogCaptureFixture
):
    execution_id = await started(database, here)
    events = told(here, execution_id)
    # A look that is behind, and writes on from where it stands; a rebuild that knows the whole story.
    behind = Written(events[:3])
    mirror = follower(behind, database)
    if not is_first:
        assert (await mirror.look(execution_id)).advanced
        behind.events = events
    whole = follower(Written(events), database)

    async def waiting(count: int) -> None:
        async def do() -> bool:
            async with database.door() as session:
                return bool((await session.scalar(text(LOCKED)) or 0) >= count)

        await until(do)

    async with database.workspace(here.workspace_id) as session:
        # Whoever comes first waits here, with whatever it has taken before; the other one comes behind it.
        await executions.lock(session, here.workspace_id, execution_id)
        rebuilding = asyncio.create_task(whole.rebuild(execution_id))
        await waiting(1)
        looking = asyncio.create_task(mirror.look(execution_id))
        await waiting(2)
    assert await rebuilding
    assert not (await looking).missing
    assert (await whole.look(execution_id)).closed
    assert await status(database, here, execution_id) == "completed"
    assert not caplog.records


async def test_a_run_whose_key_is_gone_is_told_of_once_and_by_its_id_alone(
    database: Database, here: Place, caplog: pytest.LogCaptureFixture
):
    execution_id = await started(database, here)
    written = Written(told(here, execution_id))
    written.error = KeyGone("canary")
    mirror = follower(written, database)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert (await mirror.look(execution_id)).closed
    (record,) = caplog.records
    assert vars(record)["execution_id"] == str(execution_id)
    assert "canary" not in caplog.text


async def test_a_row_that_postgresql_refuses_is_not_shown_in_the_log(
    database: Database, database_url: str, caplog: pytest.LogCaptureFixture
):
    nobody: Any = None
    mirror = Mirror(nobody, database, database_url=database_url)
    refused = CheckViolation("DETAIL: Failing row contains (canary).")
    mirror._stumble("look", IntegrityError("", None, refused))
    assert [record.getMessage() for record in caplog.records] == ["mirror: look: CheckViolation"]
