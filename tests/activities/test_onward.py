"""Steps that share an activity come to what each comes to alone; what fails is told or left to the run."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from temporalio.exceptions import ApplicationError

from activities import onward as carrying
from activities.onward import carried_on
from tests.workflows.drawn import edges, execution, log, scripted_graphs, trigger
from tests.workflows.naive import Script
from workflows.graph import Graph, Node
from workflows.messages import ExecutionInput, Outcome, StepError, StepInput
from workflows.nodetype import NodeType
from workflows.onward import onward
from workflows.run import Run

pytestmark = pytest.mark.anyio

Act = Callable[[type[NodeType], StepInput], Awaitable[Outcome]]
LINE = Graph(nodes=(trigger(), log("a"), log("b"), log("c")), edges=edges("start>a", "a>b", "b>c"))


def hook(node_id: str) -> Node:
    """Draw a node whose first attempt is its fast path."""
    return Node(id=node_id, type="ACTION_DELIVER_WEBHOOK", save_as=node_id, config={"eventType": "lead.told"})


def handed(graph: Graph = LINE) -> tuple[str, ExecutionInput]:
    """Start a graph, and hand it to the activity of its first step."""
    run = Run(execution(graph))
    run.start()
    (key,) = run.state.ready
    given = onward(execution(graph), run, key)
    assert given is not None
    return key, ExecutionInput.model_validate_json(given.model_dump_json())


async def followed(act: Act, graph: Graph = LINE) -> Outcome:
    """Carry on from the first step."""
    key, start = handed(graph)
    return await carried_on(key, Outcome(size=10), start, act)


async def well(node_type: type[NodeType], given: StepInput) -> Outcome:
    await asyncio.sleep(0.01)
    return Outcome(output=given.node.id, size=10)


def failing(error: Exception, at: str = "b") -> Act:
    async def act(node_type: type[NodeType], given: StepInput) -> Outcome:
        if given.node.id == at:
            raise error
        return Outcome(size=10)

    return act


def scripted(run: Run, script: Script, key: str) -> Outcome:
    """Give what a step comes to by the script."""
    node = run.node_of(key)
    conditions = {e.id: script.holds[e.id] for e in run.graph.outgoing[node.id] if e.condition}
    return Outcome(output=node.id, handles=script.handles[node.id], conditions=conditions, size=1)


async def together(graph: Graph, script: Script, dice: Random) -> tuple[Run, int]:
    """Play a run as the driver does: whatever can follow a step follows it in its activity."""
    start, shared = execution(graph), 0
    run = Run(start)
    run.start()

    async def act(node_type: type[NodeType], given: StepInput) -> Outcome:
        return scripted(run, script, f"{given.node.id}:{given.visit}")

    while run.state.ready:
        key = dice.choice(run.state.ready)
        outcome, handed = scripted(run, script, key), onward(start, run, key)
        if handed is not None:
            read = ExecutionInput.model_validate_json(handed.model_dump_json())
            outcome = await carried_on(key, outcome, read, act)
        run.finish(key, outcome)
        for further in outcome.then:
            assert further.outcome is not None
            run.finish(further.key, further.outcome)
        shared += len(outcome.then)
    return run, shared


@settings(max_examples=200, deadline=None)
@given(scripted_graphs(size=40), st.integers())
def test_steps_that_share_an_activity_come_to_what_they_come_to_alone(drawn: tuple[Graph, Script], seed: int):
    graph, script = drawn
    alone = Run(execution(graph))
    alone.start()
    dice = Random(seed)
    while alone.state.ready:
        key = dice.choice(alone.state.ready)
        alone.finish(key, scripted(alone, script, key))
    run, shared = asyncio.run(together(graph, script, Random(seed)))
    event(f"some shared: {shared > 0}")
    assert run.state.outputs == alone.state.outputs
    assert run.state.walk.visits == alone.state.walk.visits
    assert run.state.walk.edges == alone.state.walk.edges


async def test_what_follows_is_told_in_its_order_and_with_its_times():
    whole = await followed(well)
    assert [further.key for further in whole.then] == ["b:1", "c:1"]
    assert whole.whole_size == 30
    times = [whole.ago, *(further.ago for further in whole.then)]
    assert times == sorted(times, reverse=True)
    assert min(times) >= 0


async def test_of_a_fast_path_that_fails_the_attempt_is_told_and_nothing_follows():
    graph = Graph(nodes=(trigger(), log("a"), hook("b"), log("c")), edges=LINE.edges)
    for final in (False, True):
        whole = await followed(failing(ApplicationError("no", type="busy", non_retryable=final)), graph)
        (further,) = whole.then
        assert (further.key, further.outcome, further.final) == ("b:1", None, final)
        assert further.error == StepError(type="busy", message="no")


async def test_any_other_step_that_fails_is_left_to_an_activity_of_its_own():
    assert (await followed(failing(ApplicationError("no", type="busy"), "c"))).then[-1].key == "b:1"
    assert (await followed(failing(ApplicationError("no", type="busy"), "b"))).then == ()
    assert (await followed(failing(ValueError("a defect"), "b"))).then == ()


@pytest.mark.parametrize("outcome", [Outcome(waits_for=("PAID",)), Outcome(items=(1, 2))])
async def test_a_step_that_rests_or_begins_a_loop_is_left_to_the_run(outcome: Outcome):
    async def act(node_type: type[NodeType], given: StepInput) -> Outcome:
        return outcome

    assert (await followed(act)).then == ()
    key, start = handed()
    assert await carried_on(key, outcome, start, well) == outcome


async def test_a_fast_path_ends_in_its_own_time(monkeypatch: pytest.MonkeyPatch):
    graph = Graph(nodes=(trigger(), log("a"), hook("b"), log("c")), edges=LINE.edges)

    async def act(node_type: type[NodeType], given: StepInput) -> Outcome:
        monkeypatch.setattr(node_type, "fast_timeout", node_type.fast_timeout / 100)
        return await within(node_type, given)

    async def hang(node_type: type[NodeType], given: StepInput) -> Outcome:
        await asyncio.sleep(60)
        return Outcome()

    async def within(node_type: type[NodeType], given: StepInput) -> Outcome:
        return await carrying.within(hang, node_type, given)

    (further,) = (await followed(act, graph)).then
    assert (further.error, further.final) == (carrying.TOO_SLOW, False)


async def test_after_a_while_and_beyond_a_size_no_further_step_begins(monkeypatch: pytest.MonkeyPatch):
    async def heavy(node_type: type[NodeType], given: StepInput) -> Outcome:
        return Outcome(size=carrying.HEAVIEST)

    assert len((await followed(heavy)).then) == 1
    monkeypatch.setattr(carrying, "LONGEST", -1)
    assert (await followed(well)).then == ()


async def test_a_cancellation_in_between_loses_nothing_that_was_done():
    reached = asyncio.Event()

    async def act(node_type: type[NodeType], given: StepInput) -> Outcome:
        if given.node.id == "c":
            reached.set()
            await asyncio.sleep(60)
        return Outcome()

    task: asyncio.Task[Any] = asyncio.create_task(followed(act))
    await reached.wait()
    task.cancel()
    whole = await task
    assert [further.key for further in whole.then] == ["b:1"]
