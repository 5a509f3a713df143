"""ADR 0023: what is too large for a history lies beside it; a run, its rows and its readers never notice."""

import asyncio
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from google.protobuf.json_format import MessageToDict
from temporalio.api.common.v1 import Payload, Payloads, WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest, SignalWorkflowExecutionRequest
from temporalio.client import WorkflowHandle
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

import worker
from activities.clients import histories, payloads, runs
from activities.clients.blobs import Blobs, is_claim
from activities.clients.keyring import Keyring
from activities.clients.payloads import Missing
from activities.interceptors import MirrorInterceptor
from activities.sandbox import sandbox
from activities.upkeep import Upkeep
from api.mirror import claims
from db.session import Database
from local import postgres
from tests.budgets.counting import transactions
from tests.e2e.graphs import chain, node
from tests.e2e.house import MASTER_KEY, House, ok
from tests.e2e.planted import hostile_types_in
from tests.e2e.target import Target
from workflows import room
from workflows.room import INSIDE

pytestmark = pytest.mark.anyio

START = node("start", "TRIGGER_MANUAL")
END = node("end", "UTILITY_LOG", message="{{ trigger.first | size }} and {{ steps.made | size }}")


@pytest.fixture
def hostile_types(tmp_path: Path) -> Iterator[None]:
    """Plant nodes that give as much as they may."""
    with hostile_types_in(tmp_path):
        yield


@pytest.fixture
async def target(hostile_types: None, target: Target) -> Target:
    """Listen for webhooks, once the files are there: the house's worker registers what it finds."""
    return target


def scrambled(size: int = 60_000) -> str:
    """Write a text that cannot be compressed to less than half."""
    return os.urandom(size // 2).hex()


def making(name: str, way: str, size: int = 200_000) -> dict[str, Any]:
    return node(name, f"ACTION_HOSTILE_{way}", how=f"scrambles {size}")


def reading(name: str, way: str, *makers: str) -> dict[str, Any]:
    """Draw a node that is handed all that others made, and needs only its length."""
    named = ["trigger.first", "trigger.second", *(f"steps.{maker}" for maker in makers)]
    return node(name, f"ACTION_HOSTILE_{way}", how=" ".join(f"{{{{ {each} | size }}}}" for each in named))


async def written(house: House, run: UUID) -> list[Payload]:
    """List the payloads of a run's history."""
    return [payload for event in await house.history(run) for payload in claims.payloads_of(event)]


async def replayed(house: House, handle: WorkflowHandle[Any, Any]) -> None:
    """Have another worker come to the same."""
    replayer = Replayer(
        workflows=list(worker.WORKFLOWS),
        data_converter=house.temporal.data_converter,
        interceptors=[MirrorInterceptor(house.database)],
        workflow_runner=sandbox(),
    )
    await replayer.replay_workflow(await handle.fetch_history())


async def test_a_run_with_large_data_completes_and_its_history_holds_none_of_it(house: House):
    readers = (reading(name, way, "made", "fetched") for name, way in (("read", "LOCAL"), ("sent", "QUEUED")))
    drawn = chain(START, making("made", "LOCAL"), making("fetched", "QUEUED"), *readers, END)
    workflow = await house.workflow(drawn, fields=())
    data = {"first": scrambled(), "second": scrambled(), "third": scrambled()}
    run = await house.start(workflow, **data)

    ended = await house.ended(run)

    steps = await house.steps(run)
    assert (ended["status"], ended["trigger_data"]) == ("completed", data)
    assert [len(steps[name]["output_data"]) for name in ("made", "fetched")] == [200_000, 200_000]
    assert steps["read"]["output_data"] == steps["sent"]["output_data"] == "60000 60000 200000 200000"
    found = await written(house, run)
    assert max(payload.ByteSize() for payload in found) < INSIDE
    # The trigger's data, what two steps made, and what was sent to another queue: no more was stored, as
    # what a local activity is handed stands in no history.
    named = {payload.data for payload in found if is_claim(payload)}
    stored = await house.rows("SELECT execution_id, address FROM payload_blobs")
    assert named == {row["execution_id"].bytes + row["address"] for row in stored}
    assert len(named) == 4

    # Another worker comes to the same, without writing anything.
    handle = house.temporal.get_workflow_handle(f"execution-{run}")
    await replayed(house, handle)
    assert len(await house.rows("SELECT 1 FROM payload_blobs")) == 4

    # People read it: by the CLI, and by the Web UI.
    told = json.dumps(await house.read_history(run))
    assert all(text in told for text in (*data.values(), steps["made"]["output_data"]))
    asked = {"payloads": [MessageToDict(payload) for payload in found if is_claim(payload)]}
    answer = (await ok(house.api.post("/codec/decode", json=asked))).text
    assert data["first"] not in answer  # base64, as Temporal's protocol has it
    opened = histories.opener(Keyring(house.database, MASTER_KEY), Blobs(house.database))
    assert json.loads(answer)["payloads"] == [
        MessageToDict(await opened(payload)) for payload in found if is_claim(payload)
    ]
    # Whoever has the keys and not the database reads nothing of it.
    alone = histories.opener(Keyring(house.database, MASTER_KEY))
    history = json.loads((await handle.fetch_history()).to_json())
    assert data["first"] not in json.dumps(await histories.decoded(history, alone))


async def test_a_run_that_was_given_much_continues_as_new_with_all_of_it(
    house: House, database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(room, "GROWN", 4 * 1024 * 1024)
    many = 24
    names = " ".join(f"{{{{ steps.made{n} | size }}}}" for n in range(many))
    drawn = chain(
        START, *(making(f"made{n}", "LOCAL") for n in range(many)), node("end", "UTILITY_LOG", message=names)
    )
    run = await house.start(await house.workflow(drawn, fields=()))

    ended = await house.ended(run, patience=90)

    assert ended["status"] == "completed"
    assert (await house.logs(run))[1]["message"] == " ".join(["200000"] * many)
    after = house.temporal.get_workflow_handle(f"execution-{run}")
    first = (await after.describe()).raw_description.workflow_execution_info.first_run_id
    before = house.temporal.get_workflow_handle(f"execution-{run}", run_id=first)
    # A mirror that comes to it later asks once for all that it reads, and not for what it does not.
    history = (await before.fetch_history()).events
    # By a pool of its own: in the house's the dispatcher goes on, and keys are looked at once a minute.
    converter = payloads.converter(house.keyring, Blobs(database))
    with transactions(database) as noted:
        await claims.bring_in(history, converter)
    held = [
        payload for event in history for payload in claims.payloads_of(event) if payloads.is_ours(payload)
    ]
    assert (len(noted), sum(map(is_claim, held)), len(held) > many) == (1, 1, True)
    assert is_claim(history[-1].workflow_execution_continued_as_new_event_attributes.input.payloads[0])
    for handle in (before, after):
        await replayed(house, handle)
    # What it moved on with would have been more than Temporal takes, and more than a run without this dares.
    began = (await after.fetch_history()).events[0].workflow_execution_started_event_attributes
    assert began.continued_execution_run_id == first
    (given,) = began.input.payloads
    (moved,) = await house.temporal.data_converter.payload_codec.decode([given])  # type: ignore[union-attr]
    assert (is_claim(given), len(moved.data) > 2 * room.HEAVIEST) == (True, True)


async def test_a_run_from_before_there_was_a_place_for_large_data_goes_on_as_it_decided(
    house: House, monkeypatch: pytest.MonkeyPatch
):
    makers = [f"made{n}" for n in range(10)]
    drawn = chain(START, *(making(name, "LOCAL") for name in makers), reading("sent", "QUEUED", *makers))
    workflow = await house.workflow(drawn, fields=())
    with monkeypatch.context() as before:
        before.setattr(room, "lies_beside", lambda: False)
        run = await house.start(workflow, first="a", second="b")
        assert (await house.ended(run, patience=60))["status"] == "failed"
    # Two megabytes were too much to be sent, and no reason to continue as new; now they are both.
    assert (await house.steps(run))["sent"]["error"]["type"] == "input_too_large"
    monkeypatch.setattr(room, "GROWN", 1024 * 1024)
    await replayed(house, house.temporal.get_workflow_handle(f"execution-{run}"))
    # Today's decision is another one: without the mark in history the replay would fail.
    monkeypatch.setattr(room, "lies_beside", lambda: True)
    with pytest.raises(NondeterminismError):
        await replayed(house, house.temporal.get_workflow_handle(f"execution-{run}"))


@pytest.fixture
def admin(admin_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(postgres.plain(admin_url), autocommit=True) as connection:
        yield connection


async def test_what_was_stored_by_a_process_that_died_before_it_told_temporal_is_swept_with_the_run(
    house: House, monkeypatch: pytest.MonkeyPatch, admin: psycopg.Connection[Any]
):
    keep, calls = house.blobs.keep, itertools.count()

    async def dying(*what: Any) -> bool:
        """Store, and never come to say so: as a worker that is killed between the two."""
        kept = await keep(*what)
        # At the start, with what the step made, with what goes to another queue.
        if next(calls) in (0, 2, 4):
            raise OSError("killed")
        return kept

    monkeypatch.setattr(house.blobs, "keep", dying)
    drawn = chain(START, making("made", "LOCAL"), reading("sent", "QUEUED", "made"), END)
    data = {"first": scrambled(), "second": scrambled(), "third": scrambled()}
    run = await house.start(await house.workflow(drawn, fields=()), **data)

    assert (await house.ended(run, patience=60))["status"] == "completed"

    # With its task, which failed, what the step had made was lost: it made it a third time.
    assert next(calls) == 7
    steps = await house.steps(run)
    named = {payload.data[16:] for payload in await written(house, run) if is_claim(payload)}
    stored = {row["address"] for row in await house.rows("SELECT address FROM payload_blobs")}
    # The first start had admitted the run, the second left that to `begin`: its input is another one. That of
    # the first and what was made before, nobody names.
    assert (len(named), named < stored, len(stored)) == (3, True, 7)
    assert len(steps["made"]["output_data"]) == 200_000

    await house.expect_rebuildable()
    house.seen.remove(run)
    await forgotten(house, run, admin)
    assert (await Upkeep(house.world).tidy())["large_payloads_of_runs"] == 1
    assert await house.rows("SELECT 1 FROM payload_blobs") == []
    assert len((await house.steps(run))["made"]["output_data"]) == 200_000


async def forgotten(house: House, run: UUID, admin: psycopg.Connection[Any]) -> None:
    """Have Temporal forget a run, and let a long time pass since."""
    await house.temporal.workflow_service.delete_workflow_execution(
        DeleteWorkflowExecutionRequest(
            namespace=house.temporal.namespace,
            workflow_execution=WorkflowExecution(workflow_id=f"execution-{run}"),
        )
    )
    while await runs.is_known(house.temporal, run):
        await asyncio.sleep(0.05)
    long_ago = "now() - interval '3 days'"
    admin.execute(
        f"UPDATE workflow_executions SET finished_at = {long_ago}, updated_at = {long_ago} WHERE id = %s",
        [run],
    )


async def test_while_postgresql_takes_nothing_in_a_run_waits_and_goes_on(
    house: House, admin: psycopg.Connection[Any]
):
    drawn = chain(START, making("made", "LOCAL"), reading("sent", "QUEUED", "made"))
    workflow = await house.workflow(drawn, fields=())
    # Whoever stores waits for two seconds, and is told that it cannot.
    with admin.transaction():
        admin.execute("LOCK TABLE payload_blobs IN ACCESS EXCLUSIVE MODE")
        small = await house.start(workflow, first="a", second="b")
        large = await house.start(workflow, first=scrambled(), second=scrambled(), third=scrambled())
        await asyncio.sleep(7)
        # The one has begun and cannot tell what a step made; the other cannot begin.
        for run, status in ((small, "running"), (large, "queued")):
            assert (await ok(house.api.get(f"/v1/executions/{run}"))).json()["status"] == status

    for run in (small, large):
        assert (await house.ended(run, patience=60))["status"] == "completed"
        assert len((await house.steps(run))["made"]["output_data"]) == 200_000


async def test_a_run_whose_large_data_are_gone_says_so_and_goes_on_when_they_are_restored(
    house: House, admin: psycopg.Connection[Any]
):
    wait = node("wait", "LOGIC_WAIT_FOR_EVENT", events=[{"id": "paid", "type": "PAID"}], timeout="PT1H")
    workflow = await house.workflow(chain(START, making("made", "LOCAL"), wait), fields=())
    run = await house.start(workflow)
    await house.until_step(run, "wait", "running")
    admin.execute("CREATE TABLE backup AS SELECT * FROM payload_blobs")
    admin.execute("DELETE FROM payload_blobs")
    told = f"a large payload of execution {run} is not in PostgreSQL's payload_blobs any more"
    house.blobs._kept.clear()
    with pytest.raises(Missing, match=told):
        await house.mirror.rebuild(run)
    assert numbers_of(house)["flowtrack_payload_blobs_total", "missing"] >= 1

    admin.execute("INSERT INTO payload_blobs SELECT * FROM backup")
    await ok(house.api.post(f"/v1/executions/{run}/signals", json={"type": "PAID"}))
    assert (await house.ended(run))["status"] == "completed"


async def test_a_signal_that_names_what_never_was_keeps_nobody_from_reading_the_rest(house: House):
    wait = node("wait", "LOGIC_WAIT_FOR_EVENT", events=[{"id": "paid", "type": "PAID"}], timeout="PT1H")
    workflow = await house.workflow(chain(START, making("made", "LOCAL"), wait), fields=())
    run = await house.start(workflow)
    await house.until_step(run, "wait", "running")
    (real, *_) = [payload for payload in await written(house, run) if is_claim(payload)]
    invented = Payload(metadata=real.metadata, data=run.bytes + bytes(32))
    await house.temporal.workflow_service.signal_workflow_execution(
        SignalWorkflowExecutionRequest(
            namespace=house.temporal.namespace,
            workflow_execution=WorkflowExecution(workflow_id=f"execution-{run}"),
            signal_name="event",
            input=Payloads(payloads=[invented]),
        )
    )
    # It ends nothing; whoever sent it can have the run terminated as well.
    await house.temporal.get_workflow_handle(f"execution-{run}").terminate("confused")
    ended = await house.ended(run)
    assert (ended["status"], ended["status_reason"]) == ("failed", "terminated")
    assert len((await house.steps(run))["made"]["output_data"]) == 200_000


def numbers_of(house: House) -> dict[tuple[str, str], float]:
    """Read what the house counted, by name and kind."""
    found = house.application.state.platform.metrics.registry.collect()
    return {(one.name, one.labels.get("what", "")): one.value for each in found for one in each.samples}
