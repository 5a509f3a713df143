"""K4: what people wrote stands nowhere in what Temporal keeps, and is read with the keys all the same."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

import worker
from activities.clients import histories
from activities.clients import temporal as connecting
from activities.clients.keyring import Keyring
from activities.sandbox import sandbox
from db import payload_keys
from local import mail, ports, postgres, temporal
from local.supervisor import Service, Supervisor
from tests.e2e import house as building
from tests.e2e.graphs import edge, graph, node
from tests.e2e.house import EMAIL, MASTER_KEY, House, ok
from tests.e2e.target import Target
from workflows.messages import Heard

pytestmark = pytest.mark.anyio

TASK_FAILED = EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED

NAME = "Zanzibarquux"
PLACES = (
    "lead",
    "mail",
    "answer",
    "message",
    "body",
    "subject",
    "variable",
    "payload",
    "comment",
    "event",
    "broken",
    "label",
    "workflow",
)
CANARIES = {place: f"{NAME}{number:02}{place}" for number, place in enumerate(PLACES)}


def forms(canary: str) -> Iterator[bytes]:
    """Yield what a text may look like where it is kept: as itself, in other encodings, within base64."""
    text = canary.encode()
    yield from (text, text.lower(), canary.encode("utf-16-le"), canary.encode("utf-16-be"))
    yield from (text.hex().encode(), text.hex().upper().encode(), text[::-1])
    for shift in range(3):
        # The first and last letters depend on what stands beside; those between do not.
        inner = base64.b64encode(b"x" * shift + text + b"x" * (-(shift + len(text)) % 3)).decode()
        core = inner[4 if shift else 0 : -4]
        yield from (core.encode(), core.replace("+", "-").replace("/", "_").encode())


def found_in(content: bytes) -> list[str]:
    """Name the canaries that stand in something, in whatever form."""
    return [place for place, canary in CANARIES.items() if any(form in content for form in forms(canary))]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[tuple[str, str, Path]]:
    """Run a Temporal server that keeps everything in a file; give its two addresses, and the file."""
    port, http_port, file = ports.free(), ports.free(), tmp_path / "temporal.sqlite"
    address = f"{ports.HOST}:{port}"
    command = temporal.command(port=port, ui_port=None, database=file, callbacks=[f"{ports.HOST}:*"])
    keeper = Supervisor(tmp_path / "logs", say=lambda said: None)
    command += ["--http-port", str(http_port)]
    await keeper.start(Service("temporal", command, lambda: temporal.is_ready(address)))
    yield address, f"http://{ports.HOST}:{http_port}", file
    await keeper.stop()


@pytest.fixture
async def house(
    database_url: str,
    server: tuple[str, str, Path],
    task_queue: str,
    smtp_catcher: mail.Catcher,
    target: Target,
) -> AsyncIterator[House]:
    async with building.built(database_url, server[0], task_queue, smtp_catcher, target) as house:
        yield house


def drawing(listener: str) -> dict[str, Any]:
    """Draw a run that takes a canary through every place where people's words go."""
    canary = CANARIES
    nodes = [
        node("form", "TRIGGER_FORM", canary["label"]),
        node("keep", "UTILITY_SET_VARIABLES", assignments={"kept": canary["variable"]}),
        node("log", "UTILITY_LOG", message=f"{{{{ lead.email }}}} {canary['message']} {{{{ vars.kept }}}}"),
        node(
            "mail",
            "ACTION_SEND_EMAIL",
            "Mail",
            emailSubject=f"{canary['subject']} {{{{ lead.name }}}}",
            emailBody=f"<p>{canary['body']} {{{{ trigger.message }}}}</p>",
        ),
        node("hook", "ACTION_DELIVER_WEBHOOK", eventType="lead.seen", payload={"of": canary["payload"]}),
        node("ask", "LOGIC_APPROVAL", "Ask", message=canary["message"]),
        node("wait", "LOGIC_WAIT_FOR_EVENT", "Wait", events=[{"id": "paid", "type": "PAID"}]),
        node("broken", "UTILITY_FAIL", "Broken", message=f"{canary['broken']} {{{{ lead.email }}}}"),
    ]
    edges = [
        edge("form", "keep"),
        edge("keep", "log"),
        edge("log", "mail"),
        edge("mail", "hook"),
        edge("hook", "ask"),
        edge("ask", "wait", "approved"),
        edge("wait", "broken", "event_paid"),
    ]
    return graph(*nodes, *edges)


async def played(house: House) -> str:
    """Take somebody through the whole of it, to an end with an error; return the execution."""
    canary = CANARIES
    await ok(
        house.api.post(
            "/v1/webhook-endpoints", json={"url": house.target.url, "subscribed_events": ["lead.seen"]}
        )
    )
    message = {"field_key": "message", "label": "Message", "field_type": "TEXT"}
    name = {"field_key": "name", "label": "Name", "field_type": "TEXT"}
    workflow = await house.workflow(
        drawing(house.target.url), fields=(EMAIL, message, name), name=canary["workflow"]
    )
    answers = {
        "email": f"{canary['mail']}@example.com",
        "name": f"{canary['lead']} Smith",
        "message": canary["answer"],
    }
    execution = await house.submit(workflow, answers)
    asked = await house.until_step(execution, "ask", "running")
    decision = {"step": asked["id"], "approved": True, "comment": canary["comment"]}
    await ok(house.api.post(f"/v1/executions/{execution}/approvals", json=decision))
    await house.until_step(execution, "wait", "running")
    async with house.database.workspace(house.workspace_id) as session:
        # In mid-run: what was written before is read, too.
        await payload_keys.rotate(session, house.workspace_id, key=MASTER_KEY)
    house.keyring.forget(house.workspace_id)
    signal = {"type": "PAID", "data": {"note": canary["event"]}}
    await ok(house.api.post(f"/v1/executions/{execution}/signals", json=signal))
    run = await house.ended(execution)
    assert (run["status"], run["status_reason"]) == ("failed", "node_failed")
    assert canary["broken"] in run["error"]["message"]
    return f"execution-{execution}"


async def test_what_people_wrote_is_nowhere_in_temporal_and_reads_with_the_keys(
    house: House, server: tuple[str, str, Path], admin_url: str
):
    address, http_api, file = server
    workflow_id = await played(house)
    execution_id = house.seen[0]

    shown = {"file": b"".join(part.read_bytes() for part in sorted(file.parent.glob(f"{file.name}*")))}
    async with httpx.AsyncClient(base_url=f"{http_api}/api/v1/namespaces/default") as web:
        for name, path in {
            "list": "/workflows",
            "describe": f"/workflows/{workflow_id}",
            "history": f"/workflows/{workflow_id}/history",
            "schedules": "/schedules",
        }.items():
            shown[name] = (await ok(web.get(path))).content
    shown["cli"] = await said("workflow", "show", "--workflow-id", workflow_id, address=address)
    shown["listed"] = await said("workflow", "list", address=address)

    # The file is the one that the run went into, and whoever looks for it finds what is not hidden.
    assert workflow_id.encode() in shown["file"]
    assert b"node_failed" in shown["history"]
    assert {name: found for name, content in shown.items() if (found := found_in(content))} == {}

    read = json.dumps(await house.read_history(execution_id), ensure_ascii=False)
    assert [place for place, canary in CANARIES.items() if canary.lower() not in read.lower()] == []
    assert len(set(key_names(shown["history"]))) == 2
    await house.expect_rebuildable()
    # Another worker comes to the same, and so does one without any key from what `flowtrack decode` keeps.
    history = await house.temporal.get_workflow_handle(workflow_id).fetch_history()
    plain = await histories.decoded(
        json.loads(history.to_json()), histories.opener(house.keyring), as_payloads=True
    )
    for told, converter in (
        (history, house.temporal.data_converter),
        (WorkflowHistory.from_json(workflow_id, json.dumps(plain)), connecting.PLAIN),
    ):
        replayer = Replayer(
            workflows=list(worker.WORKFLOWS), data_converter=converter, workflow_runner=sandbox()
        )
        await replayer.replay_workflow(told)

    with psycopg.connect(postgres.plain(admin_url), autocommit=True) as connection:
        connection.execute("DELETE FROM workspaces WHERE id = %s", [house.workspace_id])
    nobody = histories.opener(Keyring(house.database, MASTER_KEY))
    left = json.dumps(await histories.decoded(json.loads(history.to_json()), nobody), ensure_ascii=False)
    assert found_in(left.encode()) == []
    assert await histories.decoded(json.loads(left), nobody) == json.loads(left)


@pytest.mark.parametrize("form", range(len(list(forms("x" * 12)))))
def test_whoever_looks_finds_a_text_in_every_form(form: int):
    text = list(forms(CANARIES["lead"]))[form]
    assert found_in(b"\x00\x01" + text + b"...") == ["lead"]


@pytest.mark.parametrize("before", ["", "x", "xx", "xxx"])
def test_whoever_looks_finds_a_text_within_base64(before: str):
    within = base64.b64encode(f'{before}"{CANARIES["mail"]}@example.com"'.encode())
    assert found_in(within) == ["mail"]


def key_names(history: bytes) -> Iterator[str]:
    """Yield the name of the key of each payload."""
    waiting: list[Any] = [json.loads(history)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict) and "key" in value.get("metadata", {}):
            yield base64.b64decode(value["metadata"]["key"]).decode()
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


async def said(*arguments: str, address: str) -> bytes:
    """Return what a command of Temporal's prints as JSON."""
    command = [*arguments, "--address", address, "--output", "json"]
    return (await temporal.run(*command)).encode()


async def test_a_run_whose_key_cannot_be_opened_waits_and_goes_on_when_it_can(
    house: House, server: tuple[str, str, Path], admin_url: str
):
    """K3: the workflow task fails and is repeated; the run does not fail."""
    wait = node("wait", "LOGIC_WAIT_FOR_EVENT", "Wait", events=[{"id": "paid", "type": "PAID"}])
    workflow = await house.workflow(graph(node("form", "TRIGGER_FORM"), wait, edge("form", "wait")))
    execution = await house.submit(workflow, {"email": "ada@example.com"})
    await house.until_step(execution, "wait", "running")
    with psycopg.connect(postgres.plain(admin_url), autocommit=True) as connection:
        (sealed,) = connection.execute("SELECT key_sealed FROM payload_keys").fetchone() or ()
        connection.execute("UPDATE payload_keys SET key_sealed = 'shut'")
        house.keyring.forget(house.workspace_id)

        # By an operator's hand, in the clear: ours would find no key.
        operator = await connecting.connect(server[0])
        heard = Heard(type="PAID", at=datetime.now(UTC))
        await operator.get_workflow_handle(f"execution-{execution}").signal("event", heard)
        async with asyncio.timeout(30):
            while not any(event.event_type == TASK_FAILED for event in await house.history(execution)):
                await asyncio.sleep(0.1)
        assert (await house.until(execution, lambda run: True))["status"] == "waiting"

        connection.execute("UPDATE payload_keys SET key_sealed = %s", [sealed])
    assert (await house.ended(execution, patience=60))["status"] == "completed"
