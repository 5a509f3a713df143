"""An execution's steps: what each visit of a node got, gave and took."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import ConfigDict, Field

from api import errors
from api.auth import Caller, requires
from api.cursors import OurPaging, Page, Window
from api.deps import Session
from api.schemas import Id, JsonObject, Shown
from db import executions
from db import steps as stored

router = APIRouter(tags=["executions"])

Reader = Annotated[Caller, requires("executions:read")]


class StepShown(Shown):
    """One visit of one node."""

    model_config = ConfigDict(title="ExecutionStep", from_attributes=True)

    id: UUID
    step_number: int
    node_id: str = Field(description="React Flow's id.")
    node_type: str
    label: str | None
    visit: int
    status: Literal["running", "completed", "failed", "skipped", "cancelled"]
    skip_reason: str | None
    handle: str | None = Field(description="The way out that was taken.")
    attempt: int
    input_data: Any
    output_data: Any
    error: JsonObject | None = Field(description="{type, message}")
    started_at: datetime | None
    finished_at: datetime | None


class StepPage(Page[StepShown]):
    """Steps, in the order in which they were decided."""

    model_config = ConfigDict(title="ExecutionStepPage")


class StepQuery(Window):
    """How many steps to list."""

    limit: int = Field(100, ge=1, le=100)


@router.get("/v1/executions/{execution_id}/steps", summary="List an execution's steps")
async def execution_steps_list(
    execution_id: Id,
    caller: Reader,
    session: Session,
    paging: OurPaging,
    query: Annotated[StepQuery, Query()],
) -> StepPage:
    """One for each visit of a node, in the order in which they were decided."""
    if await executions.get(session, caller.workspace_id, execution_id) is None:
        raise errors.NotFound()
    cursors = paging.of(query)
    after = cursors.pair(int, UUID)
    found = await stored.page(session, caller.workspace_id, execution_id, limit=query.limit + 1, after=after)
    rows, following = cursors.page(found, "step_number", "id")
    return StepPage(data=[StepShown.model_validate(row) for row in rows], next_cursor=following)
