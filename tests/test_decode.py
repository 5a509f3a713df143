"""`flowtrack decode` and `flowtrack rotate`, as operators run them; how a history is made readable."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from temporalio.api.failure.v1 import Failure
from temporalio.converter import DataConverter, WorkflowSerializationContext
from temporalio.exceptions import ApplicationError
from uuid_utils.compat import uuid7

from activities.clients import histories, payloads
from activities.clients.blobs import Blobs
from activities.clients.keyring import Keyring
from db.session import Database
from local.postgres import plain
from tests.db.conftest import Place, here, queued

__all__ = ["here"]
pytestmark = pytest.mark.anyio

MASTER = bytes(range(32))
RUN = "execution-1"


@pytest.fixture
def writing(database: Database, here: Place) -> DataConverter:
    """Write as the workspace's run does."""
    keyring = Keyring(database, MASTER)
    keyring.tell(RUN, here.workspace_id)
    return payloads.converter(keyring).with_context(WorkflowSerializationContext("default", RUN))


async def history(writing: DataConverter) -> dict[str, Any]:
    """Write what stands in a history: an input, a failure with a cause, and what was never encrypted."""
    (given,) = await writing.encode([{"email": "ada@example.com", "ä": [1, None]}])
    raised = ApplicationError("no offer for Ada", type="node_failed")
    raised.__cause__ = ApplicationError("because", {"n": 1}, type="inner")
    failure = Failure()
    await writing.encode_failure(raised, failure)
    (old,) = writing.payload_converter.to_payloads(["from before"])
    return {
        "events": [
            {"eventId": "1", "input": {"payloads": [MessageToDict(given), MessageToDict(old)]}},
            {"eventId": "2", "failure": MessageToDict(failure), "metadata": {"encoding": 7}},
        ]
    }


def flowtrack(database_url: str, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flowtrack", *arguments],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        env={
            "PATH": "/usr/bin:/bin",
            "FLOWTRACK_DATABASE_URL": plain(database_url),
            "FLOWTRACK_MASTER_KEY": base64.b64encode(MASTER).decode(),
        },
    )


async def test_a_history_is_made_readable_and_keeps_its_form_if_asked(
    writing: DataConverter, database: Database
):
    written = await history(writing)
    assert "Ada" not in json.dumps(written)
    open_ = histories.opener(Keyring(database, MASTER))
    first, second = (await histories.decoded(written, open_))["events"]
    assert first["input"]["payloads"] == [{"email": "ada@example.com", "ä": [1, None]}, "from before"]
    failure = second["failure"]
    assert (failure["message"], failure["applicationFailureInfo"]["type"]) == (
        "no offer for Ada",
        "node_failed",
    )
    assert failure["cause"]["message"] == "because"
    assert failure["cause"]["applicationFailureInfo"]["details"]["payloads"] == [{"n": 1}]
    assert second["metadata"] == {"encoding": 7}

    kept = (await histories.decoded(written, open_, as_payloads=True))["events"]
    assert [set(each) for each in kept[0]["input"]["payloads"]] == [{"metadata", "data"}] * 2
    assert kept[1]["failure"]["message"] == "Encoded failure"
    # Nothing is left for whoever holds another key.
    assert await histories.decoded(written, histories.opener(Keyring(database, bytes(32)))) != kept
    stranger = await histories.decoded(written, histories.opener(Keyring(database, bytes(32))))
    assert "Ada" not in json.dumps(stranger)


async def test_the_operator_reads_what_lies_beside_a_history(
    database: Database, database_url: str, here: Place, tmp_path: Path
):
    execution = queued(here, id=uuid7())
    async with database.workspace(here.workspace_id) as session:
        session.add(execution)
    keyring = Keyring(database, MASTER)
    converter = payloads.converter(keyring, Blobs(database))
    context = WorkflowSerializationContext("default", f"execution-{execution.id}")
    told = os.urandom(100_000).hex()
    (claim,) = await converter.with_context(context).encode([told])
    file = tmp_path / "history.json"
    file.write_text(json.dumps({"events": [{"input": {"payloads": [MessageToDict(claim)]}}]}))
    assert file.stat().st_size < 1_000
    shown = flowtrack(database_url, "decode", str(file))
    assert json.loads(shown.stdout) == {"events": [{"input": {"payloads": [told]}}]}
    # Kept as payloads they replay without keys and without the database.
    kept = json.loads(flowtrack(database_url, "decode", "--payloads", str(file)).stdout)
    plain = converter.payload_converter.to_payloads([told])
    assert kept["events"][0]["input"]["payloads"] == [MessageToDict(payload) for payload in plain]


async def test_the_operator_decodes_files_and_rotates_keys(
    writing: DataConverter, database_url: str, here: Place, tmp_path: Path
):
    file = tmp_path / "history.json"
    file.write_text(json.dumps(await history(writing)))
    rotated = flowtrack(database_url, "rotate", here.slug, "nobody")
    assert (rotated.returncode, rotated.stderr) == (1, "There is no workspace 'nobody'.\n")
    assert rotated.stdout.startswith("here: payloads are written with key ")
    # The old key still reads.
    shown = flowtrack(database_url, "decode", "-", given=file.read_text())
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "no offer for Ada" in shown.stdout
    for wrong in ("/nowhere.json", str(tmp_path)):
        refused = flowtrack(database_url, "decode", wrong)
        assert refused.returncode == 2
        assert "Traceback" not in refused.stderr
    garbled = flowtrack(database_url, "decode", "-", given="{")
    assert (garbled.returncode, garbled.stderr.count("\n")) == (2, 1)
