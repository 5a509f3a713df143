"""What a caller may have a running execution do: pause, resume, decide about steps, hear of events."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body
from pydantic import ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError
from sqlalchemy import select
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from api import errors
from api.auth import Caller, requires
from api.deps import OurPlatform, Platform
from api.schemas import Given, Id, LongText
from db import listing
from db.models import ExecutionStep
from db.models.executions import OPEN_STATUSES
from workflows.graph import step_key
from workflows.messages import Command, Heard
from workflows.run import EVENT_WEIGHT
from workflows.scopes import weight

router = APIRouter(tags=["executions"])

Writer = Annotated[Caller, requires("executions:write")]
REFUSALS = errors.responses(errors.Conflict, errors.Unavailable)


class CommandGiven(Given):
    """Why it is done; kept in the execution's log."""

    model_config = ConfigDict(title="ExecutionCommand")

    comment: LongText = Field("", examples=["The customer asked us to wait."])


GivenCommand = Annotated[CommandGiven, Body(default_factory=CommandGiven)]


class DecisionGiven(Given):
    """A decision about a step that waits for one."""

    model_config = ConfigDict(
        title="ApprovalDecision",
        json_schema_extra={
            "examples": [{"step": "01936f1e-7c3a-7bd0-8f53-2f6a1c3b9d10", "approved": True, "by": "ann"}]
        },
    )

    step: UUID = Field(description="The step's id.")
    approved: bool
    by: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None, description="Who decided; each person counts once. Without it, the API key."
    )
    comment: LongText = ""


class SignalGiven(Given):
    """Something that happened; a step that waits for this type looks at it."""

    model_config = ConfigDict(
        title="ExecutionSignal", json_schema_extra={"examples": [{"type": "PAID", "data": {"amount": 5}}]}
    )

    type: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_.-]+$")]
    data: dict[str, Any] = Field(default_factory=dict)

    @field_validator("data")
    @classmethod
    def _check_data(cls, data: dict[str, Any]) -> dict[str, Any]:
        if weight(data, cap=EVENT_WEIGHT) > EVENT_WEIGHT:
            told = {"cap": f"{EVENT_WEIGHT:,}"}
            raise PydanticCustomError(
                "event_too_large", "An event carries at most {cap} characters, nested 32 deep.", told
            )
        return data


@router.post(
    "/v1/executions/{execution_id}/pause", status_code=204, summary="Pause an execution", responses=REFUSALS
)
async def execution_pause(
    execution_id: Id, caller: Writer, platform: OurPlatform, body: GivenCommand
) -> None:
    """Holds at the next node boundary: steps under way end, no more begin. It never ends a run."""
    await _command(platform, caller, execution_id, "pause", comment=body.comment)


@router.post(
    "/v1/executions/{execution_id}/resume", status_code=204, summary="Resume an execution", responses=REFUSALS
)
async def execution_resume(
    execution_id: Id, caller: Writer, platform: OurPlatform, body: GivenCommand
) -> None:
    """Goes on with what the pause held back."""
    await _command(platform, caller, execution_id, "resume", comment=body.comment)


@router.post(
    "/v1/executions/{execution_id}/steps/{step_id}/retry",
    status_code=204,
    summary="Retry a held step",
    responses=REFUSALS,
)
async def step_retry(
    execution_id: Id, step_id: Id, caller: Writer, platform: OurPlatform, body: GivenCommand
) -> None:
    """Carries a failed step out again, in a workflow whose setting `hold_failures` holds it."""
    await _command(platform, caller, execution_id, "retry_step", step_id=step_id, comment=body.comment)


@router.post(
    "/v1/executions/{execution_id}/steps/{step_id}/skip",
    status_code=204,
    summary="Skip a held step",
    responses=REFUSALS,
)
async def step_skip(
    execution_id: Id, step_id: Id, caller: Writer, platform: OurPlatform, body: GivenCommand
) -> None:
    """Goes on from a failed, held step as if it had done nothing."""
    await _command(platform, caller, execution_id, "skip_step", step_id=step_id, comment=body.comment)


@router.post(
    "/v1/executions/{execution_id}/approvals",
    status_code=204,
    summary="Approve or reject",
    responses=REFUSALS,
)
async def execution_decide(
    execution_id: Id, caller: Writer, platform: OurPlatform, body: DecisionGiven
) -> None:
    """Decides what a LOGIC_APPROVAL step asks."""
    name = "approve" if body.approved else "reject"
    await _command(platform, caller, execution_id, name, step_id=body.step, comment=body.comment, by=body.by)


@router.post(
    "/v1/executions/{execution_id}/signals",
    status_code=202,
    summary="Tell an execution of an event",
    responses=REFUSALS,
)
async def execution_signal(
    execution_id: Id, caller: Writer, platform: OurPlatform, body: SignalGiven
) -> None:
    """Buffered from the start of the run: an event that comes before its wait still counts."""
    await _expect_open(platform, caller, execution_id)
    heard = Heard(type=body.type, at=datetime.now(UTC), data=body.data)
    try:
        known = await platform.starter.tell(execution_id, heard)
    except (RPCError, RuntimeError) as error:
        raise errors.Unavailable() from error
    if not known:
        raise errors.Conflict("The execution is not running.", code="execution_not_running")


async def _command(
    platform: Platform,
    caller: Caller,
    execution_id: UUID,
    name: str,
    *,
    step_id: UUID | None = None,
    comment: str = "",
    by: str | None = None,
) -> None:
    """Send an update to the run; its validator's refusal becomes a 409."""
    step = await _expect_open(platform, caller, execution_id, step_id)
    command = Command(by=by or f"api key {caller.api_key_id}", step=step, comment=comment)
    try:
        known = await platform.starter.command(execution_id, name, command)
    except ApplicationError as refusal:
        raise errors.Conflict(refusal.message, code=refusal.type) from refusal
    except (RPCError, RuntimeError) as error:
        raise errors.Unavailable() from error
    if not known:
        raise errors.Conflict("The execution is not running.", code="execution_not_running")


async def _expect_open(
    platform: Platform, caller: Caller, execution_id: UUID, step_id: UUID | None = None
) -> str:
    """Check that the caller's workspace has this open execution; return the step's key, if one is meant."""
    async with platform.database.workspace(caller.workspace_id) as session:
        found = await listing.execution(session, caller.workspace_id, execution_id)
        if found is None:
            raise errors.NotFound()
        if found.row.status not in OPEN_STATUSES:
            raise errors.Conflict(f"The execution is over: {found.row.status}.", code="execution_finished")
        if step_id is None:
            return ""
        step = await session.scalar(
            select(ExecutionStep).where(
                ExecutionStep.workspace_id == caller.workspace_id,
                ExecutionStep.execution_id == execution_id,
                ExecutionStep.id == step_id,
            )
        )
    if step is None:
        raise errors.NotFound()
    return step_key(step.node_id, step.visit)
