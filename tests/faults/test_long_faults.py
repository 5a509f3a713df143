"""The long ones: kill -9 at random moments, and outages of a minute."""

import os
import random
import secrets
import time
from collections import Counter

import pytest

from tests.faults import graphs, invariants
from tests.faults.machine import Machine, until
from tests.faults.test_servers import expect_quick

pytestmark = pytest.mark.slow

KILLS = 50
MINUTE = 60.0


def test_kills_at_random_moments_lose_nothing_and_double_nothing(rough: Machine):
    seed = os.environ.get("FLOWTRACK_TEST_SEED") or secrets.token_hex(4)
    print(f"seed {seed}")  # noqa: T201 - by which a failing run is made again
    dice = random.Random(seed)
    workflow = rough.workflow("Random", graphs.drowsy("PT1S"))
    rough.rough.add(workflow["id"])
    killed: Counter[str] = Counter()
    for number in range(KILLS):
        rough.submit(workflow, f"random{number}@example.com")
        time.sleep(dice.uniform(0.1, 3))
        name = dice.choice(["worker", "worker", "worker", "api", "temporal", "postgres"])
        # One that is still down from the last time is waited for.
        until(lambda n=name: rough.is_its_own(rough.pids[n]), f"{name} to kill", seconds=60)  # type: ignore[misc]
        rough.kill(name)
        killed[name] += 1
    print(f"killed {dict(killed)}")  # noqa: T201 - so that a quiet run is seen as one
    until(rough.is_well, "all is back", seconds=120)

    kept = [row["id"] for row in rough.rows("SELECT id::text FROM workflow_executions")]
    runs = rough.ended(*kept, seconds=180)

    invariants.check(rough)
    assert len(runs) >= len(rough.posted.accepted) > 0
    for run in runs:
        errors = [step["error"]["type"] for step in rough.steps(run["id"]).values() if step["error"]]
        assert (run["status"], errors) in [("completed", []), ("failed", ["outcome_unknown"])], seed


def test_a_worker_killed_at_every_boundary_of_one_run_costs_it_nothing(rough: Machine):
    workflow = rough.workflow("Every boundary", graphs.drowsy("PT2S"))
    execution_id = rough.accepted(workflow, "boundaries@example.com")
    for number in range(len(graphs.STEPS)):
        until(lambda n=number: f"nap{n}" in rough.steps(execution_id), f"nap {number}", seconds=60)  # type: ignore[misc]
        killed = rough.kill("worker")
        until(lambda k=killed: rough.pids["worker"] != k, "a new worker", seconds=60)  # type: ignore[misc]

    rough.completed(execution_id, seconds=180)

    invariants.check(rough)


def test_temporal_away_for_a_minute_costs_no_form_and_no_run(rough: Machine):
    workflow = rough.workflow("A minute away", graphs.straight())
    rough.freeze("temporal")
    away, answers = time.monotonic(), []
    for number in range(50):
        answers.append(rough.submit(workflow, f"minute{number}@example.com"))
        time.sleep(max(0.0, away + (number + 1) * MINUTE / 50 - time.monotonic()))
    rough.thaw("temporal")

    expect_quick(answers)
    rough.completed(*(str(answer.execution_id) for answer in answers), seconds=120)
    invariants.check(rough)


def test_a_worker_dead_for_a_minute_fails_no_run(rough: Machine):
    workflow = rough.workflow("No worker", graphs.straight())
    rough.freeze("worker")
    answers = rough.flood(workflow, [f"idle{number}@example.com" for number in range(20)])
    time.sleep(MINUTE)
    killed = rough.kill("worker")
    rough.wait_until_back("worker", killed)

    expect_quick(answers)
    rough.completed(*(str(answer.execution_id) for answer in answers), seconds=120)
    invariants.check(rough)
