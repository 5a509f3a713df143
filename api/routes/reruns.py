"""Reruns: an execution once more, from its start, a node or its failure."""

import asyncio
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import ConfigDict, Field, ValidationError
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.background import BackgroundTask
from temporalio.service import RPCError

from api import errors
from api.auth import Caller, requires
from api.deps import OurPlatform, Platform
from api.idempotency import Idempotent, Made
from api.routes.executions import ExecutionStarted, TemporalRun, expect_data, start_soon
from api.schemas import Data, Given, Id
from db import reruns, runs
from db.models.executions import OPEN_STATUSES
from db.reruns import Origin
from db.starts import Rerun
from workflows.rewind import Unkept

router = APIRouter(tags=["executions"])

Writer = Annotated[Caller, requires("executions:write")]
PATIENCE = 3.0
"""Seconds to wait for Temporal's history; without it the order is taken, and checked at its start."""


class RerunGiven(Given):
    """Where the rerun goes on, and on which version."""

    model_config = ConfigDict(
        title="ExecutionRerun",
        populate_by_name=True,
        json_schema_extra={"examples": [{"from": "failure", "version": "latest"}]},
    )

    start: Literal["start", "node", "failure"] = Field(
        "start",
        alias="from",
        description="`node`: from `node_id` on; `failure`: what failed, was cancelled or had not ended. "
        "What ran before is kept, and nothing of it is sent again.",
    )
    node_id: Annotated[str, Field(min_length=1, max_length=255)] | None = Field(
        None, description="React Flow's id, with `from: node`."
    )
    version: Literal["same", "latest"] = "same"
    trigger_data: Data | None = Field(
        None, description="Replaces what templates see as `trigger`, with `from: start`."
    )


@router.post(
    "/v1/executions/{execution_id}/rerun",
    status_code=202,
    response_model=ExecutionStarted,
    summary="Run an execution again",
    responses=errors.responses(errors.Conflict),
)
async def execution_rerun(
    *, execution_id: Id, body: RerunGiven, caller: Writer, platform: OurPlatform, once: Idempotent
) -> Response:
    """Orders a new execution, whose `rerun_of` is this one, and answers at once.

    Kept steps are shown in it as they were, with `skip_reason` `kept`; the lead is read afresh.
    """
    _check(body)
    async with platform.database.workspace(caller.workspace_id) as session:
        earlier = await once.earlier(session)
        if earlier is not None:
            return earlier
        origin = await _origin(session, caller, execution_id, body)
    if origin is None:
        raise errors.NotFound()
    _expect_rerunnable(origin, body)
    if body.trigger_data is not None:
        expect_data(origin.graph.by_id[origin.trigger_node_id].model_dump(), body.trigger_data)
    # Temporal is asked while no transaction is open.
    await _expect_kept(platform, origin, body)
    made: list[UUID] = []

    async def make() -> Made:
        new_id, is_new = await _queue(session, caller, origin, body, once.key)
        if is_new:
            made.append(new_id)
        run = TemporalRun.of(platform.config, new_id)
        started = ExecutionStarted(id=new_id, status="queued", temporal=run)
        return Made(started, 202, {"Location": f"/v1/executions/{new_id}"})

    async with platform.database.workspace(caller.workspace_id) as session:
        answer = await once.answer(session, make)
    if made:
        answer.background = BackgroundTask(start_soon, platform, caller.workspace_id, made[0])
    return answer


async def _origin(
    session: AsyncSession, caller: Caller, execution_id: UUID, body: RerunGiven
) -> Origin | None:
    try:
        return await reruns.origin(
            session, caller.workspace_id, execution_id, latest=body.version == "latest"
        )
    except (ValidationError, IndexError) as error:
        raise errors.GraphUnreadable() from error


def _check(body: RerunGiven) -> None:
    """Refuse what contradicts itself."""
    if (body.start == "node") != (body.node_id is not None):
        message = "Given exactly with `from: node`: the node to run again."
        raise _invalid("node_id", message, code="node_id")
    if body.trigger_data is not None and body.start != "start":
        message = "What is kept came of the old data: other data goes with `from: start` only."
        raise _invalid("trigger_data", message, code="trigger_data_kept")


def _expect_rerunnable(origin: Origin, body: RerunGiven) -> None:
    row = origin.row
    if row.status in OPEN_STATUSES:
        message = f"The execution is {row.status}: cancel it or let it end first."
        raise errors.Conflict(message, code="execution_open")
    if origin.workflow_status == "archived":
        raise errors.Conflict("An archived workflow starts no runs.", code="workflow_archived")
    if not origin.has_lead:
        raise errors.Conflict("The execution's lead was deleted.", code="lead_deleted")
    if body.start == "failure" and row.status == "completed":
        message = "Nothing failed: rerun it from the start or from a node."
        raise errors.Conflict(message, code="nothing_failed")
    if body.node_id is not None and body.node_id not in origin.graph.by_id:
        message = f"The {body.version} version has no node `{body.node_id}`."
        raise _invalid("node_id", message, code="unknown_node")


async def _expect_kept(platform: Platform, origin: Origin, body: RerunGiven) -> None:
    """Check against history that what is to be kept can be; in an outage that is left to the start."""
    if body.start == "start":
        return
    if not origin.began:
        if body.start == "node":
            message = "The execution never began: rerun it from the start."
            raise errors.Conflict(message, code="node_not_reached")
        return
    rerun = Rerun(origin.row.id, body.node_id)
    try:
        async with asyncio.timeout(PATIENCE):
            await platform.starter.check_rerun(rerun, origin.graph, origin.trigger_node_id)
    except Unkept as unkept:
        raise errors.Conflict(str(unkept), code=unkept.code) from unkept
    except (RPCError, RuntimeError, OSError):
        return


async def _queue(
    session: AsyncSession, caller: Caller, origin: Origin, body: RerunGiven, key: str | None
) -> tuple[UUID, bool]:
    workspace_id, old = caller.workspace_id, origin.row
    run_key = key and f"rerun {old.id} {key}"
    if run_key and (earlier := await runs.by_key(session, workspace_id, old.workflow_id, run_key)):
        return earlier, False
    made = await reruns.queue(
        session,
        workspace_id,
        [old.id],
        start=body.start,
        latest=body.version == "latest",
        node_id=body.node_id,
        trigger_data=body.trigger_data,
        idempotency_key=run_key,
    )
    if not made:
        raise errors.Conflict("The workflow was archived or deleted meanwhile.", code="workflow_archived")
    return made[0], True


def _invalid(field: str, message: str, *, code: str) -> errors.Invalid:
    return errors.Invalid(errors=[errors.Detail(code=code, message=message, pointer=f"/{field}")])
