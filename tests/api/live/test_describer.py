"""Asking Temporal how a run stands: never long, and whatever an operator did to the run."""

import asyncio
from time import monotonic
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest
from temporalio.api.enums.v1 import PendingActivityState, WorkflowExecutionStatus
from temporalio.api.taskqueue.v1 import PollerInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.client import Client

from activities.clients import temporal
from api.live.describer import PATIENCE, UNKNOWN, UNREACHABLE, Temporals, Unseen, named, serves
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


def test_a_worker_is_told_from_others_and_its_name_is_not_told():
    one, other = named("4711@host-a"), named("4712@host-a")
    assert one != other
    assert one is not None
    assert len(one) == 8
    assert named("") is None


@pytest.mark.parametrize(
    ("build", "polled_by", "is_served"),
    [("", "b1", True), ("b1", "b1", True), ("b1", "b2", False), ("b1", "", True)],
)
def test_what_is_pinned_to_a_build_is_served_by_that_build(build: str, polled_by: str, is_served: bool):
    poller = PollerInfo()
    poller.deployment_options.build_id = polled_by
    assert serves(poller, build) == is_served


async def test_what_operators_and_workers_are_called_stays_out_of_what_tenants_see():
    answer = DescribeWorkflowExecutionResponse()
    info = answer.pending_activities.add(activity_id="n:1", last_worker_identity="4711@host-a")
    info.state = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
    info.pause_info.manual.identity = info.pause_info.manual.reason = "ops: their provider is broke"

    async def describe(*_: Any, **__: Any) -> DescribeWorkflowExecutionResponse:
        return answer

    service = SimpleNamespace(describe_workflow_execution=describe)
    client = cast(Client, SimpleNamespace(namespace="default", workflow_service=service))
    found = str(await Temporals(client).look(uuid4()))
    assert "host-a" not in found
    assert "ops" not in found


async def test_the_servers_own_pause_is_read_where_the_client_would_raise():
    answer = DescribeWorkflowExecutionResponse()
    answer.workflow_execution_info.status = WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_PAUSED

    async def describe(*_: Any, **__: Any) -> DescribeWorkflowExecutionResponse:
        return answer

    service = SimpleNamespace(describe_workflow_execution=describe)
    client = cast(Client, SimpleNamespace(namespace="default", workflow_service=service))
    found = await Temporals(client).look(uuid4())
    assert (found.is_open, found.is_paused) == (True, True)
