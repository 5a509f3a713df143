"""What the projection reads of a run's history: plain events, free of Temporal's wire types."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from workflows.messages import Begun, Command, ExecutionInput, Heard, Outcome, StepError


@dataclass(frozen=True)
class Event:
    """Something that happened, where it stands in its run's history and when."""

    id: int
    at: datetime


@dataclass(frozen=True)
class Started(Event):
    """The run's first event."""

    run_id: str
    """The run that wrote this event; a reset copies it under another id."""
    continued_from: str
    input: ExecutionInput
    is_told: bool = False
    """Temporal tells the API of the close: it was asked to in the run that this one continues."""


@dataclass(frozen=True)
class TakenUp(Event):
    """A worker took up a workflow task."""


@dataclass(frozen=True)
class WasReset(Event):
    """All events before this one are copies from the run that was reset."""

    run_id: str
    base_run_id: str = ""
    """The run whose events from this place on count no more."""
    reason: str = ""


@dataclass(frozen=True)
class Ended(Event):
    """An activity's end: exactly one of `result`, `error` and `cancelled` is set."""

    result: Outcome | Begun | None = None
    error: StepError | None = None
    final: bool = False
    """Trying again would be pointless."""
    cancelled: bool = False


@dataclass(frozen=True)
class Recorded(Ended):
    """A local activity's marker."""

    key: str = ""
    attempt: int = 1
    backs_off: bool = False
    """It is going to be tried again: this is no end."""

    def each(self) -> Iterator["Recorded"]:
        """Tell it as one record for each step that the activity carried out."""
        first = self.result
        if not isinstance(first, Outcome) or not first.then:
            yield self
            return
        yield replace(self, at=self.at - timedelta(milliseconds=first.ago))
        for further in first.then:
            yield replace(
                self,
                key=further.key,
                at=self.at - timedelta(milliseconds=further.ago),
                attempt=1,
                result=further.outcome,
                error=further.error,
                final=further.final,
            )


@dataclass(frozen=True)
class Scheduled(Event):
    """An activity was put on its task queue."""

    key: str


@dataclass(frozen=True)
class PickedUp(Event):
    """A worker took the activity; written together with its end, it tells the last attempt."""

    scheduled_id: int
    attempt: int


@dataclass(frozen=True)
class Closed(Ended):
    """An activity that stood on a task queue ended."""

    scheduled_id: int = 0


@dataclass(frozen=True)
class Slept(Event):
    """A timer was started; its summary begins with the step's key."""

    summary: str


@dataclass(frozen=True)
class Woke(Event):
    """A timer fired, or was cancelled."""

    timer_id: int
    fired: bool


@dataclass(frozen=True)
class Commanded(Event):
    """An update was accepted: somebody paused the run, or decided about a step."""

    name: str
    command: Command


@dataclass(frozen=True)
class Signalled(Event):
    """The run was told of an event."""

    heard: Heard


@dataclass(frozen=True)
class CancelAsked(Event):
    """Somebody asked the run to end."""

    cause: str


@dataclass(frozen=True)
class Watched(Event):
    """Temporal was asked to tell the API of the close."""


@dataclass(frozen=True)
class RunEnded(Event):
    """The run's last event."""

    status: str
    reason: str | None = None
    output: Any = None
    error: dict[str, Any] | None = None
    next_run_id: str = ""
    was_reset: bool = False
