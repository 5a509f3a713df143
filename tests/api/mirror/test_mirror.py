"""The mirror as a service: hints make it quick, the sweep makes it complete, and nothing makes it stop."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import update
from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter

from activities.interceptors import MirrorInterceptor
from api.metrics import Metrics
from api.mirror.mirror import Mirror
from api.mirror.pace import Pace
from db.models import WorkflowExecution
from local.ports import free
from local.postgres import plain
from tests.api.mirror.stage import START, Runs, graph, id_of, node, reset, until, workers

pytestmark = pytest.mark.anyio

LINE = graph(START, node("a"), node("b"), edges=["start>a", "a>b"])
SLEEPER = graph(START, node("a", does={"sleeps": 60}), edges=["start>a"])
HINTED = Pace(sweep=3600)
SWEEPING = Pace(sweep=0.3, silence=timedelta())


@asynccontextmanager
async def mirroring(mirror: Mirror) -> AsyncIterator[Mirror]:
    """Run a mirror beside the test."""
    task = asyncio.create_task(mirror.run())
    try:
        yield mirror
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def becomes(runs: Runs, handle: WorkflowHandle[Any, Any], status: str) -> WorkflowExecution:
    """Wait for an execution's status."""

    async def there() -> WorkflowExecution | None:
        row = await runs.row(id_of(handle))
        return row if row.status == status else None

    found: WorkflowExecution = await until(there)
    return found


async def hears(admin_url: str) -> None:
    """Wait until the mirror listens for hints."""
    listening = (
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'flowtrack mirror'"
        " AND datname = current_database() AND query LIKE 'LISTEN %' AND state = 'idle'"
    )

    async def there() -> bool:
        async with await psycopg.AsyncConnection.connect(plain(admin_url)) as admin:
            found = await (await admin.execute(listening)).fetchone()
        return bool(found and found[0])

    await until(there)


@asynccontextmanager
async def hinting(idle: Runs, database_url: str, admin_url: str) -> AsyncIterator[None]:
    """Run a worker that hints, and a mirror that hears it and sweeps for nothing."""
    interceptor = MirrorInterceptor(idle.database)
    mirror = Mirror(idle.client, idle.database, database_url=database_url, pace=HINTED)
    async with mirroring(mirror), interceptor.sending():
        await hears(admin_url)
        async with workers(idle.client, idle.task_queue, idle.doings, interceptors=[interceptor]):
            yield


async def test_hints_of_the_worker_bring_rows_without_a_sweep(idle: Runs, database_url: str, admin_url: str):
    async with hinting(idle, database_url, admin_url):
        assert await becomes(idle, await idle.start(LINE), "completed")
        assert await becomes(idle, await idle.start(SLEEPER), "waiting")


async def test_a_reset_right_after_the_close_is_looked_at_by_the_workers_hint(
    idle: Runs, database_url: str, admin_url: str
):
    async with hinting(idle, database_url, admin_url):
        handle = await idle.start(LINE)
        await becomes(idle, handle, "completed")
        run_id = await reset(idle, handle)

        async def replaced() -> bool:
            row = await idle.row(id_of(handle))
            return (row.temporal_run_id, row.status) == (run_id, "completed")

        assert await until(replaced)


async def test_a_hint_of_the_api_shows_what_it_did(runs: Runs, database_url: str):
    mirror = Mirror(runs.client, runs.database, database_url=database_url, pace=HINTED)
    async with mirroring(mirror):
        handle = await runs.start(SLEEPER)
        mirror.hint(id_of(handle))
        await becomes(runs, handle, "waiting")
        await handle.terminate(reason="stop")
        mirror.hint(id_of(handle))
        row = await becomes(runs, handle, "failed")
        assert row.status_reason == "terminated"


async def test_the_sweep_finds_what_no_hint_told(runs: Runs, database_url: str):
    handles = [await runs.start(LINE) for _ in range(3)]
    sleeper = await runs.start(SLEEPER)
    mirror = Mirror(runs.client, runs.database, database_url=database_url, pace=SWEEPING)
    async with mirroring(mirror):
        for handle in handles:
            await becomes(runs, handle, "completed")
        await becomes(runs, sleeper, "waiting")
        await sleeper.terminate(reason="stop")
        assert (await becomes(runs, sleeper, "failed")).status_reason == "terminated"


async def test_a_history_that_cannot_be_read_harms_no_other(runs: Runs, database_url: str):
    broken = await runs.queue(LINE)
    await runs.client.start_workflow(
        "ExecutionWorkflow", "no input", id=f"execution-{broken}", task_queue=runs.task_queue
    )
    handle, sleeper = await runs.start(LINE), await runs.start(SLEEPER)
    mirror = Mirror(runs.client, runs.database, database_url=database_url, pace=SWEEPING)
    async with mirroring(mirror):
        await becomes(runs, handle, "completed")
        await becomes(runs, sleeper, "waiting")
    assert (await runs.row(broken)).status == "queued"
    await runs.client.get_workflow_handle(f"execution-{broken}").terminate()


async def test_a_mirror_that_is_killed_is_succeeded_by_another(runs: Runs, database_url: str):
    drawn = graph(START, node("a", does={"sleeps": 3}), node("b"), edges=["start>a", "a>b"])
    handle = await runs.start(drawn)
    async with mirroring(Mirror(runs.client, runs.database, database_url=database_url, pace=SWEEPING)):
        await becomes(runs, handle, "waiting")
    await handle.result()
    async with mirroring(
        Mirror(runs.client, runs.database, database_url=database_url, pace=SWEEPING)
    ) as mirror:
        await becomes(runs, handle, "completed")
        everything = await runs.everything(id_of(handle))
        assert [step["status"] for step in everything["steps"]] == ["completed"] * 3
        assert await mirror.rebuild(id_of(handle))
        assert await runs.everything(id_of(handle)) == everything


async def test_a_lost_connection_for_hints_is_made_again(runs: Runs, database_url: str, admin_url: str):
    mirror = Mirror(runs.client, runs.database, database_url=database_url, pace=HINTED)
    listeners = (
        "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = %s AND datname = current_database()"
    )
    known: set[int] = set()

    async def cut() -> bool:
        """Cut a connection that was not cut before."""
        async with await psycopg.AsyncConnection.connect(plain(admin_url), autocommit=True) as admin:
            found = await (await admin.execute(listeners, ["flowtrack mirror"])).fetchall()
        new = {pid for pid, _ in found} - known
        known.update(new)
        return bool(new)

    async with mirroring(mirror):
        await until(cut)
        # Whatever happened meanwhile is found without a hint.
        handle = await runs.start(LINE)
        await handle.result()
        await until(cut)
        assert await becomes(runs, handle, "completed")


async def test_without_temporal_the_mirror_waits_and_says_so_once(
    runs: Runs, database_url: str, caplog: pytest.LogCaptureFixture
):
    away = await Client.connect(f"127.0.0.1:{free()}", lazy=True, data_converter=pydantic_data_converter)
    handle = await runs.start(LINE)
    metrics = Metrics()
    mirror = Mirror(away, runs.database, database_url=database_url, pace=SWEEPING, metrics=metrics)

    async def tried_again() -> bool:
        failed = metrics.registry.get_sample_value("flowtrack_mirror_looks_total", {"found": "failed"})
        return (failed or 0) >= 3

    with caplog.at_level(logging.WARNING, logger="api.mirror.mirror"):
        async with mirroring(mirror):
            mirror.hint(id_of(handle))
            await until(tried_again)
    assert len(caplog.records) == 1
    assert (await runs.row(id_of(handle))).status == "queued"


async def test_a_run_that_temporal_does_not_know_is_lost_after_a_while(runs: Runs, database_url: str):
    old, new = await runs.queue(LINE), await runs.queue(LINE)
    async with runs.database.workspace(runs.workspace_id) as session:
        long_ago = datetime.now(UTC) - timedelta(minutes=10)
        await session.execute(
            update(WorkflowExecution).where(WorkflowExecution.id == old).values(dispatched_at=long_ago)
        )
    mirror = Mirror(runs.client, runs.database, database_url=database_url, pace=SWEEPING)
    async with mirroring(mirror):

        async def lost() -> bool:
            return (await runs.row(old)).status_reason == "lost"

        await until(lost)
        await asyncio.sleep(0.5)
    assert (await runs.row(old)).status == "failed"
    assert (await runs.row(new)).status == "queued"
