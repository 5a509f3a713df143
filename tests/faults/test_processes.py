"""The worker and the API killed in the moments that matter, and doubled: all runs complete."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import psycopg
import pytest

from tests.faults import graphs, invariants
from tests.faults.machine import HTTP, Machine, until


def test_a_worker_killed_between_any_two_steps_costs_no_run_and_doubles_no_effect(machine: Machine):
    spots = range(len(graphs.STEPS) + 1)
    workflows = [machine.workflow(f"Rests after {n}", graphs.resting(n, "PT8S")) for n in spots]
    runs = [machine.accepted(workflow, f"spot{n}@example.com") for n, workflow in enumerate(workflows)]
    for execution_id in runs:
        machine.waits(execution_id)
    before = [list(machine.steps(execution_id)) for execution_id in runs]

    killed = machine.kill("worker")

    # Each run stood at another boundary at that moment.
    assert [len(steps) for steps in before] == [n + 2 for n in spots]
    machine.wait_until_back("worker", killed)
    for n, run in zip(spots, machine.completed(*runs), strict=True):
        assert list(machine.steps(run["id"])) == [node["id"] for node in graphs.resting(n, "PT8S")["nodes"]]
        assert timeline(machine, run["lead_id"]) == graphs.EVENTS


def test_a_worker_killed_between_sending_a_mail_and_noting_it_sends_no_second_one(machine: Machine):
    workflow = machine.workflow("In doubt", graphs.resting(1, "PT3S"))
    machine.rough.add(workflow["id"])
    execution_id = machine.accepted(workflow, "doubt@example.com")
    with killed_at_its_note(machine, execution_id) as before:
        # PostgreSQL has the note, and gives it up when it has waited for long enough.
        until(lambda: not machine.rows("SELECT 1 FROM pg_locks WHERE NOT granted"), "nobody waits")

    (run,) = machine.ended(execution_id)

    # Nobody can know that it was sent: that is what is told, and it is not sent again.
    assert (run["status"], run["status_reason"]) == ("failed", "node_failed")
    assert machine.steps(execution_id)["greet"]["error"]["type"] == "outcome_unknown"
    assert len(machine.mails()) == before + 1


def test_a_note_on_a_mail_that_postgresql_has_is_written_though_its_worker_was_killed(machine: Machine):
    workflow = machine.workflow("Noted", graphs.resting(1, "PT3S"))
    machine.rough.add(workflow["id"])
    execution_id = machine.accepted(workflow, "noted@example.com")
    with killed_at_its_note(machine, execution_id):
        pass

    machine.completed(execution_id)

    sent = [mail["subject"] for mail in machine.mails() if mail["to"] == ["noted@example.com"]]
    assert sent == ["Hello noted@example.com", "Still there?"]


@contextmanager
def killed_at_its_note(machine: Machine, execution_id: str) -> Iterator[int]:
    """Kill the worker when its mail is sent and PostgreSQL cannot write the note; give the mails before."""
    machine.waits(execution_id)
    before = len(machine.mails())
    with psycopg.connect(machine.card["database_url"]) as lock:
        # The note on a mail is one message with its usage event, which cannot be written now.
        lock.execute("LOCK TABLE usage_events IN SHARE MODE")
        until(lambda: len(machine.mails()) == before + 1, "the mail is sent")
        until(lambda: machine.rows("SELECT 1 FROM pg_locks WHERE NOT granted"), "the note waits")
        killed = machine.kill("worker")
        yield before
    machine.wait_until_back("worker", killed)


def test_an_api_killed_between_commit_and_start_starts_the_run_after_all(machine: Machine):
    workflow = machine.workflow("Left queued", graphs.straight())
    machine.freeze("temporal")
    answer = machine.submit(workflow, "queued@example.com")
    (row,) = execution(machine, answer.execution_id)
    assert (row["status"], row["dispatched_at"]) == ("queued", None)
    killed = machine.kill("api")
    # Frozen it might still have the call of the dead API in its buffers; killed it never heard of the run.
    machine.kill("temporal")
    machine.wait_until_back("api", killed)

    machine.completed(str(answer.execution_id))

    # Who got no answer asks again, and is told the same.
    assert machine.submit(workflow, "queued@example.com").execution_id == answer.execution_id
    # The new API started it: the old one died with the row not dispatched. The note ends the lease.
    (row,) = execution(machine, answer.execution_id)
    assert row["dispatched_at"] is not None


def test_an_api_killed_between_the_start_and_its_note_starts_no_second_run(machine: Machine):
    workflow = machine.workflow("Not noted", graphs.straight())
    machine.freeze("temporal")
    answer = machine.submit(workflow, "unnoted@example.com")
    with psycopg.connect(machine.card["database_url"]) as lock:
        # Who holds this lets references be made to the row, but no note on it.
        lock.execute(
            "SELECT 1 FROM workflow_executions WHERE id = %s FOR NO KEY UPDATE", [answer.execution_id]
        )
        machine.thaw("temporal")
        until(lambda: known(machine, answer.execution_id), "Temporal has the run")
        (row,) = execution(machine, answer.execution_id)
        assert (row["status"], row["dispatched_at"]) == ("queued", None)
        killed = machine.kill("api")
        until(lambda: machine.pids["api"] != killed, "a new API")
    machine.wait_until_back("api", killed)

    (run,) = machine.completed(str(answer.execution_id))

    listed = machine.temporal("workflow", "list", "--query", f"WorkflowId = 'execution-{run['id']}'")
    assert len(listed) == 1


def test_two_workers_and_two_apis_do_nothing_twice(machine: Machine):
    workflow = machine.workflow("Two of each", graphs.straight())
    second_worker = machine.another("worker")
    second_api, url = machine.another_api()
    emails = [f"both{n}@example.com" for n in range(12)]

    def submit(email: str) -> set[str | None]:
        # The same form at both doors at once.
        with ThreadPoolExecutor(2) as pool:
            doors = pool.map(lambda api: machine.submit(workflow, email, api=api), (None, url))
            return {answer.execution_id for answer in doors}

    with ThreadPoolExecutor(4) as pool:
        answered = list(pool.map(submit, emails))

    assert all(len(answers) == 1 for answers in answered)
    machine.completed(*(str(answers.pop()) for answers in answered))
    assert second_worker.poll() is None
    assert second_api.poll() is None
    machine.dismiss(second_api)
    machine.dismiss(second_worker)


def test_a_workspaces_stream_goes_on_in_another_api_when_its_own_is_killed(machine: Machine):
    workflow = machine.workflow("Watched", graphs.resting(1, "PT4S"))
    second_api, url = machine.another_api()
    told: dict[str, str] = {}
    place = ""
    with watching(machine, url) as events:
        assert next(events)[0] == "snapshot"
        before = [machine.accepted(workflow, f"watched{n}@example.com") for n in range(4)]
        # In the midst of them: some are told, and some are not.
        while told.keys().isdisjoint(before):
            _, told, place = next(events)
        machine.dismiss(second_api)
    after = [machine.accepted(workflow, f"unwatched{n}@example.com") for n in range(4)]
    machine.completed(*before, *after)

    with watching(machine, machine.card["api_url"], place) as events:
        name, statuses, _ = next(events)

    assert name == "changes"
    assert {execution_id: statuses.get(execution_id) for execution_id in (*before, *after)} == dict.fromkeys(
        (*before, *after), "completed"
    )


Told = tuple[str, dict[str, str], str]
"""An event's name, the statuses that it tells, and its id."""


@contextmanager
def watching(machine: Machine, api: str, last_id: str = "") -> Iterator[Iterator[Told]]:
    """Watch the workspace through one API."""
    headers = {"Authorization": f"Bearer {machine.card['api_key']}"}
    headers |= {"Last-Event-ID": last_id} if last_id else {}
    with HTTP.stream("GET", f"{api}/v1/executions/events", headers=headers) as answer:
        yield events_of(answer)


def events_of(answer: httpx.Response) -> Iterator[Told]:
    """Read a stream event by event."""
    event: dict[str, str] = {}
    for line in answer.iter_lines():
        if not line and "data" in event:
            runs = json.loads(event["data"])["executions"]
            yield event["event"], {run["id"]: run["status"] for run in runs}, event["id"]
            event = {}
        name, _, value = line.partition(": ")
        if name:
            event[name] = value


def execution(machine: Machine, execution_id: str | None):
    """Read an execution's row."""
    return machine.rows("SELECT * FROM workflow_executions WHERE id = %s", execution_id)


def known(machine: Machine, execution_id: str | None) -> bool:
    """Tell whether Temporal lists a run of the execution."""
    return bool(machine.temporal("workflow", "list", "--query", f"WorkflowId = 'execution-{execution_id}'"))


def timeline(machine: Machine, lead_id: str) -> list[str]:
    """Read the types of a lead's events, the oldest first."""
    events = machine.call("GET", f"/v1/leads/{lead_id}/events?limit=100")["data"]
    return [event["event_type"] for event in reversed(events)]


def test_an_api_killed_with_runs_of_its_own_costs_none_of_them(tmp_path_factory: pytest.TempPathFactory):
    hosting = Machine(
        tmp_path_factory.mktemp("hosting") / "data",
        arguments=("--no-demo",),
        variables={"FLOWTRACK_API_RUNS": "8"},
    )
    try:
        hosting.wait_until_up()
        hosting.subscribe()
        hosting.rows("UPDATE usage_quotas SET quota_limit = NULL")
        # With nobody else to take them they run where they start, or not at all.
        hosting.freeze("worker")
        spots = range(len(graphs.STEPS) + 1)
        workflows = [hosting.workflow(f"Rests after {n}", graphs.resting(n, "PT8S")) for n in spots]
        runs = [hosting.accepted(workflow, f"spot{n}@example.com") for n, workflow in enumerate(workflows)]
        for execution_id in runs:
            hosting.waits(execution_id)
        hosting.thaw("worker")

        killed = hosting.kill("api")

        hosting.wait_until_back("api", killed)
        for run in hosting.completed(*runs):
            assert timeline(hosting, run["lead_id"]) == graphs.EVENTS
        invariants.check(hosting)
    finally:
        code = hosting.stop()
    assert code == 0, hosting.said
