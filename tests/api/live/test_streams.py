"""What viewers are sent: a snapshot, changes, the end; from any place on, nothing lost and nothing twice."""

import asyncio
import base64
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack, aclosing, asynccontextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import Any
from uuid import UUID

import pytest
from fastapi.sse import ServerSentEvent
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from uuid_utils.compat import uuid7

from api.live import hub as hubs
from api.live import looks as looks_
from api.live import streams
from api.live.describer import Described, Nobody
from api.live.hub import Hub, TooManyViewers
from api.live.looks import Looks
from api.live.positions import Positions, RunPosition, WorkspacePosition, is_snapshot
from api.live.streams import Watch
from db import executions, feed, news
from db.feed import Place as Moment
from db.models import ExecutionStep
from db.news import News
from db.session import Database
from tests.db.conftest import Place, queued, settle

pytestmark = pytest.mark.anyio
ONE, TWO = UUID(int=1), UUID(int=2)


async def allowed() -> bool:
    return True


async def refused() -> bool:
    return False


@asynccontextmanager
async def hearing(hub: Hub) -> AsyncIterator[Hub]:
    """Let a hub hear."""
    task = asyncio.create_task(hub.run())
    while not hub.is_hearing:
        await asyncio.sleep(0.01)
    try:
        yield hub
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def hub(database_url: str) -> AsyncIterator[Hub]:
    """Hear the test's database."""
    async with hearing(Hub(database_url)) as heard:
        yield heard


@pytest.fixture
async def here(database: Database) -> Place:
    """Settle a workspace."""
    return await settle(database, "here")


class Author:
    """Writes a run as the mirror does: row by row, each in a transaction of its own."""

    def __init__(self, database: Database, place: Place) -> None:
        self.database, self.place = database, place
        self.id: UUID = uuid7()

    @property
    def ids(self) -> tuple[UUID, UUID]:
        return self.place.workspace_id, self.id

    async def begin(self) -> "Author":
        async with self.database.workspace(self.place.workspace_id) as session:
            session.add(queued(self.place, id=self.id))
        return self

    async def step(self, number: int, status: str) -> None:
        """Write a step as it stands now, and the run with it."""
        async with self.database.workspace(self.place.workspace_id) as session:
            await session.merge(self._row(number, status))
            await self._touch(session, "status")

    async def slow_step(self, number: int, status: str, *, seconds: float) -> None:
        """Write a step, and commit it later: others begin and end meanwhile."""
        async with self.database.workspace(self.place.workspace_id) as session:
            await session.merge(self._row(number, status))
            await session.flush()
            await asyncio.sleep(seconds)
            await news.tell(session, self.place.workspace_id, [self.id])

    def _row(self, number: int, status: str) -> ExecutionStep:
        return ExecutionStep(
            workspace_id=self.place.workspace_id,
            id=UUID(int=number),
            execution_id=self.id,
            node_id=f"n{number}",
            node_type="UTILITY_LOG",
            step_number=number,
            status=status,
        )

    async def run(self, status: str, **columns: Any) -> None:
        """Write the run as it stands now."""
        columns = {"status": status, **columns}
        async with self.database.workspace(self.place.workspace_id) as session:
            await self._touch(session, ", ".join(f"{name} = :{name}" for name in columns), **columns)

    async def end(self, status: str) -> None:
        """Write the run's end."""
        await self.run(status, finished_at=datetime.now(UTC))

    async def set(self, session: Any, status: str) -> None:
        """Write the run's status in a transaction that goes on."""
        await self._touch(session, "status = :status", status=status)

    async def _touch(self, session: Any, what: str, **values: Any) -> None:
        assigned = "status = status" if what == "status" else what
        statement = (
            f"UPDATE workflow_executions SET {assigned}, updated_at = clock_timestamp() WHERE id = :run_id"
        )
        await session.execute(text(statement), {**values, "run_id": self.id})


@pytest.fixture
async def author(database: Database, here: Place) -> Author:
    """Begin a run."""
    return await Author(database, here).begin()


def watch(author: Author, viewer: hubs.Viewer, **more: Any) -> Watch:
    looks = Looks(author.database, Nobody())
    return Watch(author.database, **{"looks": looks, "viewer": viewer, "is_allowed": allowed, **more})


def positions(author: Author) -> Positions:
    return Positions(bytes(32), author.place.workspace_id, author.id)


@asynccontextmanager
async def stream(
    author: Author, hub: Hub, last_id: str | None = None, **more: Any
) -> AsyncIterator[AsyncIterator[ServerSentEvent]]:
    """Watch a run from a place on; what it waits for is left out."""
    with hub.watching(author.place.workspace_id, author.id) as viewer:
        sent = streams.of_run(watch(author, viewer, **more), author.id, positions(author), last_id)
        async with aclosing(_rows_only(sent)) as events:
            yield events


async def _rows_only(sent: AsyncGenerator[ServerSentEvent]) -> AsyncGenerator[ServerSentEvent]:
    async with aclosing(sent):
        async for event in sent:
            if event.event != "live":
                yield event


async def next_of(events: AsyncIterator[ServerSentEvent]) -> ServerSentEvent:
    return await asyncio.wait_for(anext(events), 20)


class Screen:
    """What somebody sees who takes the events in."""

    def __init__(self, events: list[ServerSentEvent] | None = None) -> None:
        self.status, self.steps = "", dict[str, str]()
        self.told: list[tuple[str, str]] = []
        for event in events or []:
            self.take(event)

    def take(self, event: ServerSentEvent) -> None:
        if event.event == "snapshot":
            self.steps = {}
        if event.data.get("execution"):
            self.status = event.data["execution"]["status"]
        for step in event.data.get("steps", ()):
            self.told.append((step["node_id"], step["status"]))
            self.steps[step["node_id"]] = step["status"]


async def test_a_run_is_told_from_its_snapshot_to_its_end(author: Author, hub: Hub):
    await author.step(1, "running")
    async with stream(author, hub) as events:
        first = await next_of(events)
        assert first.event == "snapshot"
        assert [step["status"] for step in first.data["steps"]] == ["running"]
        await author.step(1, "completed")
        second = await next_of(events)
        assert (second.event, second.data["execution"]) == ("changes", None)
        assert [(step["node_id"], step["status"]) for step in second.data["steps"]] == [("n1", "completed")]
        await author.run("running")
        third = await next_of(events)
        assert (third.data["execution"]["status"], third.data["steps"]) == ("running", [])
        await author.run("completed")
        fourth, last = await next_of(events), await next_of(events)
        assert (fourth.event, last.event) == ("changes", "end")
        assert last.data["execution"]["status"] == "completed"
        with pytest.raises(StopAsyncIteration):
            await next_of(events)
    ids = [event.id for event in (first, second, third, fourth, last)]
    assert len(set(ids)) == 5
    assert hub.viewers == 0


async def test_from_every_event_on_the_rest_comes_and_nothing_twice(author: Author, hub: Hub):
    story = [
        (1, "running"),
        (1, "completed"),
        (2, "running"),
        (3, "running"),
        (2, "failed"),
        (3, "completed"),
    ]
    events: list[ServerSentEvent] = []
    async with stream(author, hub) as live:
        events.append(await next_of(live))
        for number, status in story:
            await author.step(number, status)
            events.append(await next_of(live))
        await author.run("completed")
        events.extend([await next_of(live), await next_of(live)])
    whole = Screen(events)
    assert whole.told == [(f"n{number}", status) for number, status in story]
    for place in range(len(events)):
        seen = Screen(events[: place + 1])
        before = dict(seen.steps)
        # In another process, which has heard nothing of all that.
        async with stream(author, Hub(), events[place].id) as resumed:
            rest = [event async for event in resumed]
        assert all(event.event in ("changes", "end") for event in rest)
        for event in rest:
            seen.take(event)
        assert (seen.steps, seen.status) == (whole.steps, "completed")
        # Of several changes of one step only the last is told, and none that was seen already.
        again = Screen(rest).told
        assert len(dict(again)) == len(again)
        assert all(before.get(node_id) != status for node_id, status in again)


async def test_nothing_is_lost_or_doubled_while_many_write_and_the_viewer_comes_and_goes(
    author: Author, hub: Hub
):
    chance = random.Random(7)

    async def write(numbers: range) -> None:
        for number in numbers:
            for status in ("running", "completed"):
                await author.slow_step(number, status, seconds=chance.random() / 20)

    async def write_all() -> None:
        await asyncio.gather(*(write(range(first, first + 6)) for first in range(1, 48, 6)))
        await author.run("completed")

    writing = asyncio.create_task(write_all())
    screen, names, last_id = Screen(), list[str | None](), None
    while names[-1:] != ["end"]:
        async with stream(author, hub, last_id) as events:
            for _ in range(chance.randint(1, 4)):
                event = await next_of(events)
                screen.take(event)
                names.append(event.event)
                last_id = event.id
                if event.event == "end":
                    break
    await writing
    assert names.count("snapshot") == 1
    assert screen.steps == {f"n{number}": "completed" for number in range(1, 49)}
    assert len(set(screen.told)) == len(screen.told)


async def test_a_slow_reader_is_sent_the_sum_of_what_it_missed(author: Author, hub: Hub):
    async with stream(author, hub) as events:
        await next_of(events)
        for number in range(1, 40):
            await author.step(number % 3 + 1, "running" if number < 20 else "completed")
        event = await next_of(events)
        while len(event.data["steps"]) < 3 or Screen([event]).steps["n1"] != "completed":
            event = await next_of(events)
        assert Screen([event]).steps == {"n1": "completed", "n2": "completed", "n3": "completed"}


class Counting:
    """Has no answer, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def look(self, execution_id: UUID) -> Described:
        self.asked += 1
        return Described(run_id="r", task_since=datetime.now(UTC))


async def test_viewers_of_a_run_share_the_looks_at_what_it_waits_for(author: Author, hub: Hub):
    await author.run("running")
    counting = Counting()
    looks = Looks(author.database, counting)

    async def follow(viewer: hubs.Viewer) -> list[str | None]:
        """Read on to the second telling of what it waits for."""
        told: list[str | None] = []
        given = watch(author, viewer, looks=looks)
        async with aclosing(streams.of_run(given, author.id, positions(author))) as events:
            while told.count("live") < 2:
                told.append((await next_of(events)).event)
                if told == ["snapshot", "live"]:
                    first.release()
        return told

    first = asyncio.Semaphore(0)
    with ExitStack() as stack:
        viewers = [stack.enter_context(hub.watching(*author.ids)) for _ in range(20)]
        following = [asyncio.create_task(follow(viewer)) for viewer in viewers]
        for _ in viewers:
            await first.acquire()
        began = monotonic()
        await author.step(1, "running")
        everybody = await asyncio.gather(*following)
    assert all(told[-1] == "live" for told in everybody)
    assert counting.asked <= 3 + (monotonic() - began) / looks_.FRESH


async def test_a_look_that_began_before_the_news_is_taken_again(author: Author, hub: Hub):
    """Another viewer's look may be fresh, and yet know nothing of what this one was woken for."""
    looks = Looks(author.database, Nobody())
    with hub.watching(*author.ids) as viewer:
        given = watch(author, viewer, looks=looks)
        story = streams.RunStory(given, author.id, positions(author))
        await looks.look(*author.ids)
        given.woken_at = monotonic()
        await story._waits()
        assert story.patience == streams.LIVE_PACE


async def test_an_event_id_tells_nothing_and_is_good_for_its_own_run_only(author: Author):
    place = RunPosition("1:5:2", "a", "b")
    sealed = positions(author).write(place)
    assert positions(author).read(sealed) == place
    assert b"1:5:2" not in base64.urlsafe_b64decode(sealed + "==")
    assert positions(author).write(place) != sealed
    for key, workspace_id, execution_id in (
        (bytes(range(32)), *author.ids),
        (bytes(32), ONE, author.id),
        (bytes(32), author.place.workspace_id, ONE),
    ):
        assert Positions(key, workspace_id, execution_id).read(sealed) is None


async def test_after_a_reset_the_story_begins_anew(author: Author, hub: Hub):
    await author.run("running", temporal_run_id="one")
    await author.step(1, "completed")
    async with stream(author, hub) as events:
        first = await next_of(events)
        async with author.database.workspace(author.place.workspace_id) as session:
            await session.execute(text("DELETE FROM execution_steps"))
        await author.run("running", temporal_run_id="two")
        again = await next_of(events)
    assert (again.event, again.data["steps"]) == ("snapshot", [])
    async with stream(author, hub, first.id) as events:
        assert (await next_of(events)).event == "snapshot"


@pytest.mark.parametrize(
    "last_id", ["", "x", "1:2:~a~b", "5:1:~a~b~on", "1:5:9~a~b~on", "1:99999999999:~a~b~on", "é" * 9000]
)
async def test_an_id_that_is_none_of_ours_begins_with_a_snapshot(author: Author, hub: Hub, last_id: str):
    async with stream(author, hub, last_id) as events:
        assert (await next_of(events)).event == "snapshot"


@given(st.text(alphabet="0123456789:,", max_size=30))
def test_what_counts_as_a_snapshot_is_one(text_: str):
    if is_snapshot(text_):
        low, high, _ = text_.split(":")
        assert 0 < int(low) <= int(high)


async def test_a_stream_whose_caller_may_no_longer_see_it_ends(author: Author, hub: Hub):
    async with stream(author, hub, is_allowed=refused, check=0.05) as events:
        assert [event.event async for event in events] == ["snapshot"]
    with hub.watching(author.place.workspace_id) as viewer:
        given = watch(author, viewer, is_allowed=refused, check=0.05)
        assert [
            event.event
            async for event in streams.of_workspace(given, Positions(bytes(32), author.place.workspace_id))
        ] == ["snapshot"]


async def test_it_ends_also_where_there_is_always_something_to_tell(author: Author, hub: Hub):
    is_done, told = False, list[str | None]()

    async def until_told() -> bool:
        return len(told) < 3

    async def keep_changing() -> None:
        number = 0
        while not is_done:
            number += 1
            await author.step(1, ("running", "completed")[number % 2])
            await asyncio.sleep(0.02)

    changing = asyncio.create_task(keep_changing())
    async with stream(author, hub, is_allowed=until_told, check=0.1) as events:
        async for event in events:
            told.append(event.event)
    is_done = True
    await changing
    assert told[0] == "snapshot"
    assert set(told[1:]) == {"changes"}


async def test_a_stream_of_a_run_that_is_deleted_ends(author: Author, hub: Hub):
    async with stream(author, hub, check=0.05) as events:
        await next_of(events)
        async with author.database.workspace(author.place.workspace_id) as session:
            await session.execute(text("DELETE FROM workflows"))
        assert [event.event async for event in events] == []


async def test_what_nobody_was_told_of_is_found_by_looking(author: Author):
    """The listening connection may be down for a while."""
    deaf = Hub()
    async with stream(author, deaf, check=0.05) as events:
        await next_of(events)
        await author.step(1, "running")
        assert (await next_of(events)).event == "changes"


async def test_viewers_wait_without_a_connection_and_share_the_one_that_hears(
    database_url: str, here: Place, hub: Hub
):
    small = Database(database_url, pool_size=1)
    author = await Author(small, here).begin()
    async with stream(author, hub) as one, stream(author, hub) as two, stream(author, hub) as three:
        for events in (one, two, three):
            await next_of(events)
        waiting = [asyncio.ensure_future(anext(events)) for events in (one, two, three)]
        while small.engine.pool.checkedout():  # type: ignore[attr-defined] # as SQLAlchemy's default pool has it
            await asyncio.sleep(0.02)
        async with small.workspace(here.workspace_id) as session:
            names = await session.execute(text("SELECT application_name FROM pg_stat_activity"))
            assert [name for (name,) in names].count("flowtrack viewers") == 1
        await author.step(1, "running")
        assert {event.event for event in await asyncio.gather(*waiting)} == {"changes"}
    await small.close()


# ── a workspace's runs


@asynccontextmanager
async def overview(
    author: Author, hub: Hub, last_id: str | None = None, **more: Any
) -> AsyncIterator[AsyncIterator[Any]]:
    """Watch a workspace from a place on."""
    positions = Positions(bytes(32), author.place.workspace_id)
    with hub.watching(author.place.workspace_id) as viewer:
        sent = streams.of_workspace(watch(author, viewer, **more), positions, last_id)
        async with aclosing(sent) as events:
            yield events


def statuses(event: ServerSentEvent) -> dict[str, str]:
    return {run["id"]: run["status"] for run in event.data["executions"]}


async def test_a_workspace_is_told_of_new_runs_and_of_their_statuses_only(author: Author, hub: Hub):
    async with overview(author, hub) as events:
        first = await next_of(events)
        assert (first.event, statuses(first)) == ("snapshot", {str(author.id): "queued"})
        await author.step(1, "running")
        other = await Author(author.database, author.place).begin()
        second = await next_of(events)
        assert (second.event, statuses(second)) == ("changes", {str(other.id): "queued"})
        await author.run("completed")
        assert statuses(await next_of(events)) == {str(author.id): "completed"}


async def test_a_workspaces_stream_goes_on_from_every_event(author: Author, hub: Hub):
    async with overview(author, hub) as events:
        first = await next_of(events)
        await author.run("running")
        second = await next_of(events)
    await author.run("waiting")
    other = await Author(author.database, author.place).begin()
    for last_id in (first.id, second.id):
        async with overview(author, hub, last_id) as events:
            told: dict[str, str] = {}
            while len(told) < 2:
                event = await next_of(events)
                assert event.event == "changes"
                assert told.keys().isdisjoint(statuses(event))
                told |= statuses(event)
            assert told == {str(author.id): "waiting", str(other.id): "queued"}


async def test_a_workspace_sees_no_other_ones_runs(author: Author, hub: Hub, database: Database):
    stranger = await Author(database, await settle(database, "there")).begin()
    async with overview(author, hub) as events:
        assert statuses(await next_of(events)) == {str(author.id): "queued"}
        await stranger.run("running")
        await author.run("running")
        assert statuses(await next_of(events)) == {str(author.id): "running"}


async def test_of_a_workspace_too_what_nobody_was_told_of_is_found_by_looking(author: Author):
    async with overview(author, Hub(), check=0.05) as events:
        assert statuses(await next_of(events)) == {str(author.id): "queued"}
        await author.run("running")
        told = await next_of(events)
        assert (told.event, statuses(told)) == ("changes", {str(author.id): "running"})
        other = await Author(author.database, author.place).begin()
        assert statuses(await next_of(events)) == {str(other.id): "queued"}


@pytest.fixture
async def marking(database: Database, database_url: str) -> AsyncIterator[Hub]:
    """Hear, and mark what was heard, as a process does."""
    async with hearing(Hub(database_url, database=database)) as heard:
        yield heard


@pytest.fixture
async def elsewhere(database: Database, database_url: str) -> AsyncIterator[Hub]:
    """Hear in another process, or after a restart: nothing is known of what was heard before."""
    async with hearing(Hub(database_url, database=database)) as heard:
        yield heard


async def resumed(author: Author, hub: Hub, last_id: str | None) -> dict[str, str]:
    """Come back; read what is told at once."""
    async with overview(author, hub, last_id) as events:
        event = await next_of(events)
        assert event.event == "changes"
        return statuses(event)


async def test_a_workspaces_stream_goes_on_in_another_process(
    author: Author, marking: Hub, elsewhere: Hub, database: Database
):
    async with overview(author, marking) as events:
        first = await next_of(events)
        await author.run("running")
        second = await next_of(events)
    old, new = author.id, await Author(database, author.place).begin()
    await new.run("waiting")
    assert await resumed(author, elsewhere, second.id) | {str(old): "running"} == {
        str(old): "running",
        str(new.id): "waiting",
    }
    assert await resumed(author, elsewhere, first.id) == {str(old): "running", str(new.id): "waiting"}


async def test_an_old_run_that_ended_meanwhile_is_told_however_many_are_newer(
    author: Author, hub: Hub, elsewhere: Hub, database: Database
):
    async with database.workspace(author.place.workspace_id) as session:
        session.add_all(queued(author.place, id=uuid7()) for _ in range(feed.NEWEST + 1))
    async with overview(author, hub) as events:
        first = await next_of(events)
        assert str(author.id) not in statuses(first)
    await author.end("failed")
    assert await resumed(author, elsewhere, first.id) == {str(author.id): "failed"}


async def test_what_is_committed_late_is_told_to_who_comes_back(
    author: Author, marking: Hub, elsewhere: Hub, database: Database
):
    slow, quick = await Author(database, author.place).begin(), await Author(database, author.place).begin()
    async with overview(author, marking) as events:
        await next_of(events)
        async with database.workspace(author.place.workspace_id) as session:
            await slow.set(session, "waiting")
            await quick.run("running")
            assert statuses(await next_of(events)) == {str(quick.id): "running"}
            await marked(marking, database)
            await quick.run("completed")
            last = await next_of(events)
    assert (await resumed(author, elsewhere, last.id))[str(slow.id)] == "waiting"


async def test_news_that_were_not_heard_yet_are_told_to_who_comes_back(
    author: Author, elsewhere: Hub, database: Database
):
    other = await Author(database, author.place).begin()
    slow = Hub()
    slow._tell(None)
    async with overview(author, slow) as events:
        await next_of(events)
        await author.run("running")
        await other.run("running")
        # The notice of the first is on its way, that of the second is there: they may be far apart.
        slow._tell(News(other.place.workspace_id, other.id, is_status=True))
        last = await next_of(events)
        assert statuses(last) == {str(other.id): "running"}
    assert (await resumed(author, elsewhere, last.id))[str(author.id)] == "running"


async def test_what_was_told_before_a_mark_is_not_told_again(
    author: Author, marking: Hub, elsewhere: Hub, database: Database
):
    other = await Author(database, author.place).begin()
    async with overview(author, marking) as events:
        await next_of(events)
        await author.run("running")
        await next_of(events)
        await marked(marking, database)
        await other.run("running")
        last = await next_of(events)
    assert await resumed(author, elsewhere, last.id) == {str(other.id): "running"}


async def test_a_gap_in_hearing_costs_no_snapshot(author: Author, marking: Hub):
    async with overview(author, marking) as events:
        await next_of(events)
        marking.is_hearing = False
        marking._tell(None)
        await author.run("running")
        told = await next_of(events)
        assert (told.event, statuses(told)) == ("changes", {str(author.id): "running"})


async def test_what_a_sweep_only_passed_over_is_no_change(
    author: Author, hub: Hub, elsewhere: Hub, database: Database
):
    ids = author.place.workspace_id, author.id
    long_ago = {"at": datetime(2026, 1, 1, tzinfo=UTC)}
    async with database.workspace(author.place.workspace_id) as session:
        await session.execute(text("UPDATE workflow_executions SET updated_at = :at"), long_ago)
    async with overview(author, hub) as events:
        first = await next_of(events)
    async with database.workspace(author.place.workspace_id) as session:
        await executions.touch(session, ids[0], [ids[1]])
    other = await Author(database, author.place).begin()
    assert await resumed(author, elsewhere, first.id) == {str(other.id): "queued"}


async def test_where_too_much_has_changed_a_snapshot_comes(
    author: Author, hub: Hub, elsewhere: Hub, database: Database
):
    async with overview(author, hub) as events:
        first = await next_of(events)
    async with database.workspace(author.place.workspace_id) as session:
        session.add_all(queued(author.place, id=uuid7()) for _ in range(feed.MOST_RUNS + 1))
    async with overview(author, elsewhere, first.id) as events:
        event = await next_of(events)
        assert (event.event, len(event.data["executions"])) == ("snapshot", feed.NEWEST)


async def test_what_is_no_place_of_this_workspace_begins_with_a_snapshot(
    author: Author, hub: Hub, database: Database
):
    stranger = await Author(database, await settle(database, "there")).begin()
    async with overview(stranger, hub) as events:
        theirs = (await next_of(events)).id
    ours = Positions(bytes(32), author.place.workspace_id)
    unknown = ours.write(WorkspacePosition(Moment("999999999999:999999999999:", datetime.now(UTC))))
    of_a_run = positions(author).write(RunPosition("1:1:", "", ""))
    for last_id in (theirs, unknown, of_a_run, "5ce0a1b2~17", "", None):
        async with overview(author, hub, last_id) as events:
            assert (await next_of(events)).event == "snapshot", last_id


async def marked(hub: Hub, database: Database) -> None:
    """Wait for a mark behind everything that was committed."""
    async with database.door() as session:
        now = (await session.execute(text("SELECT clock_timestamp()"))).scalar_one()
    hub._is_due.set()
    async with asyncio.timeout(20):
        while hub.place is None or hub.place.at < now:
            await asyncio.sleep(0.02)


# ── the hub


def test_a_viewer_remembers_no_more_than_it_may():
    hub = Hub()
    with hub.watching(ONE) as viewer:
        for number in range(20_000):
            hub._tell(News(ONE, UUID(int=number), is_status=True))
        assert len(viewer._ids) <= hubs.MOST_NEWS
        assert viewer.take() is None
        assert viewer.take() == []
        hub._tell(News(ONE, TWO, is_status=True))
        assert viewer.take() == [TWO]


def test_a_workspace_has_so_many_viewers_and_another_one_its_own():
    hub = Hub()
    watching = [hub.watching(ONE, TWO if number % 2 else None) for number in range(hubs.MOST_VIEWERS)]
    for each in watching:
        each.__enter__()
    with pytest.raises(TooManyViewers):
        hub.watching(ONE).__enter__()
    with hub.watching(TWO):
        assert hub.viewers == hubs.MOST_VIEWERS + 1
    watching.pop().__exit__(None, None, None)
    with hub.watching(ONE):
        pass
    for each in watching:
        each.__exit__(None, None, None)
    assert hub.viewers == 0
    assert hub._viewers == {}


async def test_a_hub_that_cannot_hear_tries_again(caplog: pytest.LogCaptureFixture):
    deaf = Hub("postgresql://nobody@127.0.0.1:1/none")
    task = asyncio.create_task(deaf.run())
    async with asyncio.timeout(20):
        while len(caplog.messages) < 2:
            await asyncio.sleep(0.02)
    assert set(caplog.messages) == {"viewers are not told of changes: OperationalError"}
    assert not task.done()
    assert not deaf.is_hearing
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
