"""A step's attempts: how each went, and when the next one comes."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import ConfigDict

from api import errors
from api.auth import Caller, requires
from api.cursors import Page
from api.deps import OurPlatform, Platform
from api.live.attempts import Attempt, attempts
from api.live.describer import Pending, Unseen
from api.mirror.state import State
from api.schemas import Id
from db import live as stored
from workflows.graph import step_key

router = APIRouter(tags=["executions"])

Reader = Annotated[Caller, requires("executions:read")]


class AttemptPage(Page[Attempt]):
    """A step's attempts, oldest first; there is no second page."""

    model_config = ConfigDict(title="StepAttemptPage")


@router.get("/v1/executions/{execution_id}/steps/{step_id}/attempts", summary="List a step's attempts")
async def step_attempts_list(
    execution_id: Id, step_id: Id, caller: Reader, platform: OurPlatform
) -> AttemptPage:
    """Oldest first, while the step is still being tried, too: the last one then says when it is due, or who
    is at it. While Temporal does not answer, those that have ended are listed."""
    return AttemptPage(data=await _attempts(platform, caller, execution_id, step_id), next_cursor=None)


async def _attempts(
    platform: Platform, caller: Caller, execution_id: UUID, step_id: UUID
) -> Sequence[Attempt]:
    async with platform.database.workspace(caller.workspace_id) as session:
        step = await stored.step(session, caller.workspace_id, execution_id, step_id)
        if step is None:
            raise errors.NotFound()
        recorded = await stored.attempts(session, caller.workspace_id, step)
        is_open = step.status in ("running", "failed")
        stand = await stored.stand(session, caller.workspace_id, execution_id) if is_open else None
    if stand is None or not stand.is_open:
        return attempts(step, recorded)
    key = step_key(step.node_id, step.visit)
    opened = State.model_validate(stand.state or {}).steps.get(key)
    pending = await _pending(platform, execution_id, key)
    return attempts(step, recorded, pending, tried=opened.tried if opened else 0)


async def _pending(platform: Platform, execution_id: UUID, key: str) -> Pending | None:
    try:
        return (await platform.describer.look(execution_id)).pending.get(key)
    except Unseen:
        return None
