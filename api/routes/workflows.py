"""Workflows: made, listed, changed, and moved between draft, active, paused and archived."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from api import drafts, errors, etags, submissions
from api.auth import Caller, requires
from api.cursors import OurPaging, Page, Window
from api.deps import OurPlatform, Session
from api.idempotency import Idempotent, Made
from api.planner import OurPlans
from api.schemas import Filter, Given, Id, JsonObject, LongText, Name, Settings, Shown
from db import fields, forms, graphs, hooks, versions, workflows
from db.models import Workflow
from workflows import publish, reactflow
from workflows.problems import placed

router = APIRouter(tags=["workflows"])

Reader = Annotated[Caller, requires("workflows:read")]
Writer = Annotated[Caller, requires("workflows:write")]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$", examples=["contact"])]
Status = Literal["draft", "active", "paused", "archived"]
CONFLICT = errors.responses(errors.Conflict)


class WorkflowShown(Shown):
    """A workflow."""

    model_config = ConfigDict(title="Workflow", from_attributes=True)

    id: UUID
    name: str = Field(examples=["Contact form"])
    description: str | None
    status: Status
    slug: str | None = Field(description="Its form is at /f/{workspace}/{slug}.", examples=["contact"])
    published_version: int | None = Field(description="The version that new runs start with.")
    settings: JsonObject
    template_id: UUID | None = Field(description="The workflow that this one was cloned from.")
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, row: Workflow, version: int | None) -> "WorkflowShown":
        """Show a stored workflow."""
        own = {name: getattr(row, name) for name in cls.model_fields if name != "published_version"}
        return cls(**own, published_version=version)


class InFlight(BaseModel):
    """Executions that are not over, on the version that they started with."""

    model_config = ConfigDict(title="InFlight")

    version: int
    executions: int


class WorkflowPublished(WorkflowShown):
    """A workflow whose draft was published."""

    model_config = ConfigDict(title="PublishedWorkflow", from_attributes=True)

    in_flight: list[InFlight] = Field(
        description="Runs under way, newest version first; they stay on theirs."
    )


class WorkflowPage(Page[WorkflowShown]):
    """Workflows, newest first."""

    model_config = ConfigDict(title="WorkflowPage")


class WorkflowQuery(Window):
    """Which workflows to list."""

    status: Status | None = None
    search: Filter | None = Field(None, description="Part of the name.")


class WorkflowGiven(Given):
    """A workflow to make."""

    model_config = ConfigDict(
        title="WorkflowInput", json_schema_extra={"examples": [{"name": "Contact form"}]}
    )

    name: Name
    description: LongText | None = None
    slug: Slug | None = Field(None, description="Left out: made from the name.")
    settings: Settings = Field(default_factory=dict)


class WorkflowChange(Given):
    """What to change; what is left out stays."""

    model_config = ConfigDict(
        title="WorkflowChange", json_schema_extra={"examples": [{"description": "For the new site"}]}
    )

    name: Name = ""
    description: LongText | None = None
    slug: Slug = ""
    settings: Settings = Field(default_factory=dict)


@router.get("/v1/workflows", summary="List workflows")
async def workflows_list(
    caller: Reader,
    session: Session,
    paging: OurPaging,
    query: Annotated[WorkflowQuery, Query()],
) -> WorkflowPage:
    """Newest first."""
    cursors = paging.of(query)
    before = cursors.position(UUID)
    found = await workflows.page(
        session,
        caller.workspace_id,
        limit=query.limit + 1,
        before=before,
        statuses=[query.status] if query.status else (),
        search=query.search,
    )
    rows, following = cursors.page(found, "id")
    return WorkflowPage(data=await _all(session, caller, rows), next_cursor=following)


@router.post(
    "/v1/workflows",
    status_code=201,
    response_model=WorkflowShown,
    summary="Make a workflow",
    responses=CONFLICT,
)
async def workflow_create(
    body: WorkflowGiven, caller: Writer, session: Session, once: Idempotent
) -> Response:
    """A draft without nodes. Give it a graph, then publish it."""

    async def make() -> Made:
        try:
            row = await workflows.create(session, caller.workspace_id, **body.model_dump())
        except workflows.SlugTaken as error:
            raise _slug_taken() from error
        return Made(WorkflowShown.of(row, None), 201, {"Location": f"/v1/workflows/{row.id}"})

    return await once.answer(session, make)


@router.get("/v1/workflows/{workflow_id}", summary="Read a workflow")
async def workflow_show(workflow_id: Id, caller: Reader, session: Session) -> WorkflowShown:
    """A workflow without its graph."""
    return await _shown(session, caller, await workflows.get(session, caller.workspace_id, workflow_id))


@router.patch("/v1/workflows/{workflow_id}", summary="Change a workflow", responses=CONFLICT)
async def workflow_update(
    workflow_id: Id, body: WorkflowChange, caller: Writer, session: Session
) -> WorkflowShown:
    """Name, description, slug and settings; the status has operations of its own."""
    given = body.model_dump(exclude_unset=True)
    try:
        row = await workflows.change(session, caller.workspace_id, workflow_id, given)
    except workflows.SlugTaken as error:
        raise _slug_taken() from error
    return await _shown(session, caller, row)


@router.delete("/v1/workflows/{workflow_id}", status_code=204, summary="Delete a workflow")
async def workflow_delete(workflow_id: Id, caller: Writer, session: Session, plans: OurPlans) -> None:
    """The workflow disappears and its slug is free again; its leads stay, and runs under way finish."""
    row = await workflows.get(session, caller.workspace_id, workflow_id)
    if row is None or not await workflows.remove(session, caller.workspace_id, workflow_id):
        raise errors.NotFound()
    plans.follow(workflow_id, row.trigger_type)


@router.post("/v1/workflows/{workflow_id}/publish", summary="Publish the draft", responses=CONFLICT)
async def workflow_publish(
    *,
    workflow_id: Id,
    caller: Writer,
    session: Session,
    platform: OurPlatform,
    plans: OurPlans,
    if_match: Annotated[
        str | None, Header(description="The draft's ETag, to publish only what was seen.")
    ] = None,
) -> WorkflowPublished:
    """Makes the draft the version that new runs start with, and the workflow active.

    Publishing what is published already makes no new version. Runs under way stay on theirs.
    """
    row = await workflows.lock(session, caller.workspace_id, workflow_id)
    loaded = await graphs.load(session, caller.workspace_id, workflow_id)
    if row is None or loaded is None:
        raise errors.NotFound()
    former = row.trigger_type
    expected = etags.required(if_match) if if_match else None
    if expected is not None and expected != loaded.version:
        raise errors.StaleVersion()
    found = await drafts.problems(session, caller.workspace_id, workflow_id, loaded.draft, publishing=True)
    document = reactflow.write(loaded.draft)
    wrong = [placed(problem, document) for problem in found if problem.severity == "error"]
    if wrong:
        raise errors.Invalid("The graph cannot be published yet.", errors=submissions.details(wrong))
    form = await fields.form(session, caller.workspace_id, workflow_id)
    try:
        await versions.publish(
            session,
            caller.workspace_id,
            workflow_id,
            publish.compile(loaded.draft),
            graph_version=loaded.version,
            drawn=versions.Drawn(loaded.draft, form),
            user_id=caller.user_id,
        )
    except workflows.WrongStatus as error:
        raise errors.Conflict(str(error), code="wrong_status") from error
    row = await workflows.get(session, caller.workspace_id, workflow_id)
    if row is not None and row.trigger_type == forms.HOOKS.trigger:
        await hooks.ensure(session, caller.workspace_id, workflow_id, key=platform.config.master_key)
    plans.follow(workflow_id, former, row.trigger_type if row else None)
    shown = await _shown(session, caller, row)
    counts = await versions.in_flight(session, caller.workspace_id, workflow_id)
    in_flight = [InFlight(version=version, executions=count) for version, count in counts.items()]
    return WorkflowPublished(**shown.model_dump(), in_flight=in_flight)


@router.post("/v1/workflows/{workflow_id}/pause", summary="Pause a workflow", responses=CONFLICT)
async def workflow_pause(workflow_id: Id, caller: Writer, session: Session, plans: OurPlans) -> WorkflowShown:
    """Its form goes on taking submissions, and their runs wait until it is resumed."""
    return await _move(session, caller, workflow_id, "paused", plans)


@router.post("/v1/workflows/{workflow_id}/resume", summary="Resume a workflow", responses=CONFLICT)
async def workflow_resume(
    workflow_id: Id, caller: Writer, session: Session, plans: OurPlans
) -> WorkflowShown:
    """Makes a paused or archived workflow active again; what waited starts."""
    return await _move(session, caller, workflow_id, "active", plans)


@router.post("/v1/workflows/{workflow_id}/archive", summary="Archive a workflow", responses=CONFLICT)
async def workflow_archive(
    workflow_id: Id, caller: Writer, session: Session, plans: OurPlans
) -> WorkflowShown:
    """Starts no new runs, and its form is gone; runs under way finish."""
    return await _move(session, caller, workflow_id, "archived", plans)


async def _move(
    session: Session, caller: Caller, workflow_id: UUID, status: workflows.Status, plans: OurPlans
) -> WorkflowShown:
    try:
        row = await workflows.move(session, caller.workspace_id, workflow_id, status)
    except workflows.WrongStatus as error:
        raise errors.Conflict(str(error), code="wrong_status") from error
    if row is not None:
        plans.follow(workflow_id, row.trigger_type)
    return await _shown(session, caller, row)


async def _shown(session: Session, caller: Caller, row: Workflow | None) -> WorkflowShown:
    if row is None:
        raise errors.NotFound()
    return (await _all(session, caller, [row]))[0]


async def _all(session: Session, caller: Caller, rows: Sequence[Workflow]) -> list[WorkflowShown]:
    numbers = await workflows.published_versions(session, caller.workspace_id, [row.id for row in rows])
    return [WorkflowShown.of(row, numbers.get(row.id)) for row in rows]


def _slug_taken() -> errors.Conflict:
    message = "Another workflow of this workspace has this slug."
    detail = errors.Detail(code="taken", message=message, pointer="/slug")
    return errors.Conflict(message, code="slug_taken", errors=[detail])
