"""Completion callbacks: signed by workflow, on executions only, left out where Temporal refuses them."""

import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from activities.clients import callbacks
from activities.clients.callbacks import CLOSED_AT, SIGNATURE, WORKFLOW, Callbacks, Close
from local import temporal

pytestmark = pytest.mark.anyio

KEY = bytes(range(32))
URL = "http://127.0.0.1:1"
RUN = UUID(int=7)
RIGHT = callbacks.signed(KEY, f"execution-{RUN}")


@pytest.fixture
async def refusing() -> AsyncIterator[Client]:
    """Connect to a server that allows no callback's address."""
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=temporal.executable()
    ) as environment:
        yield environment.client


async def started(client: Client, kind: str = "ExecutionWorkflow") -> list[str]:
    """Start a run that no worker takes; return where it will tell of its close."""
    workflow_id = f"execution-{uuid4()}"
    handle = await client.start_workflow(kind, id=workflow_id, task_queue="nobody")
    request = DescribeWorkflowExecutionRequest(
        namespace=client.namespace, execution=WorkflowExecution(workflow_id=workflow_id)
    )
    answer = await client.workflow_service.describe_workflow_execution(request)
    await handle.terminate()
    return [info.callback.nexus.url for info in answer.callbacks]


def test_what_we_asked_for_is_read():
    told = {**RIGHT, CLOSED_AT: "2026-11-27T07:07:29.247812793Z"}
    at = datetime(2026, 11, 27, 7, 7, 29, 247812, UTC)
    assert callbacks.read(KEY, told) == Close(RUN, at)


@pytest.mark.parametrize(
    "moment", ["", "yesterday", "2026-11-27T07:07:29", "9" * 5000, "2026-13-01T00:00:00Z"]
)
def test_a_time_that_cannot_be_read_is_no_time(moment: str):
    assert callbacks.read(KEY, {**RIGHT, CLOSED_AT: moment}) == Close(RUN, None)


def test_what_another_key_or_another_run_signed_is_not_read():
    wrong = [
        {},
        {WORKFLOW: RIGHT[WORKFLOW]},
        {SIGNATURE: RIGHT[SIGNATURE]},
        {**RIGHT, WORKFLOW: f"execution-{uuid4()}"},
        {**RIGHT, SIGNATURE: RIGHT[SIGNATURE].upper()},
        {**RIGHT, SIGNATURE: RIGHT[SIGNATURE][:-1]},
        callbacks.signed(bytes(32), f"execution-{RUN}"),
        callbacks.signed(KEY, "delivery-1"),
        callbacks.signed(KEY, "execution-1"),
    ]
    assert [callbacks.read(KEY, one) for one in wrong] == [None] * len(wrong)


@given(st.text(), st.text())
def test_any_text_is_read_or_refused(workflow_id: str, signature: str):
    assert callbacks.read(KEY, {WORKFLOW: workflow_id, SIGNATURE: signature}) is None


async def test_every_execution_that_is_started_has_a_callback_and_nothing_else(temporal_client: Client):
    Callbacks(URL, KEY).attach(temporal_client)
    assert await started(temporal_client) == [f"{URL}{callbacks.PATH}"]
    assert await started(temporal_client, "DeliveryWorkflow") == []


async def test_where_temporal_refuses_the_address_runs_start_without_and_one_line_says_so(
    refusing: Client, caplog: pytest.LogCaptureFixture
):
    Callbacks(URL, KEY, probe_after=0).attach(refusing)
    with caplog.at_level(logging.INFO, logger="activities.clients.callbacks"):
        for _ in range(3):
            assert await started(refusing) == []
    assert [record.message for record in caplog.records] == [
        "degraded: closes are found by the sweep; Temporal refuses the API's address"
    ]


@pytest.mark.parametrize(("probe_after", "asked"), [(3600, [1, 0, 0]), (0, [1, 0, 1, 0])])
async def test_a_refusal_is_remembered_for_a_while(refusing: Client, probe_after: float, asked: list[int]):
    sent: list[int] = []
    service = refusing.workflow_service
    send = service.start_workflow_execution

    async def counting(request, **options):
        sent.append(len(request.completion_callbacks))
        return await send(request, **options)

    service.start_workflow_execution = counting  # type: ignore[method-assign,assignment] # to count
    Callbacks(URL, KEY, probe_after=probe_after).attach(refusing)
    await started(refusing)
    await started(refusing)
    assert sent == asked


async def test_a_start_that_is_refused_for_another_reason_says_that_reason(temporal_client: Client):
    Callbacks(URL, KEY).attach(temporal_client)
    with pytest.raises(RPCError, match="WorkflowId"):
        await temporal_client.start_workflow("ExecutionWorkflow", id="x" * 2000, task_queue="nobody")
    assert await started(temporal_client) == [f"{URL}{callbacks.PATH}"]
