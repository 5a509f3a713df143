"""Runs whose parts are each allowed and together too much for one message of Temporal's."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from temporalio.worker import Replayer

import worker
from activities.interceptors import MirrorInterceptor
from activities.sandbox import sandbox
from tests.e2e.graphs import chain, edge, graph, node
from tests.e2e.house import House, ok
from tests.e2e.planted import hostile_types_in
from tests.e2e.target import Target
from workflows.messages import Heard

pytestmark = pytest.mark.anyio

START = node("start", "TRIGGER_MANUAL")
END = node("end", "UTILITY_LOG", message="on")
MANY, TOO_MANY = 20, 28
"""Together they have 4.8 MB, more than one message may have, and 6.7 MB, more than any payload may."""


@pytest.fixture
def hostile_types(tmp_path: Path) -> Iterator[None]:
    """Plant nodes that give as much as they may."""
    with hostile_types_in(tmp_path):
        yield


@pytest.fixture
async def target(hostile_types: None, target: Target) -> Target:
    """Listen for webhooks, once the files are there: the house's worker registers what it finds."""
    return target


def heavy(number: int, way: str = "LOCAL") -> dict[str, Any]:
    """Write a node whose output is almost as large as one may be."""
    return node(f"heavy{number}", f"ACTION_HOSTILE_{way}", how="weighs 240000")


def in_a_row(*last: dict[str, Any], many: int = MANY) -> dict[str, Any]:
    """Draw heavy nodes one after the other."""
    return chain(START, *(heavy(n) for n in range(many)), *last)


def side_by_side() -> dict[str, Any]:
    """Draw heavy nodes that run at once, and a log after all of them."""
    every = [heavy(n, "QUEUED" if n % 2 else "LOCAL") for n in range(MANY)]
    ways = [edge("start", each["id"]) for each in every]
    return graph(START, *every, END, *ways, *(edge(e["id"], "end") for e in every))


def reading_all(many: int) -> dict[str, Any]:
    """Draw a node that is sent what it names: all of it."""
    names = " ".join(f"{{{{ steps.heavy{n} | size }}}}" for n in range(many))
    return in_a_row(node("reader", "ACTION_HOSTILE_QUEUED", how=names), many=many)


async def test_many_large_outputs_are_no_end_of_a_run(house: House):
    drawings = {
        "row": in_a_row(END),
        "beside": side_by_side(),
        "reads": reading_all(MANY),
        "reads more": reading_all(TOO_MANY),
    }
    workflows = {name: await house.workflow(drawn, fields=()) for name, drawn in drawings.items()}
    runs = {name: await house.start(workflow) for name, workflow in workflows.items()}

    ended = {name: await house.ended(run, patience=90) for name, run in runs.items()}

    assert {name: run["status"] for name, run in ended.items() if name != "reads more"} == {
        "row": "completed",
        "beside": "completed",
        "reads": "completed",
    }
    assert (await house.steps(runs["reads"]))["reader"]["output_data"] == " ".join(["240000"] * MANY)
    reader = (await house.steps(runs["reads more"]))["reader"]
    assert (ended["reads more"]["status_reason"], reader["error"]["type"]) == (
        "node_failed",
        "input_too_large",
    )
    replayer = Replayer(
        workflows=list(worker.WORKFLOWS),
        data_converter=house.temporal.data_converter,
        interceptors=[MirrorInterceptor(house.database)],
        workflow_runner=sandbox(),
    )
    for run in runs.values():
        # Another worker comes to the same.
        handle = house.temporal.get_workflow_handle(f"execution-{run}")
        await replayer.replay_workflow(await handle.fetch_history())
        assert await failed_tasks(house, run) == []


async def failed_tasks(house: House, run: UUID) -> list[str]:
    """Name what went wrong with a run's workflow tasks; the server ends one itself where it needs room."""
    found = [event.workflow_task_failed_event_attributes for event in await house.history(run)]
    own = [each.failure for each in found if each.cause and each.identity != "history-service"]
    return [str(await house.temporal.data_converter.decode_failure(failure)) for failure in own]


async def test_more_than_any_payload_may_have_is_a_failed_execution(house: House):
    workflow = await house.workflow(chain(START, END), fields=())
    path = f"/v1/workflows/{workflow['id']}"
    await ok(house.api.post(f"{path}/pause"))
    refused, taken = await house.start(workflow), await house.start(workflow)
    # No door lets that much in; what came in by another is not to be tried for ever all the same.
    # Chance, written as hex, cannot be compressed to less than half.
    each = "encode(sha256(random()::text::bytea), 'hex')"
    chance = f"SELECT string_agg({each}, '') FROM generate_series(1, 135000)"
    grown = f"UPDATE workflow_executions SET trigger_data = jsonb_build_object('text', ({chance}))"
    await house.rows(f"{grown} WHERE id = :id RETURNING id", id=refused)
    await ok(house.api.post(f"{path}/resume"))

    run = await house.ended(refused)

    assert (run["status"], run["status_reason"]) == ("failed", "start_refused")
    assert run["error"]["type"] == "input_too_large"
    assert "a run begins with at most 8,388,608" in run["error"]["message"]
    house.seen.remove(refused)  # there is no history to rebuild it from
    # It was alone in that: nobody else's start waits for it.
    assert (await house.ended(taken))["status"] == "completed"


async def test_a_flood_of_large_events_costs_a_run_nothing(house: House):
    wait = node("wait", "LOGIC_WAIT_FOR_EVENT", events=[{"id": "paid", "type": "PAID"}], timeout="PT1H")
    workflow = await house.workflow(chain(START, wait), fields=())
    run = await house.start(workflow)
    await house.until_step(run, "wait", "running")
    handle = house.temporal.get_workflow_handle(f"execution-{run}")
    path = f"/v1/executions/{run}/signals"

    too_much = await house.api.post(path, json={"type": "NOISE", "data": {"text": "x" * 70_000}})
    floods = (handle.signal("event", noise(1_000_000)) for _ in range(5))
    await asyncio.gather(*floods, *(handle.signal("event", noise(50_000)) for _ in range(50)))
    # What an operator may send by mistake from the Temporal Web UI.
    await handle.signal("event", {"no": "event"})
    await ok(house.api.post(path, json={"type": "PAID", "data": {"amount": 5}}))

    assert (too_much.status_code, "at most 65,536 characters" in too_much.text) == (422, True)
    assert (await house.ended(run))["status"] == "completed"


def noise(size: int) -> Heard:
    """Build an event with much in it."""
    return Heard(type="NOISE", at=datetime.now(UTC), data={"text": "x" * size})
