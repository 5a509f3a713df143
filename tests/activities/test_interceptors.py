"""What a worker tells beside history: hints while a run moves, and the attempts that history forgets."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from psycopg import sql
from temporalio.client import Client, WorkflowFailureError

from activities.interceptors import MirrorInterceptor
from db import mirrors
from db.mirrors import Hint
from db.session import Database
from tests.api.mirror.stage import START, Doings, Runs, graph, id_of, node, settle, until, workers

pytestmark = pytest.mark.anyio

LINE = graph(START, node("a"), node("b"), edges=["start>a", "a>b"])


@pytest.fixture
async def idle(temporal_client: Client, database: Database, task_queue: str) -> Runs:
    """Start runs that no worker drives yet."""
    return await settle(temporal_client, database, task_queue, Doings())


async def attempts(runs: Runs, execution_id: UUID) -> list[tuple[Any, ...]]:
    """Read what was recorded of attempts."""
    rows = [log for log in await runs.logs(execution_id) if log.source == "attempt"]
    return [(row.node_id, row.visit, row.attempt, row.log_level, row.message) for row in rows]


async def test_every_move_of_a_run_is_hinted_in_few_batches(idle: Runs, database_url: str):
    heard: list[Hint] = []
    ready = asyncio.Event()

    async def listen() -> None:
        async for hint in mirrors.listen(database_url):
            ready.set()
            if hint is not None:
                heard.append(hint)

    interceptor = MirrorInterceptor(idle.database)
    listener = asyncio.create_task(listen())
    await ready.wait()
    async with (
        interceptor.sending(),
        workers(idle.client, idle.task_queue, idle.doings, interceptors=[interceptor]),
    ):
        handle = await idle.start(LINE)
        await handle.result()
    # PostgreSQL tells in the order of commits: what is heard before this one is all there was.
    last = Hint(UUID(int=0))
    async with idle.database.door() as session:
        await mirrors.hint(session, [last])

    async def over() -> bool:
        return last in heard

    await until(over)
    listener.cancel()
    heard.remove(last)
    assert set(heard) == {Hint(id_of(handle), handle.first_execution_run_id or "")}
    assert 1 <= len(heard) <= 4


async def test_failed_attempts_and_what_came_after_them_are_recorded(idle: Runs):
    interceptor = MirrorInterceptor(idle.database)
    mail = node("m", "ACTION_SEND_EMAIL", does={"fails": 2}, config={"retry": {"initialSeconds": 0.1}})
    drawn = graph(START, node("a", does={"fails": 1}), mail, edges=["start>a", "a>m"])
    watched: dict[str, Any] = {"interceptors": [interceptor]}
    async with interceptor.sending(), workers(idle.client, idle.task_queue, idle.doings, **watched):
        handle = await idle.start(drawn)
        await handle.result()
    assert sorted(await attempts(idle, id_of(handle))) == [
        ("a", 1, 1, "WARN", "Attempt 1 failed: it broke"),
        ("a", 1, 2, "INFO", "Attempt 2 succeeded"),
        ("m", 1, 1, "WARN", "Attempt 1 failed: it broke"),
        ("m", 1, 2, "WARN", "Attempt 2 failed: it broke"),
        ("m", 1, 3, "INFO", "Attempt 3 succeeded"),
    ]
    row = next(log for log in await idle.logs(id_of(handle)) if log.source == "attempt")
    assert row.data is not None
    assert row.data["type"] == "broken"
    assert row.data["ms"] >= 0
    assert row.run_id == handle.first_execution_run_id


async def test_a_first_attempt_that_succeeds_costs_nothing(idle: Runs):
    interceptor = MirrorInterceptor(idle.database)
    async with (
        interceptor.sending(),
        workers(idle.client, idle.task_queue, idle.doings, interceptors=[interceptor]),
    ):
        handle = await idle.start(LINE)
        await handle.result()
    assert await attempts(idle, id_of(handle)) == []


async def test_a_rebuild_leaves_attempts_alone(idle: Runs):
    interceptor = MirrorInterceptor(idle.database)
    drawn = graph(START, node("a", does={"fails": 9, "final": True}), edges=["start>a"])
    async with (
        interceptor.sending(),
        workers(idle.client, idle.task_queue, idle.doings, interceptors=[interceptor]),
    ):
        handle = await idle.start(drawn)
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    before = await attempts(idle, id_of(handle))
    assert before == [("a", 1, 1, "WARN", "Attempt 1 failed: it broke")]
    assert await idle.follower.rebuild(id_of(handle))
    assert await attempts(idle, id_of(handle)) == before


async def test_a_run_goes_on_while_postgresql_is_away_and_its_attempts_come_later(
    idle: Runs, postgres: Any, database_name: str
):
    interceptor = MirrorInterceptor(idle.database)
    drawn = graph(START, node("a", does={"fails": 1}), edges=["start>a"])
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    name = sql.Identifier(database_name)
    execution_id = await idle.queue(drawn)
    async with interceptor.sending():
        postgres.execute(allow.format(name, sql.SQL("false")))
        await idle.database.engine.dispose()
        async with workers(idle.client, idle.task_queue, idle.doings, interceptors=[interceptor]):
            handle = await idle.begin(drawn, execution_id)
            await handle.result()
            await asyncio.sleep(0.3)
        postgres.execute(allow.format(name, sql.SQL("true")))
    assert len(await attempts(idle, execution_id)) == 2
