"""Where Temporal says that a run has closed; it is part of no public interface.

Any replica may be told: whoever hears of it has its own mirror look. Neither the body nor most headers are
read, the answer is the same whatever the run is, and nothing is looked up before the signature is ours.
"""

from fastapi import APIRouter, Request, Response

from activities.clients import callbacks
from api import errors
from api.deps import OurPlatform

router = APIRouter(include_in_schema=False)


@router.post(callbacks.PATH)
async def run_closed(request: Request, platform: OurPlatform) -> Response:
    """Take the hint that an execution has ended."""
    close = callbacks.read(platform.config.master_key, request.headers)
    if close is None:
        # Temporal gives a callback up that is answered so; it would repeat one answered 5xx for ever.
        raise errors.NotFound()
    platform.closed(close.execution_id, close.at)
    return Response(status_code=204)
