"""Executions: started, listed, looked into, cancelled."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import APIRouter, Query, Response
from psycopg.errors import UniqueViolation
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import IntegrityError
from starlette.background import BackgroundTask

from activities.clients.runs import workflow_id_of
from api import errors
from api.auth import Caller, requires
from api.cancels import Cancels
from api.cursors import Cursors, OurPaging, Page, Window
from api.deps import Config, OurPlatform, Platform, Session
from api.idempotency import Idempotent, Made
from api.live.describer import Unseen
from api.live.sight import Live, Sight, look
from api.schemas import Data, Given, Id, JsonObject, Moment, Shown
from api.stuck import Limits, Reason, examine
from db import cancels, leads, runs
from db import listing as stored
from db import stuck as suspicious
from db.models import WorkflowExecution
from db.models.executions import OPEN_STATUSES
from workflows import schemas
from workflows.problems import pointer

router = APIRouter(tags=["executions"])

Reader = Annotated[Caller, requires("executions:read")]
Writer = Annotated[Caller, requires("executions:write")]
MANUAL = "TRIGGER_MANUAL"
Status = Literal["queued", "running", "waiting", "completed", "failed", "cancelled"]


class TemporalRun(BaseModel):
    """Where Temporal has the run."""

    model_config = ConfigDict(title="TemporalRun")

    workflow_id: str = Field(examples=["execution-01936f1e-7c3a-7bd0-8f53-2f6a1c3b9d10"])
    run_id: str | None = None
    url: str | None = Field(None, description="The run in the Temporal Web UI.")

    @classmethod
    def of(cls, config: Config, execution_id: UUID, run_id: str | None = None) -> "TemporalRun":
        """Name an execution's run."""
        name = workflow_id_of(execution_id)
        return cls(workflow_id=name, run_id=run_id, url=config.run_url(name, run_id))

    @classmethod
    def of_row(cls, config: Config, row: WorkflowExecution) -> "TemporalRun":
        """Name the run that an execution's row names."""
        return cls.of(config, row.id, row.temporal_run_id)


class ExecutionStarted(BaseModel):
    """An execution that was ordered."""

    model_config = ConfigDict(title="ExecutionStarted")

    id: UUID
    status: Status
    temporal: TemporalRun


class ExecutionShown(Shown):
    """What every answer tells of an execution."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    workflow_id: UUID
    version: int
    lead_id: UUID | None
    trigger_type: str = Field(examples=["FORM"])
    status: Status
    status_reason: str | None = Field(description="Why it ended as it did.", examples=["node_failed"])
    trigger_data: JsonObject
    output_data: Any
    error: JsonObject | None
    rerun_of: UUID | None
    cause_execution_id: UUID | None = Field(
        description="The execution whose step started this one, or changed the lead that it reacts to."
    )
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    temporal: TemporalRun

    @classmethod
    def of(cls, found: stored.Execution, config: Config) -> Self:
        """Show a stored execution."""
        row = found.row
        return cls(**cls._columns(row), version=found.version, temporal=TemporalRun.of_row(config, row))

    @staticmethod
    def _columns(row: WorkflowExecution) -> dict[str, Any]:
        made = ("version", "temporal", "stuck")
        return {name: getattr(row, name) for name in ExecutionShown.model_fields if name not in made}


class ExecutionSeen(ExecutionShown):
    """An execution, and what it waits for."""

    model_config = ConfigDict(title="ExecutionWithLive", from_attributes=True)

    live: Live | None = Field(None, description="While the run is open and Temporal answers.")
    live_missing: Literal["run_over", "not_started", "temporal_unreachable", "run_unknown"] | None = Field(
        None, description="Why there is no `live`."
    )

    @classmethod
    def of_sight(cls, sight: Sight, config: Config) -> "ExecutionSeen":
        """Show a run that was looked at."""
        row, told = sight.stand.run, {"live": sight.live, "live_missing": sight.missing}
        run = TemporalRun.of_row(config, row)
        return cls(**cls._columns(row), version=sight.stand.version, temporal=run, **told)


class StuckShown(BaseModel):
    """Why an open execution will not go on by itself."""

    model_config = ConfigDict(title="Stuck")

    reason: Reason = Field(
        description="`not_started`: Temporal does not have it; `no_worker`: no worker takes its tasks; "
        "`task_fails`: its workflow task fails again and again; `not_mirrored`: Temporal has more than its "
        "rows tell; `overdue`: a wait is over and nothing happened; `idle`: nothing is under way in Temporal."
    )
    since: datetime = Field(description="When it moved last, or should have.")


class ExecutionListed(ExecutionShown):
    """An execution."""

    model_config = ConfigDict(title="Execution", from_attributes=True)

    stuck: StuckShown | None = Field(None, description="Only in the list of stuck ones.")


class ExecutionPage(Page[ExecutionListed]):
    """Executions, newest first."""

    model_config = ConfigDict(title="ExecutionPage")


class Filter(BaseModel):
    """Which executions are meant; all that is given must hold."""

    status: Status | None = None
    workflow_id: UUID | None = None
    lead_id: UUID | None = None
    cause: UUID | None = Field(None, description="Only those that this execution caused.")
    queued_after: Moment | None = Field(None, description="That moment or later.")
    queued_before: Moment | None = Field(None, description="Before that moment.")

    def wanted(self) -> stored.Wanted:
        """Hand the filter to the statements."""
        return stored.Wanted(**{name: getattr(self, name) for name in Filter.model_fields})


class ExecutionQuery(Filter, Window):
    """Which executions to list."""

    stuck: bool | None = Field(
        None,
        description="`true`: only open ones that neither sleep nor wait, are tried again nor have moved for "
        "ten minutes. Temporal is asked about a hundred in one request, so a page may have fewer than "
        "`limit`, or none, and yet a `next_cursor`.",
    )


class ExecutionGiven(Given):
    """A run to start."""

    model_config = ConfigDict(
        title="ExecutionInput", json_schema_extra={"examples": [{"trigger_data": {"budget": "$5000"}}]}
    )

    trigger_data: Data = Field({}, description="What templates see as `trigger`.")
    lead_id: UUID | None = Field(None, description="The lead that the run is about.")


@router.post(
    "/v1/workflows/{workflow_id}/executions",
    status_code=202,
    response_model=ExecutionStarted,
    summary="Start an execution",
    responses=errors.responses(errors.Conflict),
)
async def execution_create(
    *,
    workflow_id: Id,
    body: ExecutionGiven,
    caller: Writer,
    session: Session,
    platform: OurPlatform,
    once: Idempotent,
) -> Response:
    """Orders a run of the published version and answers at once; a paused workflow's run waits."""
    made: list[UUID] = []

    async def make() -> Made:
        execution_id, is_new = await _queue(session, caller, workflow_id, body, once.key)
        if is_new:
            made.append(execution_id)
        started = ExecutionStarted(
            id=execution_id, status="queued", temporal=TemporalRun.of(platform.config, execution_id)
        )
        return Made(started, 202, {"Location": f"/v1/executions/{execution_id}"})

    answer = await once.answer(session, make)
    if made:
        # It runs once the answer is out, so after the commit.
        answer.background = BackgroundTask(start_soon, platform, caller.workspace_id, made[0])
    return answer


@router.get("/v1/executions", summary="List executions", responses=errors.responses(errors.Unavailable))
async def executions_list(
    caller: Reader,
    platform: OurPlatform,
    paging: OurPaging,
    query: Annotated[ExecutionQuery, Query()],
) -> ExecutionPage:
    """Newest first."""
    cursors = paging.of(query)
    before = cursors.position(UUID)
    if query.stuck:
        return await _stuck(caller, platform, cursors, query, before=before)
    async with platform.database.workspace(caller.workspace_id) as session:
        found = await stored.executions(
            session, caller.workspace_id, query.wanted(), limit=query.limit + 1, before=before
        )
    rows, following = cursors.page(found, "id")
    data = [ExecutionListed.of(row, platform.config) for row in rows]
    return ExecutionPage(data=data, next_cursor=following)


async def _stuck(
    caller: Caller, platform: Platform, cursors: Cursors, query: ExecutionQuery, *, before: UUID | None
) -> ExecutionPage:
    """List stuck executions; Temporal is asked once the transaction is over."""
    limits = Limits()
    async with platform.database.workspace(caller.workspace_id) as session:
        found = await suspicious.of_workspace(
            session,
            caller.workspace_id,
            query.wanted(),
            silent_for=limits.silent_for,
            limit=limits.most + 1,
            before=before,
        )
    suspects = [suspect for _, suspect in found[: limits.most]]
    try:
        told = await examine(suspects, platform.describer, limit=query.limit)
    except Unseen as unseen:
        raise errors.Unavailable("Temporal cannot be reached, and only it knows which are stuck.") from unseen
    rows = {row.id: row for row, _ in found}
    data = [
        ExecutionListed.of(rows[one.execution_id], platform.config).model_copy(
            update={"stuck": StuckShown(reason=reason, since=one.since)}
        )
        for one, reason in told
        if reason is not None
    ]
    more = len(told) < len(found)
    return ExecutionPage(data=data, next_cursor=cursors.seal(told[-1][0].execution_id) if more else None)


@router.get("/v1/executions/{execution_id}", summary="Read an execution")
async def execution_show(execution_id: Id, caller: Reader, platform: OurPlatform) -> ExecutionSeen:
    """Its state as last seen in Temporal's history, and what it waits for at this moment."""
    sight = await look(platform.database, platform.describer, caller.workspace_id, execution_id)
    if sight is None:
        raise errors.NotFound()
    return ExecutionSeen.of_sight(sight, platform.config)


@router.post(
    "/v1/executions/{execution_id}/cancel",
    status_code=202,
    summary="Cancel an execution",
    responses=errors.responses(errors.Conflict),
)
async def execution_cancel(execution_id: Id, caller: Writer, platform: OurPlatform) -> ExecutionStarted:
    """Asks the run to end; its status follows, also when Temporal is away at the moment.

    A run that never began is cancelled at once.
    """
    async with platform.database.workspace(caller.workspace_id) as session:
        before = await stored.execution(session, caller.workspace_id, execution_id)
        if before is None:
            raise errors.NotFound()
        if before.row.status not in OPEN_STATUSES:
            message = f"The execution is over: {before.row.status}."
            raise errors.Conflict(message, code="execution_finished")
        await cancels.ask(session, caller.workspace_id, execution_id)
        await session.refresh(before.row)
        row = before.row
    # A start may have been under way while the row was withdrawn, so Temporal is asked in any case.
    await Cancels(platform.database, platform.starter).ask(caller.workspace_id, execution_id)
    return ExecutionStarted(
        id=execution_id,
        status=row.status,
        temporal=TemporalRun.of(platform.config, execution_id, row.temporal_run_id),
    )


async def _queue(
    session: Session, caller: Caller, workflow_id: UUID, body: ExecutionGiven, key: str | None
) -> tuple[UUID, bool]:
    entry = await runs.entry(session, caller.workspace_id, workflow_id)
    if entry is None:
        raise errors.NotFound()
    if entry.status == "archived":
        raise errors.Conflict("An archived workflow starts no runs.", code="workflow_archived")
    if entry.version_id is None or entry.trigger is None:
        raise errors.Conflict("The workflow was never published.", code="not_published")
    await _check_lead(session, caller, body.lead_id)
    expect_data(entry.trigger, body.trigger_data)
    if key is not None and (earlier := await runs.by_key(session, caller.workspace_id, workflow_id, key)):
        return earlier, False
    try:
        made = await runs.queue(
            session,
            caller.workspace_id,
            workflow_id=workflow_id,
            version_id=entry.version_id,
            trigger_type="API",
            trigger_node_id=entry.trigger["id"],
            trigger_data=body.trigger_data,
            lead_id=body.lead_id,
            idempotency_key=key,
        )
    except IntegrityError as error:
        if isinstance(error.orig, UniqueViolation):
            raise errors.InFlight() from error
        raise
    return made, True


async def _check_lead(session: Session, caller: Caller, lead_id: UUID | None) -> None:
    if lead_id is not None and await leads.get(session, caller.workspace_id, lead_id) is None:
        detail = errors.Detail(code="unknown_lead", message="There is no such lead.", pointer="/lead_id")
        raise errors.Invalid(errors=[detail])


def expect_data(trigger: Mapping[str, Any], data: JsonObject) -> None:
    """Hold the data against the schema that the trigger has, if it has one."""
    schema = trigger.get("config", {}).get("inputSchema")
    if trigger["type"] != MANUAL or schema is None:
        return
    try:
        found = schemas.check(schema, data)
    except schemas.Unusable as error:
        message = f"The published `inputSchema` cannot be used: {error.message}. Mend it and publish."
        raise errors.Conflict(message, code="bad_input_schema") from error
    if found:
        raise errors.Invalid(
            "The trigger data does not follow the workflow's `inputSchema`.",
            errors=[
                errors.Detail(
                    code="schema_mismatch",
                    message=complaint.message,
                    pointer=pointer("trigger_data", *complaint.path),
                    field=str(complaint.path[-1]) if complaint.path else None,
                )
                for complaint in found
            ],
        )


async def start_soon(platform: Platform, workspace_id: UUID, execution_id: UUID) -> None:
    """Start an execution once the answer is out."""
    platform.start_soon(workspace_id, execution_id)
