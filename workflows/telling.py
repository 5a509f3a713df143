"""What operators read of a run in the Temporal Web UI: ids, names and labels in Markdown, no data of people.

The Web UI renders tables and links, no HTML, no pictures and no Mermaid; `{namespace}` it fills in itself.
"""

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote
from uuid import UUID

from workflows.graph import SUMMARY_CAP, Node, one_line, split_key, step_key
from workflows.messages import DeliveryInput, ExecutionInput, Outcome, ScheduledInput, StepError
from workflows.nodes.action_start_workflow import execution_of
from workflows.run import Run

LABEL_CAP = 60
PAGE_CAP = 5_000
"""Bytes of a table as the Web UI asks for its rendering: in an address, of which proxies take 8 KB."""
SPECIAL = re.compile(r"[\\`*_{}\[\]<>|&~:#]")
PLAIN = re.compile(r"[\w.:-]+", re.ASCII)
TABLE = "| Step | Label | State |\n| :-- | :-- | :-- |\n"


@dataclass(frozen=True)
class Row:
    """One line of the table; of many, those of the highest rank are shown."""

    text: str
    rank: int = 0
    is_over: bool = False
    counts: bool = True
    """It is a step of its own, and not a node that a loop repeats."""


def escaped(text: str, *, cap: int = LABEL_CAP) -> str:
    """Write a text that Markdown shows as it is."""
    return SPECIAL.sub(r"\\\g<0>", one_line(text, cap=cap))


def details(start: ExecutionInput, *, workflow_name: str, public_url: str = "") -> str:
    """Say what a run is and where more of it stands; without a public URL there is no link to the API."""
    rows = {
        "Workflow": f"{escaped(workflow_name, cap=SUMMARY_CAP)}, version {start.version}",
        "Trigger": escaped(start.trigger_type),
        "Execution": _code(str(start.execution_id)),
        "Lead": _code(str(start.lead_id)) if start.lead_id else "",
        "Waited for by": run_link(start.awaited_by) if start.awaited_by else "",
        "In the API": _api_links(f"{public_url}/v1/executions/{start.execution_id}") if public_url else "",
    }
    return "\n".join(f"- **{name}** {value}" for name, value in rows.items() if value)


def delivery_details(delivery: DeliveryInput, *, execution_id: UUID) -> str:
    """Say which message goes where, and which run sends it."""
    message, endpoint = _code(delivery.message_id), _code(str(delivery.endpoint_id))
    return f"- **Message** {message}\n- **Endpoint** {endpoint}\n- **Sent by** {run_link(execution_id)}"


def schedule_details(due: ScheduledInput) -> str:
    """Say whose runs are due."""
    workflow, workspace = _code(str(due.workflow_id)), _code(str(due.workspace_id))
    return f"- **Workflow** {workflow}\n- **Workspace** {workspace}"


def run_link(execution_id: UUID | str) -> str:
    """Link to another run in the Web UI, wherever that is served."""
    name = f"execution-{execution_id}"
    return f"[{name}](./namespaces/{{namespace}}/workflows/{name})"


def progress(
    run: Run, *, failures: Mapping[str, StepError], is_cancelled: bool = False, cap: int = PAGE_CAP
) -> str:
    """Tell how far a run is, step by step; `failures` are those by which it ends, by the step's key."""
    rows = list(_rows(run, failures, is_cancelled=is_cancelled))
    done, all_ = (sum(counted) for counted in ((r.is_over for r in rows), (r.counts for r in rows)))
    standing = "Cancelled" if is_cancelled else _standing(run, failures)
    headline = f"**{standing}** · {done} of {all_} steps are over"
    shown = _fitting(rows, cap)
    parts = [headline, TABLE + "\n".join(row.text for row in shown), *_asked_for(run)]
    if len(shown) < len(rows):
        parts.insert(2, f"{len(rows) - len(shown)} more steps are not shown; the API lists all.")
    return "\n\n".join(parts)


def _api_links(url: str) -> str:
    return f"[execution]({url}) · [steps]({url}/steps) · [logs]({url}/logs)"


def _standing(run: Run, failures: Mapping[str, StepError]) -> str:
    state = run.state
    if failures:
        return "Failed"
    if not state.walk.visits:
        return "Not begun"
    if state.paused and run.is_open:
        return "Paused"
    if state.held:
        return "Held by a failure"
    if not run.is_open:
        return "Over"
    return "Waiting" if set(state.ready) == set(state.sleeping) else "Under way"


def _rows(run: Run, failures: Mapping[str, StepError], *, is_cancelled: bool) -> Iterator[Row]:
    """Yield the steps in the order in which they were decided, then the nodes that were not reached."""
    visits = run.state.walk.visits
    keys = [step_key(*at) for at in visits.items()]
    # Inside loops the steps under way stand for all of them.
    keys = list(dict.fromkeys([*keys, *run.state.ready, *run.state.walk.loops]))
    shown = {run.node_of(key).id for key in keys}
    for key in keys:
        yield _row(run, key, failures, is_cancelled=is_cancelled)
    for node in _in_reach(run):
        if node.id in shown or run.type_of(node).never_runs:
            continue
        loop = run.loop_of(node.id)
        told = f"repeated by {_code(loop)}" if loop else "not reached"
        yield Row(_line(node.id if loop else step_key(node.id, 1), node, told), counts=not loop)


def _in_reach(run: Run) -> Iterator[Node]:
    """Yield the graph's nodes as they lie behind each other from where it is entered, then all others."""
    graph = run.graph
    reached = dict.fromkeys(node.id for node in graph.nodes if not graph.incoming[node.id])
    waiting = deque(reached)
    while waiting:
        for edge in graph.outgoing[waiting.popleft()]:
            if edge.target not in reached:
                reached[edge.target] = None
                waiting.append(edge.target)
    for node_id in reached | dict.fromkeys(graph.by_id):
        yield graph.by_id[node_id]


def _row(run: Run, key: str, failures: Mapping[str, StepError], *, is_cancelled: bool) -> Row:
    state, node = run.state, run.node_of(key)
    failure = failures.get(key) or state.held.get(key)
    if failure is not None:
        word = "failed" if key in failures else "held"
        return Row(_line(key, node, f"{word}: {escaped(failure.type)}"), rank=4)
    is_open = key in state.ready or key in state.walk.loops
    if not is_open:
        told = "skipped" if key in state.skipped else _ended(run, node)
        return Row(_line(key, node, told), rank=1, is_over=True)
    if is_cancelled:
        return Row(_line(key, node, "cancelled"), rank=2)
    if key in state.sleeping:
        return Row(_line(key, node, _waiting(state.sleeping[key])), rank=3)
    if key in state.walk.loops:
        items = state.walk.loops[key]
        told = f"running: {items.ended} of {items.count} items are over, {items.failed} failed"
        return Row(_line(key, node, told), rank=2)
    return Row(_line(key, node, "held by the pause" if state.paused else "running"), rank=2)


def _line(key: str, node: Node, state: str) -> str:
    return f"| {_code(key)} | {escaped(node.label or node.type)} | {state} |"


def _code(text: str) -> str:
    return f"`{text}`" if PLAIN.fullmatch(text) else escaped(text, cap=SUMMARY_CAP)


def _ended(run: Run, node: Node) -> str:
    """Say how a step ended: what it gave tells that it ran, and the edges taken by which way it left."""
    if node.id not in run.state.outputs:
        return "skipped"
    taken = run.state.walk.edges
    ways = dict.fromkeys(
        edge.source_handle
        for edge in run.graph.outgoing[node.id]
        if taken.get(edge.id) == "taken" and edge.source_handle not in (None, "default")
    )
    told = f"completed → {escaped(', '.join(way for way in ways if way))}" if ways else "completed"
    output = run.state.outputs[node.id]
    child = output.get("execution_id") if run.type_of(node).starts_runs and isinstance(output, dict) else None
    return f"{told}, started {run_link(str(child))}" if child else told


def _waiting(outcome: Outcome) -> str:
    until = [f"until {outcome.wake_at:%Y-%m-%d %H\\:%M} UTC"] if outcome.wake_at else []
    whom = [_waited_for(type_) for type_ in outcome.waits_for]
    return " ".join(["waiting", *until, *([f"for {', '.join(whom)}"] if whom else [])])


def _waited_for(event_type: str) -> str:
    child = execution_of(event_type)
    if child is not None:
        return run_link(child)
    # "approval <key>": the key stands in the first column.
    kind, _, key = event_type.partition(" ")
    return "a decision" if kind == "approval" and split_key(key) else escaped(event_type)


def _fitting(rows: list[Row], cap: int) -> list[Row]:
    """Choose the rows that matter most and fit, and leave them in their order."""
    left, chosen = cap, set()
    # Of those that are over the latest ones matter, of those to come the next ones.
    order = sorted(range(len(rows)), key=lambda n: (-rows[n].rank, -n if rows[n].is_over else n))
    for number in order:
        left -= len(quote(rows[number].text))
        if left < 0:
            break
        chosen.add(number)
    return [row for number, row in enumerate(rows) if number in chosen]


def _asked_for(run: Run) -> Iterator[str]:
    """Say what a person may do for the steps that need one, as the Web UI's dialog takes it."""
    for key in run.state.held:
        decide = f"Send the update `retry_step` or `skip_step` with {_typed(key)}."
        yield f"{_code(key)} failed and is held. {decide}"
    for key in run.state.sleeping:
        if run.type_of(run.node_of(key)).asks:
            decide = f"Send the update `approve` or `reject` with {_typed(key, by='your name')}."
            yield f"{_code(key)} waits for a decision. {decide}"


def _typed(key: str, **more: str) -> str:
    pairs = ", ".join(f'"{name}": "{value}"' for name, value in {"step": key, **more}.items())
    return f"`{{{pairs}}}`"
