"""How fast vendors are called: for the installation's operator, and not in the document of its workspaces."""

from datetime import datetime
from hmac import compare_digest
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.security import HTTPAuthorizationCredentials
from pydantic import BaseModel, ConfigDict, Field
from temporalio.service import RPCError

from activities.clients.limits import FASTEST, LONGEST_REASON, QUEUES, Change, Limit, Standing, Unsupported
from api import errors
from api.auth import bearer
from api.deps import OurPlatform, Throttle
from api.schemas import Given, ShortText

router = APIRouter(tags=["operator"], include_in_schema=False)


async def operator(
    platform: OurPlatform, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> Throttle:
    """Let the operator in; where no token is configured there is nothing here."""
    expected = platform.config.operator_token
    if expected is None or platform.throttle is None:
        raise errors.NotFound()
    given = credentials.credentials if credentials else ""
    if not compare_digest(given.encode(), expected.encode()):
        raise errors.Unauthorized("The operator's token is needed: `Authorization: Bearer …`.")
    return platform.throttle


Operator = Annotated[Throttle, Depends(operator)]
PerSecond = Annotated[float, Field(ge=0, le=FASTEST, allow_inf_nan=False)]


class LimitsGiven(Given):
    """A queue's limits, in place of those before; what is null is not limited."""

    model_config = ConfigDict(title="QueueLimits")

    per_second: PerSecond | None = Field(None, description="Steps that begin; 0 holds all.", examples=[5])
    per_workspace: PerSecond | None = Field(None, description="The same of each workspace.", examples=[2])
    reason: ShortText = Field("", max_length=LONGEST_REASON, examples=["The provider throttles."])


class LimitShown(BaseModel):
    """One limit, and who set it."""

    model_config = ConfigDict(title="QueueLimit")

    per_second: float
    reason: str
    by: str
    since: datetime | None

    @classmethod
    def of(cls, limit: Limit | None) -> "LimitShown | None":
        """Show a limit, if there is one."""
        if limit is None:
            return None
        return cls(per_second=limit.per_second, reason=limit.reason, by=limit.by, since=limit.at)


class QueueShown(BaseModel):
    """A vendor's queue as it stands."""

    model_config = ConfigDict(title="Queue")

    queue: str
    whole: LimitShown | None
    each_workspace: LimitShown | None
    backlog: int
    oldest_seconds: float

    @classmethod
    def of(cls, standing: Standing) -> "QueueShown":
        """Show a queue."""
        return cls(
            queue=standing.queue,
            whole=LimitShown.of(standing.whole),
            each_workspace=LimitShown.of(standing.each_workspace),
            backlog=standing.backlog,
            oldest_seconds=standing.oldest.total_seconds(),
        )


class QueuesShown(BaseModel):
    """All vendors' queues."""

    model_config = ConfigDict(title="Queues")

    data: list[QueueShown]


@router.get("/operator/limits", summary="Show the limits of vendors' queues")
async def limits_list(throttle: Operator) -> QueuesShown:
    """Every queue's limits, and what waits in it."""
    try:
        found = await throttle.standings()
    except (RPCError, RuntimeError) as error:
        raise errors.Unavailable() from error
    return QueuesShown(data=[QueueShown.of(each) for each in found])


@router.put("/operator/limits/{queue}", summary="Limit a vendor's queue")
async def limits_set(queue: str, throttle: Operator, body: LimitsGiven) -> QueueShown:
    """Holds for all workers at once; first attempts, which go around the queue, follow in a few seconds."""
    return await _change(throttle, queue, body)


@router.delete("/operator/limits/{queue}", summary="Take a queue's limits away")
async def limits_delete(queue: str, throttle: Operator) -> QueueShown:
    """What waited goes on at once."""
    return await _change(throttle, queue, LimitsGiven())


async def _change(throttle: Throttle, queue: str, wanted: LimitsGiven) -> QueueShown:
    if queue not in QUEUES:
        raise errors.NotFound(f"There is no such queue; there are {', '.join(QUEUES)}.")
    change = Change(wanted.per_second, wanted.per_workspace, wanted.reason, by="operator, by HTTP")
    try:
        return QueueShown.of(await throttle.change(queue, change))
    except Unsupported as old:
        raise errors.Conflict(str(old), code="limits_unsupported") from old
    except (RPCError, RuntimeError) as error:
        raise errors.Unavailable() from error
