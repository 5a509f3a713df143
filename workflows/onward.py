"""What a step's activity is given, and which steps it may carry out behind its own (ADR 0028)."""

from workflows.messages import ExecutionInput, StepInput
from workflows.nodetype import NodeType
from workflows.run import Run
from workflows.scopes import is_light

LIGHT = 32 * 1024
"""Weight of what a run may know and still hand over whole; a heavier one goes step by step."""


def asked(start: ExecutionInput, run: Run, key: str) -> StepInput:
    """Build what the activity of one step is given."""
    node, visit = run.place_of(key)
    node_type = run.type_of(node)
    step = StepInput(
        workspace_id=start.workspace_id,
        workflow_id=start.workflow_id,
        execution_id=start.execution_id,
        lead_id=start.lead_id,
        node=node,
        visit=visit,
        scope=run.scope_for(node, visit),
        edges=run.edge_rules(node),
        load_lead=start.lead_id is not None and run.must_load_lead(node),
        zone=run.zone(),
    )
    if node_type.passes:
        return step.model_copy(update={"trigger": start.trigger_data, "inputs": run.inputs_of(node, visit)})
    return step.model_copy(update=run.what_waits_need(key)) if node_type.waits else step


def onward(start: ExecutionInput, run: Run, key: str) -> ExecutionInput | None:
    """Hand the run as it stands to a step's activity; None where no other step could follow there."""
    state, node = run.state, run.node_of(key)
    if state.ready != [key] or state.paused or run.has_loops or not goes_on(run.type_of(node)):
        return None
    if not any(goes_on(run.type_of(run.graph.by_id[edge.target])) for edge in run.graph.outgoing[node.id]):
        return None
    if not is_light([start.trigger_data, state.outputs, state.vars, state.lead], cap=LIGHT):
        return None
    # What it heard is for steps that wait, and those are not carried out behind another.
    known = {"begun": None, "state": state.model_copy(update={"inbox": []}), "facts": run.facts}
    return start.model_copy(update=known)


def following(run: Run) -> str | None:
    """Name the one step that comes next, where there is one and it may go on at once."""
    ready = run.state.ready
    return ready[0] if len(ready) == 1 and goes_on(run.type_of(run.node_of(ready[0]))) else None


def goes_on(node_type: type[NodeType]) -> bool:
    """Tell whether steps of this type may share an activity: they act in place, and wait for nobody."""
    acts_here = node_type.queue is None or node_type.fast_path
    return acts_here and not (node_type.passes or node_type.waits or node_type.never_runs)
