"""Simulations: a workflow played through in seconds, with nothing sent and nothing stored."""

from collections.abc import Mapping
from datetime import UTC, datetime
from time import monotonic
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from api import errors, submissions
from api.auth import Caller, requires
from api.deps import OurPlatform
from api.schemas import Data, Given, Id, JsonObject
from api.simulation import telling
from api.simulation.script import ABOUT_STEPS, COMMANDS, Course, Fate, Scripted
from api.simulation.simulator import Away, Unsupported
from api.simulation.telling import Teller, Told
from db import fields, graphs, starts, versions
from workflows import nodes, publish, simulation, validation
from workflows.fields import Field as FormField
from workflows.fields import check
from workflows.graph import Graph, Node, split_key, step_key
from workflows.messages import ExecutionInput, StepError
from workflows.moments import zone_named
from workflows.simulation import Plan, Stub

router = APIRouter(tags=["workflows"])

MOST_STEPS = 2_000
LARGEST = 512 * 1024
"""Bytes of a request: most of it travels with the run, as what Temporal takes in one piece."""
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


class SimulatedOutcome(BaseModel):
    """How the run ended; an open one waits for what the script does not let happen."""

    status: Literal["completed", "failed", "cancelled", "running", "waiting"]
    reason: str | None
    output: Any
    error: JsonObject | None


class SimulatedStep(BaseModel):
    """One visit of one node."""

    step_number: int
    node_id: str
    node_type: str
    label: str
    visit: int
    status: Literal["running", "completed", "failed", "skipped", "cancelled"]
    skip_reason: str | None
    handle: str | None
    input_data: Any
    output_data: Any
    error: JsonObject | None
    started_at: datetime | None = Field(description="In the run's own time.")
    finished_at: datetime | None


class SimulatedMail(BaseModel):
    """A mail that would have been sent."""

    node_id: str
    visit: int
    at: datetime
    to: list[str]
    cc: list[str]
    bcc: list[str]
    subject: str
    html: str | None
    text: str | None


class SimulatedDecision(BaseModel):
    """How one rule came out."""

    node_id: str
    visit: int
    edge_id: str | None
    field: str | None
    operator: str | None
    left: Any
    right: Any
    result: bool
    note: str | None


class SimulatedWait(BaseModel):
    """A time that the run spent sleeping."""

    model_config = ConfigDict(populate_by_name=True)

    node_id: str
    visit: int
    from_: datetime = Field(alias="from")
    due: datetime | None = Field(description="When it would have ended if nothing had happened.")
    until: datetime | None
    waits_for: list[str]
    virtual_seconds: int | None


class SimulatedEvent(BaseModel):
    """What became of an event of the script."""

    at: str
    type: str
    fate: Fate | Literal["not_reached"]
    message: str


class Simulated(BaseModel):
    """How the simulated run went."""

    model_config = ConfigDict(title="Simulation")

    outcome: SimulatedOutcome
    path: list[str] = Field(examples=[["form: completed", "check: completed → condition_true"]])
    steps: list[SimulatedStep]
    mails: list[SimulatedMail]
    decisions: list[SimulatedDecision]
    waits: list[SimulatedWait]
    events: list[SimulatedEvent]
    started_at: datetime
    virtual_time: str = Field(description="How long the run took, to the minute.", examples=["P14D"])
    virtual_seconds: float
    real_seconds: float
    stopped_by: Literal["time_limit", "virtual_time_limit", "step_limit"] | None


@router.post(
    "/v1/workflows/{workflow_id}/simulate",
    summary="Simulate a workflow",
    responses=errors.responses(errors.Unavailable),
)
async def workflow_simulate(
    workflow_id: Id,
    body: SimulationGiven,
    caller: Annotated[Caller, requires("workflows:read")],
    platform: OurPlatform,
) -> Simulated:
    """Plays the draft, or a version, to its end with skipped time and imagined effects.

    Nothing is sent, stored or counted. A node with an effect gives what `stubs` says, else what its kind
    usually gives; everything that decides, renders and waits is the real thing.
    """
    begun = monotonic()
    async with platform.database.workspace(caller.workspace_id) as session:
        scene = await _scene(session, caller.workspace_id, workflow_id, body)
    if platform.simulator is None:
        raise errors.Unavailable("This installation has no simulator.", retry_after=60)
    try:
        course, chapters = await platform.simulator.play(scene.given, scene.plan, scene.script)
    except Unsupported as error:
        raise errors.Unavailable(str(error), retry_after=60) from error
    except Away as error:
        raise errors.Unavailable(str(error), retry_after=2) from error
    told = Teller(scene.given.execution_id).tell(chapters)
    if not told.steps and course.stopped_by == "time_limit":
        raise errors.Unavailable(
            "No worker carries simulations out: start one, or restart it.", retry_after=10
        )
    return _shown(body, course, told, real_seconds=monotonic() - begun)


class Scene(BaseModel):
    """Everything that a simulation begins with."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    given: ExecutionInput
    plan: Plan
    script: list[Scripted]


async def _scene(
    session: AsyncSession, workspace_id: UUID, workflow_id: UUID, body: SimulationGiven
) -> Scene:
    """Read what is simulated; whatever is wrong with the request is said before anything runs."""
    if len(body.model_dump_json()) > LARGEST:
        raise _invalid("", "too_large", f"A simulation has at most {LARGEST} bytes as JSON.")
    facts = await starts.facts(session, workspace_id, workflow_id)
    if facts is None:
        raise errors.NotFound()
    form = await fields.form(session, workspace_id, workflow_id)
    graph, number = await _graph(session, workspace_id, workflow_id, body, form)
    trigger = versions.trigger_of(graph)
    if trigger is None:
        raise errors.Invalid("The graph has no trigger.")
    now = datetime.now(UTC)
    trigger_data, imagined = _about(body, form, trigger)
    _refuse([*_wrong_stubs(body, graph), *_wrong_events(body, graph, now)])
    execution_id, lead_id = uuid7(), uuid7()
    lead = imagined and simulation.lead_scope(
        imagined, id_=str(lead_id), workflow_id=str(workflow_id), now=now
    )
    given = ExecutionInput(
        workspace_id=workspace_id,
        workflow_id=workflow_id,
        execution_id=execution_id,
        version=number,
        trigger_type=trigger.type.removeprefix("TRIGGER_"),
        trigger_node_id=trigger.id,
        trigger_data=trigger_data,
        lead_id=lead_id if lead else None,
        graph=graph,
        holds_failures=facts.holds_failures,
    )
    plan = Plan(
        workspace=facts.workspace,
        workflow=facts.workflow,
        lead=lead or None,
        stubs={node_id: _stub(stub) for node_id, stub in body.stubs.items()},
        fields=form,
        changes={str(number): event.lead for number, event in enumerate(body.events) if event.lead},
    )
    return Scene(given=given, plan=plan, script=_script(body, graph, now))


async def _graph(
    session: AsyncSession,
    workspace_id: UUID,
    workflow_id: UUID,
    body: SimulationGiven,
    form: tuple[FormField, ...],
) -> tuple[Graph, int]:
    if isinstance(body.version, int):
        version = await versions.get(session, workspace_id, workflow_id, body.version)
        if version is None:
            raise _invalid("/version", "unknown_version", "The workflow has no such version.")
        return Graph.model_validate(version.graph), version.version
    loaded = await graphs.load(session, workspace_id, workflow_id)
    if loaded is None:
        raise errors.NotFound()
    found = validation.problems(loaded.draft, form, publishing=True)
    wrong = [problem for problem in found if problem.severity == "error"]
    if wrong:
        raise errors.Invalid("The draft cannot run yet.", errors=submissions.details(wrong))
    return publish.compile(loaded.draft), 0


def _about(
    body: SimulationGiven, form: tuple[FormField, ...], trigger: Node
) -> tuple[JsonObject, dict[str, Any] | None]:
    """Return the trigger's data and the lead: a form makes both from its answers, unless told otherwise."""
    if "lead" in body.model_fields_set or trigger.type != "TRIGGER_FORM":
        return body.trigger_data, body.lead.model_dump() if body.lead else None
    answers = check(form, body.trigger_data)
    _refuse(
        [
            errors.Detail(
                code=p.code, message=p.message, pointer=f"/trigger_data{p.pointer or ''}", field=p.field
            )
            for p in answers.problems
        ]
    )
    columns = submissions.lead_columns(form, answers.values)
    lead = {**columns, "source": "form", "fields": answers.values} if "email" in columns else None
    return answers.typed, lead


def _wrong_stubs(body: SimulationGiven, graph: Graph) -> list[errors.Detail]:
    wrong = []
    for node_id, stub in body.stubs.items():
        pointer = f"/stubs/{node_id.replace('~', '~0').replace('/', '~1')}"
        node = graph.by_id.get(node_id)
        if node is None:
            wrong.append(_detail(pointer, "unknown_node", "The graph has no such node that runs."))
            continue
        node_type = nodes.types()[node.type]
        if node_type.passes:
            message = f"A {node.type} is decided by the run itself: there is nothing to stand in for."
            wrong.append(_detail(pointer, "nothing_to_stub", message, node_id=node_id))
        ways = node_type.ways_out(node_type.Config(**node.config))
        if stub.error is not None and (stub.handle is not None or stub.output is not None):
            message = "A stub has an error, or an output and a handle."
            wrong.append(_detail(f"{pointer}/error", "stub_ambiguous", message, node_id=node_id))
        if stub.handle is not None and stub.handle not in ways:
            message = f"The node has these ways out: {', '.join(ways) or 'none'}."
            wrong.append(_detail(f"{pointer}/handle", "unknown_handle", message, node_id=node_id))
    return wrong


def _wrong_events(body: SimulationGiven, graph: Graph, now: datetime) -> list[errors.Detail]:
    wrong = []
    for number, event in enumerate(body.events):
        pointer = f"/events/{number}"
        offset = simulation.offset_in(event.at, now)
        if offset is None or offset.days > simulation.LONGEST_DAYS:
            message = "A time after the start is written +2d, +1h30m or P2D, and lies at most 25 years ahead."
            wrong.append(_detail(f"{pointer}/at", "bad_time", message))
        if event.type in ABOUT_STEPS and _key(event.step, graph) is None:
            message = "Name the node that this is about, or one visit of it such as `ask:2`."
            wrong.append(_detail(f"{pointer}/step", "unknown_step", message))
        if event.type not in ABOUT_STEPS and event.step:
            wrong.append(_detail(f"{pointer}/step", "no_step", f"A {event.type} is not about a step."))
        strange = sorted(set(event.lead) - set(LeadGiven.model_fields))
        if strange or not isinstance(event.lead.get("fields", {}), Mapping):
            message = (
                f"A lead has no {', '.join(strange)}." if strange else "`fields` is an object of answers."
            )
            wrong.append(_detail(f"{pointer}/lead", "unknown_field", message))
        if event.lead and event.type in (*COMMANDS, "cancel"):
            wrong.append(_detail(f"{pointer}/lead", "no_lead", "A decision changes nothing in the lead."))
    return wrong


def _key(step: str, graph: Graph) -> str | None:
    """Name the step that an event is about: of a node alone, its first visit."""
    if step in graph.by_id:
        return step_key(step, 1)
    named = split_key(step)
    return step if named is not None and named[0] in graph.by_id else None


def _script(body: SimulationGiven, graph: Graph, now: datetime) -> list[Scripted]:
    script = []
    for number, event in enumerate(body.events):
        after = simulation.offset_in(event.at, now)
        if after is not None:
            made = Scripted(str(number), after, event.type, event.data, _key(event.step, graph) or "")
            script.append(Scripted(**{**vars(made), "by": event.by, "comment": event.comment}))
    return script


def _stub(given: StubGiven) -> Stub:
    error = StepError(**given.error.model_dump()) if given.error else None
    return Stub(output=given.output, handle=given.handle, error=error)


def _shown(body: SimulationGiven, course: Course, told: Told, *, real_seconds: float) -> Simulated:
    run = told.execution
    rows = told.steps[:MOST_STEPS]
    stopped_by = "step_limit" if len(told.steps) > MOST_STEPS else course.stopped_by
    outcome = {
        "status": run.get("status", "running"),
        "reason": run.get("status_reason"),
        "output": run.get("output_data"),
        "error": run.get("error"),
    }
    events = []
    for number, event in enumerate(body.events):
        fate, message = course.fates.get(str(number), ("not_reached", "The run had ended before."))
        events.append({"at": event.at, "type": event.type, "fate": fate, "message": message})
    return Simulated.model_validate(
        {
            "outcome": outcome,
            "path": [telling.line(row) for row in rows],
            "steps": [{name: getattr(row, name) for name in SimulatedStep.model_fields} for row in rows],
            "mails": told.mails,
            "decisions": told.decisions,
            "waits": told.waits,
            "events": events,
            "started_at": told.started_at,
            "virtual_time": simulation.duration(told.lasted),
            "virtual_seconds": round(told.lasted.total_seconds(), 3),
            "real_seconds": round(real_seconds, 3),
            "stopped_by": stopped_by,
        }
    )


def _refuse(wrong: list[errors.Detail]) -> None:
    if wrong:
        raise errors.Invalid("The simulation has mistakes.", errors=wrong)


def _invalid(pointer: str, code: str, message: str) -> errors.Invalid:
    return errors.Invalid(message, errors=[_detail(pointer, code, message)])


def _detail(pointer: str, code: str, message: str, *, node_id: str | None = None) -> errors.Detail:
    return errors.Detail(code=code, message=message, pointer=pointer, node_id=node_id)
