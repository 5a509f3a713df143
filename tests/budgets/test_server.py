"""How often the Temporal server must write for one run: its transactions are what bounds throughput."""

import re
from collections.abc import AsyncIterator

import httpx
import pytest
from temporalio.testing import WorkflowEnvironment

from local import mail, ports, temporal
from tests.budgets.counting import intake, taken_through
from tests.e2e import house as building
from tests.e2e.house import House
from tests.e2e.target import Target

pytestmark = pytest.mark.anyio

RUNS = 10
SERVED = re.compile(r"^(?:service|persistence)_requests\{(?P<labels>[^}]*)\} (?P<count>\S+)$", re.MULTILINE)
OPERATION = re.compile(r'operation="([^"]+)"')


@pytest.fixture
async def metrics() -> AsyncIterator[tuple[str, str]]:
    """Start a server of the test's own; give its address and the page of its metrics."""
    port = ports.free()
    flags = ["--metrics-port", str(port)]
    for name in temporal.SEARCH_ATTRIBUTES:
        flags += ["--search-attribute", f"{name}=Keyword"]
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=temporal.executable(), dev_server_extra_args=flags
    ) as environment:
        yield environment.client.service_client.config.target_host, f"http://127.0.0.1:{port}/metrics"


@pytest.fixture
async def watched(
    database_url: str, metrics: tuple[str, str], task_queue: str, smtp_catcher: mail.Catcher, target: Target
) -> AsyncIterator[House]:
    """Build the house on that server."""
    async with building.built(database_url, metrics[0], task_queue, smtp_catcher, target) as house:
        yield house


async def served(page: str) -> dict[str, float]:
    """Read how often each operation was asked for."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(page)).text
    counted: dict[str, float] = {}
    for match in SERVED.finditer(text):
        operation = OPERATION.search(match["labels"])
        if operation:
            name = f"{match.group().partition('_')[0]} {operation[1]}"
            counted[name] = counted.get(name, 0) + float(match["count"])
    return counted


async def test_the_server_writes_few_times_for_an_intake_run(watched: House, metrics: tuple[str, str]):
    workflow = await intake(watched)
    await taken_through(watched, workflow, 0)
    before = await served(metrics[1])
    for number in range(1, RUNS + 1):
        await taken_through(watched, workflow, number)
    after = await served(metrics[1])
    per_run = {name: (after[name] - before.get(name, 0)) / RUNS for name in after}
    # One to begin its only workflow task and one to end it; the server's own workflows write a little, too.
    assert per_run["persistence UpdateWorkflowExecution"] <= 3, per_run
    assert per_run.get("service RespondActivityTaskCompleted", 0) == 0
    # The mirror reads once; the server counts its inner call, too. A slow machine may have it look too early.
    assert per_run["service GetWorkflowExecutionHistoryReverse"] <= 4, per_run
