"""What the handlers are handed: configuration, the starter's shape, the platform, a transaction."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hmac import digest
from typing import Annotated, Any, Protocol
from urllib.parse import urlsplit
from uuid import UUID

import structlog
from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from activities.clients import addresses
from activities.clients.blobs import Blobs
from activities.clients.keyring import Keyring
from activities.clients.limits import Change, Standing
from api.allowance import Allowance
from api.auth import Authenticated
from api.desk import Desk
from api.live.describer import Describer, Nobody
from api.live.hub import Hub
from api.live.looks import Looks
from api.metrics import Metrics
from api.mirror.events import Event
from api.simulation.script import Course, Scripted
from api.traffic import Traffic
from db import starts
from db.forms import Form
from db.intake import Accepted, Submission
from db.session import Database
from db.starts import Rerun, Start
from workflows.graph import Graph
from workflows.messages import Command, ExecutionInput, Heard
from workflows.simulation import Plan

log = structlog.get_logger()

DECODES = 2_000
"""Payloads at once through the codec server, for each key: the Web UI asks for each that it shows."""
MAX_BACKGROUND = 400
"""Starts that wait for their turn here; all have theirs before a dispatcher takes them for left behind: also
while submissions are dense, when there is a turn every 20 ms and a dispatcher waits for 10 s."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything the API is told; it reads no environment."""

    public_url: str = "http://127.0.0.1:8000"
    environment: str = "development"
    master_key: bytes = field(repr=False)
    operator_token: str | None = field(default=None, repr=False)
    """Who shows it speaks for the installation and for no workspace; None: nobody does."""
    temporal_namespace: str = "default"
    temporal_ui_url: str | None = None
    task_queue: str = "flowtrack"
    allow_private_destinations: bool = False
    version: str = "0.1.0"
    name: str | None = None
    """This process, in the rows whose runs it is about to start."""

    @property
    def docs_url(self) -> str:
        """Say where problems are explained."""
        return f"{self.public_url.rstrip('/')}/docs"

    def derive(self, purpose: str) -> bytes:
        """Derive a key for one purpose, so that no two uses share one."""
        return digest(self.master_key, f"flowtrack/{purpose}".encode(), "sha256")

    @property
    def temporal_ui_origin(self) -> str | None:
        """Name the Temporal Web UI as its browsers name it to others."""
        parts = urlsplit(self.temporal_ui_url or "")
        return f"{parts.scheme}://{parts.netloc}" if parts.netloc else None

    def run_url(self, workflow_id: str, run_id: str | None = None) -> str | None:
        """Say where the Temporal Web UI shows a run."""
        if self.temporal_ui_url is None:
            return None
        base = (
            f"{self.temporal_ui_url.rstrip('/')}/namespaces/{self.temporal_namespace}/workflows/{workflow_id}"
        )
        return f"{base}/{run_id}/history" if run_id else base

    def destinations(self) -> addresses.Destination:
        """Say where tenants' webhooks may go."""
        return addresses.DEVELOPMENT if self.allow_private_destinations else addresses.PRODUCTION


Closed = Callable[[UUID, datetime | None], None]
"""Is told which execution closed, and when if that is known."""


def nobody_told(execution_id: UUID, at: datetime | None) -> None:
    """Stand in for a mirror where there is none."""


class Starter(Protocol):
    """Starts and cancels the Temporal workflows of executions."""

    @property
    def is_away(self) -> bool:
        """Tell whether Temporal did not answer lately."""

    async def start(self, workspace_id: UUID, execution_id: UUID) -> bool:
        """Start a queued execution if Temporal can be reached; never raise for an outage."""

    async def launch(self, start: Start) -> bool:
        """Start an execution that was ordered just now, without reading it; never raise for an outage."""

    async def cancel(self, execution_id: UUID, *, reason: str) -> bool:
        """Ask Temporal to cancel a run; False if it knows no such open run; raise in an outage."""

    async def command(self, execution_id: UUID, name: str, command: Command) -> bool:
        """Have a run carry an update out; False if there is no such open run; raise its refusal."""

    async def tell(self, execution_id: UUID, event: Heard) -> bool:
        """Tell a run of an event; False if there is no such open run."""

    async def check_rerun(self, rerun: Rerun, graph: Graph, trigger_id: str) -> None:
        """Raise Unkept if a rerun could not keep what it is to keep; raise in an outage."""

    async def is_reachable(self) -> bool:
        """Tell whether Temporal answers."""


class Planner(Protocol):
    """Keeps the schedules of workflows in line with their rows."""

    async def bring(self, workspace_id: UUID, workflow_id: UUID) -> bool:
        """Bring one workflow's schedule in line; never raise for an outage."""


class Simulator(Protocol):
    """Plays simulations."""

    async def play(
        self, given: ExecutionInput, plan: Plan, script: Sequence[Scripted]
    ) -> tuple[Course, list[list[Event]]]:
        """Play one to its end or its limits; return its course and the events of its runs."""


class Throttle(Protocol):
    """Limits how fast the vendors' task queues are worked off."""

    async def standings(self) -> list[Standing]:
        """Read every queue's limits and backlog; raise in an outage."""

    async def change(self, queue: str, wanted: Change) -> Standing:
        """Set a queue's limits and tell how it stands; raise in an outage, Unsupported by an old server."""


class Background:
    """Work that follows an answer without delaying it."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def has_room(self) -> bool:
        """Tell whether more work is taken."""
        return len(self._tasks) < MAX_BACKGROUND

    def spawn(self, work: Coroutine[Any, Any, Any], *, promised: bool = False) -> None:
        """Begin now and let the caller go on; above the bound only what was promised while there was room.

        The rest is left to the dispatcher.
        """
        if not self.has_room and not promised:
            work.close()
            return
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    async def drain(self, seconds: float) -> None:
        """Wait for what is under way, but not for ever."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("background work failed", error=type(error).__name__, exc_info=error)


@dataclass(frozen=True)
class Platform:
    """What the application is built from."""

    database: Database
    starter: Starter
    config: Config
    planner: Planner | None = None
    simulator: Simulator | None = None
    keyring: Keyring = field(kw_only=True)
    blobs: Blobs = field(kw_only=True)
    describer: Describer = field(default_factory=Nobody)
    hub: Hub = field(default_factory=Hub)
    throttle: Throttle | None = None
    metrics: Metrics = field(default_factory=Metrics)
    background: Background = field(default_factory=Background)
    traffic: Traffic = field(default_factory=Traffic)
    decodes: Allowance = field(default_factory=lambda: Allowance(burst=DECODES, per_second=DECODES / 40))
    closed: Closed = nobody_told
    viewing: Database = field(kw_only=True)
    """Where streams and overlays read: they must not keep a form waiting for a connection."""
    desk: Desk = field(init=False)
    looks: Looks = field(init=False)

    def __post_init__(self) -> None:
        """Set up the desk, and what viewers share."""
        object.__setattr__(self, "looks", Looks(self.viewing, self.describer))
        object.__setattr__(self, "desk", Desk(self.database, name=self.config.name))

    @property
    def starts_now(self) -> bool:
        """Tell whether runs that are ordered now are started from here; else the dispatcher does."""
        return self.background.has_room and not self.starter.is_away

    def launch(self, form: Form, submission: Submission, accepted: Accepted) -> None:
        """Start what a committed submission ordered; if that fails, the dispatcher finds the rows."""
        structlog.contextvars.bind_contextvars(workspace_id=str(form.workspace_id))
        start = starts.made(form, submission, accepted)
        if start is not None:
            structlog.contextvars.bind_contextvars(execution_id=str(start.execution_id))
        # A promise is kept, or taken back by the starter, also when the room is gone meanwhile.
        if start is not None and (accepted.is_promised or self.starts_now):
            self.background.spawn(self.starter.launch(start), promised=accepted.is_promised)
        self.start_soon(form.workspace_id, *accepted.reactions)

    def start_soon(self, workspace_id: UUID, *execution_ids: UUID) -> None:
        """Start committed executions; if that fails, the dispatcher finds their rows."""
        for execution_id in execution_ids:
            self.background.spawn(self.starter.start(workspace_id, execution_id))


async def platform_of(request: Request) -> Platform:
    """Hand out what the application was built from; a plain function would be run in a thread."""
    platform: Platform = request.app.state.platform
    return platform


OurPlatform = Annotated[Platform, Depends(platform_of)]


async def _transaction(platform: OurPlatform, caller: Authenticated) -> AsyncIterator[AsyncSession]:
    async with platform.database.workspace(caller.workspace_id) as session:
        yield session


async def _viewing(platform: OurPlatform, caller: Authenticated) -> AsyncIterator[AsyncSession]:
    async with platform.viewing.workspace(caller.workspace_id) as session:
        yield session


# The scope makes FastAPI commit before the answer goes out; its default commits afterwards.
Session = Annotated[AsyncSession, Depends(_transaction, scope="function")]
ViewingSession = Annotated[AsyncSession, Depends(_viewing, scope="function")]
"""For what reads much: it waits for others of its kind, and no form for it."""
