"""A workflow's draft graph, in React Flow's own JSON."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Header, Response
from pydantic import BaseModel, ConfigDict, Field

from api import drafts, errors, etags, submissions
from api.auth import Caller, requires
from api.deps import Session
from api.schemas import Id, JsonObject
from db import graphs
from workflows import reactflow
from workflows.problems import Problem, placed
from workflows.reactflow import Draft

router = APIRouter(tags=["workflows"])

EXAMPLE: dict[str, Any] = {
    "nodes": [
        {
            "id": "start",
            "type": "TRIGGER_FORM",
            "position": {"x": 0, "y": 0},
            "data": {"label": "Contact form", "config": {}},
        }
    ],
    "edges": [],
    "viewport": {"x": 0, "y": 0, "zoom": 1},
}
GraphBody = Annotated[
    dict[str, Any], Body(title="GraphInput", description="React Flow's document.", examples=[EXAMPLE])
]
ETAG = {"ETag": {"description": "Names this version of the draft.", "schema": {"type": "string"}}}


class GraphShown(BaseModel):
    """A draft; keys of React Flow that FlowTrack doesn't know come back as they were sent."""

    model_config = ConfigDict(title="Graph", json_schema_extra={"examples": [EXAMPLE]})

    nodes: list[JsonObject]
    edges: list[JsonObject]
    viewport: JsonObject


class GraphProblem(Problem):
    """Something to mend, by node and field."""

    model_config = ConfigDict(title="GraphProblem", frozen=True, from_attributes=True)


class GraphSaved(GraphShown):
    """A saved draft, and what has to be mended before it can be published."""

    model_config = ConfigDict(title="SavedGraph")

    problems: list[GraphProblem]


class GraphChecked(BaseModel):
    """What validation found."""

    model_config = ConfigDict(title="GraphCheck")

    valid: bool = Field(description="It can be published.")
    problems: list[GraphProblem]


@router.get(
    "/v1/workflows/{workflow_id}/graph",
    response_model=GraphShown,
    summary="Read the draft graph",
    responses={200: {"headers": ETAG}, 304: {"description": "Not changed."}},
)
async def graph_show(
    workflow_id: Id,
    caller: Annotated[Caller, requires("workflows:read")],
    session: Session,
    response: Response,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Any:
    """The draft with its ETag, which a save must name."""
    loaded = await graphs.load(session, caller.workspace_id, workflow_id)
    if loaded is None:
        raise errors.NotFound()
    headers = {"ETag": etags.of(loaded.version), "Cache-Control": "private, no-cache"}
    if etags.is_known(if_none_match, loaded.version):
        return Response(status_code=304, headers=headers)
    response.headers.update(headers)
    return reactflow.write(loaded.draft)


@router.put(
    "/v1/workflows/{workflow_id}/graph",
    response_model=GraphSaved,
    summary="Save the draft graph",
    responses={
        200: {"headers": ETAG},
        **errors.responses(errors.StaleVersion, errors.VersionRequired),
    },
)
async def graph_update(
    *,
    workflow_id: Id,
    body: GraphBody,
    caller: Annotated[Caller, requires("workflows:write")],
    session: Session,
    response: Response,
    if_match: Annotated[str | None, Header(description="The ETag of the version you changed.")] = None,
) -> Any:
    """Replaces the draft. What only stands in the way of publishing is told in `problems`, and saved."""
    saving = Saving(session, caller.workspace_id, workflow_id, response, body)
    return await saving.save(lambda: _read(body), if_match)


@router.post("/v1/workflows/{workflow_id}/graph/validate", summary="Check a graph without saving it")
async def graph_validate(
    workflow_id: Id,
    body: GraphBody,
    caller: Annotated[Caller, requires("workflows:read")],
    session: Session,
) -> GraphChecked:
    """All that stands in the way of publishing this graph, each by node and field."""
    if await graphs.load(session, caller.workspace_id, workflow_id) is None:
        raise errors.NotFound()
    reading = reactflow.read(body)
    if reading.draft is None:
        return GraphChecked(valid=False, problems=_told(_placed(reading.problems, body)))
    told = await drafts.problems(session, caller.workspace_id, workflow_id, reading.draft, publishing=True)
    found = _placed(told, body)
    return GraphChecked(valid=not any(p.severity == "error" for p in found), problems=_told(found))


@dataclass(frozen=True)
class Saving:
    """A save of one workflow's draft, and its answer."""

    session: Session
    workspace_id: UUID
    workflow_id: UUID
    response: Response
    document: Mapping[str, Any]
    """What the client sees of the draft: pointers lead into it."""

    async def save(self, read: Callable[[], Draft], if_match: str | None) -> dict[str, Any]:
        """Put a draft in place of the version that the caller names; tell what hinders its publishing."""
        expected = etags.required(if_match)
        ids = (self.workspace_id, self.workflow_id)
        loaded = await graphs.load(self.session, *ids)
        if loaded is None:
            raise errors.NotFound()
        draft = read()
        found = _placed(await drafts.problems(self.session, *ids, draft, publishing=False), self.document)
        _refuse([problem for problem in found if problem.severity == "error"])
        known = loaded.version if expected is None else expected
        try:
            version = await graphs.replace(self.session, *ids, draft, expected_version=known)
        except graphs.Stale as error:
            raise errors.StaleVersion() from error
        saved = await graphs.load(self.session, *ids)
        if version is None or saved is None:
            raise errors.NotFound()
        self.response.headers["ETag"] = etags.of(version)
        return {**reactflow.write(saved.draft), "problems": _told(found)}


def _placed(problems: Sequence[Problem], document: Mapping[str, Any]) -> list[Problem]:
    return [placed(problem, document) for problem in problems]


def _told(problems: Sequence[Problem]) -> list[GraphProblem]:
    return [GraphProblem.model_validate(problem) for problem in problems]


def _read(document: dict[str, Any]) -> Draft:
    reading = reactflow.read(document)
    if reading.draft is None:
        _refuse(_placed(reading.problems, document))
        raise errors.Invalid()
    return reading.draft


def _refuse(problems: list[Problem]) -> None:
    if problems:
        raise errors.Invalid("The graph has mistakes.", errors=submissions.details(problems))
