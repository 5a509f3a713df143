"""Where simulations can be played and where not, and how long one may go on."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from temporalio import activity
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

import worker
from activities.clients import temporal
from activities.simulation import SimulatedSteps, _Imagination
from api.simulation.script import Scripted
from api.simulation.simulator import Away, Simulator, Unsupported
from api.simulation.telling import Teller, line
from local import ports
from local.temporal import SIMULATIONS
from workflows.graph import Edge, Graph, Node
from workflows.messages import ExecutionInput, Kin
from workflows.simulation import Plan, Stub, lead_scope

pytestmark = pytest.mark.anyio

SKIPS = ("frontend.WorkflowTimeSkippingEnabled=true", 'history.timerProcessorMaxTimeShift="50ms"')


def node(id_: str, type_: str, *reads: str, **config: Any) -> Node:
    return Node(id=id_, type=type_, config=config, save_as=id_, reads=reads)


def run_of(*nodes: Node) -> ExecutionInput:
    """Start a chain."""
    edges = (Edge(id=f"{one.id}-{two.id}", source=one.id, target=two.id) for one, two in pairwise(nodes))
    return ExecutionInput(
        workspace_id=uuid4(),
        workflow_id=uuid4(),
        execution_id=uuid4(),
        version=1,
        trigger_type="MANUAL",
        trigger_node_id=nodes[0].id,
        lead_id=uuid4(),
        graph=Graph(nodes=nodes, edges=tuple(edges)),
    )


def lead(given: ExecutionInput) -> dict[str, Any]:
    return lead_scope(
        {"email": "ada@example.com"},
        id_=str(given.lead_id),
        workflow_id=str(given.workflow_id),
        now=datetime.now(UTC),
    )


START = node("start", "TRIGGER_MANUAL")


@asynccontextmanager
async def server(*settings: str) -> AsyncIterator[Client]:
    """Run a Temporal server with these dynamic settings and no others."""
    extra = [part for setting in settings for part in ("--dynamic-config-value", setting)]
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(Path(sys.executable).parent / "temporal"),
        dev_server_extra_args=extra,
        data_converter=pydantic_data_converter,
    ) as environment:
        yield environment.client


@pytest.fixture
async def client(temporal_address: str) -> Client:
    """Connect to the namespace of simulations."""
    return await temporal.connect(temporal_address, SIMULATIONS)


async def test_a_missing_namespace_is_named_with_its_remedy(temporal_address: str, task_queue: str):
    client = await temporal.connect(temporal_address, "nowhere")
    assert not await temporal.has_namespace(client)
    with pytest.raises(Unsupported, match="operator namespace create --namespace nowhere"):
        await Simulator(client, task_queue=task_queue).play(run_of(START), Plan(), [])


async def test_a_server_that_skips_no_time_is_told_by_the_setting_it_lacks(task_queue: str):
    async with server() as client:
        with pytest.raises(Unsupported, match="WorkflowTimeSkippingEnabled=true"):
            await Simulator(client, task_queue=task_queue).play(run_of(START), Plan(), [])
        left = [found async for found in client.list_workflows()]
    assert left == []


async def test_a_server_that_is_away_is_no_lack():
    client = await temporal.connect(f"127.0.0.1:{ports.free()}", SIMULATIONS, lazy=True)
    with pytest.raises(Away):
        await Simulator(client, task_queue="any").play(run_of(START), Plan(), [])


async def test_a_workspace_plays_one_simulation_at_a_time(client: Client, task_queue: str):
    simulator, given = Simulator(client, task_queue=task_queue, seconds=0.5), run_of(START)
    first = asyncio.create_task(simulator.play(given, Plan(), []))
    await asyncio.sleep(0)
    with pytest.raises(Away, match="under way"):
        await simulator.play(given, Plan(), [])
    await first
    course, _ = await simulator.play(given.model_copy(update={"execution_id": uuid4()}), Plan(), [])
    assert course.stopped_by == "time_limit"


async def test_without_a_worker_a_simulation_ends_by_its_time_limit_and_is_gone(
    client: Client, task_queue: str
):
    given = run_of(START)
    course, chapters = await Simulator(client, task_queue=task_queue, seconds=0.5).play(given, Plan(), [])
    assert course.stopped_by == "time_limit"
    told = Teller(given.execution_id).tell(chapters)
    assert told.steps == []
    await expect_gone(client, given)


async def test_a_run_that_is_continued_as_new_keeps_its_lead_and_its_stubs(task_queue: str):
    status = node("status", "ACTION_SET_LEAD_STATUS", status="CONTACTED")
    logs = [node(f"log{number}", "UTILITY_LOG", message="x") for number in range(12)]
    rest = node("rest", "LOGIC_DELAY", duration="P3D")
    call = node("call", "ACTION_CREATE_LEAD", email="x@example.com")
    last = node(
        "last", "UTILITY_LOG", "lead.status", "lead.company", message="{{ lead.status }} {{ lead.company }}"
    )
    given = run_of(START, status, *logs, rest, call, last)
    plan = Plan(
        lead=lead(given),
        stubs={"call": Stub(output="stubbed", handle="existing")},
        changes={"0": {"company": "Engines"}},
    )
    script = [Scripted("0", timedelta(days=2), "LEAD_UPDATED")]
    async with (
        server(*SKIPS, "limit.historyCount.suggestContinueAsNew=10") as client,
        worker.simulating(client, task_queue=task_queue),
    ):
        course, chapters = await Simulator(client, task_queue=task_queue).play(given, plan, script)
    assert len(chapters) > 1
    told = Teller(given.execution_id).tell(chapters)
    assert course.fates == {"0": ("delivered", "")}
    assert [line(step) for step in told.steps[-3:]] == [
        "rest: completed",
        "call: completed → existing",
        "last: completed",
    ]
    assert told.steps[-1].output_data["message"] == "CONTACTED Engines"
    assert timedelta(days=3) <= told.lasted < timedelta(days=3, minutes=1)


async def expect_gone(client: Client, given: ExecutionInput) -> None:
    """Expect that Temporal forgets a simulation."""
    deadline = asyncio.get_running_loop().time() + 20
    while await is_known(client, given):
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)


async def is_known(client: Client, given: ExecutionInput) -> bool:
    """Tell whether Temporal still has a run of a simulation."""
    try:
        await client.get_workflow_handle(f"execution-{given.execution_id}").describe()
    except RPCError:
        return False
    return True


async def test_what_a_run_owes_the_runs_it_waits_for_is_known_to_simulations_and_left_as_it_is():
    names = {activity._Definition.must_from_callable(each).name for each in SimulatedSteps().activities()}
    assert "cancel_awaited" in names
    asked = Kin(workspace_id=uuid4(), execution_id=uuid4())
    assert _Imagination().furnish("release", [asked]) == [asked]
    assert _Imagination().furnish("call:1 released", [asked]) == [asked]
