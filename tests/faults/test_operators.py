"""What operators do beside FlowTrack: terminate and reset from Temporal's own command line."""

from typing import Any

from tests.faults import graphs
from tests.faults.machine import Machine, until


def test_a_run_terminated_by_the_command_line_is_shown_as_such(machine: Machine):
    workflow = machine.workflow("Terminated", graphs.resting(2, "P1D"))
    execution_id = machine.accepted(workflow, "terminated@example.com")
    machine.waits(execution_id)

    named = ("--workflow-id", f"execution-{execution_id}")
    # The mirror has let it out of sight.
    until(lambda: callbacks(machine, named), "Temporal is to tell of its close")
    machine.temporal("workflow", "terminate", *named, "--reason", "enough")

    (run,) = machine.ended(execution_id, seconds=60)
    # Nothing of ours ran: Temporal itself told the API.
    (callback,) = callbacks(machine, named)
    assert callback["state"].lower().endswith("succeeded")
    assert (run["status"], run["status_reason"]) == ("failed", "terminated")
    assert "enough" in run["error"]["message"]
    steps = machine.steps(execution_id)
    assert steps["nap"]["status"] == "cancelled"
    assert "tell" not in steps or steps["tell"]["status"] in ("skipped", "cancelled")
    (row,) = machine.rows("SELECT status, status_reason FROM workflow_executions WHERE id = %s", execution_id)
    assert row == {"status": "failed", "status_reason": "terminated"}


def callbacks(machine: Machine, named: tuple[str, str]) -> list[dict[str, Any]]:
    """List whom Temporal is going to tell of a run's close."""
    found: list[dict[str, Any]] = machine.temporal("workflow", "describe", *named).get("callbacks", [])
    return found


def test_a_reset_to_the_first_task_repeats_no_effect_and_completes(machine: Machine):
    workflow = machine.workflow("Reset", graphs.straight())
    execution_id = machine.accepted(workflow, "reset@example.com")
    (first,) = machine.ended(execution_id)
    mails, hooks = len(machine.mails()), len(machine.webhooks())
    run_id = temporal_run(machine, execution_id)

    machine.temporal(
        *("workflow", "reset", "--workflow-id", f"execution-{execution_id}"),
        *("--type", "FirstWorkflowTask", "--reason", "again, please"),
    )

    until(lambda: temporal_run(machine, execution_id) != run_id, "the mirror follows the new run", seconds=60)
    (second,) = machine.ended(execution_id)
    assert (first["status"], second["status"]) == ("completed", "completed")
    assert (len(machine.mails()), len(machine.webhooks())) == (mails, hooks)
    events = "SELECT count(*) FROM lead_events WHERE triggered_by_workflow_execution_id = %s"
    assert machine.rows(events, execution_id) == [{"count": len(graphs.EVENTS)}]


def test_a_sleeping_run_that_is_reset_wakes_once(machine: Machine):
    workflow = machine.workflow("Reset asleep", graphs.resting(3, "PT6S"))
    execution_id = machine.accepted(workflow, "asleep@example.com")
    machine.waits(execution_id)
    run_id = temporal_run(machine, execution_id)

    machine.temporal(
        *("workflow", "reset", "--workflow-id", f"execution-{execution_id}"),
        *("--type", "FirstWorkflowTask", "--reason", "again, please"),
    )

    until(lambda: temporal_run(machine, execution_id) != run_id, "the mirror follows the new run", seconds=60)
    (run,) = machine.ended(execution_id)
    assert run["status"] == "completed"


def temporal_run(machine: Machine, execution_id: str) -> str:
    """Read which of Temporal's runs the rows tell of."""
    row = machine.rows(
        "SELECT temporal_run_id::text AS run FROM workflow_executions WHERE id = %s", execution_id
    )
    return str(row[0]["run"])
