"""An execution's log."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import ConfigDict, Field

from api import errors
from api.auth import Caller, requires
from api.cursors import OurPaging, Page, Window
from api.deps import Session
from api.schemas import Filter, Id, Moment, Shown
from db import executions, live
from db import listing as stored

router = APIRouter(tags=["executions"])

Reader = Annotated[Caller, requires("executions:read")]
Level = Literal["DEBUG", "INFO", "WARN", "ERROR"]


class LogShown(Shown):
    """A line of an execution's log."""

    model_config = ConfigDict(title="ExecutionLog", from_attributes=True)

    id: UUID
    created_at: datetime
    log_level: Level
    message: str
    node_id: str | None
    visit: int | None
    attempt: int | None
    execution_step_id: UUID | None
    data: Any
    source: str = Field(
        description="`history`, `attempt`, or `superseded`: taken back when an operator reset the run."
    )


class LogPage(Page[LogShown]):
    """Log lines, newest first."""

    model_config = ConfigDict(title="ExecutionLogPage")


class LogQuery(Window):
    """Which lines to list; several filters narrow each other."""

    level: Level | None = Field(None, description="Lines of this level and of those above it.")
    scope: Literal["execution", "step"] | None = Field(
        None, description="`execution` for lines of the run itself, `step` for those of its steps."
    )
    node_id: Filter | None = Field(None, description="Lines of this node.")
    step_id: UUID | None = Field(None, description="Lines of this step.")
    search: Filter | None = Field(None, description="Part of the message, in capitals or not.")
    after: Moment | None = Field(None, description="That moment or later.")
    before: Moment | None = Field(None, description="Before that moment.")

    def lines(self) -> stored.Lines:
        """Say it in the words of the rows."""
        return stored.Lines(
            level=self.level,
            node_id=self.node_id,
            step_id=self.step_id,
            of_steps=None if self.scope is None else self.scope == "step",
            text=self.search,
            after=self.after,
            before=self.before,
        )


@router.get("/v1/executions/{execution_id}/logs", summary="List an execution's log lines")
async def execution_logs_list(
    execution_id: Id,
    caller: Reader,
    session: Session,
    paging: OurPaging,
    query: Annotated[LogQuery, Query()],
) -> LogPage:
    """Newest first, for 90 days. `level=WARN` lists warnings and errors."""
    execution = await executions.get(session, caller.workspace_id, execution_id)
    if execution is None:
        raise errors.NotFound()
    wanted = query.lines()
    if query.step_id is not None:
        step = await live.step(session, caller.workspace_id, execution_id, query.step_id)
        # Of a step that a reset took away only its id is left.
        wanted = replace(wanted, step_id=None, step=(step.node_id, step.visit)) if step else wanted
    cursors = paging.of(query)
    found = await stored.logs(
        session,
        caller.workspace_id,
        execution_id,
        wanted,
        limit=query.limit + 1,
        queued_at=execution.queued_at,
        older_than=cursors.pair(datetime, UUID),
    )
    rows, following = cursors.page(found, "created_at", "id")
    return LogPage(data=[LogShown.model_validate(row) for row in rows], next_cursor=following)
