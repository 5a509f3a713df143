"""One run as plain data and pure rules: the walk plus what nodes said so far.

The driver (execution.py) and the mirror's projection both use it, the one to act, the other to tell
from history alone which triggers, merges and skipped nodes left no event of their own.
"""

from collections import deque
from dataclasses import dataclass

from pydantic import JsonValue

from workflows import nodes
from workflows.frames import Decided, Decision, LoopOver
from workflows.graph import Node, step_key
from workflows.loops import Region
from workflows.messages import (
    Begun,
    ExecutionInput,
    Facts,
    Heard,
    Outcome,
    RunState,
    StepError,
)
from workflows.outlook import Outlook
from workflows.scopes import is_light, weight

UNTOUCHED = "EDGES"
"""The activity that only weighs the rules on the edges of a node that has no activity of its own."""
INBOX_CAP = 1_000
"""Events that a run keeps for waits that have not begun."""
EVENT_WEIGHT, INBOX_WEIGHT = 64 * 1024, 256 * 1024
"""What one, and all together, may weigh: they travel with the run when it continues as new."""
PASSED_CAP = 256 * 1024
"""Weight of what a node may pass on without an activity, the cap of every other output (design §5)."""


def heaviness(event: Heard) -> int:
    """Weigh an event's data."""
    return weight(event.data, cap=EVENT_WEIGHT)


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


@dataclass(frozen=True)
class Looped:
    """The step of a loop's head has ended with its last item."""

    key: str
    node: Node
    outcome: Outcome


@dataclass(frozen=True)
class Dropped:
    """A step that was under way is given up: its item failed, or its turn is over."""

    key: str
    node: Node


Event = Ready | Passed | Skipped | Looped | Dropped


class Run(Outlook):
    """Takes outcomes in and says what comes of them."""

    def __init__(self, start: ExecutionInput, state: RunState | None = None) -> None:
        super().__init__(start, state)
        self._trigger_node_id = start.trigger_node_id
        self._execution_id, self._version = start.execution_id, start.version
        self._weights = list(map(heaviness, self.state.inbox))

    def admit(self, begun: Begun) -> None:
        """Take in what the `begin` activity found, or whoever started the run."""
        facts: dict[str, JsonValue] = {"id": str(self._execution_id), "version": self._version}
        self.facts = Facts(workspace=begun.workspace, workflow=begun.workflow, execution=facts)
        self._meet(begun.lead)

    def start(self) -> list[Event]:
        """Enter at the trigger."""
        return self._follow(self._walk.start(self._trigger_node_id))

    def finish(self, key: str, outcome: Outcome) -> list[Event]:
        """Record what a step gave and go on from it; of a step that was given up nothing comes."""
        if key not in self.state.ready:
            return []
        self._walk.breathe()
        node, visit = self.place_of(key)
        if outcome.items is not None:
            self._close(key)
            self.state.items[key] = outcome.items
            return self._follow(self._walk.repeat(node.id, visit, len(outcome.items)))
        self._remember(key, node, outcome)
        return self._go_on(node, visit, outcome)

    @property
    def is_open(self) -> bool:
        """Tell whether anything is left to do."""
        return bool(self.state.ready) or bool(self.halted())

    def halted(self) -> list[str]:
        """Name the loops that went through so many items at once that they have to take breath."""
        return self._walk.halted() if self.state.walk.loops else []

    def go_on(self, key: str) -> list[Event]:
        """Let a loop go on that took breath; of one that was given up nothing comes."""
        if key not in self.state.walk.loops:
            return []
        self._walk.breathe()
        node, visit = self.place_of(key)
        return self._follow(self._walk.go_on(node.id, visit))

    def recover(self, key: str, error: StepError) -> Outcome | None:
        """Return the outcome with which a failed step goes on, or None if its `onError` lets it fail."""
        node = self.node_of(key)
        output: JsonValue = {"error": error.model_dump()}
        if not self.type_of(node).recovers:
            return None
        if node.on_error == "branch":
            return Outcome(output=output, handles=("error",))
        if node.on_error == "continue":
            return Outcome(output=output, handles=first_way(node))
        return None

    def fail(self, key: str, error: StepError) -> list[Event] | None:
        """Go on from a failed step, or from a loop around it that lets an item fail; None ends the run."""
        if key not in self.state.ready:
            return []
        self._walk.breathe()
        outcome = self.recover(key, error)
        if outcome is not None:
            return self.finish(key, outcome)
        node, visit = self.place_of(key)
        if not self.type_of(node).recovers:
            return None
        for region, at in self._walk.items_around(node.id, visit):
            events = self._fail_item(key, error, region, at)
            if events is not None:
                return events
        return None

    def retry(self, key: str) -> None:
        """Let a held step go again; what was wrong may have been mended in the lead."""
        self.state.held.pop(key, None)
        self.state.retries[key] = self.state.retries.get(key, 0) + 1
        # It may have failed when it looked again: it begins anew.
        self.state.sleeping.pop(key, None)
        self.state.lead = None

    def skip(self, key: str) -> list[Event]:
        """Go on from a held step as if it had done nothing."""
        self.state.held.pop(key, None)
        node = self.node_of(key)
        if key in self.state.ready and not self.loop_of(node.id):
            self.state.skipped.append(key)
        return self.finish(key, Outcome(handles=self.type_of(node).handles[:1]))

    def hear(self, event: Heard) -> None:
        """Buffer an event; of a flood the newest count, and of what is too heavy only that it happened."""
        if heaviness(event) > EVENT_WEIGHT:
            event = event.model_copy(update={"data": None})
        self.state.inbox.append(event)
        self._weights.append(heaviness(event))
        while len(self._weights) > INBOX_CAP or sum(self._weights) > INBOX_WEIGHT:
            del self.state.inbox[0], self._weights[0]

    def waiting_to_run(self) -> list[str]:
        """Name the steps that are decided to run and that nobody holds."""
        return [key for key in self.state.ready if key not in self.state.held]

    @property
    def decided(self) -> int:
        """How many decisions the walk has made."""
        return self.state.walk.decided

    def pass_outcome(self, node: Node, visit: int) -> Outcome:
        """Give the outcome of a node that the run decides by itself."""
        node_type = self.type_of(node)
        config = node_type.Config(**node.config)
        return node_type.pass_through(config, dict(self.trigger), self.inputs_of(node, visit))

    def _meet(self, lead: dict[str, JsonValue] | None) -> None:
        """Know the lead as it stands; its zone is known on while the run sleeps."""
        self.state.lead = lead
        zone = (lead or {}).get("timezone")
        self.state.zone = zone if isinstance(zone, str) else None

    def _remember(self, key: str, node: Node, outcome: Outcome) -> None:
        state = self.state
        self.outputs_around(node.id, self.place_of(key)[1])[node.id] = outcome.output
        if node.id in state.outputs:
            self._steps[node.save_as] = state.outputs[node.id]
        state.vars.update(outcome.vars or {})
        if outcome.lead is not None:
            self._meet(outcome.lead)
        state.ending = outcome.ending or state.ending
        self._close(key)

    def _close(self, key: str) -> None:
        """Take a step off the lists of those under way."""
        state = self.state
        if key in state.ready:
            state.ready.remove(key)
        state.entered.pop(key, None)
        state.held.pop(key, None)
        state.retries.pop(key, None)
        slept = state.sleeping.pop(key, None)
        if slept:
            state.lead = None
        if slept and self.type_of(self.node_of(key)).starts_runs:
            # Nobody else waits for these: they would push out what happened to the lead.
            state.inbox = [event for event in state.inbox if event.type not in slept.waits_for]
            self._weights = list(map(heaviness, state.inbox))

    def _go_on(self, node: Node, visit: int, outcome: Outcome) -> list[Event]:
        """Leave a node, and whatever its loop's turn left under way."""
        decisions = self._walk.finish(node.id, outcome.handles, outcome.conditions, visit=visit)
        return [*self._left_behind(), *self._follow(decisions)]

    def _fail_item(self, key: str, error: StepError, region: Region, visit: int) -> list[Event] | None:
        """Let a loop take the failure of one of its items; None if it does not."""
        head_visit = region.visit_around(visit)
        head_key = step_key(region.id, head_visit)
        if not region.loop.fails:
            self._close(key)
            decisions = self._walk.fail_item(region, visit)
            return [*self._left_behind(), *self._follow(decisions)]
        message = f"Item {region.turn(visit)} failed: {error.message}"
        outcome = self.recover(head_key, StepError(type="item_failed", message=message))
        if outcome is None:
            return None
        self._close(key)
        self._walk.give_up(region, head_visit)
        return [*self._left_behind(), *self._end_loop(head_key, outcome)]

    def _end_loop(self, head_key: str, outcome: Outcome) -> list[Event]:
        node, visit = self.place_of(head_key)
        self.state.items.pop(head_key, None)
        self._remember(head_key, node, outcome)
        return [Looped(head_key, node, outcome), *self._go_on(node, visit, outcome)]

    def _left_behind(self) -> list[Event]:
        """Give up the steps whose turn is over, and forget what its steps gave."""
        state, walk = self.state, self._walk
        if not walk.loops.regions:
            return []
        open_keys = [*state.ready, *state.items]
        gone = [key for key in open_keys if not walk.is_live((at := self.place_of(key))[0].id, at[1])]
        for key in gone:
            state.items.pop(key, None)
            self._close(key)
        for frame in [name for name in state.item_outputs if name not in state.walk.frames]:
            del state.item_outputs[frame]
        return [Dropped(key, self.node_of(key)) for key in gone]

    def _follow(self, decisions: list[Decided]) -> list[Event]:
        """Turn the walk's decisions into events, deciding at once what needs no activity."""
        events: list[Event] = []
        waiting = deque(decisions)
        while waiting:
            decision = waiting.popleft()
            node, visit = self.place_of(decision.key)
            if isinstance(decision, LoopOver):
                told: JsonValue = {"count": decision.items, "failed": decision.failed}
                event: Event = Looped(decision.key, node, Outcome(output=told, handles=("done",)))
                self.state.items.pop(decision.key, None)
            else:
                event = self._event(decision, node, visit)
            events.append(event)
            if isinstance(event, Passed | Looped):
                self._remember(event.key, node, event.outcome)
                waiting += self._walk.finish(node.id, event.outcome.handles, visit=visit)
            elif isinstance(event, Ready):
                self.state.ready.append(event.key)
            elif isinstance(event, Skipped) and event.reason == "disabled":
                waiting += self._walk.finish(node.id, first_way(node), visit=visit)
        if any(isinstance(event, Looped | Passed) for event in events):
            # Turns that end by themselves leave nothing under way, only outputs to forget.
            self._left_behind()
        return events

    def _event(self, decision: Decision, node: Node, visit: int) -> Event:
        if not decision.ready:
            return Skipped(decision.key, node, decision.reason or "")
        if node.disabled and self.type_of(node).kind() != "trigger":
            return Skipped(decision.key, node, "disabled")
        outcome = self._decided_here(node, visit)
        return Ready(decision.key, node) if outcome is None else Passed(decision.key, node, outcome)

    def _decided_here(self, node: Node, visit: int) -> Outcome | None:
        """Decide a node that needs no activity; None leaves it to one, which fails like any other.

        So it is with what is too large for an output (merges of merges hold everything before them, twice as
        much with each fork), and with a node that raises: here that would stop run and mirror for ever.
        """
        if not self.type_of(node).passes or self.edge_rules(node):
            return None
        if not is_light(self.inputs_of(node, visit), cap=PASSED_CAP):
            return None
        try:
            outcome: object = self.pass_outcome(node, visit)
        except Exception:
            return None
        return outcome if isinstance(outcome, Outcome) else None


def first_way(node: Node) -> tuple[str, ...]:
    """Choose the way out of a node that did not choose for itself."""
    node_type = nodes.types()[node.type]
    return node_type.handles[:1] or node_type.ways_out(node_type.Config(**node.config))[:1]
