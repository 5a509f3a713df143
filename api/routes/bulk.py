"""Many executions at once: cancelled, or run again, by the filter of their list."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from api import errors
from api.auth import Caller, requires
from api.deps import Session
from api.idempotency import Idempotent, Made
from api.routes.executions import Filter
from api.schemas import Given
from db import cancels, reruns
from db.models.executions import OPEN_STATUSES

router = APIRouter(tags=["executions"])

Writer = Annotated[Caller, requires("executions:write")]
MOST = 10_000


class BulkCancelGiven(Filter, Given):
    """Which executions to cancel; at least one condition."""

    model_config = ConfigDict(
        title="ExecutionBulkCancel", json_schema_extra={"examples": [{"status": "waiting"}]}
    )


class BulkRerunGiven(Filter, Given):
    """Which executions to run again; at least one condition."""

    model_config = ConfigDict(
        title="ExecutionBulkRerun",
        populate_by_name=True,
        json_schema_extra={"examples": [{"status": "failed", "from": "failure", "version": "latest"}]},
    )

    start: Literal["start", "failure"] = Field("start", alias="from")
    version: Literal["same", "latest"] = "same"


class Matched(BaseModel):
    """How many executions are meant."""

    model_config = ConfigDict(title="ExecutionsMatched")

    matched: int


@router.post(
    "/v1/executions/bulk-cancel",
    status_code=202,
    response_model=Matched,
    summary="Cancel executions by filter",
    responses=errors.responses(errors.Conflict),
)
async def executions_cancel(
    body: BulkCancelGiven, caller: Writer, session: Session, once: Idempotent
) -> Response:
    """Writes down that all open executions that match are to end; that is carried out within seconds.

    At most 10,000 at once.
    """

    async def ask() -> int:
        return await cancels.ask_all(session, caller.workspace_id, body.wanted(), most=MOST)

    return await _carry_out(body, ask, session, once)


@router.post(
    "/v1/executions/bulk-rerun",
    status_code=202,
    response_model=Matched,
    summary="Run executions again by filter",
    responses=errors.responses(errors.Conflict),
)
async def executions_rerun(
    body: BulkRerunGiven, caller: Writer, session: Session, once: Idempotent
) -> Response:
    """Orders a rerun of each execution that matches and is over; at most 10,000 at once.

    Left out is what has an open rerun already, or failed and has a completed one.
    """
    if body.status in OPEN_STATUSES:
        raise _invalid("status", f"What is {body.status} is not over: cancel it first.", code="not_over")

    async def order() -> int:
        workspace_id, is_latest = caller.workspace_id, body.version == "latest"
        found = await reruns.match(session, workspace_id, body.wanted(), start=body.start, most=MOST)
        made = await reruns.queue(session, workspace_id, found, start=body.start, latest=is_latest)
        return len(made)

    return await _carry_out(body, order, session, once)


async def _carry_out(
    body: Filter, change: Callable[[], Awaitable[int]], session: Session, once: Idempotent
) -> Response:
    """Change what matches, once, and say how many that were; an empty filter means everything by mistake."""
    if not any(getattr(body, name) is not None for name in Filter.model_fields):
        names = ", ".join(f"`{name}`" for name in Filter.model_fields)
        raise _invalid("", f"Give at least one of {names}.", code="filter_missing")

    async def make() -> Made:
        try:
            return Made(Matched(matched=await change()), 202)
        except cancels.TooMany as error:
            raise _too_many() from error

    return await once.answer(session, make)


def _too_many() -> errors.Refusal:
    message = f"More than {MOST} executions match: narrow the filter, for example by `queued_before`."
    return errors.Invalid(errors=[errors.Detail(code="too_many_matched", message=message)])


def _invalid(field: str, message: str, *, code: str) -> errors.Invalid:
    pointer = f"/{field}" if field else None
    return errors.Invalid(errors=[errors.Detail(code=code, message=message, pointer=pointer)])
