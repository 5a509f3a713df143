"""The worker's sandbox, live: what a workflow file must not import is refused by name."""

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from activities.sandbox import sandbox

pytestmark = pytest.mark.anyio

FILE = '''"""Planted."""

from temporalio import workflow
{top}


@workflow.defn(name="Planted")
class Planted:
    @workflow.run
    async def run(self) -> str:
        {inside}
        return "ran"
'''
Planted = Callable[..., ModuleType]


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Planted]:
    """Write a workflow file of its own, outside the project, and import it as the worker would."""
    name = f"planted_{tmp_path.name}"
    monkeypatch.syspath_prepend(tmp_path)

    def plant(*, top: str = "", inside: str = "") -> ModuleType:
        (tmp_path / f"{name}.py").write_text(FILE.format(top=top, inside=inside or "pass"))
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield plant
    sys.modules.pop(name, None)


@pytest.fixture
async def start(temporal_client: Client, task_queue: str) -> AsyncIterator[Callable[..., Any]]:
    """Run a planted workflow on a live worker under production's policy."""
    started: list[tuple[Worker, WorkflowHandle[Any, Any]]] = []

    async def run(module: ModuleType) -> WorkflowHandle[Any, Any]:
        serving = Worker(
            temporal_client,
            task_queue=task_queue,
            workflows=[module.Planted],
            workflow_runner=sandbox(),
        )
        handle = await temporal_client.start_workflow("Planted", id=task_queue, task_queue=task_queue)
        started.append((serving, handle))
        await serving.__aenter__()
        return handle

    yield run
    for serving, handle in started:
        await serving.__aexit__(None, None, None)
        if (await handle.describe()).close_time is None:
            await handle.terminate()


async def refusal(handle: WorkflowHandle[Any, Any]) -> str:
    """Wait for the first workflow task that failed and return what it says."""
    for _ in range(200):
        for event in (await handle.fetch_history()).events:
            if event.HasField("workflow_task_failed_event_attributes"):
                return event.workflow_task_failed_event_attributes.failure.message
        await asyncio.sleep(0.1)
    raise TimeoutError("no workflow task failed")


async def test_a_workflow_file_that_imports_pure_modules_runs(planted: Planted, start):
    top = "from workflows.run import Run\nfrom workflows.messages import Outcome"
    handle = await start(planted(top=top, inside="assert Run and Outcome"))
    assert await handle.result() == "ran"


@pytest.mark.parametrize("module", ["db", "db.session", "sqlalchemy", "activities.world", "httpx"])
async def test_a_worker_does_not_start_with_a_workflow_file_that_imports_what_it_must_not(
    module: str, planted: Planted, start
):
    importlib.import_module(module)
    with pytest.raises(RuntimeError, match="Failed validating workflow Planted") as failure:
        await start(planted(top=f"import {module}"))
    assert f"Module {module} was not intentionally passed through" in str(failure.value.__cause__)


async def test_an_import_hidden_in_a_function_stops_the_run_on_a_live_worker(planted: Planted, start):
    handle = await start(planted(inside="import db.session"))
    assert "Module db.session was not intentionally passed through" in await refusal(handle)


@pytest.mark.parametrize(
    "inside",
    [
        "__import__('datetime').datetime.now()",
        "__import__('random').random()",
        "__import__('uuid').uuid4()",
        "__import__('time').time()",
        "__import__('os').environ['HOME']",
    ],
)
async def test_a_workflow_that_asks_the_world_is_stopped_on_a_live_worker(
    inside: str, planted: Planted, start
):
    assert "Cannot access" in await refusal(await start(planted(inside=inside)))


async def test_runs_share_what_their_file_imported_and_each_is_watched(
    planted: Planted, start, temporal_client: Client
):
    inside = "SEEN.append(1)\n        if len(SEEN) > 1: __import__('time').time()"
    first = await start(planted(top="SEEN = []", inside=inside))
    assert await first.result() == "ran"
    second = await temporal_client.start_workflow("Planted", id=f"{first.id}-again", task_queue=first.id)
    # Imported anew for each run, as the SDK would, the file would have seen nothing yet.
    assert "Cannot access time.time" in await refusal(second)
    await second.terminate()
