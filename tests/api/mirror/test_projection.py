"""The projection is pure: however a history is cut into reads, its rows are the same."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowFailureError
from temporalio.contrib.pydantic import pydantic_data_converter

from api.mirror.decoding import decode
from api.mirror.events import Event, Recorded, Started
from api.mirror.history import Histories
from api.mirror.pages import Pages
from api.mirror.projection import Projection
from api.mirror.rows import Changes, log_id
from api.mirror.state import OpenStep, State, began
from tests.api.mirror.stage import BEGUN, START, Runs, graph, id_of, node
from workflows.graph import Graph
from workflows.messages import Begun, Heard, Outcome

pytestmark = pytest.mark.anyio

MAIL = "ACTION_SEND_EMAIL"
PATIENT = {"retry": {"initialSeconds": 0.1}}
GRAPHS = {
    "branches": graph(
        START,
        node("c", "LOGIC_CONDITION", does={"handles": ("condition_true",)}),
        node("yes", label="Yes"),
        node("no"),
        node("m", "LOGIC_MERGE"),
        node("off", disabled=True),
        edges=["start>c", "c:condition_true>yes", "c:condition_false>no", "yes>m", "no>m", "m>off"],
    ),
    "retries": graph(
        START,
        node("a", MAIL, does={"fails": 2}, config=PATIENT),
        node("b", "ACTION_UPDATE_LEAD", does={"fails": 9, "final": True}, on_error="branch"),
        node("m", "LOGIC_MERGE"),
        edges=["start>a", "start>b", "a>m", "b:error>m"],
    ),
    "sleeps": graph(
        START,
        node("s", does={"sleeps": 1}),
        node("t", does={"sleeps": 0, "log": [{"message": "hi", "level": "DEBUG"}]}),
        node("z"),
        edges=["start>s", "start>t", "s>z", "t>z"],
    ),
    "fails": graph(
        START,
        node("s", does={"sleeps": 30}),
        node("a", MAIL, does={"fails": 3}, config={"retry": {"initialSeconds": 0.1}}),
        node("f", "UTILITY_FAIL", does={"fails": 1, "final": True}),
        edges=["start>s", "start>a", "a>f"],
    ),
    "ends": graph(
        START,
        node("e", "UTILITY_END", does={"handles": (), "ending": {"outcome": "won", "output": {"n": 1}}}),
        edges=["start>e"],
    ),
}


async def recorded(runs: Runs, drawn: Graph, begun: Begun | None = None) -> tuple[UUID, list[Event]]:
    """Run a graph and read its history."""
    handle = await runs.start(drawn, begun=begun)
    try:
        await handle.result()
    except WorkflowFailureError:
        await asyncio.sleep(0)
    histories = Histories(runs.client)
    raw = await histories.since(id_of(handle), handle.first_execution_run_id or "", event_id=0)
    return id_of(handle), await histories.decode(raw)


def told(execution_id: UUID, parts: Sequence[list[Event]], *, verbose: bool) -> tuple[Changes, Projection]:
    """Project a history part by part; between two parts only JSON survives."""
    whole = Changes()
    start = next(event.input for part in parts for event in part if isinstance(event, Started))
    projection = Projection(Pages(execution_id, verbose=verbose))
    for part in parts:
        projection.apply(part)
        merge(whole, projection.pages.take())
        if projection.ended is None and projection.run_id:
            state = State.model_validate(json.loads(json.dumps(projection.frozen())))
            pages = Pages(execution_id, verbose=verbose)
            projection = Projection(pages, run_id=projection.run_id, state=state, start=start)
    return whole, projection


def merge(whole: Changes, more: Changes) -> None:
    """Write changes as the database would."""
    whole.execution.update(more.execution)
    whole.steps.update(more.steps)
    whole.logs.extend(more.logs)


@pytest.mark.parametrize("begun", [None, BEGUN], ids=["admitted by begin", "admitted at the start"])
@pytest.mark.parametrize("name", GRAPHS)
async def test_any_cut_of_a_history_gives_the_same_rows(runs: Runs, name: str, begun: Begun | None):
    execution_id, events = await recorded(runs, GRAPHS[name], begun)
    expected, _ = told(execution_id, [events], verbose=True)
    assert expected.execution["finished_at"] is not None

    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
    @given(cuts=st.sets(st.integers(1, len(events) - 1)))
    def check(cuts: set[int]) -> None:
        places = [0, *sorted(cuts), len(events)]
        parts = [events[begin:end] for begin, end in pairwise(places)]
        assert told(execution_id, parts, verbose=True)[0] == expected

    check()


@pytest.mark.parametrize("name", GRAPHS)
async def test_a_run_that_was_admitted_where_it_was_started_is_told_alike(runs: Runs, name: str):
    stories = []
    for begun in (None, BEGUN):
        execution_id, events = await recorded(runs, GRAPHS[name], begun)
        whole, _ = told(execution_id, [events], verbose=False)
        steps = {key: (row.step_number, row.status, row.attempt) for key, row in whole.steps.items()}
        # Branches side by side end in any order.
        stories.append((steps, sorted(line.message for line in whole.logs)))
        assert all(row.started_at is None or row.started_at >= events[1].at for row in whole.steps.values())
    assert stories[0] == stories[1]


async def test_a_run_that_no_worker_has_taken_up_has_no_steps(runs: Runs):
    execution_id, events = await recorded(runs, GRAPHS["ends"], BEGUN)
    queued, _ = told(execution_id, [events[:1]], verbose=False)
    taken, _ = told(execution_id, [events[:2]], verbose=False)
    assert queued.execution["started_at"] == events[0].at
    assert [line.message for line in queued.logs] == ["Run started"]
    assert queued.steps == {}
    assert {key: row.started_at for key, row in taken.steps.items()} == dict.fromkeys(
        ("start:1", "e:1"), events[1].at
    )


async def test_a_worker_of_an_earlier_release_that_admits_a_run_once_more_changes_nothing(runs: Runs):
    execution_id, events = await recorded(runs, GRAPHS["branches"], BEGUN)
    marker = Recorded(events[1].id + 1, events[1].at, key="begin", result=BEGUN)
    expected, _ = told(execution_id, [events], verbose=True)
    assert told(execution_id, [[*events[:2], marker, *events[2:]]], verbose=True)[0] == expected


async def test_numbers_follow_the_walk_and_ids_follow_the_key(runs: Runs):
    execution_id, events = await recorded(runs, GRAPHS["branches"])
    changes = told(execution_id, [events], verbose=False)[0]
    assert sorted(step.step_number for step in changes.steps.values()) == [1, 2, 3, 4, 5, 6]
    assert changes.steps["off:1"].skip_reason == "disabled"


async def test_an_ending_names_the_outcome(runs: Runs):
    execution_id, events = await recorded(runs, GRAPHS["ends"])
    execution: dict[str, Any] = told(execution_id, [events], verbose=False)[0].execution
    assert (execution["status"], execution["status_reason"]) == ("completed", "won")
    assert execution["output_data"] == {"n": 1}


async def test_events_that_nobody_reads_are_ignored():
    unread = HistoryEvent(event_id=7, event_type=EventType.EVENT_TYPE_WORKFLOW_EXECUTION_OPTIONS_UPDATED)
    newer = HistoryEvent(event_id=8, event_type=9_999)  # type: ignore[arg-type]  # of a newer server
    assert await decode(unread, pydantic_data_converter) is None
    assert await decode(newer, pydantic_data_converter) is None


async def test_what_a_run_heard_is_read_and_what_is_no_event_is_dropped(runs: Runs):
    handle = await runs.start(graph(START, node("a", does={"hangs": True}), edges=["start>a"]))
    paid = Heard(type="PAID", at=datetime(2026, 11, 26, tzinfo=UTC), data={"amount": 5})
    for name, said in (("event", 7), ("other", paid), ("event", paid)):
        await handle.signal(name, said)
    runs.doings.gate.set()
    await handle.result()
    raw = await Histories(runs.client).since(id_of(handle), handle.first_execution_run_id or "", event_id=0)
    events = await Histories(runs.client).decode(raw)
    run = told(id_of(handle), [events], verbose=False)[1].run
    assert run.state.inbox == [paid]
    assert run.state.began_at == events[0].at


async def test_ids_of_log_lines_sort_as_the_history_has_them(runs: Runs):
    execution_id, events = await recorded(runs, GRAPHS["sleeps"])
    at = events[0].at
    places = [(1, 0), (1, 1), (2, 0), (300, 16_000), (51_200, 0)]
    ids = [log_id(execution_id, "run", at=at, event_id=event, ordinal=nth) for event, nth in places]
    assert ids == sorted(ids)
    assert {made.version for made in ids} == {7}
    assert len({log_id(execution_id, run, at=at, event_id=1, ordinal=0) for run in ("a", "b")}) == 2


async def test_steps_decided_in_one_breath_still_follow_each_other_in_time(runs: Runs):
    chain = graph(START, node("a"), node("b"), node("c"), edges=["start>a", "a>b", "b>c"])
    execution_id, events = await recorded(runs, chain)
    changes = told(execution_id, [events], verbose=False)[0]
    steps = sorted(changes.steps.values(), key=lambda step: step.step_number)
    within = [time for step in steps for time in (step.started_at, step.finished_at)]
    times = [changes.execution["started_at"], *within, changes.execution["finished_at"]]
    assert times == sorted(times)
    assert len({step.finished_at for step in steps[1:]}) == 3


@pytest.mark.parametrize(("worked", "expected"), [(4, 6), (40, 0)])
async def test_a_step_began_when_its_work_did_but_never_before_it_was_decided(worked: int, expected: int):
    decided = datetime(2026, 3, 1, tzinfo=UTC)
    marker = Event(9, decided + timedelta(milliseconds=10))
    step = OpenStep(number=1, decided_at=decided)
    assert began(marker, step, Outcome(ms=worked)) == decided + timedelta(milliseconds=expected)
