"""The sweep: asks once for each page of runs, and finds whatever every hint missed."""

from datetime import timedelta

import pytest

from api.mirror.follower import Follower
from api.mirror.history import Histories
from api.mirror.mirror import Mirror
from api.mirror.pace import Pace
from tests.api.mirror.stage import Runs, id_of, reset, workers
from tests.api.mirror.test_mirror import LINE, becomes, mirroring
from tests.budgets.counting import calls, statements
from workflows.execution import ExecutionWorkflow

pytestmark = pytest.mark.anyio

READS = (
    "get_workflow_execution_history_reverse",
    "get_workflow_execution_history",
    "describe_workflow_execution",
)
OFTEN = Pace(sweep=0.3, silence=timedelta(hours=1))
"""Open rows are not looked at for their silence: visibility has to tell."""


async def test_what_is_mirrored_or_not_ours_costs_one_statement_a_page(runs: Runs, database_url: str):
    ours = [await runs.start(LINE) for _ in range(5)]
    stranger = await runs.client.start_workflow(
        ExecutionWorkflow.run,
        runs.input(LINE, runs.workspace_id),
        id=f"execution-{runs.workspace_id}",
        task_queue=runs.task_queue,
    )
    for handle in (*ours, stranger):
        await handle.result()
    for handle in ours:
        assert (await runs.follower.look(id_of(handle))).closed
    # As after a restart: it remembers nothing.
    mirror = Mirror(runs.client, runs.database, database_url=database_url)
    pages = [page async for page in Histories(runs.client).moved_since(mirror._sweep._watermark)]
    with statements(runs.database) as sent, calls(runs.client, *READS) as asked:
        await mirror._sweep(everything=True)
    doors = [statement for _, statement in sent if "door_unmirrored" in statement]
    assert len(pages) <= len(doors) <= len(pages) + 1
    assert asked.total() == 0
    assert not mirror._watches


async def test_a_reset_of_what_was_over_is_found_while_the_new_run_is_open(idle: Runs, database_url: str):
    async with workers(idle.client, idle.task_queue, idle.doings):
        handle = await idle.start(LINE)
        await handle.result()
    assert (await idle.follower.look(id_of(handle))).closed
    mirror = Mirror(idle.client, idle.database, database_url=database_url, pace=OFTEN)
    async with mirroring(mirror):
        run_id = await reset(idle, handle)
        # Nobody carries it out: no worker hints, nothing closes.
        row = await becomes(idle, handle, "running")
        assert row.temporal_run_id == run_id
        assert row.finished_at is None
        async with workers(idle.client, idle.task_queue, idle.doings):
            await becomes(idle, handle, "completed")


async def test_of_an_execution_that_was_reset_only_the_newest_run_is_listed(runs: Runs):
    handle = await runs.start(LINE)
    await handle.result()
    began = (await handle.describe()).start_time
    run_id = await reset(runs, handle)
    await runs.client.get_workflow_handle(handle.id, run_id=run_id).result()
    pages = [page async for page in Histories(runs.client).moved_since(began)]
    listed = [seen for page in pages for seen in page if seen.execution_id == id_of(handle)]
    assert [(seen.run_id, seen.is_open) for seen in listed] == [(run_id, False)]
    late = Follower(Histories(runs.client), runs.database)
    assert (await late.look(id_of(handle))).closed
    assert late.knows(id_of(handle), run_id=run_id)
