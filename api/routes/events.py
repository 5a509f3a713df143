"""Runs as they happen: server-sent events, of one run or of all runs of a workspace."""

from collections.abc import AsyncIterable, AsyncIterator
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from api import errors
from api.auth import Caller, requires, still_may
from api.deps import OurPlatform, Platform
from api.live import streams
from api.live.hub import TooManyViewers, Viewer
from api.live.positions import Positions
from api.live.streams import Watch
from api.schemas import Id
from db import feed
from db.models.executions import OPEN_STATUSES

router = APIRouter(tags=["executions"])

SCOPE = "executions:read"
Reader = Annotated[Caller, requires(SCOPE)]
LastEventId = Annotated[
    str | None,
    Header(description="The id of the last event that was taken in: the stream goes on behind it."),
]
REFUSALS = errors.responses(errors.TooManyStreams)
RUN_EXAMPLE = (
    'event: snapshot\ndata: {"execution": {"id": "01936f1e-…", "status": "running"}, "steps": [],'
    ' "earlier_steps": 0}\nid: q83vEjRWeJCrze…\n\n'
    'event: changes\ndata: {"execution": null, "steps": [{"node_id": "mail", "status": "running"}]}\n'
    "id: ASNFZ4mrze8SNF…\n\n"
    'event: end\ndata: {"execution": {"id": "01936f1e-…", "status": "completed"}}\n'
    "id: _ty6mHZUMhABI0…\n\n"
)
WORKSPACE_EXAMPLE = (
    'event: snapshot\ndata: {"executions": [{"id": "01936f1e-…", "status": "running"}]}\n'
    "id: Y0hQ2cRkM4…\n\n"
    'event: changes\ndata: {"executions": [{"id": "01936f1e-…", "status": "completed"}]}\n'
    "id: pJ8wZkXo1b…\n\n"
)


def _streamed(example: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {"text/event-stream": {"example": example}}}, **REFUSALS}


async def _watch_run(
    *,
    request: Request,
    execution_id: Id,
    caller: Reader,
    platform: OurPlatform,
    last_event_id: LastEventId = None,
) -> AsyncIterator[Watch]:
    """Let a caller watch a run, if there is anything to come."""
    # Watched from before the first look, so that nothing falls between them.
    try:
        with platform.hub.watching(caller.workspace_id, execution_id) as viewer:
            async with platform.viewing.workspace(caller.workspace_id) as session:
                found = await feed.run_status(session, caller.workspace_id, execution_id)
            if found is None:
                raise errors.NotFound()
            position = _positions(platform, caller, execution_id).read(last_event_id)
            if position is not None and position.is_end and found not in OPEN_STATUSES:
                raise errors.NothingMore
            # Not before the run is known to be the caller's: a look costs questions to Temporal.
            if found in OPEN_STATUSES:
                platform.hub.hint(execution_id)
            yield _watch(platform, viewer, request, caller)
    except TooManyViewers:
        raise errors.TooManyStreams() from None


async def _watch_workspace(request: Request, caller: Reader, platform: OurPlatform) -> AsyncIterator[Watch]:
    """Let a caller watch a workspace."""
    try:
        with platform.hub.watching(caller.workspace_id) as viewer:
            yield _watch(platform, viewer, request, caller)
    except TooManyViewers:
        raise errors.TooManyStreams() from None


def _watch(platform: Platform, viewer: Viewer, request: Request, caller: Caller) -> Watch:
    allowed = partial(still_may, request, caller, SCOPE)
    return Watch(platform.viewing, platform.looks, viewer, allowed)


def _positions(platform: Platform, caller: Caller, execution_id: UUID | None = None) -> Positions:
    return Positions(platform.config.derive("positions"), caller.workspace_id, execution_id)


@router.get(
    "/v1/executions/events",
    summary="Watch all executions",
    response_class=EventSourceResponse,
    responses=_streamed(WORKSPACE_EXAMPLE),
)
async def executions_events(
    caller: Reader,
    platform: OurPlatform,
    watch: Annotated[Watch, Depends(_watch_workspace)],
    last_event_id: LastEventId = None,
) -> AsyncIterable[ServerSentEvent]:
    """Server-sent events: `snapshot` with the newest hundred executions, then `changes` with those that are
    new or have another status.

    With `Last-Event-ID` the stream goes on where it broke off, also in another process and after a restart:
    nothing is left out. What the last second before told may come again: an event tells how an execution
    stands, so one that comes twice does no harm. Where more than 500 executions have changed meanwhile it
    begins with a new `snapshot`, after which anything may have changed that is not in it.
    """
    async for event in streams.of_workspace(watch, _positions(platform, caller), last_event_id):
        yield event


@router.get(
    "/v1/executions/{execution_id}/events",
    summary="Watch an execution",
    response_class=EventSourceResponse,
    responses={**_streamed(RUN_EXAMPLE), 204: {"description": "It has ended, and the client knows."}},
)
async def execution_events(
    *,
    execution_id: Id,
    caller: Reader,
    platform: OurPlatform,
    watch: Annotated[Watch, Depends(_watch_run)],
    last_event_id: LastEventId = None,
) -> AsyncIterable[ServerSentEvent]:
    """Server-sent events: `snapshot` with the execution and its steps, then `changes` with what is new of
    them, `live` with what it waits for, and at last `end`.

    Steps come without input and output. A snapshot has the newest 500, and says how many came before
    (`earlier_steps`). With `Last-Event-ID` the stream goes on behind that event; nothing is left out and
    nothing comes twice. After a reset, or where more has changed than one event holds, a new `snapshot`
    comes. Who comes back after the `end` gets 204, at which browsers cease.
    """
    positions = _positions(platform, caller, execution_id)
    async for event in streams.of_run(watch, execution_id, positions, last_event_id):
        yield event
