"""The driver on a real server, with activities that do as a test says: moments that no node makes last."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio import activity
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.worker import Worker

from activities.sandbox import sandbox
from tests.workflows.drawn import edges, execution, log, trigger
from workflows.execution import ExecutionWorkflow
from workflows.graph import Graph, Loop, Node
from workflows.messages import BeginInput, Begun, ExecutionResult, Heard, Outcome, StepInput

pytestmark = pytest.mark.anyio

Look = Callable[[StepInput], Awaitable[Outcome]]
WAIT = "LOGIC_WAIT_FOR_EVENT"
PAID = Outcome(waits_for=("PAID",))


@activity.defn(name="begin")
async def begin(asked: BeginInput) -> Begun:
    return Begun(workspace={}, workflow={})


async def ran(
    client: Client, task_queue: str, name: str, look: Look, *, graph: Graph | None = None, kind: str = WAIT
) -> ExecutionResult:
    """Run a graph, else one of one node that waits, by a workflow task that is short of time."""
    wait = Node(id="wait", type=WAIT, save_as="wait", config={"events": [{"id": "paid", "type": "PAID"}]})
    graph = graph or Graph(nodes=(trigger(), wait), edges=edges("start>wait"))
    activities: list[Callable[..., Any]] = [begin, activity.defn(name=kind)(look)]
    async with Worker(
        client,
        task_queue=task_queue,
        workflows=[ExecutionWorkflow],
        activities=activities,
        workflow_runner=sandbox(),
    ):
        handle = await client.start_workflow(
            ExecutionWorkflow.run,
            execution(graph),
            id=name,
            task_queue=task_queue,
            # A local activity that outlasts most of it has the workflow see what came meanwhile.
            task_timeout=timedelta(seconds=1),
            execution_timeout=timedelta(seconds=20),
        )
        return await handle.result()


async def test_an_event_that_comes_while_a_step_looks_has_it_look_again(
    temporal_client: Client, task_queue: str
):
    name, heard = f"execution-{uuid4()}", []

    async def look(given: StepInput) -> Outcome:
        heard.append([event.type for event in given.heard])
        if len(heard) > 1:
            return Outcome(handles=("event_paid",))
        for type_ in ("OTHER", "PAID"):
            event = Heard(type=type_, at=datetime.now(UTC))
            await temporal_client.get_workflow_handle(name).signal("event", event)
        await asyncio.sleep(2.5)
        return PAID

    await ran(temporal_client, task_queue, name, look)
    assert heard == [[], ["OTHER", "PAID"]]


async def test_an_event_that_a_step_does_not_wait_for_leaves_it_asleep_until_its_deadline(
    temporal_client: Client, task_queue: str
):
    name = f"execution-{uuid4()}"
    looks: list[datetime] = []
    deadlines: list[datetime] = []

    async def look(given: StepInput) -> Outcome:
        looks.append(datetime.now(UTC))
        if len(looks) > 1:
            return Outcome(handles=("timeout",))
        await temporal_client.get_workflow_handle(name).signal(
            "event", Heard(type="OTHER", at=datetime.now(UTC))
        )
        await asyncio.sleep(2.5)
        deadlines.append(datetime.now(UTC) + timedelta(seconds=1))
        return PAID.model_copy(update={"wake_at": deadlines[0]})

    await ran(temporal_client, task_queue, name, look)
    assert len(looks) == 2
    assert looks[1] >= deadlines[0]


async def test_many_items_whose_steps_are_disabled_go_on_in_task_after_task(
    temporal_client: Client, task_queue: str
):
    made = Loop(kind="each", cap=10_000, at_once=1, fails=True)
    config: dict[str, Any] = {"items": []}
    loop = Node(id="loop", type="LOGIC_FOR_EACH", save_as="loop", loop=made, config=config)
    drawn = Graph(
        nodes=(trigger(), loop, *(log(name, disabled=True) for name in "abc")),
        edges=edges("start>loop", "loop.each>a", "a>b", "b>c"),
    )

    async def look(given: StepInput) -> Outcome:
        return Outcome(items=(0,) * 2_000)

    name = f"execution-{uuid4()}"
    await ran(temporal_client, task_queue, name, look, graph=drawn, kind="LOGIC_FOR_EACH")
    history = await temporal_client.get_workflow_handle(name).fetch_history()
    kinds = [event.event_type for event in history.events]
    assert EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED not in kinds
    assert kinds.count(EventType.EVENT_TYPE_TIMER_FIRED) == 5
