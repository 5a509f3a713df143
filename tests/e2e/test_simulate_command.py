"""`flowtrack simulate`, as a person runs it: the examples of the docs, a difference, a saved expectation."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from local import demo, ports
from tests.e2e.house import EMAIL, House

pytestmark = pytest.mark.anyio

EXAMPLES = Path(__file__).parents[2] / "docs" / "simulations"


@pytest.fixture
async def api_url(house: House) -> AsyncIterator[str]:
    """Serve the house over real HTTP."""
    port = ports.free()
    config = uvicorn.Config(house.application, port=port, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    await serving


async def simulate(house: House, api_url: str, *arguments: str) -> tuple[int, str]:
    """Run the command; return its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "flowtrack", "simulate", *arguments),
        *("--api-url", api_url, "--api-key", house.token),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    return process.returncode or 0, printed.decode()


async def test_the_examples_of_the_docs_come_out_as_expected(house: House, api_url: str):
    await house.workflow(demo.GRAPH, fields=demo.FIELDS, name=demo.NAME)
    drawn = json.loads((EXAMPLES / "follow-up.graph.json").read_text())
    await house.workflow(drawn, fields=(EMAIL,), name="Follow-up")
    for name in ("project-inquiry", "follow-up"):
        code, printed = await simulate(house, api_url, str(EXAMPLES / f"{name}.json"))
        assert code == 0, printed
        assert printed.rstrip().endswith("As expected.")
    assert "+7d 00:00   ✓  4  An answer within a week" in printed
    assert "“10 % off for Engines & Co” to ada@example.com" in printed


async def test_a_difference_is_told_and_what_happened_can_be_saved(
    house: House, api_url: str, tmp_path: Path
):
    await house.workflow(demo.GRAPH, fields=demo.FIELDS, name=demo.NAME)
    document: dict[str, Any] = json.loads((EXAMPLES / "project-inquiry.json").read_text())
    document["trigger_data"]["budget"] = "$500"
    changed, saved = tmp_path / "changed.json", tmp_path / "saved.json"
    changed.write_text(json.dumps(document))
    code, printed = await simulate(house, api_url, str(changed))
    assert code == 1
    assert "    -condition_check_budget: completed → condition_true" in printed
    assert "    +condition_check_budget: completed → condition_false" in printed
    assert 'mails[0].subject: "Let us talk about your project, Ada" was expected' in printed

    code, printed = await simulate(house, api_url, str(changed), "--save", str(saved))
    assert code == 0, printed
    kept = json.loads(saved.read_text())
    assert kept["trigger_data"] == document["trigger_data"]
    assert kept["expect"]["mails"] == [{"to": ["ada@example.com"], "subject": "Thank you, Ada"}]
    code, printed = await simulate(house, api_url, str(saved))
    assert code == 0, printed

    code, printed = await simulate(house, api_url, str(saved), "--workflow", "nowhere")
    assert (code, "no workflow with the id, slug or name nowhere" in printed) == (2, True)
