"""What a node type is: everything about it declared once; validation, worker, API and docs derive from it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from inspect import isclass
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_origin
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, PydanticUndefined

from workflows import conditions, shapes
from workflows.graph import Join, Loop, OnError
from workflows.messages import EdgeRule, Heard, Outcome, Scope
from workflows.problems import Code, Problem
from workflows.storable import Path

W = TypeVar("W", bound="Way")


class Refused(Exception):
    """A pure decision cannot be made, and trying again changes nothing."""

    def __init__(self, type_: str, message: str) -> None:
        super().__init__(message)
        self.type = type_
        self.message = message


class Marker:
    """Says how a config field is treated; see the aliases below."""

    def __init__(self, kind: Literal["text", "html", "data", "rule"], *, may_miss: bool = False) -> None:
        self.kind = kind
        self.may_miss = may_miss

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        """Tell the editor by `format` that a field takes a template or a rule."""
        described: dict[str, Any] = handler(schema)
        return {**described, "format": {"data": "template", "text": "template"}.get(self.kind, self.kind)}


Template = Annotated[str, Marker("text")]
"""Liquid, rendered to text."""
MaybeTemplate = Annotated[str, Marker("text", may_miss=True)]
"""Liquid, rendered to text; None where a value it prints is missing."""
HtmlTemplate = Annotated[str, Marker("html")]
"""Liquid, rendered to HTML: values are escaped."""
Data = Annotated[Any, Marker("data")]
"""JSON whose strings are Liquid; a lone `{{ path }}` keeps its type."""
Rule = Annotated[dict[str, Any], Marker("rule")]
"""A condition (nodes.md, Conditions)."""


class Part(BaseModel):
    """An object inside a config, written in camelCase; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class Way(Part):
    """An object inside a config that names a way out."""

    id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")


def distinct(ways: list[W]) -> list[W]:
    """Refuse two ways of one id."""
    ids = [way.id for way in ways]
    twice = sorted({each for each in ids if ids.count(each) > 1})
    if twice:
        raise PydanticCustomError("duplicate_id", "every id may come once: {ids}", {"ids": ", ".join(twice)})
    return ways


class Result(BaseModel):
    """What a step outputs, by its keys; one that is not always there has a default."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Retry(Part):
    """How often and how patiently a failed attempt is made again (nodes.md)."""

    max_attempts: int = Field(5, ge=1, le=100)
    initial_seconds: float = Field(2, ge=0.1, le=3600)
    backoff: float = Field(2, ge=1, le=10)
    max_interval_seconds: float = Field(300, ge=1, le=86400)


class NodeConfig(Part):
    """The keys every node has (nodes.md, "Common to every executable node")."""

    disabled: bool = False
    retry: Retry = Retry()
    timeout_seconds: float | None = Field(None, gt=0, le=86400)
    on_error: OnError = "fail"
    save_as: str | None = Field(None, pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")
    mask_output: bool = False
    notes: str = Field("", max_length=10_000)
    join_mode: Join = "any_live"


COMMON = {to_camel(name) for name in NodeConfig.model_fields}


def common(config: Mapping[str, Any]) -> NodeConfig:
    """Read the keys every node has, whatever else stands beside them."""
    return NodeConfig.model_validate({key: value for key, value in config.items() if key in COMMON})


def marked_values(config: type[BaseModel], raw: Mapping[str, Any]) -> Iterator[tuple[Path, Marker, Any]]:
    """Yield (path, marker, value) of the templates and rules in a config as written, nested parts included.

    Defaults count as written; those of a part that is left out as a whole do not.
    """
    for name, info, marker in _marked(config):
        alias = info.alias or name
        value = raw[alias] if alias in raw else raw.get(name, info.get_default(call_default_factory=True))
        if value is None or value is PydanticUndefined:
            continue
        if marker is not None:
            yield (alias,), marker, value
            continue
        for path, part, inside in _parts(info.annotation, value):
            yield from (
                ((alias, *path, *inner), found, at) for inner, found, at in marked_values(part, inside)
            )


def replaced(written: Any, path: Path, value: Any) -> Any:
    """Copy a config with the value at a path replaced."""
    if not path:
        return value
    head, rest = path[0], path[1:]
    if isinstance(written, list | tuple):
        return [
            replaced(item, rest, value) if number == head else item for number, item in enumerate(written)
        ]
    return {**written, head: replaced(written.get(head), rest, value)}


@cache
def _marked(config: type[BaseModel]) -> tuple[tuple[str, FieldInfo, Marker | None], ...]:
    """Look a config's fields through once: every step and every node of a draft asks."""
    fields = ((name, info, marker_of(info)) for name, info in config.model_fields.items())
    return tuple(
        (name, info, marker)
        for name, info, marker in fields
        if marker or any(_marked(part) for part in _parts_within(info.annotation))
    )


def marker_of(info: FieldInfo) -> Marker | None:
    """Find a marker on the field itself or inside `Template | None`, `list[Template]`, `dict[str, Data]`."""
    own = next((marker for marker in info.metadata if isinstance(marker, Marker)), None)
    return own or _marker_within(info.annotation)


def _marker_within(annotation: Any) -> Marker | None:
    for marker in getattr(annotation, "__metadata__", ()):
        if isinstance(marker, Marker):
            return marker
    return next((found for part in get_args(annotation) if (found := _marker_within(part))), None)


def _parts_within(annotation: Any) -> Iterator[type[BaseModel]]:
    """Find the models inside `Part | None`, `list[Part]`, `dict[str, Part]`."""
    if isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _parts_within(inner)


def _parts(annotation: Any, value: Any) -> Iterator[tuple[Path, type[BaseModel], Mapping[str, Any]]]:
    """Pair each nested object that was written with its model; of a union's, the first that admits it."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is list and isinstance(value, list):
        items: Iterable[tuple[Any, Any]] = enumerate(value)
    elif origin is dict and isinstance(value, Mapping):
        items = value.items()
    elif origin is None or origin in (list, dict, Literal):
        if isinstance(value, Mapping) and isclass(annotation) and issubclass(annotation, BaseModel):
            yield (), annotation, value
        return
    else:
        members = (list(_parts(one, value)) for one in (inner[:1] if origin is Annotated else inner))
        yield from next((found for found in members if found and _admits(found[0][1], found[0][2])), ())
        return
    for key, item in items:
        yield from (((key, *path), part, inside) for path, part, inside in _parts(inner[-1], item))


def _admits(part: type[BaseModel], written: Mapping[str, Any]) -> bool:
    """Tell whether an object may be meant as this model: its choices of one word (`type: "basic"`) agree."""
    return all(
        get_origin(info.annotation) is not Literal
        or written.get(info.alias or name, info.default) in get_args(info.annotation)
        for name, info in part.model_fields.items()
    )


@dataclass(frozen=True)
class Callee:
    """Another workflow that a node starts runs of."""

    workflow_id: UUID
    waits: bool
    """The node waits for their ends."""


@dataclass(frozen=True)
class Situation:
    """What a pure decision may look at."""

    config: Any
    scope: Scope
    now: Any
    """The activity's time: its marker records what came of it."""
    zone: str
    edges: tuple[EdgeRule, ...] = ()
    ids: Mapping[str, str] = field(default_factory=dict)
    """Of `workflow`, `node`, `execution` and, if there is one, `lead`."""
    key: str = ""
    heard: tuple[Heard, ...] = ()
    entered_at: datetime | None = None
    visit: int = 1

    def weigh(self, rule: Mapping[str, Any], name: str) -> conditions.Verdict:
        """Decide a rule of the config, by its place there."""
        try:
            return conditions.evaluate(rule, self.scope, now=self.now, zone=self.zone)
        except conditions.ConditionError as error:
            raise Refused("bad_condition", f"{name}: {error}") from error


class NodeType:
    """One kind of node. A subclass in `workflows/nodes/` is registered by being there."""

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    """One line for palette and docs."""
    Config: ClassVar[type[NodeConfig]] = NodeConfig
    example: ClassVar[dict[str, Any]] = {}
    failure: ClassVar[tuple[str, dict[str, Any]] | None] = None
    """A type of error, and a config that is taken and fails so; None: only rules on its edges can fail."""
    Output: ClassVar[type[Result] | None] = None
    """What its steps output; None: what its config says, or anything."""
    codes: ClassVar[Mapping[str, Code]] = {}
    """Of the problems that `flaws` tells and no other type does."""
    handles: ClassVar[tuple[str, ...]] = ("default",)
    """The ways out; the first is taken when the node is disabled or `onError` is `continue`."""
    named_handles: ClassVar[tuple[str, ...]] = ()
    """Further ways out, as docs write them, that each node's own config names."""
    queue: ClassVar[str | None] = None
    """Task queue of an outward effect; None: a local activity (design §5)."""
    fast_path: ClassVar[bool] = False
    """The first attempt of an outward effect may run as a local activity: it is under an effect key."""
    fast_timeout: ClassVar[timedelta] = timedelta(seconds=5)
    passes: ClassVar[bool] = False
    """Decided by the walk alone: no activity, no event."""
    waits: ClassVar[bool] = False
    """Its activity is shown the events that the run heard, and may ask to be woken by more."""
    starts_runs: ClassVar[bool] = False
    """It may wait for runs that it started, which end with its own run (`callee`)."""
    never_runs: ClassVar[bool] = False
    timeout: ClassVar[timedelta] = timedelta(seconds=10)
    requires_lead: ClassVar[bool] = False
    changes_lead: ClassVar[bool] = False
    """It writes into the lead, and so a simulated one has to know what a lead may be given."""
    zoned: ClassVar[bool] = False
    """It reckons in the lead's time zone, and so reads the lead again after a sleep."""
    recovers: ClassVar[bool] = True
    """Its failure obeys `onError`."""
    keeps_out: ClassVar[frozenset[str]] = frozenset()
    """Config fields that the step's recorded input leaves out."""
    decides: ClassVar[bool] = False
    """It has a pure `decide`; otherwise `activities/nodes/` holds its effect."""
    asks: ClassVar[bool] = False
    """It waits for the decisions of people: `links.approve` leads to it, and an effect asks them."""
    sends: ClassVar[bool] = False
    """Its templates may name `links`: what it renders goes out and is not kept."""

    @classmethod
    def kind(cls) -> str:
        """Name the palette's section: trigger, action, logic or utility."""
        return cls.name.partition("_")[0].lower()

    @classmethod
    def ways_out(cls, config: NodeConfig) -> tuple[str, ...]:
        """Return the handles that a node with this config has."""
        return (*cls.handles, "error") if cls.kind() == "action" else cls.handles

    @classmethod
    def join(cls, config: NodeConfig) -> Join:
        """Say how a node with this config joins its branches."""
        return config.join_mode

    @classmethod
    def loop(cls, config: NodeConfig) -> Loop | None:
        """Say what loop a node with this config makes, if any (workflows/loops.py)."""
        return None

    @classmethod
    def takes_one_way(cls, config: NodeConfig) -> bool:
        """Tell whether a run leaves a node with this config by one handle only."""
        return True

    @classmethod
    def awaits(cls, config: NodeConfig) -> tuple[str, ...]:
        """Name the types of lead events of which a run with such a node is to be told."""
        return ()

    @classmethod
    def flaws(cls, config: NodeConfig, edges: tuple[EdgeRule, ...]) -> list[Problem]:
        """Return what only this type can see is wrong at publish; pointers begin at the config."""
        return []

    @classmethod
    def callee(cls, config: NodeConfig) -> Callee | None:
        """Name the workflow that a node with this config starts; only where it `starts_runs`."""
        return None

    @classmethod
    def output_schema(cls) -> dict[str, Any]:
        """Describe in JSON Schema what its steps output; empty where that is for its config to say."""
        return cls.Output.model_json_schema() if cls.Output else {}

    @classmethod
    def outputs(cls, config: Any, known: shapes.Known) -> shapes.Shape:
        """Say what a step with this config outputs, as far as it is known before a run."""
        return shapes.of_model(cls.Output) if cls.Output else shapes.ANY

    @classmethod
    def brings_lead(cls, config: Any) -> bool:
        """Tell whether a run that this trigger starts by itself may have a lead."""
        return True

    @classmethod
    def variables(cls, config: Any) -> Mapping[str, shapes.Shape]:
        """Name the variables that a step with this config sets under `vars.`."""
        return {}

    @classmethod
    def start_to_close(cls, config: NodeConfig) -> timedelta:
        """Limit one attempt."""
        return timedelta(seconds=config.timeout_seconds) if config.timeout_seconds else cls.timeout

    @classmethod
    def recorded(cls, config: NodeConfig) -> dict[str, Any]:
        """Dump what a step with this config records as its input: the type's own fields."""
        left_out = set(NodeConfig.model_fields) | cls.keeps_out
        return config.model_dump(mode="json", by_alias=True, exclude=left_out)

    @classmethod
    def decide(cls, situation: Situation) -> Outcome:
        """Decide without touching the world; only where `decides` is set."""
        raise TypeError(f"{cls.name} has an effect and no pure decision")

    @classmethod
    def pass_through(cls, config: NodeConfig, trigger: dict[str, Any], inputs: dict[str, Any]) -> Outcome:
        """Give the outcome of a node that `passes`; `inputs`: outputs by the node ids it was reached from."""
        return Outcome(output=next(iter(inputs.values()), None))
