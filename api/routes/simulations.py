"""Simulations: a workflow played through in seconds, with nothing sent and nothing stored."""

import asyncio
from datetime import datetime
from time import monotonic
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from api import errors
from api.auth import Caller, requires
from api.deps import OurPlatform
from api.schemas import Id, JsonObject
from api.simulation import scene, telling
from api.simulation.given import SimulationGiven
from api.simulation.script import Course, Fate
from api.simulation.simulator import Away, Unsupported
from api.simulation.telling import Teller, Told
from workflows import simulation

router = APIRouter(tags=["workflows"])

MOST_STEPS = 2_000


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
    stopped_by: Literal["time_limit", "virtual_time_limit", "step_limit", "size_limit"] | None


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
        begin = await scene.read(session, caller.workspace_id, workflow_id, body)
    if platform.simulator is None:
        raise errors.Unavailable("This installation has no simulator.", retry_after=60)
    try:
        course, chapters = await platform.simulator.play(begin.given, begin.plan, begin.script)
    except Unsupported as error:
        raise errors.Unavailable(str(error), retry_after=60) from error
    except Away as error:
        raise errors.Unavailable(str(error), retry_after=2) from error
    # Thousands of steps take a while to tell: others are answered meanwhile.
    told = await asyncio.to_thread(Teller(begin.given.execution_id).tell, chapters)
    if not told.steps and course.stopped_by == "time_limit":
        raise errors.Unavailable(
            "No worker carries simulations out: start one, or restart it.", retry_after=10
        )
    return _shown(body, course, told, real_seconds=monotonic() - begun)


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
