"""A history as production had it when large payloads were first put beside it: it is read for ever.

What is written once cannot change: how a payload is bound to its key, what a claim holds, where it points.
"""

import base64
import json
from typing import Any
from uuid import UUID

import psycopg
import pytest
from temporalio.client import WorkflowHistory
from temporalio.converter import DataConverter
from temporalio.worker import Replayer

import worker
from activities.clients import payloads
from activities.clients.blobs import Blobs, is_claim
from activities.clients.keyring import Keyring
from activities.interceptors import MirrorInterceptor
from activities.sandbox import sandbox
from api.mirror import claims
from api.mirror.decoding import decode
from api.mirror.events import Recorded, Started
from db.session import Database
from local.postgres import plain
from tests.golden import sealing
from workflows.messages import Outcome

pytestmark = pytest.mark.anyio

MASTER = bytes(range(32))


@pytest.fixture
def recorded() -> dict[str, Any]:
    told: dict[str, Any] = json.loads(sealing.FILE.read_text())
    return told


@pytest.fixture
def restored(recorded: dict[str, Any], admin_url: str) -> None:
    """Put what was recorded of PostgreSQL back, as a backup would: ids and all."""
    tables = {name: [_row(row) for row in recorded[name]] for name in sealing.ROWS}
    with psycopg.connect(plain(admin_url)) as connection:
        # Whose they are is not looked at: all that reads them is the key and the claims.
        connection.execute("SET session_replication_role = replica")
        for name, rows in tables.items():
            for row in rows:
                places = ", ".join(f"%({column})s" for column in row)
                connection.execute(f"INSERT INTO {name} ({', '.join(row)}) VALUES ({places})", row)


def _row(told: dict[str, str]) -> dict[str, Any]:
    return {
        name: UUID(value) if name.endswith("id") else base64.b64decode(value) for name, value in told.items()
    }


@pytest.fixture
def converter(database: Database) -> DataConverter:
    return payloads.converter(Keyring(database, MASTER), Blobs(database))


def test_it_holds_claims_and_nothing_in_the_clear(recorded: dict[str, Any]):
    history = WorkflowHistory.from_json("any", recorded["history"])
    held = [
        payload
        for event in history.events
        for payload in claims.payloads_of(event)
        if payloads.is_ours(payload)
    ]
    assert sum(map(is_claim, held)) >= 3
    beside = [base64.b64decode(blob["content"]) for blob in recorded["payload_blobs"]]
    for written in (*beside, *(payload.SerializeToString() for payload in held)):
        assert recorded["text"][:20].encode() not in written


async def test_it_replays(
    recorded: dict[str, Any], restored: None, converter: DataConverter, database: Database
):
    for strict in (False, True):
        using = Replayer(
            workflows=list(worker.WORKFLOWS),
            data_converter=converter,
            interceptors=[MirrorInterceptor(database)],
            workflow_runner=sandbox(strict=strict),
            debug_mode=strict,
        )
        name = f"execution-{recorded['execution_id']}"
        await using.replay_workflow(WorkflowHistory.from_json(name, recorded["history"]))


@pytest.mark.usefixtures("restored")
async def test_the_mirror_reads_it(recorded: dict[str, Any], converter: DataConverter):
    events = [*WorkflowHistory.from_json("any", recorded["history"]).events]
    await claims.bring_in(events, converter)
    read = [await decode(event, converter) for event in events]
    (started,) = [event for event in read if isinstance(event, Started)]
    assert started.input.trigger_data == {"text": recorded["text"]}
    results = {event.key: event.result for event in read if isinstance(event, Recorded)}
    kept = results["keep:1"]
    assert isinstance(kept, Outcome)
    assert kept.output == {"kept": recorded["text"]}
