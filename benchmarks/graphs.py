"""Big graphs on FlowTrack: what a run of each writes into its history, and how long it takes.

    python benchmarks/graphs.py [runs of each]

A run's calls of the Temporal server are counted from its history: each workflow and each activity task is
asked for once and answered once. Events, bytes and calls travel from one machine to another; seconds do not.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from forms import start, wait_for
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from local import ports
from tests.budgets import shapes

SHAPES = {
    "200 nodes in a row": shapes.long(),
    "50 branches and a join": shapes.wide(),
    "10,000 items, one by one": shapes.loop(10_000),
    "10,000 items, 20 at a time": shapes.loop(10_000, mode="parallel", concurrency=20),
}
TASKS = (EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED, EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED)


@dataclass(frozen=True)
class Measured:
    """What one run cost; a run that continued as new has several histories."""

    events: int
    size: int
    longest: int
    histories: int
    calls: int
    seconds: float


async def main(runs: int) -> None:
    """Run each shape so many times and print the medians."""
    with tempfile.TemporaryDirectory(prefix="flowtrack-bench-") as directory:
        up = start(Path(directory), ports.free())
        try:
            card = wait_for(Path(directory) / "up.json", up)
            headers = {"Authorization": f"Bearer {card['api_key']}"}
            async with httpx.AsyncClient(
                base_url=card["api_url"], headers=headers, trust_env=False, timeout=60
            ) as api:
                measured = {name: await measure(api, card, drawn, runs) for name, drawn in SHAPES.items()}
        finally:
            up.terminate()
            up.wait(60)
    show(measured)


async def measure(
    api: httpx.AsyncClient, card: dict[str, Any], drawn: dict[str, Any], runs: int
) -> list[Measured]:
    """Publish a graph and run it, one run after the other; the first one only warms up."""
    made = (await api.post("/v1/workflows", json={"name": "Bench"})).raise_for_status().json()
    path = f"/v1/workflows/{made['id']}"
    etag = (await api.get(f"{path}/graph")).headers["ETag"]
    (await api.put(f"{path}/graph", json=drawn, headers={"If-Match": etag})).raise_for_status()
    (await api.post(f"{path}/publish")).raise_for_status()
    temporal = await Client.connect(card["temporal_address"])
    return [await one(api, temporal, path) for _ in range(runs + 1)][1:]


async def one(api: httpx.AsyncClient, temporal: Client, path: str) -> Measured:
    """Start a run, wait until its rows say that it has completed, and read its histories."""
    began = time.perf_counter()
    body = {"trigger_data": {"amount": 250}}
    run = (await api.post(f"{path}/executions", json=body)).raise_for_status().json()
    while run["status"] not in ("completed", "failed", "cancelled"):
        await asyncio.sleep(0.02)
        run = (await api.get(f"/v1/executions/{run['id']}")).raise_for_status().json()
    seconds = time.perf_counter() - began
    if run["status"] != "completed":
        raise SystemExit(f"{path}: {run['status_reason']} {run['error']}")
    return await weighed(temporal, f"execution-{run['id']}", seconds)


async def weighed(temporal: Client, workflow_id: str, seconds: float) -> Measured:
    """Count what stands in a run's histories, from the last back to the first."""
    events = size = longest = histories = calls = 0
    run_id: str | None = None
    while run_id != "":
        history = list(
            (await temporal.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()).events
        )
        events, histories = events + len(history), histories + 1
        size += sum(event.ByteSize() for event in history)
        longest = max(longest, len(history))
        calls += 2 * sum(event.event_type in TASKS for event in history)
        run_id = history[0].workflow_execution_started_event_attributes.continued_execution_run_id
    return Measured(events, size, longest, histories, calls, seconds)


def show(measured: dict[str, list[Measured]]) -> None:
    """Print the medians."""
    print("| graph | events | the longest history | histories | KB of history | server calls | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, runs in measured.items():
        middle = {
            field: statistics.median(getattr(run, field) for run in runs)
            for field in ("events", "longest", "histories", "size", "calls", "seconds")
        }
        print(
            f"| {name} | {middle['events']:.0f} | {middle['longest']:.0f} | {middle['histories']:.0f} |"
            f" {middle['size'] / 1024:.0f} | {middle['calls']:.0f} | {middle['seconds']:.2f} |"
        )


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if sys.argv[1:] else 5))
