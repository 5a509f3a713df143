"""The golden histories: where they lie, how they are written and what they hold."""

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHistory

from workflows import nodes

FOLDER = Path(__file__).parent / "histories"
ROOT = Path(__file__).parent.parent.parent
COMMAND = "make golden"
NUMBERED = re.compile(r"-\d+$")
UNTOLD = ("stackTrace", "completionCallbacks", "attachedCompletionCallbacks")
IDENTITY = re.compile(r"\d+@.+")
"""A process and its host, as clients name themselves and their own task queues."""


def paths() -> list[Path]:
    """Return every golden history, in the order of their names."""
    return sorted(FOLDER.glob("*.json"))


def scene_of(path: Path) -> str:
    """Name the scene that a history was recorded from; one of several runs carries a number."""
    return NUMBERED.sub("", path.stem)


def executable() -> list[str]:
    """Return the node types of which there must be a golden history."""
    return [name for name, node_type in nodes.types().items() if not node_type.never_runs]


def read(path: Path) -> WorkflowHistory:
    """Read one for replay; the id is any, as no workflow of ours looks at its own."""
    return WorkflowHistory.from_json(path.stem, path.read_text())


def keep(name: str, histories: list[WorkflowHistory]) -> list[Path]:
    """Write the runs of a scene in place of what was recorded of it before."""
    for old in paths():
        if scene_of(old) == name:
            old.unlink()
    several = len(histories) > 1
    written = []
    for number, history in enumerate(histories, 1):
        path = FOLDER / (f"{name}-{number}.json" if several else f"{name}.json")
        path.write_text(json.dumps(scrubbed(json.loads(history.to_json())), indent=1) + "\n")
        written.append(path)
    return written


def scrubbed(value: Any) -> Any:
    """Take out what tells of the machine and means nothing to a replay: identities, traces, who is called."""
    if isinstance(value, list):
        return [scrubbed(item) for item in value]
    if isinstance(value, dict):
        kept = {key: scrubbed(item) for key, item in value.items() if key not in UNTOLD}
        return {**kept, "identity": "recorder"} if "identity" in kept else kept
    return "recorder" if isinstance(value, str) and IDENTITY.fullmatch(value) else value


def texts(value: Any) -> Iterator[str]:
    """Yield every text of a history, the payloads in clear."""
    if isinstance(value, dict):
        for key, item in value.items():
            is_bytes = key == "data" and isinstance(item, str)
            yield from [base64.b64decode(item).decode()] if is_bytes else texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)
    elif isinstance(value, str):
        yield value


def workflow_of(path: Path) -> str:
    """Name the workflow whose history this is."""
    return str(_began(path)["workflowType"]["name"])


def _began(path: Path) -> dict[str, Any]:
    first: dict[str, Any] = json.loads(path.read_text())["events"][0]
    started: dict[str, Any] = first["workflowExecutionStartedEventAttributes"]
    return started


def steps(path: Path) -> dict[str, str]:
    """Return the node types of the graph that a history ran, by node id; none if it is no execution's."""
    started = _began(path)
    if started["workflowType"]["name"] != "ExecutionWorkflow":
        return {}
    given = json.loads(base64.b64decode(started["input"]["payloads"][0]["data"]))
    return {node["id"]: node["type"] for node in given["graph"]["nodes"]}
