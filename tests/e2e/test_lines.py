"""Whoever reads the log of a run that went wrong finds every line of it by its ids."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from temporalio.client import Client
from uuid_utils.compat import uuid7

from telemetry import lines
from tests.e2e.graphs import edge, graph, node
from tests.e2e.house import House
from tests.e2e.planted import hostile_types_in
from tests.e2e.target import Target

pytestmark = pytest.mark.anyio

CANARY = "canary-ada@example.com"
SDKS = "Completing activity as failed"


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """Write lines as a process does."""
    stream, root = io.StringIO(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    lines.configure("info", stream=stream)
    yield stream
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture
async def target(tmp_path: Path, written: io.StringIO, target: Target) -> Any:
    """Listen for webhooks, once the bad node is there: the house's worker registers what it finds."""
    with hostile_types_in(tmp_path):
        yield target


def read(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


async def test_every_line_about_a_run_names_its_workspace_execution_and_step(
    house: House, written: io.StringIO
):
    drawn = graph(
        node("start", "TRIGGER_FORM"),
        node("bad", "ACTION_HOSTILE_QUEUED", how="exception", retry={"maxAttempts": 1}),
        edge("start", "bad"),
    )
    workflow = await house.workflow(drawn)
    run = await house.submit(workflow, {"email": "ada@example.com"}, **{"X-Request-Id": "mine"})
    await house.ended(run)
    ids = {"workspace_id": str(house.workspace_id), "execution_id": str(run)}
    found = read(written)
    (posted,) = [line for line in found if line.get("route") == "/f/{workspace}/{form}"]
    assert posted.items() >= {"event": "request", "request_id": "mine", "status": 202, **ids}.items()
    (raised,) = [line for line in found if line["event"] == "step raised"]
    assert raised.items() >= {"step": "bad:1", "attempt": 1, "level": "error", **ids}.items()
    (ended,) = [line for line in found if line["event"] == SDKS and line.get("step") == "bad:1"]
    assert ended.items() >= ids.items()
    about = [line for line in found if "execution_id" in line and line["event"] != "request"]
    assert [line for line in about if "workspace_id" not in line] == []
    shown = [line for line in found if line.get("route") == "/v1/executions/{execution_id}"]
    assert shown
    assert all(line.items() >= ids.items() and line["request_id"] for line in shown)
    assert "ada@example.com" not in written.getvalue()
    assert all("request_id" in line for line in found if line["event"] == "request")


async def test_a_step_that_fails_puts_nothing_of_a_person_into_the_log(house: House, written: io.StringIO):
    named = node("named", "ACTION_SET_LEAD_STATUS", status=CANARY)
    won = node("won", "ACTION_SET_LEAD_STATUS", status="WON", allowedFrom=["NEW"], onConflict="fail")
    drawn = graph(node("start", "TRIGGER_FORM"), named, won, edge("start", "named"), edge("named", "won"))
    run = await house.submit(await house.workflow(drawn), {"email": "ada@example.com"})
    assert (await house.ended(run))["status"] == "failed"
    error = (await house.steps(run))["won"]["error"]
    assert CANARY in error["message"]
    (line,) = [line for line in read(written) if line["event"] == SDKS]
    assert line["error"] == error["type"]
    assert CANARY not in written.getvalue()


async def test_a_line_of_the_mirror_names_its_run(
    house: House, written: io.StringIO, temporal_client: Client
):
    unreadable = uuid7()
    name = f"execution-{unreadable}"
    await temporal_client.start_workflow("ExecutionWorkflow", {"graph": CANARY}, id=name, task_queue="nobody")
    house.mirror.hint(unreadable)
    deadline = asyncio.get_running_loop().time() + 30
    while not (found := [line for line in read(written) if line["event"].startswith("mirror: look")]):
        assert asyncio.get_running_loop().time() < deadline, read(written)
        await asyncio.sleep(0.05)
    assert {line["execution_id"] for line in found} == {str(unreadable)}
    assert "ValidationError" in found[0]["exception"]
    assert CANARY not in written.getvalue()
    await temporal_client.get_workflow_handle(name).terminate()
