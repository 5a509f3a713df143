"""Completion callbacks: signed by workflow, on executions only, left out where Temporal refuses them."""

import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import TimeoutError as TimedOut
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from activities.clients import callbacks
from activities.clients import temporal as clients
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


async def started(client: Client) -> WorkflowHandle[Any, Any]:
    """Start a run that no worker takes."""
    return await client.start_workflow("ExecutionWorkflow", id=f"execution-{uuid4()}", task_queue="nobody")


async def told(handle: WorkflowHandle[Any, Any], client: Client) -> list[str]:
    """Read where a run will tell of its close."""
    request = DescribeWorkflowExecutionRequest(
        namespace=client.namespace, execution=WorkflowExecution(workflow_id=handle.id)
    )
    answer = await client.workflow_service.describe_workflow_execution(request)
    return [info.callback.nexus.url for info in answer.callbacks]


def id_of(handle: WorkflowHandle[Any, Any]) -> UUID:
    """Name the execution of a run."""
    return UUID(handle.id.removeprefix("execution-"))


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


async def test_a_run_that_is_open_is_asked_to_tell_once_however_often_it_is_asked(temporal_client: Client):
    handle = await started(temporal_client)
    callbacks_ = Callbacks(temporal_client, URL, KEY)
    assert [await callbacks_.ask(id_of(handle)) for _ in range(3)] == [True] * 3
    assert await told(handle, temporal_client) == [f"{URL}{callbacks.PATH}"]
    assert len((await handle.fetch_history()).events) == 3
    await handle.terminate()


async def test_a_run_that_has_closed_is_said_to_have(temporal_client: Client):
    handle = await started(temporal_client)
    await handle.terminate()
    assert not await Callbacks(temporal_client, URL, KEY).ask(id_of(handle))
    assert await told(handle, temporal_client) == []


async def test_what_is_not_there_is_begun_for_a_second_and_carried_out_by_nobody(temporal_client: Client):
    missing = uuid4()
    await Callbacks(temporal_client, URL, KEY).ask(missing)
    handle = temporal_client.get_workflow_handle(f"execution-{missing}")
    with pytest.raises(WorkflowFailureError) as failure:
        await handle.result()
    assert isinstance(failure.value.cause, TimedOut)
    kinds = [event.event_type for event in (await handle.fetch_history()).events]
    assert EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED not in kinds


async def test_where_temporal_refuses_the_address_one_line_says_so(
    refusing: Client, caplog: pytest.LogCaptureFixture
):
    handle, callbacks_ = await started(refusing), Callbacks(refusing, URL, KEY, probe_after=0)
    with caplog.at_level(logging.INFO, logger="activities.clients.callbacks"):
        assert [await callbacks_.ask(id_of(handle)) for _ in range(3)] == [True] * 3
    assert [record.message for record in caplog.records] == [
        "degraded: closes are found by the sweep; Temporal refuses the API's address"
    ]
    assert await told(handle, refusing) == []


@pytest.mark.parametrize(("probe_after", "asked"), [(3600, 1), (0, 2)])
async def test_a_refusal_is_remembered_for_a_while(refusing: Client, probe_after: float, asked: int):
    handle, service, sent = await started(refusing), refusing.workflow_service, 0
    send = service.start_workflow_execution

    async def counting(request, **options):
        nonlocal sent
        sent += 1
        return await send(request, **options)

    service.start_workflow_execution = counting  # type: ignore[method-assign,assignment] # to count
    callbacks_ = Callbacks(refusing, URL, KEY, probe_after=probe_after)
    await callbacks_.ask(id_of(handle))
    await callbacks_.ask(id_of(handle))
    assert sent == asked


async def test_an_outage_is_raised():
    away = await clients.connect("127.0.0.1:1", lazy=True)
    with pytest.raises((RPCError, RuntimeError)):
        await Callbacks(away, URL, KEY).ask(uuid4())
