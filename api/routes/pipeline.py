"""The board's numbers."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from api.auth import Caller, requires
from api.deps import Session
from api.schemas import Given, Shown
from db import pipeline

router = APIRouter(tags=["leads"])


class PipelineColumn(Shown):
    """One status of the board."""

    status: str = Field(examples=["NEW"])
    count: int = Field(examples=[12])
    new_this_week: int = Field(description="Created within the last seven days.", examples=[3])


class Pipeline(BaseModel):
    """Leads by status."""

    model_config = ConfigDict(title="Pipeline")

    data: list[PipelineColumn]
    total: int


class PipelineQuery(Given):
    """Which leads to count."""

    workflow_id: UUID | None = Field(None, description="Only those of this workflow.")


@router.get("/v1/pipeline", summary="Count leads by status")
async def pipeline_show(
    caller: Annotated[Caller, requires("leads:read")],
    session: Session,
    query: Annotated[PipelineQuery, Query()],
) -> Pipeline:
    """Every status that has leads, with how many are new this week. Deleted leads don't count."""
    columns = await pipeline.summary(session, caller.workspace_id, workflow_id=query.workflow_id)
    return Pipeline(
        data=[PipelineColumn.model_validate(column) for column in columns],
        total=sum(column.count for column in columns),
    )
