"""Telling how a simulated run went: the mirror's own projection, and what its events say besides."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from api.mirror.events import Closed, Event, Recorded, RunEnded, Started
from api.mirror.pages import Pages
from api.mirror.projection import Projection
from api.mirror.rows import MASK, StepRow
from workflows import simulation
from workflows.graph import split_key
from workflows.messages import Outcome

SIDES = ("field", "operator", "left", "right", "note")


@dataclass
class Told:
    """How a run went."""

    execution: dict[str, Any] = field(default_factory=dict)
    """Columns of the execution's row."""
    steps: list[StepRow] = field(default_factory=list)
    mails: list[dict[str, Any]] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    waits: list[dict[str, Any]] = field(default_factory=list)
    started_at: datetime | None = None
    last_at: datetime | None = None

    @property
    def lasted(self) -> timedelta:
        """Say how much virtual time the run took."""
        if self.started_at is None or self.last_at is None:
            return timedelta(0)
        return self.last_at - self.started_at


class Teller:
    """Follows the runs of one execution from event to event."""

    def __init__(self, execution_id: UUID) -> None:
        self._pages = Pages(execution_id)
        self._projection = Projection(self._pages)
        self._told = Told()
        self._waits: dict[str, dict[str, Any]] = {}

    def tell(self, chapters: Sequence[Sequence[Event]]) -> Told:
        """Take in every run of the chain, and say what came of it."""
        for chapter in chapters:
            for event in chapter:
                self._take(event)
            last = chapter[-1] if chapter else None
            if isinstance(last, RunEnded) and last.next_run_id:
                projection = self._projection
                self._projection = Projection(
                    self._pages, run_id=last.next_run_id, state=projection.carried()
                )
        told, changes = self._told, self._pages.take()
        told.execution = changes.execution
        told.steps = sorted(changes.steps.values(), key=lambda row: row.step_number)
        told.waits = [self._ended(wait, changes.steps) for wait in self._waits.values()]
        return told

    def _take(self, event: Event) -> None:
        key = self._key_of(event)
        self._projection.apply([event])
        told = self._told
        told.last_at = max(told.last_at or event.at, event.at)
        if isinstance(event, Started):
            told.started_at = told.started_at or event.at
        elif key is not None and isinstance(event, Recorded | Closed) and isinstance(event.result, Outcome):
            self._explain(key, event, event.result)

    def _key_of(self, event: Event) -> str | None:
        if isinstance(event, Recorded):
            return event.key
        if isinstance(event, Closed):
            return self._projection.state.activities.get(event.scheduled_id)
        return None

    def _explain(self, key: str, event: Event, outcome: Outcome) -> None:
        """Read a step's mails, decisions and rest out of what it gave."""
        named = split_key(key)
        if named is None:
            return
        where = {"node_id": named[0], "visit": named[1]}
        hidden = named[0] in self._pages.hidden
        own = list(verdicts(outcome.output))
        for told in simulation.notes(outcome):
            if "mail" in told:
                self._told.mails.append(
                    {**where, "at": event.at, **mail(told["mail"], outcome, hidden=hidden)}
                )
            elif told["evaluation"] not in own:
                # A condition without a rule of its own tells those of its edges itself.
                about = {**where, "edge_id": told["edge_id"]}
                self._decide(about, told["evaluation"], hidden=hidden)
        for verdict in own:
            self._decide({**where, "edge_id": None}, verdict, hidden=hidden)
        if outcome.rests and key not in self._waits:
            due = outcome.wake_at
            self._waits[key] = {**where, "from": event.at, "due": due, "waits_for": list(outcome.waits_for)}

    def _decide(self, where: Mapping[str, Any], verdict: Mapping[str, Any], *, hidden: bool) -> None:
        for leaf in leaves(verdict):
            sides = {name: leaf.get(name) for name in SIDES}
            if hidden:
                sides |= {"left": MASK, "right": MASK}
            self._told.decisions.append({**where, **sides, "result": bool(leaf.get("holds"))})

    def _ended(self, wait: dict[str, Any], rows: Mapping[str, StepRow]) -> dict[str, Any]:
        row = rows.get(f"{wait['node_id']}:{wait['visit']}")
        until = row.finished_at if row is not None else None
        seconds = round((until - wait["from"]).total_seconds()) if until is not None else None
        return {**wait, "until": until, "virtual_seconds": seconds}


def mail(told: Mapping[str, Any], outcome: Outcome, *, hidden: bool) -> dict[str, Any]:
    """Put a mail together: its parts stand in the step's own settings."""
    given = outcome.input if isinstance(outcome.input, dict) else {}
    parts = {name: given.get(told[name]) if told.get(name) else None for name in ("html", "text")}
    whole = {"to": told["to"], "cc": told["cc"], "bcc": told["bcc"], "subject": told["subject"], **parts}
    if not hidden:
        return whole
    blank = {name: MASK if value else value for name, value in whole.items()}
    return {**blank, **{name: [MASK] if whole[name] else [] for name in ("to", "cc", "bcc")}}


def verdicts(output: Any) -> Iterator[Mapping[str, Any]]:
    """Find the evaluations that a decision's output tells, those of a switch's cases too."""
    if not isinstance(output, Mapping):
        return
    for told in (output, *(case for case in output.get("cases") or () if isinstance(case, Mapping))):
        evaluation = told.get("evaluation")
        if isinstance(evaluation, Mapping) and "holds" in evaluation:
            yield evaluation


def leaves(verdict: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the single rules of a verdict."""
    items = verdict.get("items")
    if not items:
        yield verdict
        return
    for item in items:
        yield from leaves(item)


def line(step: StepRow) -> str:
    """Write a step in one line, the same at every run: `check: completed → condition_true`."""
    name = step.node_id if step.visit == 1 else f"{step.node_id}:{step.visit}"
    error = (step.error or {}).get("type")
    why = step.skip_reason or (error if step.status == "failed" else None)
    way = f" → {step.handle}" if step.handle and step.handle != "default" else ""
    return f"{name}: {step.status}{f' ({why})' if why else ''}{way}"
