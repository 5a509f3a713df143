"""What a step may look at: what all the run knows, read for one node at one visit.

Nothing here decides anything or changes the run, but for the place that an item's outputs get when they are
first asked for.
"""

from collections import ChainMap
from collections.abc import Iterator
from typing import Any

from pydantic import JsonValue

from workflows import nodes
from workflows.frames import ROOT
from workflows.graph import Graph, Node, split_key, step_key
from workflows.messages import EdgeRule, ExecutionInput, Facts, RunState, Scope
from workflows.nodetype import NodeType
from workflows.scopes import names_lead, pick
from workflows.walk import Walk


class Outlook:
    """Reads a run's state."""

    def __init__(self, start: ExecutionInput, state: RunState | None) -> None:
        self.graph: Graph = start.graph
        self.state = state or start.state or RunState()
        self.facts = start.facts or Facts()
        self.trigger: dict[str, JsonValue] = start.trigger_data
        self._walk = Walk(self.graph, self.state.walk)
        outputs = self.state.outputs
        self._steps = {node.save_as: outputs[node.id] for node in self.graph.nodes if node.id in outputs}

    @property
    def has_loops(self) -> bool:
        """Tell whether the graph has any."""
        return bool(self._walk.loops.regions)

    def node_of(self, key: str) -> Node:
        """Return the node that a step's key names."""
        return self.place_of(key)[0]

    def place_of(self, key: str) -> tuple[Node, int]:
        """Return the node that a step's key names, and its visit."""
        parts = split_key(key)
        if parts is None:
            raise KeyError(key)
        return self.graph.by_id[parts[0]], parts[1]

    def type_of(self, node: Node) -> type[NodeType]:
        """Return a node's type."""
        return nodes.types()[node.type]

    def scope_for(self, node: Node, visit: int = 1) -> Scope:
        """Copy what this node's templates and conditions name out of all the run knows."""
        return pick(self._scope(node.id, visit), node.reads)

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

    def inputs_of(self, node: Node, visit: int = 1) -> dict[str, JsonValue]:
        """Return the outputs of the nodes that a node was reached from, by their ids."""
        sources = dict.fromkeys(edge.source for edge in self._walk.taken_into(node.id, visit))
        return {source: self._output_of(source, node.id, visit) for source in sources}

    def outputs_around(self, node_id: str, visit: int) -> dict[str, JsonValue]:
        """Return what stands beside a step's output: that of its item's steps, or of the run's."""
        innermost = next(self._walk.items_around(node_id, visit), None)
        if innermost is None:
            return self.state.outputs
        region, at = innermost
        return self.state.item_outputs.setdefault(region.frame(at), {})

    def loop_of(self, node_id: str) -> str:
        """Name the innermost loop that runs a node; empty where there is none."""
        return self._walk.loops.home(node_id) or ROOT

    def what_waits_need(self, key: str) -> dict[str, object]:
        """Name what a waiting step looks at beside its scope."""
        state = self.state
        times = {"entered_at": state.entered.get(key), "began_at": state.began_at}
        return {"heard": tuple(state.inbox), "retries": state.retries.get(key, 0), **times}

    def zone(self) -> str:
        """Return the lead's time zone as last known, else the workspace's (nodes.md, Conditions)."""
        return str(self.state.zone or self.facts.workspace.get("timezone") or "UTC")

    def _scope(self, node_id: str, visit: int) -> Scope:
        return {
            "trigger": self.trigger,
            "lead": self.state.lead or {},
            "steps": ChainMap(*self._inner_steps(node_id, visit), self._steps),
            "loop": self._loop(node_id, visit) or {},
            "vars": self.state.vars,
            "workspace": self.facts.workspace,
            "workflow": self.facts.workflow,
            "execution": self.facts.execution,
        }

    def _inner_steps(self, node_id: str, visit: int) -> Iterator[dict[str, JsonValue]]:
        """Yield what the steps of the items around a step gave, by the names they are saved as."""
        for region, at in self._walk.items_around(node_id, visit):
            outputs = self.state.item_outputs.get(region.frame(at), {})
            yield {self.graph.by_id[inner].save_as: output for inner, output in outputs.items()}

    def _loop(self, node_id: str, visit: int) -> dict[str, Any] | None:
        """Tell a step which item it runs for; `outer` is the loop around its own."""
        around = list(self._walk.items_around(node_id, visit))
        told: dict[str, Any] | None = None
        for region, at in reversed(around):
            items = self.state.items.get(step_key(region.id, region.visit_around(at)), ())
            number = region.turn(at)
            item = items[number] if number < len(items) else None
            told = {"item": item, "index": number, "count": len(items), "outer": told}
        return told

    def _output_of(self, source: str, node_id: str, visit: int) -> JsonValue:
        for region, at in self._walk.items_around(node_id, visit):
            outputs = self.state.item_outputs.get(region.frame(at), {})
            if source in outputs:
                return outputs[source]
        return self.state.outputs.get(source)
