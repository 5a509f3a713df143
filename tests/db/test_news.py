"""News of runs: who listens is told of every change of an execution, in ids only."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import UUID

import pytest
from sqlalchemy import text
from uuid_utils.compat import uuid7

from db import cancels, executions, listening, news, starts
from db.session import Database
from tests.db.conftest import Place, queued

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def heard(database_url: str) -> AsyncIterator[asyncio.Queue[str]]:
    """Collect what is told meanwhile."""
    told: asyncio.Queue[str] = asyncio.Queue()
    ready = asyncio.Event()

    async def listen() -> None:
        async for payload in listening.notices(database_url, news.CHANNEL, name="test"):
            ready.set()
            if payload is not None:
                told.put_nowait(payload)

    task = asyncio.create_task(listen())
    await ready.wait()
    try:
        yield told
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def told_until(told: asyncio.Queue[str], last: str) -> list[str]:
    """Give what was told before a last word, so that silence can be seen."""
    found: list[str] = []
    while (payload := await asyncio.wait_for(told.get(), 20)) != last:
        found.append(payload)
    return found


async def test_each_change_is_told_once_with_ids_only_and_what_passes_over_is_not(
    database: Database, database_url: str, here: Place
):
    run: UUID = uuid7()
    ids = (here.workspace_id, run)
    mark = f"{here.workspace_id} {UUID(int=0)}"

    async def end() -> None:
        async with database.workspace(here.workspace_id) as session:
            await news.tell(session, here.workspace_id, [UUID(int=0)])

    async with heard(database_url) as told:
        async with database.workspace(here.workspace_id) as session:
            session.add(queued(here, id=run))
        await end()
        assert await told_until(told, mark) == [f"{here.workspace_id} {run} status"]

        async with database.workspace(here.workspace_id) as session:
            await executions.touch(session, here.workspace_id, [run])
        async with database.workspace(here.workspace_id) as session:
            await cancels.done(session, here.workspace_id, [run])
        await end()
        assert await told_until(told, mark) == []

        async with database.workspace(here.workspace_id) as session:
            await starts.note_dispatched(session, here.workspace_id, {run: "r"})
        await end()
        assert await told_until(told, mark) == [f"{here.workspace_id} {run}"]

        async with database.workspace(here.workspace_id) as session:
            await session.execute(text("UPDATE workflow_executions SET status = 'running'"))
        async with database.workspace(here.workspace_id) as session:
            await cancels.ask(session, *ids)
        await end()
        # The cancel of a run that Temporal has changes no status.
        plain = f"{here.workspace_id} {run}"
        assert await told_until(told, mark) == [f"{plain} status", plain]

        with suppress(RuntimeError):
            async with database.workspace(here.workspace_id) as session:
                await session.execute(text("UPDATE workflow_executions SET status = 'failed'"))
                raise RuntimeError
        await end()
        assert await told_until(told, mark) == []


@pytest.mark.parametrize("payload", ["", "x", "a b c", f"{UUID(int=1)}", f"{UUID(int=1)} y"])
def test_any_other_notice_is_none(payload: str):
    assert news.read(payload) is None


def test_a_notice_is_read():
    one, two = UUID(int=1), UUID(int=2)
    assert news.read(f"{one} {two}") == news.News(one, two)
    assert news.read(f"{one} {two} status") == news.News(one, two, is_status=True)
