"""What a projection keeps between two reads: plain data, small while a run is open and nothing afterwards."""

from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from api.mirror.events import Event
from workflows.messages import Outcome, RunState
from workflows.run import Run


class OpenStep(BaseModel):
    """A step that was decided to run and has not ended."""

    number: int
    decided_at: datetime
    started_at: datetime | None = None
    attempt: int = 1
    tried: int = 0
    """Attempts made as a local activity before it went on its queue (design §5, the fast path)."""
    error: dict[str, Any] | None = None
    failed: bool = False
    """It ended the run, or will unless somebody has it tried again."""


class State(BaseModel):
    """Everything a projection needs besides the run's first event."""

    model_config = ConfigDict(hide_input_in_errors=True)

    run: RunState | None = None
    steps: dict[str, OpenStep] = Field(default_factory=dict)
    activities: dict[int, str] = Field(default_factory=dict)
    """Event that scheduled it to step key."""
    timers: dict[int, str] = Field(default_factory=dict)
    """Event that started it to step key."""
    status: str = ""
    reason: str | None = None
    """Why an open run does not go on by itself: somebody paused it, or it holds a failed step."""
    cancel_cause: str = ""
    is_told: bool = False
    """Temporal tells the API of the close, whoever ends the run."""


def began(event: Event, step: OpenStep, outcome: Outcome) -> datetime:
    """Work out when a local activity began: its marker has only its end."""
    if step.attempt > 1:
        return step.decided_at
    return max(step.decided_at, event.at - timedelta(milliseconds=outcome.ms))


def waited(outcome: Outcome) -> str:
    """Say what a resting step waits for."""
    if outcome.wake_at is not None:
        return f"waits until {outcome.wake_at:%F %T}"
    own = [type_ for type_ in outcome.waits_for if type_.startswith("execution ")]
    return f"waits for the {own[0]}" if own else "waits for an event"


def feeding(run: Run) -> set[str]:
    """Name the nodes whose outputs a node that decides itself may still have to pass on."""
    graph = run.graph
    return {
        edge.source
        for edge in graph.edges
        if edge.target in graph.by_id and run.type_of(graph.by_id[edge.target]).passes
    }


def masked(run: Run) -> frozenset[str]:
    """Name the nodes that hide their input and output, and those that only pass such an output on."""
    hidden = {node.id for node in run.graph.nodes if node.config.get("maskOutput")}
    if not hidden:
        return frozenset()
    passing = [node.id for node in run.graph.nodes if run.type_of(node).passes]
    grown = True
    while grown:
        reached = {
            node_id
            for node_id in passing
            if any(edge.source in hidden for edge in run.graph.incoming[node_id])
        }
        grown = not reached <= hidden
        hidden |= reached
    return frozenset(hidden)
