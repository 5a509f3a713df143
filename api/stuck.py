"""Finds open runs that are stuck: by their rows first, and of the suspects by what Temporal says (ADR 0021).

A run may rest for weeks and be well. It is stuck when it neither sleeps nor waits, is tried again nor moves.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.client import Client
from temporalio.service import RPCError

from api.live.describer import UNREACHABLE, Described, Describer, Temporals, Unseen
from api.metrics import Metrics
from api.mirror.history import Histories, UnknownRun
from db import stuck as rows
from db.session import Database
from db.stuck import Suspect

log = structlog.get_logger()

AWAY = (Unseen, RPCError, RuntimeError, OSError, DBAPIError, PoolTimeout)
AT_ONCE = 10
Reason = Literal["not_started", "no_worker", "task_fails", "not_mirrored", "overdue", "idle"]
REMEDIES: dict[Reason, str] = {
    "not_started": "Temporal does not have it: look for `start postponed` in the API's log",
    "no_worker": "no worker takes its tasks: start `flowtrack worker`, with the build that began it",
    "task_fails": "its workflow task fails again and again: roll the worker back to the code that began it",
    "not_mirrored": "Temporal has more than its rows tell: look for lines of the mirror in the API's log",
    "overdue": "a wait is over and nothing happened: look at it in the Temporal Web UI",
    "idle": "nothing is under way in Temporal: look at it in the Temporal Web UI",
}
"""Why a run is stuck, and what to do."""


@dataclass(frozen=True)
class Stuck:
    """An open run that will not go on by itself."""

    workspace_id: UUID
    execution_id: UUID
    since: datetime
    reason: Reason
    detail: str = ""


@dataclass(frozen=True)
class Limits:
    """What is too long, and how much is looked at."""

    silent_for: timedelta = timedelta(minutes=10)
    attempts: int = 3
    """Tries of a workflow task; the first retries come within seconds of each other."""
    batch: int = 500
    most: int = 100
    """Suspects that Temporal is asked about in one look; the others have their turn in the next ones."""


class Detector:
    """Looks for stuck runs again and again; any number of detectors may run."""

    def __init__(
        self,
        client: Client,
        database: Database,
        *,
        metrics: Metrics | None = None,
        hint: Callable[[UUID], None] = lambda execution_id: None,
        limits: Limits | None = None,
        every: float = 120.0,
    ) -> None:
        """Prepare; the mirror is told (`hint`) of what it seems to have missed."""
        self._describer, self._histories = Temporals(client), Histories(client)
        self._database = database
        self._metrics = metrics or Metrics()
        self._hint = hint
        self._limits = limits or Limits()
        self._every = every
        self._told: dict[UUID, str] = {}
        self._asked: set[UUID] = set()
        """Suspects that Temporal was asked about in this round."""
        self._stuck: dict[UUID, Stuck] = {}
        """As they were found last, while they are suspects."""
        self.unexamined = 0
        """Suspects that the last look left for the next ones."""

    async def run(self) -> None:
        """Look until cancelled; what is away says so elsewhere, louder."""
        while True:
            await asyncio.sleep(self._every)
            try:
                self.tell(await self.look())
            except AWAY as error:
                log.info("stuck runs not looked for", reason=type(error).__name__)

    async def look(self) -> list[Stuck]:
        """Look at every open run's rows, and ask of the suspects whose turn it is what Temporal says.

        Give all that are known to be stuck. Raises Unseen, RPCError or DBAPIError in an outage.
        """
        suspects = await self._suspects()
        for suspect in self._turn(suspects):
            self._stuck.pop(suspect.execution_id, None)
            self._stuck |= {one.execution_id: one for one in await self._examine(suspect)}
            self._asked.add(suspect.execution_id)
        self.unexamined = max(len(suspects) - self._limits.most, 0)
        return list(self._stuck.values())

    async def _suspects(self) -> list[Suspect]:
        found: list[Suspect] = []
        place: rows.Place | None = rows.BEGINNING
        while place is not None:
            async with self._database.door() as session:
                more, place = await rows.suspects(
                    session, silent_for=self._limits.silent_for, after=place, limit=self._limits.batch
                )
            found += more
        known = {one.execution_id for one in found}
        self._asked &= known
        self._stuck = {id_: one for id_, one in self._stuck.items() if id_ in known}
        return found

    def _turn(self, suspects: list[Suspect]) -> list[Suspect]:
        """Choose those whose last turn is longest ago: many that are well must not hide one that is not."""
        fresh = [one for one in suspects if one.execution_id not in self._asked]
        if len(fresh) < self._limits.most:
            again = [one for one in suspects if one.execution_id in self._asked]
            self._asked.clear()
            fresh += again
        return fresh[: self._limits.most]

    def tell(self, found: list[Stuck]) -> None:
        """Show how many are stuck, and say each once for each reason."""
        self._metrics.unexamined.set(self.unexamined)
        counts = Counter(one.reason for one in found)
        for reason in REMEDIES:
            self._metrics.stuck.labels(reason).set(counts[reason])
        for one in found:
            if self._told.get(one.execution_id) != one.reason:
                ids = {"workspace_id": str(one.workspace_id), "execution_id": str(one.execution_id)}
                remedy = REMEDIES[one.reason]
                since = one.since.isoformat()
                log.warning(
                    "run is stuck", **ids, reason=one.reason, since=since, detail=one.detail, remedy=remedy
                )
        self._told = {one.execution_id: one.reason for one in found}

    async def _examine(self, suspect: Suspect) -> list[Stuck]:
        reason = await reason_of(suspect, self._describer, self._limits)
        if reason is None:
            return []
        if reason == "not_mirrored":
            self._hint(suspect.execution_id)
        detail = await self._last_failure(suspect) if reason == "task_fails" else ""
        return [Stuck(suspect.workspace_id, suspect.execution_id, suspect.since, reason, detail)]

    async def _last_failure(self, suspect: Suspect) -> str:
        """Name the type of a run's last failed workflow task; only the first failure in a row is an event.

        What it says stands in history, encrypted: it may be people's words, and the log is no place for them.
        """
        with suppress(UnknownRun):
            for event in reversed((await self._histories.newest(suspect.execution_id)).events):
                if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
                    told = event.workflow_task_failed_event_attributes
                    named = told.failure.application_failure_info.type
                    return named or WorkflowTaskFailedCause.Name(told.cause)
        return ""


async def reason_of(suspect: Suspect, describer: Describer, limits: Limits) -> Reason | None:
    """Ask Temporal why a suspect is stuck; None for one that is well. Raises Unseen in an outage."""
    try:
        found = await describer.look(suspect.execution_id)
    except Unseen as unseen:
        if str(unseen) == UNREACHABLE:
            raise
        found = None
    return diagnose(suspect, found, limits, now=datetime.now(UTC))


async def examine(
    suspects: Sequence[Suspect], describer: Describer, *, limit: int
) -> list[tuple[Suspect, Reason | None]]:
    """Ask about suspects, some at once, until `limit` are found stuck or all were asked about."""
    limits, told, count = Limits(), list[tuple[Suspect, Reason | None]](), 0
    for start in range(0, len(suspects), AT_ONCE):
        some = suspects[start : start + AT_ONCE]
        reasons = await asyncio.gather(*(reason_of(one, describer, limits) for one in some))
        for one, reason in zip(some, reasons, strict=True):
            told.append((one, reason))
            count += reason is not None
            if count == limit:
                return told
    return told


def diagnose(suspect: Suspect, found: Described | None, limits: Limits, *, now: datetime) -> Reason | None:
    """Say why a suspect is stuck, in a word of REMEDIES; None for one that is well."""
    if found is None:
        return "not_started"
    if not found.is_open:
        return "not_mirrored"
    if found.is_paused:
        return None
    if found.task_attempt:
        return _of_task(found, limits, now)
    if found.pending:
        return _of_activities(found, limits, now)
    at_rest: dict[str, Reason] = {"queued": "not_mirrored", "waiting": "overdue"}
    return at_rest.get(suspect.status, "idle")


def _of_task(found: Described, limits: Limits, now: datetime) -> Reason | None:
    if found.task_attempt >= limits.attempts:
        return "task_fails"
    if found.task_since is None or now - found.task_since <= limits.silent_for:
        return None
    # Where workers ask for tasks there are more than they get done; that shows in the queue's backlog.
    return "no_worker" if found.queue in found.unpolled else None


def _of_activities(found: Described, limits: Limits, now: datetime) -> Reason | None:
    """One that is at work, held by an operator or to be tried again is reason enough not to move.

    So is one in a queue that workers ask: it is limited, or many wait.
    """
    pending = list(found.pending.values())
    due = [max(filter(None, (one.next_at, one.scheduled_at)), default=now) for one in pending]
    if any(one.state != "scheduled" for one in pending) or max(due) > now:
        return None
    alone = (at for one, at in zip(pending, due, strict=True) if one.queue in found.unpolled)
    return "no_worker" if now - min(alone, default=now) > limits.silent_for else None
