"""Why a run is where it is."""

from typing import Annotated

from fastapi import APIRouter

from api import errors
from api.auth import Caller, requires
from api.deps import OurPlatform
from api.live.sight import look
from api.live.why import Case, Why, why
from api.schemas import Id

router = APIRouter(tags=["executions"])

Reader = Annotated[Caller, requires("executions:read")]


@router.get("/v1/executions/{execution_id}/why", summary="Say why a run is where it is")
async def execution_why(execution_id: Id, caller: Reader, platform: OurPlatform) -> Why:
    """In one sentence, with a code and the facts behind it; from the rows alone while Temporal is away."""
    sight = await look(platform.database, platform.describer, caller.workspace_id, execution_id)
    if sight is None:
        raise errors.NotFound()
    return why(Case(sight.stand, sight.waits, sight.missing, is_paused=sight.scene.is_paused))
