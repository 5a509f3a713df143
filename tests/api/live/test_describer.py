"""Asking Temporal how a run stands: never long, and whatever an operator did to the run."""

import asyncio
from time import monotonic
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.client import Client

from activities.clients import temporal
from api.live.describer import PATIENCE, UNKNOWN, UNREACHABLE, Temporals, Unseen
from db.session import Database
from tests.api.mirror.stage import START, Doings, graph, id_of, node, settle

pytestmark = pytest.mark.anyio


async def test_a_run_that_temporal_does_not_know_is_unknown(temporal_client: Client):
    with pytest.raises(Unseen, match=UNKNOWN):
        await Temporals(temporal_client).look(uuid4())


async def test_nobody_waits_long_for_a_temporal_that_is_away():
    describer = Temporals(await temporal.connect("127.0.0.1:1", lazy=True))
    began = monotonic()
    with pytest.raises(Unseen, match=UNREACHABLE):
        await describer.look(uuid4())
    first = monotonic()
    assert first - began < PATIENCE + 5
    # For a moment nobody asks again.
    for _ in range(100):
        with pytest.raises(Unseen, match=UNREACHABLE):
            await describer.look(uuid4())
    assert monotonic() - first < 1


async def test_a_run_that_no_worker_takes_says_so(
    temporal_client: Client, database: Database, task_queue: str
):
    runs = await settle(temporal_client, database, task_queue, Doings())
    handle = await runs.start(graph(START, node("a"), edges=["start>a"]))
    describer = Temporals(temporal_client)
    found = await describer.look(id_of(handle))
    assert (found.is_open, found.queue, found.pending) == (True, task_queue, {})
    assert found.task_since is not None
    while not found.unpolled:
        await asyncio.sleep(0.2)
        found = await describer.look(id_of(handle))
    assert found.unpolled == {task_queue}
    await handle.terminate()
    assert not (await describer.look(id_of(handle))).is_open


async def test_the_servers_own_pause_is_read_where_the_client_would_raise():
    answer = DescribeWorkflowExecutionResponse()
    answer.workflow_execution_info.status = WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_PAUSED

    async def describe(*_: Any, **__: Any) -> DescribeWorkflowExecutionResponse:
        return answer

    service = SimpleNamespace(describe_workflow_execution=describe)
    client = cast(Client, SimpleNamespace(namespace="default", workflow_service=service))
    found = await Temporals(client).look(uuid4())
    assert (found.is_open, found.is_paused) == (True, True)
