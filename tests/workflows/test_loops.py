"""Loops: every item and every turn is walked by the join rule, in whatever order steps end."""

from collections.abc import Callable
from random import Random

import pytest

from tests.workflows.drawn import edges, execution, log, trigger
from tests.workflows.looping import Fate, Teller, looping_graph
from workflows.graph import Graph, Loop, Node
from workflows.messages import Outcome, RunState, StepError
from workflows.rewind import Unkept, following, rewind
from workflows.run import Dropped, Event, Looped, Run, Skipped
from workflows.walk import BREATH

SEEDS = range(500)


class Player:
    """Plays a run by its fate, steps ending in an order of the dice."""

    def __init__(self, graph: Graph, fate: Fate, order: int, *, state: RunState | None = None) -> None:
        self.graph, self.fate, self.dice = graph, fate, Random(order)
        self.start = execution(graph, state=state)
        self.run = Run(self.start)
        self.told: dict[str, str | None] = {}
        self.ended: list[str] = []
        self.numbers = 0
        if state is None:
            self.take(self.run.start())

    def to_the_end(self, *, rebirth: float = 0, most: int = 20_000) -> None:
        for _ in range(most):
            if self.dice.random() < rebirth:
                self.reborn()
            if not self.run.state.ready:
                return
            key = self.dice.choice(self.run.state.ready)
            self.ended.append(key)
            self.take(self.run.finish(key, self.outcome_of(key)))
        assert most < 20_000, "the run does not end"

    def outcome_of(self, key: str) -> Outcome:
        node, visit = self.run.place_of(key)
        if node.type == "LOGIC_FOR_EACH":
            return Outcome(items=tuple(range(self.fate.items(node, visit))))
        return Outcome(output=key, handles=self.fate.handles(node, visit))

    def reborn(self) -> None:
        state = RunState.model_validate_json(self.run.state.model_dump_json())
        self.run = Run(self.start.model_copy(update={"state": state}))

    def take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Looped | Dropped):
                continue
            self.numbers += 1
            assert event.key not in self.told, f"{event.key} is decided twice"
            self.told[event.key] = event.reason if isinstance(event, Skipped) else None


@pytest.mark.parametrize("lot", range(10))
def test_random_graphs_with_loops_are_walked_as_the_naive_interpreter_says(lot: int):
    for seed in SEEDS[lot::10]:
        graph, fate = looping_graph(seed, size=4 + seed % 16), Fate(seed)
        assert_well_formed(graph)
        player = Player(graph, fate, seed)
        player.to_the_end(rebirth=0.05 * (seed % 2))
        told = Teller(graph, fate).told()
        stragglers = {key for key in player.told if key not in told}
        assert not stragglers, f"seed {seed}"
        assert player.told == told, f"seed {seed}"
        assert player.numbers == player.run.decided == len(told), f"seed {seed}"
        assert_nothing_is_left(player.run.state)


def assert_well_formed(graph: Graph) -> None:
    walk = Run(execution(graph))._walk
    assert walk.loops.crossing() is None


def assert_nothing_is_left(state: RunState) -> None:
    assert (state.ready, state.items, state.item_outputs, state.walk.loops) == ([], {}, {}, {})


def mended(graph: Graph) -> Graph:
    """Draw a version in which only settings differ."""
    nodes = []
    for node in reversed(graph.nodes):
        loop = node.loop and node.loop.model_copy(update={"at_once": 3, "fails": not node.loop.fails})
        changed = {"label": "new", "config": {**node.config, "message": "new"}, "loop": loop}
        nodes.append(node.model_copy(update=changed if node.type != "LOGIC_MERGE" else {"label": "new"}))
    return Graph(nodes=tuple(nodes), edges=graph.edges)


@pytest.mark.parametrize("is_mended", [False, True], ids=["the same version", "a mended one"])
@pytest.mark.parametrize("seed", range(60))
def test_a_rerun_goes_on_in_the_midst_of_loops_and_does_what_is_left(seed: int, is_mended: bool):
    graph, fate = looping_graph(seed, size=4 + seed % 12), Fate(seed)
    first = Player(graph, fate, seed)
    first.to_the_end(most=seed)
    newer = mended(graph) if is_mended else graph
    state = rewind(first.run, newer, trigger_id="start")
    again = Player(newer, fate, seed + 1, state=state)
    again.to_the_end()
    told = Teller(graph, fate).told()
    assert {**first.told, **again.told} == told
    assert not set(again.told) & {key for key, reason in first.told.items() if reason is not None}


@pytest.mark.parametrize("is_mended", [False, True], ids=["the same version", "a mended one"])
@pytest.mark.parametrize("seed", range(60))
def test_a_rerun_from_a_node_repeats_all_that_follows_loops_included(seed: int, is_mended: bool):
    graph, fate = looping_graph(seed, size=4 + seed % 12), Fate(seed)
    first = Player(graph, fate, seed)
    first.to_the_end()
    ran = [n.id for n in graph.nodes if f"{n.id}:1" in first.told and not first.told[f"{n.id}:1"]]
    node_id = Random(seed).choice(ran)
    region = first.run._walk.loops.home(node_id)
    if region is not None:
        with pytest.raises(Unkept, match=f"the loop of `{region}`"):
            rewind(first.run, graph, trigger_id="start", node_id=node_id)
        return
    newer = mended(graph) if is_mended else graph
    state = rewind(first.run, newer, trigger_id="start", node_id=node_id)
    again = Player(newer, fate, seed + 1, state=state.model_copy(deep=True) if state else None)
    again.to_the_end()
    repeated = following(graph, node_id)
    expected = {key for key in first.told if key.rpartition(":")[0] in repeated}
    assert {*again.told, *(state.ready if state else ())} == expected
    assert all(again.told[key] == first.told[key] for key in again.told)
    assert_nothing_is_left(again.run.state)


@pytest.mark.parametrize(
    "change",
    [
        lambda graph: graph.model_copy(update={"nodes": (*graph.nodes, log("x"))}),
        lambda graph: graph.model_copy(update={"edges": graph.edges[:-1]}),
        lambda graph: Graph(nodes=(trigger(), head(cap=6), *graph.nodes[2:]), edges=graph.edges),
        lambda graph: Graph(nodes=(*graph.nodes[:-1], log("end", disabled=True)), edges=graph.edges),
    ],
    ids=["a node more", "an edge less", "turns numbered otherwise", "a node disabled"],
)
def test_what_turns_did_is_not_carried_into_a_graph_drawn_otherwise(change: Callable[[Graph], Graph]):
    run = gathering()
    with pytest.raises(Unkept) as refused:
        rewind(run, change(run.graph), trigger_id="start")
    assert refused.value.code == "version_differs"


GATHER = edges("start>loop", "loop.each>a", "a>b", "b>loop", "loop.done>end")


def head(**values: object) -> Node:
    loop = Loop(kind="each", **{"cap": 5, "at_once": 2, "fails": False, **values})
    return Node(id="loop", type="LOGIC_FOR_EACH", save_as="loop", loop=loop, config={"items": []})


def gathering(**values: object) -> Run:
    nodes = (trigger(), head(**values), log("a"), log("b"), log("end"))
    run = Run(execution(Graph(nodes=nodes, edges=GATHER)))
    run.start()
    run.finish("loop:1", Outcome(items=("x", "y", "z")))
    return run


def told(events: list[Event]) -> list[str]:
    return [f"{type(event).__name__} {event.key}" for event in events]


def test_items_run_side_by_side_up_to_their_bound_and_each_sees_its_own():
    run = gathering()
    assert run.state.ready == ["a:1", "a:2"]
    node = log("a", reads=("loop.item", "loop.index", "loop.count"))
    assert run.scope_for(node, 2) == {"loop": {"item": "y", "index": 1, "count": 3}}
    run.finish("a:1", Outcome(output="of x"))
    run.finish("a:2", Outcome(output="of y"))
    assert run.scope_for(log("b", reads=("steps.a",)), 2) == {"steps": {"a": "of y"}}
    assert told(run.finish("b:2", Outcome())) == ["Ready a:3"]


def test_a_failed_item_is_counted_and_its_other_steps_are_given_up():
    nodes = (trigger(), head(), log("a"), log("b"), log("end"))
    drawn = edges("start>loop", "loop.each>a", "loop.each>b", "loop.done>end")
    run = Run(execution(Graph(nodes=nodes, edges=drawn)))
    run.start()
    run.finish("loop:1", Outcome(items=("x", "y", "z")))
    events = run.fail("a:1", StepError(type="t", message="m"))
    assert told(events or []) == ["Dropped b:1", "Ready a:3", "Ready b:3"]
    assert run.finish("b:1", Outcome()) == []
    for key in ("a:2", "b:2", "a:3"):
        run.finish(key, Outcome())
    assert told(run.finish("b:3", Outcome())) == ["Looped loop:1", "Ready end:1"]
    assert run.state.outputs["loop"] == {"count": 3, "failed": 1}


@pytest.mark.parametrize(("policy", "leaves"), [("branch", "error"), ("continue", "done"), ("fail", None)])
def test_a_loop_that_fails_with_its_item_obeys_its_own_on_error(policy: str, leaves: str | None):
    node = head(fails=True).model_copy(update={"on_error": policy})
    drawn = edges("start>loop", "loop.each>a", "loop.done>done", "loop.error>error")
    graph = Graph(nodes=(trigger(), node, log("a"), log("done"), log("error")), edges=drawn)
    run = Run(execution(graph))
    run.start()
    run.finish("loop:1", Outcome(items=("x", "y")))
    events = run.fail("a:2", StepError(type="t", message="m"))
    if leaves is None:
        assert events is None
        assert run.state.ready == ["a:1", "a:2"]
        return
    assert told(events or [])[:2] == ["Dropped a:1", "Looped loop:1"]
    assert run.state.ready == [f"{leaves}:1"]
    assert run.state.outputs["loop"] == {"error": {"type": "item_failed", "message": "Item 1 failed: m"}}


def test_an_inner_loop_ends_before_the_item_around_it_and_its_visits_tell_both():
    inner = head().model_copy(update={"id": "inner", "save_as": "inner"})
    drawn = edges("start>loop", "loop.each>inner", "inner.each>a", "inner.done>b")
    run = Run(execution(Graph(nodes=(trigger(), head(at_once=1), inner, log("a"), log("b")), edges=drawn)))
    run.start()
    run.finish("loop:1", Outcome(items=(10, 20)))
    run.finish("inner:1", Outcome(items=()))
    run.finish("b:1", Outcome())
    assert told(run.finish("inner:2", Outcome(items=(1, 2)))) == ["Ready a:6", "Ready a:7"]
    loop = run.scope_for(log("a", reads=("loop",)), 7)["loop"]
    outer = {"item": 20, "index": 1, "count": 2, "outer": None}
    assert loop == {"item": 2, "index": 1, "count": 2, "outer": outer}


def circle(*more: str, cap: int = 3, join: str = "any_live") -> Run:
    loop = Loop(kind="jump", cap=cap, target="try")
    again = log("again", type="LOGIC_GOTO", loop=loop, config={"targetNodeId": "try"}, join=join)
    drawn = edges("start>try", "try.bad>again", "try.good>fine", "again.exhausted>lost", *more)
    run = Run(
        execution(
            Graph(nodes=(trigger(), log("try"), again, log("fine"), log("lost"), log("x")), edges=drawn)
        )
    )
    run.start()
    return run


def test_a_jump_repeats_until_it_is_not_reached_and_what_leaves_waits_for_the_last_turn():
    run = circle()
    assert told(run.finish("try:1", Outcome(handles=("bad",)))) == ["Ready again:1"]
    assert told(run.finish("again:1", Outcome())) == ["Ready try:2"]
    events = run.finish("try:2", Outcome(handles=("good",)))
    assert told(events) == ["Skipped again:2", "Ready fine:1", "Skipped lost:1"]


def test_a_jump_with_no_visits_left_is_exhausted():
    run = circle(cap=2)
    for key, handle in (("try:1", "bad"), ("again:1", "default"), ("try:2", "bad")):
        run.finish(key, Outcome(handles=(handle,)))
    assert told(run.finish("again:2", Outcome())) == ["Ready lost:1", "Skipped fine:1"]


def test_a_jump_gives_up_what_its_turn_left_behind():
    run = circle("try.bad>x", "x>again", join="first")
    run.finish("try:1", Outcome(handles=("bad",)))
    assert run.state.ready == ["again:1", "x:1"]
    assert told(run.finish("again:1", Outcome())) == ["Dropped x:1", "Ready try:2"]


def test_a_long_loop_that_needs_no_activity_takes_breath_and_is_carried_on():
    nodes = (trigger(), head(cap=10_000), log("a", disabled=True), log("b", disabled=True), log("end"))
    start = execution(Graph(nodes=nodes, edges=GATHER))
    run = Run(start)
    run.start()
    events = run.finish("loop:1", Outcome(items=tuple(range(10_000))))
    breaths = [len(events)]
    while run.halted():
        run = Run(start.model_copy(update={"state": run.state.model_copy(deep=True)}))
        assert run.is_open
        assert run.halted() == ["loop:1"]
        events = run.go_on("loop:1")
        breaths.append(len(events))
    assert max(breaths) < BREATH + 10
    assert sum(breaths) == 20_000 + 2
    assert told(events)[-2:] == ["Looped loop:1", "Ready end:1"]
    assert_nothing_is_left(run.state.model_copy(update={"ready": []}))
    assert run.go_on("loop:1") == []
