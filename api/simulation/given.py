"""What a simulation is asked with, and what is wrong with it: its stubs and its script against the graph."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from api import errors
from api.schemas import Data, Given, JsonObject
from api.simulation.script import ABOUT_STEPS, COMMANDS
from workflows import nodes, problems, simulation
from workflows.graph import Graph, split_key, step_key
from workflows.moments import zone_named

Text = Annotated[str, Field(max_length=500)]


class LeadGiven(Given):
    """An imagined lead."""

    model_config = ConfigDict(
        title="SimulatedLead", json_schema_extra={"examples": [{"email": "ada@example.com"}]}
    )

    email: Annotated[str, Field(min_length=3, max_length=320)]
    first_name: Text | None = None
    last_name: Text | None = None
    phone: Text | None = None
    company: Text | None = None
    source: Text | None = None
    timezone: Text | None = None
    status: Annotated[str, Field(min_length=1, max_length=100)] = "NEW"
    fields: dict[str, Any] = Field(default_factory=dict, description="Answers by field_key.")

    @model_validator(mode="after")
    def _check_zone(self) -> Self:
        if self.timezone is not None and zone_named(self.timezone) is None:
            raise ValueError("timezone: there is no time zone of this name")
        return self


class EventGiven(Given):
    """Something that happens while the run is under way."""

    model_config = ConfigDict(
        title="ScriptedEvent",
        json_schema_extra={"examples": [{"at": "+2d", "type": "STATUS_CHANGED", "data": {"to": "WON"}}]},
    )

    at: str = Field(description="After the start: `+2d`, `+1h30m` or `P2D`.", max_length=40)
    type: str = Field(
        description="A lead event's type, or what people do: approve, reject, pause, resume, "
        "retry_step, skip_step, cancel.",
        min_length=1,
        max_length=100,
    )
    data: Any = None
    lead: JsonObject = Field(default_factory=dict, description="What the event changes in the lead.")
    step: str = Field(
        "", description="For decisions: the node, or one visit of it (`ask:2`).", max_length=300
    )
    by: str = Field("simulation", max_length=320)
    comment: str = Field("", max_length=5_000)


class StubError(Given):
    """How a step fails."""

    model_config = ConfigDict(title="SimulatedError")

    type: str = Field("error", min_length=1, max_length=100)
    message: str = Field("Failed by the simulation.", max_length=2_000)


class StubGiven(Given):
    """What a node gives instead of doing its work."""

    model_config = ConfigDict(title="SimulatedNode")

    output: Any = None
    handle: str | None = Field(None, max_length=100, description="The way out; left out: the first.")
    error: StubError | None = None


class SimulationGiven(Given):
    """What to simulate."""

    model_config = ConfigDict(
        title="SimulationInput",
        json_schema_extra={
            "examples": [{"trigger_data": {"email": "ada@example.com"}, "stubs": {"call": {"output": {}}}}]
        },
    )

    trigger_data: Data = Field({}, description="What templates see as `trigger`.")
    lead: LeadGiven | None = Field(
        None, description="Left out, a form's answers make it, as they would; null: there is none."
    )
    events: list[EventGiven] = Field(default_factory=list, max_length=200)
    stubs: dict[str, StubGiven] = Field(default_factory=dict, max_length=500)
    version: Literal["draft"] | Annotated[int, Field(ge=1)] = "draft"


def wrong_stubs(body: SimulationGiven, graph: Graph) -> list[errors.Detail]:
    """List what is wrong with the stubs, before anything runs."""
    wrong = []
    for node_id, stub in body.stubs.items():
        pointer = f"/stubs/{node_id.replace('~', '~0').replace('/', '~1')}"
        node = graph.by_id.get(node_id)
        if node is None:
            wrong.append(detail(pointer, "unknown_node", "The graph has no such node that runs."))
            continue
        node_type = nodes.types()[node.type]
        if node_type.passes:
            message = f"A {node.type} is decided by the run itself: there is nothing to stand in for."
            wrong.append(detail(pointer, "nothing_to_stub", message, node_id=node_id))
        ways = node_type.ways_out(node_type.Config(**node.config))
        if stub.error is not None and (stub.handle is not None or stub.output is not None):
            message = "A stub has an error, or an output and a handle."
            wrong.append(detail(f"{pointer}/error", "stub_ambiguous", message, node_id=node_id))
        if stub.handle is not None and stub.handle not in ways:
            message = f"The node has these ways out: {', '.join(ways) or 'none'}."
            wrong.append(detail(f"{pointer}/handle", "unknown_handle", message, node_id=node_id))
    return wrong


def wrong_events(body: SimulationGiven, graph: Graph, now: datetime) -> list[errors.Detail]:
    """List what is wrong with the script, before anything runs."""
    wrong = []
    for number, event in enumerate(body.events):
        pointer = f"/events/{number}"
        offset = simulation.offset_in(event.at, now)
        if offset is None or offset.days > simulation.LONGEST_DAYS:
            message = "A time after the start is written +2d, +1h30m or P2D, and lies at most 25 years ahead."
            wrong.append(detail(f"{pointer}/at", "bad_time", message))
        if event.type in ABOUT_STEPS and key_of(event.step, graph) is None:
            message = "Name the node that this is about, or one visit of it such as `ask:2`."
            wrong.append(detail(f"{pointer}/step", "unknown_step", message))
        if event.type not in ABOUT_STEPS and event.step:
            wrong.append(detail(f"{pointer}/step", "no_step", f"A {event.type} is not about a step."))
        wrong.extend(_wrong_changes(number, event.lead))
        if event.lead and event.type in (*COMMANDS, "cancel"):
            wrong.append(detail(f"{pointer}/lead", "no_lead", "A decision changes nothing in the lead."))
    return wrong


def _wrong_changes(number: int, changes: JsonObject) -> list[errors.Detail]:
    try:
        LeadGiven.model_validate({"email": "ada@example.com", **changes})
    except ValidationError as error:
        return [
            detail(problems.pointer("events", number, "lead", *found["loc"]), "bad_lead", found["msg"])
            for found in error.errors()
        ]
    return []


def key_of(step: str, graph: Graph) -> str | None:
    """Name the step that an event is about: of a node alone, its first visit."""
    if step in graph.by_id:
        return step_key(step, 1)
    named = split_key(step)
    return step if named is not None and named[0] in graph.by_id else None


def detail(pointer: str, code: str, message: str, *, node_id: str | None = None) -> errors.Detail:
    """Say what is wrong, and where."""
    return errors.Detail(code=code, message=message, pointer=pointer, node_id=node_id)
