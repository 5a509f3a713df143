"""What was published: listed, read, compared, brought back; and workflows made from others."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from api import errors
from api.auth import Caller, requires
from api.cursors import OurPaging, Page, Windowed
from api.deps import Session
from api.idempotency import Idempotent, Made
from api.routes import graphs as drafts
from api.routes.graphs import ETAG, GraphSaved, GraphShown
from api.routes.workflows import WorkflowShown
from api.schemas import Given, Id, JsonObject, Name, Shown
from db import clones, fields, graphs, versions, workflows
from db.models import WorkflowVersion
from workflows import diff, reactflow

router = APIRouter(tags=["workflows"])

Reader = Annotated[Caller, requires("workflows:read")]
Writer = Annotated[Caller, requires("workflows:write")]
Number = Annotated[int, Path(ge=1, le=2**31 - 1, description="A version's number.", examples=[1])]
Other = Annotated[
    str,
    Path(
        pattern=r"^(draft|[1-9][0-9]{0,8})$",
        description="A version's number, or `draft`.",
        examples=["draft"],
    ),
]


class VersionShown(Shown):
    """A published version."""

    model_config = ConfigDict(title="WorkflowVersion", from_attributes=True)

    version: int
    content_hash: str = Field(description="Equal for graphs that run alike.")
    published_at: datetime
    published_by: UUID | None
    in_flight: int = Field(0, description="Executions of this version that are not over.")


class VersionRead(VersionShown):
    """A published version with what was drawn and asked then."""

    model_config = ConfigDict(title="WorkflowVersionGraph", from_attributes=True)

    graph: GraphShown
    form_fields: list[JsonObject] = Field(
        description="The form as it stood; it takes effect without publishing."
    )


class VersionPage(Page[VersionShown]):
    """Versions, newest first."""

    model_config = ConfigDict(title="WorkflowVersionPage")


class ChangeShown(BaseModel):
    """One place that differs."""

    model_config = ConfigDict(title="GraphChange", from_attributes=True)

    pointer: str = Field(
        description="JSON pointer, from the node, edge or field.", examples=["/data/config/message"]
    )
    change: diff.Kind
    old: Any = Field(description="Null where there was nothing.")
    new: Any = Field(description="Null where there is nothing any more.")


class ChangedShown(BaseModel):
    """What stands on both sides and differs."""

    model_config = ConfigDict(title="GraphChanged", from_attributes=True)

    id: str = Field(description="Of the node or edge; of a form field its key.")
    changes: list[ChangeShown]


class DifferenceShown(BaseModel):
    """What came, went and changed, in the order in which it was drawn."""

    model_config = ConfigDict(title="GraphDifference", from_attributes=True)

    added: list[JsonObject]
    removed: list[JsonObject]
    changed: list[ChangedShown]


class VersionDiff(BaseModel):
    """How one version, or the draft, differs from another."""

    model_config = ConfigDict(title="WorkflowVersionDiff")

    before: int
    after: int | str = Field(description="A version's number, or `draft`.")
    nodes: DifferenceShown
    edges: DifferenceShown
    form_fields: DifferenceShown


class CloneGiven(Given):
    """What the clone is called."""

    model_config = ConfigDict(
        title="CloneInput", json_schema_extra={"examples": [{"name": "Contact form, Berlin"}]}
    )

    name: Name | None = Field(None, description="Left out: the other's name, with “(copy)”.")


@router.get("/v1/workflows/{workflow_id}/versions", summary="List a workflow's versions")
async def workflow_versions_list(
    workflow_id: Id, caller: Reader, session: Session, paging: OurPaging, window: Windowed
) -> VersionPage:
    """What was published, newest first, and how many runs are in flight on each."""
    if await workflows.get(session, caller.workspace_id, workflow_id) is None:
        raise errors.NotFound()
    cursors = paging.of(window)
    found = await versions.page(
        session, caller.workspace_id, workflow_id, limit=window.limit + 1, before=cursors.position(int)
    )
    rows, following = cursors.page(found, "version")
    counts = await versions.in_flight(session, caller.workspace_id, workflow_id)
    return VersionPage(data=[_listed(row, counts) for row in rows], next_cursor=following)


@router.get("/v1/workflows/{workflow_id}/versions/{version}", summary="Read a version")
async def workflow_version_show(
    workflow_id: Id, version: Number, caller: Reader, session: Session
) -> VersionRead:
    """The graph in React Flow's JSON, as it was drawn when it was published, and the form as it stood."""
    row = await _row(session, caller, workflow_id, version)
    counts = await versions.in_flight(session, caller.workspace_id, workflow_id)
    drawn = versions.drawn(row)
    return VersionRead(
        **_listed(row, counts).model_dump(),
        graph=GraphShown.model_validate(reactflow.write(drawn.draft)),
        form_fields=[field.stored() for field in drawn.form],
    )


@router.get("/v1/workflows/{workflow_id}/versions/{version}/diff/{other}", summary="Compare two versions")
async def workflow_version_diff(
    workflow_id: Id, version: Number, other: Other, caller: Reader, session: Session
) -> VersionDiff:
    """What the other one adds, removes and changes; positions count, the viewport does not."""
    before = versions.drawn(await _row(session, caller, workflow_id, version))
    after = await _drawn(session, caller, workflow_id, other)
    old, new = reactflow.write(before.draft), reactflow.write(after.draft)
    asked = [[field.stored() for field in side.form] for side in (before, after)]
    return VersionDiff(
        before=version,
        after=other if other == "draft" else int(other),
        nodes=_difference(diff.between(old["nodes"], new["nodes"])),
        edges=_difference(diff.between(old["edges"], new["edges"])),
        form_fields=_difference(diff.between(*asked, key="field_key")),
    )


@router.post(
    "/v1/workflows/{workflow_id}/versions/{version}/restore",
    response_model=GraphSaved,
    summary="Bring a version back into the draft",
    responses={
        200: {"headers": ETAG},
        **errors.responses(errors.StaleVersion, errors.VersionRequired),
    },
)
async def workflow_version_restore(
    *,
    workflow_id: Id,
    version: Number,
    caller: Writer,
    session: Session,
    response: Response,
    if_match: Annotated[str | None, Header(description="The ETag of the draft it replaces.")] = None,
) -> Any:
    """Replaces the draft's graph; publish it to have new runs start with it. The form stays as it is."""
    row = await _row(session, caller, workflow_id, version)
    draft = versions.drawn(row).draft
    saving = drafts.Saving(session, caller.workspace_id, workflow_id, response, reactflow.write(draft))
    return await saving.save(lambda: draft, if_match)


@router.post(
    "/v1/workflows/{workflow_id}/clone",
    status_code=201,
    response_model=WorkflowShown,
    summary="Make a workflow from another",
    responses=errors.responses(errors.Conflict),
)
async def workflow_clone(
    workflow_id: Id, body: CloneGiven, caller: Writer, session: Session, once: Idempotent
) -> Response:
    """A draft with the other's graph, form and settings; its address, token and secrets are its own."""

    async def make() -> Made:
        source = await workflows.get(session, caller.workspace_id, workflow_id)
        if source is None:
            raise errors.NotFound()
        name = body.name or f"{source.name[:193]} (copy)"
        row = await clones.make(session, caller.workspace_id, workflow_id, name=name)
        if row is None:
            raise errors.NotFound()
        return Made(WorkflowShown.of(row, None), 201, {"Location": f"/v1/workflows/{row.id}"})

    return await once.answer(session, make)


async def _row(session: Session, caller: Caller, workflow_id: UUID, version: int) -> WorkflowVersion:
    row = None
    if await workflows.get(session, caller.workspace_id, workflow_id) is not None:
        row = await versions.get(session, caller.workspace_id, workflow_id, version)
    if row is None:
        raise errors.NotFound()
    return row


async def _drawn(session: Session, caller: Caller, workflow_id: UUID, named: str) -> versions.Drawn:
    if named != "draft":
        return versions.drawn(await _row(session, caller, workflow_id, int(named)))
    loaded = await graphs.load(session, caller.workspace_id, workflow_id)
    if loaded is None:
        raise errors.NotFound()
    return versions.Drawn(loaded.draft, await fields.form(session, caller.workspace_id, workflow_id))


def _listed(row: versions.Listed | WorkflowVersion, counts: Mapping[int, int]) -> VersionShown:
    own = {name: getattr(row, name) for name in versions.Listed.__dataclass_fields__}
    return VersionShown(**own, in_flight=counts.get(row.version, 0))


def _difference(found: diff.Difference) -> DifferenceShown:
    return DifferenceShown.model_validate(found)
