"""What is drawn on a graph: one run's way through it, or how a workflow's leads fared."""

from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api import errors
from api.auth import Caller, requires
from api.deps import ViewingSession
from api.live import overlays
from api.live.overlays import EdgeOverlay, NodeOverlay, RunNodeOverlay
from api.schemas import Id, Moment
from db import overlays as stored
from db import runs as orders
from workflows.graph import Graph

router = APIRouter(tags=["executions"])

Reader = Annotated[Caller, requires("executions:read")]
USUAL = timedelta(days=7)
LONGEST = timedelta(days=92)


class ExecutionOverlay(BaseModel):
    """One run's way through its graph."""

    model_config = ConfigDict(
        title="ExecutionOverlay",
        json_schema_extra={
            "examples": [
                {
                    "workflow_id": "01936f1e-7c3a-7bd0-8f53-2f6a1c3b9d10",
                    "version": 3,
                    "nodes": {
                        "mail": {"status": "completed", "visits": 1, "failed": 0, "duration_ms": 812.4}
                    },
                    "edges": {"e1": {"count": 1}},
                }
            ]
        },
    )

    workflow_id: UUID
    version: int = Field(description="Whose graph it is drawn on.")
    nodes: dict[str, RunNodeOverlay] = Field(description="By React Flow's id; every node of the version.")
    edges: dict[str, EdgeOverlay] = Field(
        description="By React Flow's id. An edge with a rule of its own counts when what it leads to ran."
    )


class WorkflowOverlay(BaseModel):
    """How the runs of some time went through a graph."""

    model_config = ConfigDict(
        title="WorkflowOverlay",
        populate_by_name=True,
        json_schema_extra={
            "examples": [
                {
                    "workflow_id": "01936f1e-7c3a-7bd0-8f53-2f6a1c3b9d10",
                    "version": 3,
                    "from": "2026-11-20T08:00:00Z",
                    "to": "2026-11-27T08:00:00Z",
                    "runs": 412,
                    "is_partial": False,
                    "nodes": {
                        "mail": {
                            "leads": 398,
                            "came": 405,
                            "waiting": 2,
                            "left": 401,
                            "failed": 2,
                            "skipped": 7,
                            "cancelled": 0,
                            "p50_ms": 640.2,
                            "p95_ms": 2210.0,
                        }
                    },
                    "edges": {"e1": {"count": 405}},
                }
            ]
        },
    )

    workflow_id: UUID
    version: int = Field(description="Whose graph it is drawn on.")
    since: datetime = Field(alias="from", description="Runs that were queued then, or later.")
    until: datetime = Field(alias="to", description="Runs that were queued before.")
    runs: int
    is_partial: bool = Field(description="There were more runs; the newest 20,000 are added up.")
    nodes: dict[str, NodeOverlay] = Field(description="By React Flow's id; every node of the version.")
    edges: dict[str, EdgeOverlay] = Field(
        description="By React Flow's id. An edge with a rule of its own counts when what it leads to ran."
    )


class OverlayQuery(BaseModel):
    """Which runs are added up."""

    model_config = ConfigDict(extra="forbid")

    since: Moment | None = Field(
        None, alias="from", description="Runs that were queued then, or later; seven days before `to`."
    )
    until: Moment | None = Field(
        None, alias="to", description="Runs that were queued before; now. At most 92 days after `from`."
    )
    version: int | None = Field(
        None,
        ge=1,
        le=2**31 - 1,
        description="Only its runs, drawn on its graph; without it all runs, drawn on the published version.",
    )

    def period(self) -> tuple[datetime, datetime]:
        """Give the time that is meant."""
        until = self.until or datetime.now(UTC)
        since = self.since or until - USUAL
        if since >= until:
            raise _wrong("empty_period", "`from` must be before `to`.", "Swap them, or leave one out.")
        if until - since > LONGEST:
            days = LONGEST.days
            raise _wrong("long_period", f"At most {days} days are added up.", "Ask for parts of the time.")
        return since, until


def _wrong(code: str, message: str, remedy: str) -> errors.Invalid:
    return errors.Invalid(errors=[errors.Detail(code=code, message=message, parameter="from", remedy=remedy)])


@router.get("/v1/executions/{execution_id}/overlay", summary="Draw an execution's way")
async def execution_overlay(execution_id: Id, caller: Reader, session: ViewingSession) -> ExecutionOverlay:
    """Status, visits and time of every node, and which edges were gone over; ids are those of the graph."""
    drawn = await stored.drawn_by_run(session, caller.workspace_id, execution_id)
    if drawn is None:
        raise errors.NotFound()
    graph = _graph(drawn)
    found = overlays.tallies(await stored.of_run(session, caller.workspace_id, execution_id))
    return ExecutionOverlay(
        workflow_id=drawn.workflow_id,
        version=drawn.version,
        nodes=overlays.of_run(graph, found),
        edges=overlays.edges(graph, found),
    )


@router.get(
    "/v1/workflows/{workflow_id}/overlay",
    summary="Draw how a workflow's runs went",
    responses=errors.responses(errors.Conflict),
)
async def workflow_overlay(
    workflow_id: Id, caller: Reader, session: ViewingSession, query: Annotated[OverlayQuery, Query()]
) -> WorkflowOverlay:
    """For every node how many came, left, failed and were skipped, how many wait there now, and how long it
    took; for every edge how many went over it. Of the last seven days, if nothing else is asked for."""
    since, until = query.period()
    drawn = await stored.drawn_by_workflow(session, caller.workspace_id, workflow_id, query.version)
    if drawn is None:
        entry = await orders.entry(session, caller.workspace_id, workflow_id)
        if query.version is not None or entry is None:
            raise errors.NotFound()
        raise errors.Conflict("The workflow was never published.", code="not_published")
    graph = _graph(drawn)
    asked = stored.Asked(workflow_id, since, until, drawn.version_id if query.version else None)
    runs = await stored.runs(session, caller.workspace_id, asked)
    found = overlays.tallies(await stored.of_workflow(session, caller.workspace_id, asked))
    waiting = await stored.waiting(session, caller.workspace_id, asked)
    return WorkflowOverlay(
        workflow_id=workflow_id,
        version=drawn.version,
        since=since,
        until=until,
        runs=runs,
        is_partial=runs >= stored.MOST_RUNS,
        nodes=overlays.of_workflow(graph, found, waiting),
        edges=overlays.edges(graph, found),
    )


def _graph(drawn: stored.Drawn) -> Graph:
    try:
        return Graph.model_validate(drawn.graph)
    except ValidationError as error:
        raise errors.GraphUnreadable() from error
