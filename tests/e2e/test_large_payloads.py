"""ADR 0023: what is too large for a history lies beside it; a run, its rows and its readers never notice."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowHandle
from temporalio.worker import Replayer

import worker
from activities.clients import histories
from activities.clients.blobs import Blobs, is_claim
from activities.clients.keyring import Keyring
from activities.interceptors import MirrorInterceptor
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


def reading(name: str, way: str) -> dict[str, Any]:
    """Draw a node that is handed all that the others made, and needs only its length."""
    how = "{{ trigger.first | size }} {{ steps.made | size }} {{ steps.fetched | size }}"
    return node(name, f"ACTION_HOSTILE_{way}", how=how)


def payloads_in(message: Message) -> Iterator[Payload]:
    if isinstance(message, Payload):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        is_map = field.message_type.GetOptions().map_entry
        for each in value.values() if is_map else value if hasattr(value, "append") else [value]:
            if isinstance(each, Message):
                yield from payloads_in(each)


async def written(house: House, run: UUID) -> list[Payload]:
    """List the payloads of a run's history."""
    return [payload for event in await house.history(run) for payload in payloads_in(event)]


async def replayed(house: House, handle: WorkflowHandle[Any, Any]) -> None:
    """Have another worker come to the same."""
    replayer = Replayer(
        workflows=list(worker.WORKFLOWS),
        data_converter=house.temporal.data_converter,
        interceptors=[MirrorInterceptor(house.database)],
        workflow_runner=worker.sandbox(),
    )
    await replayer.replay_workflow(await handle.fetch_history())


async def test_a_run_with_large_data_completes_and_its_history_holds_none_of_it(house: House):
    drawn = chain(
        START, making("made", "LOCAL"), making("fetched", "QUEUED"), reading("read", "LOCAL"),
        reading("sent", "QUEUED"), END,
    )  # fmt: skip
    workflow = await house.workflow(drawn, fields=())
    data = {"first": scrambled(), "second": scrambled(), "third": scrambled()}
    run = await house.start(workflow, **data)

    ended = await house.ended(run)

    steps = await house.steps(run)
    assert (ended["status"], ended["trigger_data"]) == ("completed", data)
    assert [len(steps[name]["output_data"]) for name in ("made", "fetched")] == [200_000, 200_000]
    assert steps["read"]["output_data"] == steps["sent"]["output_data"] == "60000 200000 200000"
    found = await written(house, run)
    assert max(payload.ByteSize() for payload in found) < INSIDE
    # The trigger's data, what two steps made, and what was sent to another queue: no more was stored, as
    # what a local activity is handed stands in no history.
    claims = {payload.data for payload in found if is_claim(payload)}
    stored = await house.rows("SELECT execution_id, address FROM payload_blobs")
    assert claims == {row["execution_id"].bytes + row["address"] for row in stored}
    assert len(claims) == 4

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
    house: House, monkeypatch: pytest.MonkeyPatch
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
    first = (await house.rows("SELECT run_id FROM execution_logs WHERE message = 'Run started'"))[0]["run_id"]
    before = house.temporal.get_workflow_handle(f"execution-{run}", run_id=first)
    after = house.temporal.get_workflow_handle(f"execution-{run}")
    for handle in (before, after):
        await replayed(house, handle)
    # What it moved on with would have been more than Temporal takes, and more than a run without this dares.
    began = (await after.fetch_history()).events[0].workflow_execution_started_event_attributes
    assert began.continued_execution_run_id == first
    (given,) = began.input.payloads
    (moved,) = await house.temporal.data_converter.payload_codec.decode([given])  # type: ignore[union-attr]
    assert (is_claim(given), len(moved.data) > 2 * room.HEAVIEST) == (True, True)
