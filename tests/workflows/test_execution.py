"""The driver on a real server, with activities that do as a test says: moments that no node makes last."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio import activity
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.worker import UnsandboxedWorkflowRunner, Worker, WorkflowRunner

from activities.sandbox import sandbox
from tests.workflows.drawn import edges, execution, log, trigger
from workflows import execution as driver
from workflows.execution import ExecutionWorkflow
from workflows.graph import Graph, Loop, Node
from workflows.messages import BeginInput, Begun, Command, ExecutionResult, Heard, Outcome, StepInput

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


# ── runs that were admitted where they were started


ADA = Begun(workspace={"name": "Here"}, workflow={"name": "Intake"}, lead={"name": "Ada"})


@asynccontextmanager
async def working(
    client: Client, task_queue: str, runner: WorkflowRunner | None = None
) -> AsyncIterator[list[StepInput]]:
    """Have a worker that cannot admit anybody log; give what it is asked to."""
    asked = list[StepInput]()

    @activity.defn(name="UTILITY_LOG")
    async def look(given: StepInput) -> Outcome:
        asked.append(given)
        return Outcome()

    async with Worker(
        client,
        task_queue=task_queue,
        workflows=[ExecutionWorkflow],
        activities=[look],
        workflow_runner=runner or sandbox(),
    ):
        yield asked


async def admitted(client: Client, task_queue: str) -> WorkflowHandle[Any, ExecutionResult]:
    """Start a run of one step, a log that names the lead."""
    last = log("log", reads=("lead.name", "workspace.name", "execution.version"))
    return await client.start_workflow(
        ExecutionWorkflow.run,
        execution(Graph(nodes=(trigger(), last), edges=edges("start>log")), begun=ADA, lead_id=uuid4()),
        id=f"execution-{uuid4()}",
        task_queue=task_queue,
        execution_timeout=timedelta(seconds=20),
    )


async def test_a_run_that_was_admitted_where_it_was_started_knows_what_begin_would_find(
    temporal_client: Client, task_queue: str
):
    async with working(temporal_client, task_queue) as asked:
        await (await admitted(temporal_client, task_queue)).result()
    (given,) = asked
    assert not given.load_lead
    assert given.scope == {
        "lead": {"name": "Ada"},
        "workspace": {"name": "Here"},
        "execution": {"version": 1},
    }


async def test_a_run_that_waited_long_for_a_worker_has_its_lead_read_again(
    temporal_client: Client, task_queue: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(driver, "FRESH", timedelta(seconds=0.5))
    handle = await admitted(temporal_client, task_queue)
    await asyncio.sleep(1)
    # The sandbox would import the limit anew.
    async with working(temporal_client, task_queue, UnsandboxedWorkflowRunner()) as asked:
        await handle.result()
    (given,) = asked
    assert given.load_lead
    assert given.scope["workspace"] == {"name": "Here"}


async def test_a_run_that_was_cancelled_before_its_first_task_begins_nothing(
    temporal_client: Client, task_queue: str
):
    handle = await admitted(temporal_client, task_queue)
    await handle.cancel()
    async with working(temporal_client, task_queue) as asked:
        with pytest.raises(WorkflowFailureError):
            await handle.result()
    assert asked == []
    kinds = [event.event_type for event in (await handle.fetch_history()).events]
    assert EventType.EVENT_TYPE_MARKER_RECORDED not in kinds


async def test_a_run_that_was_paused_before_its_first_task_begins_no_step(
    temporal_client: Client, task_queue: str
):
    handle = await admitted(temporal_client, task_queue)
    pausing = asyncio.create_task(handle.execute_update("pause", Command(by="test")))
    await asyncio.sleep(0.5)
    async with working(temporal_client, task_queue) as asked:
        await pausing
        await asyncio.sleep(0.5)
        assert asked == []
        await handle.execute_update("resume", Command(by="test"))
        await handle.result()
    assert len(asked) == 1
