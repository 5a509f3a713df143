"""Stuck runs are found, each with its reason; runs that rest, wait or are tried again are left alone."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import pytest
import structlog
from sqlalchemy import update
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from uuid_utils.compat import uuid7

from api.live.describer import Described, Pending
from api.metrics import Metrics
from api.stuck import REMEDIES, Detector, Limits, Stuck, diagnose
from db import stuck as rows
from db.listing import Wanted
from db.models import MirrorCursor, Workflow
from db.session import Database
from db.stuck import Suspect
from tests.db.conftest import Place, queued, settle

pytestmark = pytest.mark.anyio

NOW = datetime(2031, 1, 1, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
AT_ONCE = Limits(silent_for=timedelta(0), attempts=2)


def found(**values: Any) -> Described:
    return Described(run_id="r", **values)


ALONE = {"queue": "flowtrack", "unpolled": frozenset({"flowtrack", "flowtrack-mail"})}


def task(attempt: int = 1, since: datetime | None = NOW - HOUR, **more: Any) -> Described:
    """Have a workflow task pending, or one that a worker has taken (`since` is None)."""
    return found(task_attempt=attempt, task_since=since, **{**ALONE, **more})


def acting(*each: dict[str, Any]) -> Described:
    usual = {"state": "scheduled", "scheduled_at": NOW - HOUR, "queue": "flowtrack-mail"}
    return found(pending={str(n): Pending(**{**usual, **one}) for n, one in enumerate(each)}, **ALONE)


@pytest.mark.parametrize(
    ("status", "said", "reason"),
    [
        ("queued", None, "not_started"),
        ("running", found(is_open=False), "not_mirrored"),
        ("queued", found(), "not_mirrored"),
        ("running", found(is_paused=True), None),
        ("running", task(), "no_worker"),
        ("running", task(since=NOW - MINUTE), None),
        ("running", task(since=None), None),
        ("running", task(unpolled=frozenset()), None),
        ("running", task(3, since=None), "task_fails"),
        ("waiting", task(9), "task_fails"),
        ("running", acting({"state": "running"}), None),
        ("running", acting({"attempt": 7, "next_at": NOW + HOUR}), None),
        ("running", acting({"state": "paused"}), None),
        ("running", acting({}), "no_worker"),
        ("running", acting({"scheduled_at": NOW - MINUTE}), None),
        ("running", acting({"queue": "flowtrack-http"}), None),
        ("running", acting({"queue": "flowtrack-http"}, {}), "no_worker"),
        ("running", acting({"queue": "flowtrack-http"}, {"scheduled_at": NOW - MINUTE}), None),
        ("running", acting({"attempt": 2, "next_at": NOW - MINUTE}), None),
        ("running", acting({}, {"state": "running"}), None),
        ("waiting", found(), "overdue"),
        ("running", found(), "idle"),
    ],
)
def test_what_temporal_says_is_the_reason(status: str, said: Described | None, reason: str | None):
    suspect = Suspect(uuid7(), uuid7(), status, NOW - HOUR)
    assert diagnose(suspect, said, Limits(), now=NOW) == reason
    assert reason is None or reason in REMEDIES


@pytest.fixture
async def here(database: Database) -> Place:
    return await settle(database, "here")


async def stored(database: Database, place: Place, **values: Any) -> UUID:
    run = queued(place, id=uuid7(), **values)
    async with database.workspace(place.workspace_id) as session:
        session.add(run)
    return run.id


async def suspected(database: Database, *, limit: int = 100) -> list[UUID]:
    found: list[UUID] = []
    place: rows.Place | None = rows.BEGINNING
    while place is not None:
        async with database.door() as session:
            more, place = await rows.suspects(session, silent_for=HOUR, after=place, limit=limit)
        found += [one.execution_id for one in more]
    return found


async def listed(database: Database, place: Place) -> list[UUID]:
    async with database.workspace(place.workspace_id) as session:
        found = await rows.of_workspace(session, place.workspace_id, Wanted(), silent_for=HOUR, limit=100)
    assert [execution.id for execution, _ in found] == [suspect.execution_id for _, suspect in found]
    return [execution.id for execution, _ in found]


async def test_suspects_are_told_from_runs_that_rest_by_their_rows(database: Database, here: Place):
    now = datetime.now(UTC)
    long_ago, lately = {"updated_at": now - 2 * HOUR}, {"updated_at": now}
    forgotten = await stored(database, here, queued_at=now - 3 * HOUR)
    still = await stored(database, here, status="running", dispatched_at=now, **long_ago)
    overdue = await asleep(database, here, now - 2 * HOUR, **long_ago)
    await stored(database, here, queued_at=now)
    await stored(database, here, status="running", dispatched_at=now, **lately)
    await stored(database, here, status="completed", **long_ago)
    await asleep(database, here, now + HOUR, **long_ago)
    await asleep(database, here, None, **long_ago)
    await asleep(database, here, now - 2 * HOUR, status_reason="paused", **long_ago)
    for limit in (100, 2):
        assert sorted(await suspected(database, limit=limit)) == sorted([forgotten, still, overdue])
    # The workspace's own list follows the same rule.
    assert await listed(database, here) == sorted([forgotten, still, overdue], reverse=True)
    async with database.workspace(here.workspace_id) as session:
        await session.execute(update(Workflow).values(status="paused"))
    assert forgotten not in await suspected(database)
    assert forgotten not in await listed(database, here)


async def asleep(database: Database, place: Place, until: datetime | None, **values: Any) -> UUID:
    """Keep a waiting run whose one step sleeps until then, or waits for an event."""
    execution_id = await stored(database, place, status="waiting", **values)
    outcome = {"wake_at": until.isoformat()} if until else {"waits_for": ["CALLED"]}
    state = {"run": {"sleeping": {"nap:1": outcome}}}
    async with database.workspace(place.workspace_id) as session:
        key = {"workspace_id": place.workspace_id, "execution_id": execution_id}
        session.add(MirrorCursor(**key, run_id="r", state=state))
    return execution_id


@workflow.defn(name="ExecutionWorkflow", sandboxed=False)
class Broken:
    """Fails its task again and again, as code does that no longer fits a history."""

    @workflow.run
    async def run(self) -> None:
        """Raise what is no failure of the workflow."""
        raise RuntimeError("this history was written by other code")


async def begun(database: Database, place: Place, client: Client, queue: str) -> UUID:
    execution_id = await stored(database, place, status="running", dispatched_at=datetime.now(UTC))
    await client.start_workflow("ExecutionWorkflow", id=f"execution-{execution_id}", task_queue=queue)
    return execution_id


async def test_a_run_that_fails_its_task_in_a_loop_is_told_once_with_the_failure(
    database: Database, here: Place, temporal_client: Client, task_queue: str
):
    metrics = Metrics()
    detector = Detector(temporal_client, database, metrics=metrics, limits=AT_ONCE)
    broken = await begun(database, here, temporal_client, task_queue)
    runner = UnsandboxedWorkflowRunner()
    async with Worker(temporal_client, task_queue=task_queue, workflows=[Broken], workflow_runner=runner):
        found: list[Stuck] = []
        while [one.reason for one in found] != ["task_fails"]:
            found = await detector.look()
    (one,) = found
    assert (one.workspace_id, one.execution_id) == (here.workspace_id, broken)
    assert one.detail == "RuntimeError"
    with structlog.testing.capture_logs() as lines:
        detector.tell(found)
        detector.tell(found)
    (line,) = lines
    assert (line["log_level"], line["execution_id"], line["reason"]) == ("warning", str(broken), "task_fails")
    assert shown(metrics) == {"task_fails": 1}
    detector.tell([])
    assert shown(metrics) == {}
    await temporal_client.get_workflow_handle(f"execution-{broken}").terminate()
    assert [one.reason for one in await detector.look()] == ["not_mirrored"]


async def test_a_run_that_no_worker_takes_and_one_that_never_began_are_found(
    database: Database, here: Place, temporal_client: Client, task_queue: str
):
    hinted: list[UUID] = []
    detector = Detector(temporal_client, database, limits=AT_ONCE, hint=hinted.append)
    alone = await begun(database, here, temporal_client, task_queue)
    never = await stored(database, here)
    found: dict[UUID, str] = {}
    while len(found) < 2:
        found = {one.execution_id: one.reason for one in await detector.look()}
    assert found == {alone: "no_worker", never: "not_started"}
    assert hinted == []
    await temporal_client.get_workflow_handle(f"execution-{alone}").terminate()


async def test_many_that_are_well_hide_no_stuck_one_for_ever(database: Database, here: Place):
    ids = [await stored(database, here, status="running") for _ in range(7)]
    looked: list[UUID] = []

    class Known:
        """Knows that all are well but the last."""

        async def look(self, execution_id: UUID) -> Described:
            looked.append(execution_id)
            return found(is_paused=execution_id != ids[-1])

    limits, metrics = Limits(silent_for=timedelta(0), most=3, batch=2), Metrics()
    detector = Detector(cast(Client, None), database, metrics=metrics, limits=limits)
    detector._describer = cast(Any, Known())
    seen = []
    for _ in range(6):
        detector.tell(await detector.look())
        seen.append(shown(metrics))
    # Once found it stays told, until it is looked at again and is well.
    assert seen[2:] == [{"idle": 1}] * 4
    assert set(looked[:9]) == set(ids)
    assert len(looked) == 18
    assert metrics.registry.get_sample_value("flowtrack_executions_unexamined") == 4
    ids[-1] = uuid7()
    for _ in range(3):
        told = await detector.look()
    assert told == []


def shown(metrics: Metrics) -> dict[str, float]:
    (family,) = metrics.stuck.collect()
    return {sample.labels["reason"]: sample.value for sample in family.samples if sample.value}
