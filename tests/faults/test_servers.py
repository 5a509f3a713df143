"""Temporal and PostgreSQL away while forms arrive: what was accepted is kept, and runs."""

import time

from tests.faults import graphs
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
