"""The worker and PostgreSQL killed while runs carry more than a history keeps: nothing of it is lost."""

import os
import time
from typing import Any

from tests.e2e.graphs import chain, node
from tests.faults import graphs
from tests.faults.graphs import EVENT
from tests.faults.machine import Machine

RUNS = 6
NAMES = ("first", "second", "third")
SIZES = {name: f"{{{{ trigger.{name} | size }}}}" for name in NAMES}
CLAIMED = "SELECT count(*) FROM payload_blobs"


def heavy() -> dict[str, Any]:
    """Draw steps that give, and are sent to another queue with, what must lie outside."""
    return chain(
        node("start", "TRIGGER_MANUAL"),
        node("keep", "UTILITY_SET_VARIABLES", assignments={"kept": "{{ trigger.first }}"}),
        graphs.nap("nap", "PT1S"),
        node("tell", "ACTION_DELIVER_WEBHOOK", eventType=EVENT, payload=SIZES),
        node("again", "UTILITY_SET_VARIABLES", assignments={"again": "{{ vars.kept }}"}),
        graphs.nap("doze", "PT1S"),
        node("end", "UTILITY_LOG", message="{{ vars.again | size }}"),
    )


def begin(machine: Machine, workflow: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """Start a run; no text of it can be compressed to less than half."""
    data = {name: os.urandom(30_000).hex() for name in NAMES}
    path = f"/v1/workflows/{workflow['id']}/executions"
    execution_id = machine.call("POST", path, {"trigger_data": data})["id"]
    machine.posted.started.add(execution_id)
    return execution_id, data


def test_runs_with_large_data_lose_nothing_of_it_to_a_killed_worker_or_database(machine: Machine):
    workflow = machine.workflow("Large", heavy(), fields=())
    # The worker may be in the middle of a delivery.
    machine.rough.add(workflow["id"])
    given: dict[str, dict[str, str]] = {}
    for victim, pause in (("worker", 0.3), ("worker", 1.6), ("postgres", 0.9)):
        given |= dict(begin(machine, workflow) for _ in range(RUNS // 3))
        time.sleep(pause)
        machine.wait_until_back(victim, machine.kill(victim))

    ended = machine.ended(*given)

    for run in ended:
        steps = machine.steps(run["id"])
        errors = [step["error"]["type"] for step in steps.values() if step["error"]]
        assert run["status"] == "completed" or errors == ["outcome_unknown"], (run, errors)
        assert run["trigger_data"] == given[run["id"]]
        assert steps["keep"]["output_data"] == {"kept": given[run["id"]]["first"]}
    assert machine.rows(CLAIMED)[0]["count"] >= 3 * RUNS
