"""Temporal and PostgreSQL away while forms arrive: what was accepted is kept, and runs."""

import time

from tests.e2e.graphs import chain, node
from tests.faults import graphs
from tests.faults.graphs import FORM, STEPS
from tests.faults.machine import Answer, Machine

FORMS = 50


def test_forms_are_taken_while_temporal_is_away_and_all_run_afterwards(machine: Machine):
    workflow = machine.workflow("Temporal away", graphs.straight())
    emails = [f"away{n}@example.com" for n in range(FORMS)]
    away = time.monotonic()
    machine.freeze("temporal")
    answers = machine.flood(workflow, emails[: FORMS // 2], at_once=5)
    time.sleep(max(0, away + 6 - time.monotonic()))
    # What is frozen can be killed, too; it comes back by itself.
    killed = machine.kill("temporal")
    answers += machine.flood(workflow, emails[FORMS // 2 :], at_once=5)

    expect_quick(answers)
    machine.wait_until_back("temporal", killed)

    runs = machine.completed(*(str(answer.execution_id) for answer in answers))
    assert len(runs) == FORMS


def test_what_is_asked_for_while_temporal_is_away_is_carried_out_afterwards(machine: Machine):
    failing = machine.workflow("Fails", chain(FORM, STEPS[1], node("stop", "UTILITY_FAIL", message="no")))
    resting = machine.workflow("Rests", graphs.resting(1, "P1D"))
    failed, asleep = (
        machine.accepted(workflow, f"asked{n}@example.com") for n, workflow in enumerate((failing, resting))
    )
    machine.ended(failed)
    machine.waits(asleep)
    machine.freeze("temporal")
    asked = machine.call("POST", f"/v1/executions/{asleep}/cancel")
    ordered = machine.call("POST", f"/v1/executions/{failed}/rerun", {"from": "failure"})
    assert (asked["status"], ordered["status"]) == ("waiting", "queued")
    killed = machine.kill("temporal")
    machine.wait_until_back("temporal", killed)

    cancelled, again = machine.ended(asleep, ordered["id"])
    assert (cancelled["status"], again["status_reason"], again["rerun_of"]) == (
        "cancelled",
        "node_failed",
        failed,
    )
    assert machine.steps(ordered["id"])["greet"]["skip_reason"] == "kept"
    assert [m["to"] for m in machine.mails()].count(["asked0@example.com"]) == 1


def test_a_database_killed_under_load_keeps_what_it_accepted(machine: Machine):
    workflow = machine.workflow("Database away", graphs.straight())
    # A worker may have been in the middle of an effect.
    machine.rough.add(workflow["id"])
    emails = [f"durable{n}@example.com" for n in range(30)]
    answers = machine.flood(workflow, emails[:10], at_once=5)
    killed = machine.kill("postgres")
    answers += machine.flood(workflow, emails[10:], at_once=5)

    machine.wait_until_back("postgres", killed)

    assert all(answer.status in (None, 503) or answer.execution_id for answer in answers), answers
    accepted = [answer.execution_id for answer in answers if answer.execution_id]
    assert len(accepted) >= 10
    for run in machine.ended(*accepted):
        error = [step["error"]["type"] for step in machine.steps(run["id"]).values() if step["error"]]
        assert run["status"] == "completed" or error == ["outcome_unknown"], (run, error)


def expect_quick(answers: list[Answer]) -> None:
    """Expect that nobody waited for a server that is away: a start takes five seconds to give up."""
    assert all(answer.execution_id for answer in answers), answers
    taken = sorted(answer.seconds for answer in answers)
    assert taken[len(taken) // 2] < 2, taken
    assert taken[int(len(taken) * 0.99) - 1] < 5, taken
