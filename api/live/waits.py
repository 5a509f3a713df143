"""What an open run waits for, step by step: its rows joined with what Temporal says. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from api.live.describer import Described, Pending
from api.mirror.state import OpenStep, State
from db.live import NodeFacts, Stand
from db.models import ExecutionStep
from workflows.graph import split_key, step_key
from workflows.loops import Loops
from workflows.messages import Outcome
from workflows.nodetype import Retry

MOST = 100
"""Waits that are shown of one run."""
Kind = Literal[
    "held", "paused", "retry", "queued", "activity", "approval", "event", "execution", "timer", "loop"
]


class WaitError(BaseModel):
    """Why an attempt failed."""

    model_config = ConfigDict(title="WaitError")

    type: str = Field(examples=["smtp_error"])
    message: str = Field(examples=["421 try again later"])


class Wait(BaseModel):
    """One thing that a run waits for."""

    model_config = ConfigDict(title="ExecutionWait", frozen=True)

    kind: Kind = Field(
        description="`held`: a failed step waits for retry or skip. `paused`: somebody paused it. `retry`: "
        "the next attempt is not due yet. `queued`: no worker has taken it yet. `activity`: a worker is at "
        "it. `approval`, `event`, `execution` (another run's end), `timer`: what it waits for. `loop`: its "
        "items."
    )
    step_id: UUID | None = Field(None, description="None while no step is known of it.")
    node_id: str | None = None
    node_type: str | None = None
    label: str | None = None
    visit: int | None = None
    since: datetime | None = None
    until: datetime | None = Field(
        None, description="When it ends by itself: the timer, the deadline, the attempt's time limit."
    )
    attempt: int | None = Field(None, description="The attempt under way, or the one to come.")
    max_attempts: int | None = None
    next_attempt_at: datetime | None = None
    worker: str | None = Field(
        None, description="Who is at it, as a digest of its name.", examples=["3f6a1c3b"]
    )
    last_error: WaitError | None = Field(None, description="Of the attempt before.")
    events: list[str] | None = Field(None, description="Types of events that are waited for.")
    execution_id: UUID | None = Field(None, description="The run whose end is waited for.")
    queue: str | None = Field(None, description="The task queue it waits in.")
    has_workers: bool | None = Field(
        None, description="Of something queued: whether a worker has asked for work there lately."
    )
    item: int | None = Field(None, description="Of a loop: the first item that has not ended, from 1.")
    items: int | None = Field(None, description="Of a loop: how many there are.")
    ended_items: int | None = Field(
        None, description="Of a loop that does several side by side: how many ended."
    )
    failed_items: int | None = None
    loop_node_id: str | None = Field(None, description="Of what is inside a loop over items: that loop.")
    loop_visit: int | None = None

    @property
    def name(self) -> str:
        """Name it as the UI does."""
        return self.label or self.node_id or "the run"


@dataclass(frozen=True)
class Scene:
    """A run's rows and, if Temporal answered, what it said."""

    stand: Stand
    described: Described | None = None

    @cached_property
    def state(self) -> State:
        """What the mirror keeps of the run."""
        return State.model_validate(self.stand.state or {})

    @cached_property
    def rows(self) -> Mapping[str, ExecutionStep]:
        """Open steps by key."""
        return {step_key(row.node_id, row.visit): row for row in self.stand.steps}

    @property
    def is_paused(self) -> bool:
        """Tell whether somebody paused the run, by FlowTrack or in Temporal."""
        ours = self.state.run is not None and self.state.run.paused
        return ours or (self.described is not None and self.described.is_paused)

    def waits(self) -> list[Wait]:
        """Tell what the run waits for, in the order in which its steps were decided."""
        return list(self._waits())[:MOST]

    def _waits(self) -> Iterator[Wait]:
        run = self.state.run
        for key, opened in self.state.steps.items():
            is_over = opened.failed and (run is None or key not in run.held)
            if not is_over and (place := self._place(key)) is not None:
                yield self._wait(key, opened, place)
        if self.described is None:
            return
        for key, pending in self.described.pending.items():
            # The mirror is a moment behind.
            if key not in self.state.steps and (place := self._place(key)) is not None:
                began = pending.scheduled_at or self.stand.run.queued_at
                yield self._pending(place, pending, OpenStep(number=0, decided_at=began))
        if not self.state.steps and not self.described.pending:
            yield from self._as_a_whole(self.described)

    def _as_a_whole(self, described: Described) -> Iterator[Wait]:
        """Tell what a run waits for none of whose steps is known."""
        if described.is_paused:
            yield Wait(kind="paused")
        elif described.task_since is not None:
            yield Wait(kind="queued", since=described.task_since, **self._queue(described.queue))

    def _place(self, key: str) -> "Place | None":
        parts = split_key(key)
        if parts is None:
            return None
        row, facts = self.rows.get(key), self.stand.nodes.get(parts[0])
        return Place(*parts, row=row, facts=facts, loop=self._loop_around(*parts))

    @cached_property
    def _loops(self) -> Loops | None:
        """Find the loops, where one over items is under way."""
        if self.state.run is None or not self.state.run.walk.loops:
            return None
        return Loops({node_id: facts.loop for node_id, facts in self.stand.nodes.items()}, self.stand.edges)

    def _loop_around(self, node_id: str, visit: int) -> tuple[str, int] | None:
        """Name the innermost loop over items that a step is in, and its visit."""
        for region in self._loops.around(node_id) if self._loops is not None else ():
            visit = region.visit_around(visit)
            if region.loop.kind == "each":
                return region.id, visit
        return None

    def _wait(self, key: str, opened: OpenStep, place: "Place") -> Wait:
        run, described = self.state.run, self.described
        if run is not None and key in run.held:
            return self._held(place, opened)
        if run is not None and key in run.walk.loops:
            loop = run.walk.loops[key]
            told = {"item": min(loop.ended + 1, loop.count), "items": loop.count, "failed_items": loop.failed}
            made = place.facts.loop if place.facts is not None else None
            side_by_side = {"ended_items": loop.ended} if made is not None and made.at_once > 1 else {}
            return place.wait("loop", opened, **told, **side_by_side)
        if run is not None and key in run.sleeping:
            return _resting(place, opened, run.sleeping[key])
        if described is not None and key in described.pending:
            return self._pending(place, described.pending[key], opened)
        return self._at_work(place, opened)

    def _held(self, place: "Place", opened: OpenStep) -> Wait:
        since = place.row.finished_at if place.row is not None else None
        return place.wait("held", opened, since=since, attempt=opened.attempt, last_error=opened.error)

    def _pending(self, place: "Place", pending: Pending, opened: OpenStep) -> Wait:
        """Read what Temporal says of an activity."""
        told = {
            "attempt": opened.tried + pending.attempt,
            "max_attempts": place.max_attempts,
            "last_error": pending.error.model_dump() if pending.error else opened.error,
        }
        if pending.state == "paused":
            return place.wait("paused", opened, **told)
        if pending.state == "scheduled":
            if pending.next_at is not None and pending.attempt > 1:
                due = {"next_attempt_at": pending.next_at, "until": pending.next_at}
                return place.wait("retry", opened, since=pending.ended_at, **due, **told)
            waiting = {"since": pending.next_at or pending.scheduled_at, **self._queue(pending.queue)}
            return place.wait("queued", opened, **waiting, **told)
        limit = None
        if pending.started_at is not None and pending.seconds is not None:
            limit = pending.started_at + timedelta(seconds=pending.seconds)
        at_work = {"since": pending.started_at, "until": limit, "worker": pending.worker}
        return place.wait("activity", opened, **at_work, **told)

    def _at_work(self, place: "Place", opened: OpenStep) -> Wait:
        """Tell of a step of which Temporal knows no activity: a worker does it on the way, or will."""
        if self.is_paused:
            return place.wait("paused", opened)
        described, error = self.described, opened.error
        if described is not None and described.task_since is not None:
            waiting = {"since": described.task_since, **self._queue(described.queue)}
            return place.wait("queued", opened, last_error=error, **waiting)
        tried = {"attempt": opened.attempt, "max_attempts": place.max_attempts, "last_error": error}
        if error is not None:
            return place.wait("retry", opened, **{**tried, "attempt": opened.attempt + 1})
        return place.wait("activity", opened, **tried)

    def _queue(self, queue: str) -> dict[str, object]:
        unpolled = self.described.unpolled if self.described is not None else frozenset()
        return {"queue": queue or None, "has_workers": queue not in unpolled}


@dataclass(frozen=True)
class Place:
    """A step's node and row, as far as they are known."""

    node_id: str
    visit: int
    row: ExecutionStep | None = None
    facts: NodeFacts | None = field(default=None)
    loop: tuple[str, int] | None = None
    """The loop over items that it is in."""

    @property
    def max_attempts(self) -> int:
        """How often the node is tried."""
        return Retry.model_validate(self.facts.retry if self.facts else {}).max_attempts

    def wait(self, kind: Kind, opened: OpenStep, **told: object) -> Wait:
        """Tell what the step waits for."""
        row, facts = self.row, self.facts
        label = (row.label if row is not None else facts.label if facts is not None else None) or None
        began = opened.started_at or (row.started_at if row is not None else None)
        return Wait.model_validate(
            {
                "kind": kind,
                "step_id": row.id if row is not None else None,
                "node_id": self.node_id,
                "node_type": row.node_type if row is not None else facts.type if facts is not None else None,
                "label": label,
                "visit": self.visit,
                "since": began,
                **(dict(zip(("loop_node_id", "loop_visit"), self.loop, strict=True)) if self.loop else {}),
                **{name: value for name, value in told.items() if value is not None},
            }
        )


def _resting(place: Place, opened: OpenStep, outcome: Outcome) -> Wait:
    """Read what a step that rests waits for; what it waits for is named as its node names it."""
    until, types = outcome.wake_at, list(outcome.waits_for)
    if any(type_.startswith("approval ") for type_ in types):
        return place.wait("approval", opened, until=until)
    other = next((type_ for type_ in types if type_.startswith("execution ")), None)
    if other is not None:
        return place.wait("execution", opened, until=until, execution_id=_id_in(other))
    if types:
        return place.wait("event", opened, until=until, events=types)
    return place.wait("timer", opened, until=until)


def _id_in(type_: str) -> UUID | None:
    try:
        return UUID(type_.removeprefix("execution "))
    except ValueError:
        return None
