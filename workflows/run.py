"""One run as plain data and pure rules: the walk plus what nodes said so far.

The driver (execution.py) and the mirror's projection both use it, the one to act, the other to tell
from history alone which triggers, merges and skipped nodes left no event of their own.
"""

from collections import deque
from dataclasses import dataclass

from pydantic import JsonValue

from workflows import nodes
from workflows.graph import Graph, Node, split_key
from workflows.messages import (
    Begun,
    EdgeRule,
    ExecutionInput,
    Facts,
    Heard,
    Outcome,
    RunState,
    Scope,
    StepError,
)
from workflows.nodetype import NodeType
from workflows.scopes import is_light, names_lead, pick
from workflows.walk import Decision, Walk

UNTOUCHED = "EDGES"
"""The activity that only weighs the rules on the edges of a node that has no activity of its own."""
INBOX_CAP = 1_000
"""Events that a run keeps for waits that have not begun."""
PASSED_CAP = 256 * 1024
"""Weight of what a node may pass on without an activity, the cap of every other output (design §5)."""


@dataclass(frozen=True)
class Ready:
    """A step to be carried out."""

    key: str
    node: Node


@dataclass(frozen=True)
class Passed:
    """A step that the run decided by itself."""

    key: str
    node: Node
    outcome: Outcome


@dataclass(frozen=True)
class Skipped:
    """A node that does not run, and why."""

    key: str
    node: Node
    reason: str


Event = Ready | Passed | Skipped


class Run:
    """Takes outcomes in and says what comes of them."""

    def __init__(self, start: ExecutionInput, state: RunState | None = None) -> None:
        self.graph: Graph = start.graph
        self.state = state or start.state or RunState()
        self.facts = start.facts or Facts()
        self.trigger: dict[str, JsonValue] = start.trigger_data
        self._trigger_node_id = start.trigger_node_id
        self._execution_id, self._version = start.execution_id, start.version
        self._walk = Walk(self.graph, self.state.walk)
        outputs = self.state.outputs
        self._steps = {node.save_as: outputs[node.id] for node in self.graph.nodes if node.id in outputs}

    def admit(self, begun: Begun) -> None:
        """Take in what the `begin` activity found."""
        facts: dict[str, JsonValue] = {"id": str(self._execution_id), "version": self._version}
        self.facts = Facts(workspace=begun.workspace, workflow=begun.workflow, execution=facts)
        self._meet(begun.lead)

    def start(self) -> list[Event]:
        """Enter at the trigger."""
        return self._follow(self._walk.start(self._trigger_node_id))

    def finish(self, key: str, outcome: Outcome) -> list[Event]:
        """Record what a step gave and go on from it."""
        node = self.node_of(key)
        self._remember(key, node, outcome)
        return self._follow(self._walk.finish(node.id, outcome.handles, outcome.conditions))

    def recover(self, key: str, error: StepError) -> Outcome | None:
        """Return the outcome with which a failed step goes on, or None if it ends the run (`onError`)."""
        node = self.node_of(key)
        output: JsonValue = {"error": error.model_dump()}
        if not self.type_of(node).recovers:
            return None
        if node.on_error == "branch":
            return Outcome(output=output, handles=("error",))
        if node.on_error == "continue":
            return Outcome(output=output, handles=self._first_way(node))
        return None

    def retry(self, key: str) -> None:
        """Let a held step go again; what was wrong may have been mended in the lead."""
        self.state.held.pop(key, None)
        self.state.lead = None

    def skip(self, key: str) -> list[Event]:
        """Go on from a held step as if it had done nothing."""
        self.state.held.pop(key, None)
        return self.finish(key, Outcome(handles=self.type_of(self.node_of(key)).handles[:1]))

    def hear(self, event: Heard) -> None:
        """Buffer an event; of a flood the newest count."""
        self.state.inbox.append(event)
        del self.state.inbox[:-INBOX_CAP]

    def waiting_to_run(self) -> list[str]:
        """Name the steps that are decided to run and that nobody holds."""
        return [key for key in self.state.ready if key not in self.state.held]

    def node_of(self, key: str) -> Node:
        """Return the node that a step's key names."""
        parts = split_key(key)
        if parts is None:
            raise KeyError(key)
        return self.graph.by_id[parts[0]]

    def type_of(self, node: Node) -> type[NodeType]:
        """Return a node's type."""
        return nodes.types()[node.type]

    def scope_for(self, node: Node) -> Scope:
        """Copy what this node's templates and conditions name out of all the run knows."""
        return pick(self._scope(), node.reads)

    def must_load_lead(self, node: Node) -> bool:
        """Tell whether the step has to read the lead itself, because the run slept since."""
        return self.state.lead is None and (names_lead(node.reads) or self.type_of(node).zoned)

    def edge_rules(self, node: Node) -> tuple[EdgeRule, ...]:
        """Return the rules on the edges that leave a node."""
        return tuple(
            EdgeRule(edge_id=edge.id, handle=edge.source_handle, rule=edge.condition)
            for edge in self.graph.outgoing[node.id]
            if edge.condition is not None
        )

    def pass_outcome(self, node: Node) -> Outcome:
        """Give the outcome of a node that the run decides by itself."""
        node_type = self.type_of(node)
        config = node_type.Config(**node.config)
        return node_type.pass_through(config, dict(self.trigger), self.inputs_of(node))

    def inputs_of(self, node: Node) -> dict[str, JsonValue]:
        """Return the outputs of the nodes that a node was reached from, by their ids."""
        sources = [edge.source for edge in self._walk.taken_into(node.id)]
        return {source: self.state.outputs.get(source) for source in dict.fromkeys(sources)}

    def what_waits_need(self, key: str) -> dict[str, object]:
        """Name what a waiting step looks at beside its scope."""
        state = self.state
        times = {"entered_at": state.entered.get(key), "began_at": state.began_at}
        return {"heard": tuple(state.inbox), **times}

    def zone(self) -> str:
        """Return the lead's time zone as last known, else the workspace's (nodes.md, Conditions)."""
        return str(self.state.zone or self.facts.workspace.get("timezone") or "UTC")

    def _scope(self) -> Scope:
        return {
            "trigger": self.trigger,
            "lead": self.state.lead or {},
            "steps": self._steps,
            "vars": self.state.vars,
            "workspace": self.facts.workspace,
            "workflow": self.facts.workflow,
            "execution": self.facts.execution,
        }

    def _meet(self, lead: dict[str, JsonValue] | None) -> None:
        """Know the lead as it stands; its zone is known on while the run sleeps."""
        self.state.lead = lead
        zone = (lead or {}).get("timezone")
        self.state.zone = zone if isinstance(zone, str) else None

    def _remember(self, key: str, node: Node, outcome: Outcome) -> None:
        state = self.state
        state.outputs[node.id] = self._steps[node.save_as] = outcome.output
        state.vars.update(outcome.vars or {})
        if outcome.lead is not None:
            self._meet(outcome.lead)
        state.ending = outcome.ending or state.ending
        if key in state.ready:
            state.ready.remove(key)
        state.entered.pop(key, None)
        if state.sleeping.pop(key, None):
            state.lead = None

    def _follow(self, decisions: list[Decision]) -> list[Event]:
        """Turn the walk's decisions into events, deciding at once what needs no activity."""
        events: list[Event] = []
        waiting = deque(decisions)
        while waiting:
            decision = waiting.popleft()
            node = self.graph.by_id[decision.node_id]
            event = self._event(decision, node)
            events.append(event)
            if isinstance(event, Passed):
                self._remember(event.key, node, event.outcome)
                waiting += self._walk.finish(node.id, event.outcome.handles)
            elif isinstance(event, Ready):
                self.state.ready.append(event.key)
            elif event.reason == "disabled":
                waiting += self._walk.finish(node.id, self._first_way(node))
        return events

    def _first_way(self, node: Node) -> tuple[str, ...]:
        """Choose the way out of a node that did not choose for itself."""
        node_type = self.type_of(node)
        return node_type.handles[:1] or node_type.ways_out(node_type.Config(**node.config))[:1]

    def _event(self, decision: Decision, node: Node) -> Event:
        if not decision.ready:
            return Skipped(decision.key, node, decision.reason or "")
        if node.disabled and self.type_of(node).kind() != "trigger":
            return Skipped(decision.key, node, "disabled")
        # What is too large for an output is left to an activity, which refuses it like any other: merges of
        # merges hold everything before them, twice as much with each fork.
        if (
            self.type_of(node).passes
            and not self.edge_rules(node)
            and is_light(self.inputs_of(node), cap=PASSED_CAP)
        ):
            return Passed(decision.key, node, self.pass_outcome(node))
        return Ready(decision.key, node)
