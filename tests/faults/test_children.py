"""Runs that wait for runs, while the processes that carry them are killed."""

import os
import random
import secrets
import time
from typing import Any

import pytest

from tests.e2e.graphs import chain, edge, graph, node
from tests.faults.graphs import nap
from tests.faults.machine import Machine, until

pytestmark = pytest.mark.slow

HAND = node("hand", "TRIGGER_MANUAL", "By hand")
CALLS = ("a", "b", "c")
PARENTS, KILLS = 8, 12


def calling(machine: Machine, name: str, *, duration: str) -> str:
    """Publish a workflow that waits for three runs of another one; return its id."""
    other = machine.workflow(f"{name}, called", chain(HAND, nap("nap", duration)))
    calls = [node(each, "ACTION_START_WORKFLOW", workflowId=other["id"], wait=True) for each in CALLS]
    drawn = graph(HAND, *calls, *(edge("hand", each) for each in CALLS))
    made: str = machine.workflow(name, drawn)["id"]
    return made


def started(machine: Machine, workflow_id: str) -> str:
    """Start a run through the API."""
    execution_id: str = machine.call("POST", f"/v1/workflows/{workflow_id}/executions", {})["id"]
    machine.posted.started.add(execution_id)
    return execution_id


def children(machine: Machine, *execution_ids: str) -> list[dict[str, Any]]:
    """Read the rows of the runs that executions caused."""
    statement = (
        "SELECT id::text, status, awaited_step, collected_at IS NOT NULL AS collected"
        " FROM workflow_executions WHERE cause_execution_id::text = ANY(%s) ORDER BY id"
    )
    return machine.rows(statement, list(execution_ids))


def test_kills_at_random_moments_part_no_run_from_the_one_that_waits(machine: Machine):
    seed = os.environ.get("FLOWTRACK_TEST_SEED") or secrets.token_hex(4)
    print(f"seed {seed}")  # noqa: T201 - by which a failing run is made again
    dice = random.Random(seed)
    workflow_id = calling(machine, "Calling", duration="PT3S")
    parents: list[str] = []
    for number in range(KILLS):
        if number < PARENTS:
            parents.append(started(machine, workflow_id))
        time.sleep(dice.uniform(0.1, 2))
        name = dice.choice(["worker", "worker", "worker", "api", "temporal"])
        until(lambda n=name: machine.is_its_own(machine.pids[n]), f"{name} to kill", seconds=60)  # type: ignore[misc]
        machine.kill(name)
    until(machine.is_well, "all is back", seconds=120)

    machine.completed(*parents, seconds=240)

    found = children(machine, *parents)
    assert [row["awaited_step"] for row in found].count("a:1") == PARENTS
    assert len(found) == PARENTS * len(CALLS)
    assert {row["status"] for row in found} == {"completed"}
    assert all(row["collected"] for row in found)


def test_ends_without_code_reach_the_other_run_once_an_api_is_back(machine: Machine):
    workflow_id = calling(machine, "Calling long", duration="P1D")
    by_child, by_parent = started(machine, workflow_id), started(machine, workflow_id)
    machine.waits(by_child)
    machine.waits(by_parent)
    machine.freeze("api")
    child = children(machine, by_child)[0]["id"]
    for ended in (child, by_parent):
        machine.temporal("workflow", "terminate", "--workflow-id", f"execution-{ended}", "--reason", "enough")
    killed = machine.kill("api")
    machine.wait_until_back("api", killed)

    runs = machine.ended(by_child, by_parent, *(row["id"] for row in children(machine, by_child, by_parent)))

    assert [run["status_reason"] for run in runs[:2]] == ["node_failed", "terminated"]
    assert runs[0]["error"]["type"] == "child_failed"
    reasons = sorted(run["status_reason"] for run in runs[2:])
    assert reasons == ["parent_ended"] * 5 + ["terminated"]
