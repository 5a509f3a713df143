"""LOGIC_WAIT_FOR_EVENT: the run waits until something happens to its lead, or until it has waited enough."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from workflows import shapes
from workflows.conditions import evaluate, problems
from workflows.messages import Heard, Outcome
from workflows.nodes.logic_delay import duration_of
from workflows.nodetype import MaybeTemplate, NodeConfig, NodeType, Result
from workflows.shapes import Known

Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class Awaited(BaseModel):
    """An event to wait for; `match` narrows it down, its bare fields name the event's own data first."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    id: Id
    type: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    match: dict[str, Any] | None = None
    """Not a Rule: its bare fields name what no form or step is known to have."""

    @field_validator("match")
    @classmethod
    def _check_match(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        wrong = problems(value) if value is not None else []
        if wrong:
            raise PydanticCustomError("bad_match", "{reason}", {"reason": wrong[0].message})
        return value


class Config(NodeConfig):
    """What to wait for, and how long."""

    events: list[Awaited] = Field(min_length=1, max_length=50)
    timeout: MaybeTemplate | None = None
    lookback: Literal["run_start", "node_start"] = "run_start"
    mode: Literal["first", "all"] = "first"


class Met(Result):
    """One event that was waited for."""

    type: str
    at: datetime
    id: str | None
    data: Any


class Output(Result):
    """Whether the time ran out, and what happened, by the ids of `events`."""

    timed_out: bool
    events: dict[str, Met]


class WaitForEvent(NodeType):
    """Waits for events."""

    name = "LOGIC_WAIT_FOR_EVENT"
    title = "Wait for an event"
    summary = (
        "Waits until the first of some events happens to the lead (or all of them), or until the timeout. "
        "What happened since the run began counts, unless `lookback` is `node_start`."
    )
    Config = Config
    Output = Output
    example: ClassVar[dict[str, Any]] = {
        "events": [
            {"id": "won", "type": "STATUS_CHANGED", "match": {"field": "to", "operator": "=", "value": "WON"}}
        ],
        "timeout": "P14D",
    }
    failure = ("bad_duration", {"events": [{"id": "won", "type": "WON"}], "timeout": "soon"})
    handles = ("timeout",)
    named_handles = ("event_<id>",)
    waits = True

    @classmethod
    def outputs(cls, config: Any, known: Known) -> shapes.Shape:
        """Know the events by their ids."""
        events = shapes.of_names((awaited.id for awaited in config.events), shapes.of_model(Met))
        return shapes.of_object({"timed_out": shapes.of_kind("boolean"), "events": events})

    @classmethod
    def ways_out(cls, config: NodeConfig) -> tuple[str, ...]:
        """Have one way out for each event, and one for the timeout."""
        events: Sequence[Awaited] = getattr(config, "events", ())
        return (*(f"event_{awaited.id}" for awaited in events), "timeout")

    @classmethod
    def awaits(cls, config: NodeConfig) -> tuple[str, ...]:
        """Await what the events are made of."""
        events: Sequence[Awaited] = getattr(config, "events", ())
        return tuple(awaited.type for awaited in events)


def weigh(
    config: Config,
    heard: Iterable[Heard],
    *,
    scope: Mapping[str, Any],
    entered_at: datetime,
    now: datetime,
    zone: str,
) -> Outcome:
    """Say what came of the wait so far: the events it was for, its timeout, or more waiting."""
    met: dict[str, Heard] = {}
    for event in sorted(heard, key=lambda event: event.at):
        for awaited in config.events:
            if awaited.id not in met and _is(awaited, event, scope, now=now, zone=zone):
                met[awaited.id] = event
    if len(met) >= (1 if config.mode == "first" else len(config.events)):
        return _met(config, met)
    text = (config.timeout or "").strip()
    deadline = duration_of(text).after(entered_at) if text else None
    output = {"timed_out": True, "events": {}}
    if deadline is not None and deadline <= now:
        return Outcome(output=output, handles=("timeout",))
    types = tuple(sorted({awaited.type for awaited in config.events}))
    return Outcome(output=output, handles=("timeout",), wake_at=deadline, waits_for=types)


def _met(config: Config, met: Mapping[str, Heard]) -> Outcome:
    """Leave by the event that came first, or by all of them."""
    ids = list(met) if config.mode == "all" else list(met)[:1]
    events = {name: met[name].model_dump(mode="json") for name in ids}
    return Outcome(
        output={"timed_out": False, "events": events}, handles=tuple(f"event_{name}" for name in ids)
    )


def _is(awaited: Awaited, event: Heard, scope: Mapping[str, Any], *, now: datetime, zone: str) -> bool:
    if event.type != awaited.type:
        return False
    if awaited.match is None:
        return True
    data = event.data if isinstance(event.data, dict) else {}
    return evaluate(awaited.match, {**scope, "trigger": data}, now=now, zone=zone).holds
