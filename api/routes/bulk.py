"""Many executions at once: cancelled, or run again, by the filter of their list."""

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
    _expect_a_filter(body)

    async def make() -> Made:
        try:
            matched = await cancels.ask_all(session, caller.workspace_id, body.wanted(), most=MOST)
        except cancels.TooMany as error:
            raise _too_many() from error
        return Made(Matched(matched=matched), 202)

    return await once.answer(session, make)


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
    _expect_a_filter(body)
    if body.status in OPEN_STATUSES:
        raise _invalid("status", f"What is {body.status} is not over: cancel it first.", code="not_over")

    async def make() -> Made:
        workspace_id, wanted = caller.workspace_id, body.wanted()
        try:
            found = await reruns.match(session, workspace_id, wanted, start=body.start, most=MOST)
        except cancels.TooMany as error:
            raise _too_many() from error
        is_latest = body.version == "latest"
        made = await reruns.queue(session, workspace_id, found, start=body.start, latest=is_latest)
        return Made(Matched(matched=len(made)), 202)

    return await once.answer(session, make)


def _expect_a_filter(body: Filter) -> None:
    if not any(getattr(body, name) is not None for name in Filter.model_fields):
        names = ", ".join(f"`{name}`" for name in Filter.model_fields)
        raise _invalid("", f"Give at least one of {names}.", code="filter_missing")


def _too_many() -> errors.Refusal:
    message = f"More than {MOST} executions match: narrow the filter, for example by `queued_before`."
    return errors.Invalid(errors=[errors.Detail(code="too_many_matched", message=message)])


def _invalid(field: str, message: str, *, code: str) -> errors.Invalid:
    pointer = f"/{field}" if field else None
    return errors.Invalid(errors=[errors.Detail(code=code, message=message, pointer=pointer)])
