"""The projection: a run's events in, rows out. Pure, and carried on from plain data (design §7).

It runs the interpreter's own rules over the outcomes that history recorded, and so knows the triggers,
merges and skipped nodes that left no event. What it says never depends on how the events were cut into reads.
"""

from collections.abc import Iterable
from typing import Any

from api.mirror.events import (
    CancelAsked,
    Closed,
    Commanded,
    Ended,
    Event,
    PickedUp,
    Recorded,
    RunEnded,
    Scheduled,
    Signalled,
    Slept,
    Started,
    TakenUp,
    WasReset,
    Watched,
    Woke,
)
from api.mirror.kept import error_of, kept
from api.mirror.pages import Pages
from api.mirror.state import OpenStep, State, began, feeding, masked, waited
from workflows.failures import QUEUE_LIMITED
from workflows.messages import Begun, ExecutionInput, Outcome, StepError
from workflows.nodes.logic_approval import DECISIONS, event_of
from workflows.run import Dropped, Looped, Passed, Ready, Run, Skipped
from workflows.run import Event as Decided


class Projection:
    """Follows one run; what it finds it writes on its pages."""

    def __init__(
        self,
        pages: Pages,
        *,
        run_id: str = "",
        state: State | None = None,
        start: ExecutionInput | None = None,
    ) -> None:
        self.pages = pages
        self.run_id = run_id
        self.state = state or State()
        self.ended: RunEnded | None = None
        self._start = start
        self._run = Run(start, self.state.run) if start is not None else None
        if self._run is not None:
            self.pages.hidden = masked(self._run)

    def apply(self, events: Iterable[Event]) -> None:
        """Take in events, oldest first."""
        for event in events:
            self.pages.turn(event, self.run_id)
            for each in event.each() if isinstance(event, Recorded) else (event,):
                self.pages.go_on(each)
                self._apply(each)
                self._show_status()

    @property
    def run(self) -> Run:
        """Give the run as it stands after the last event, with all that it knows."""
        return self._live()

    def carried(self) -> State:
        """Give what the run that continues this one goes on from, besides its own first event."""
        keep = {"steps", "status", "reason", "cancel_cause"}
        return State.model_validate(self.state.model_dump(include=keep))

    @property
    def has_kin(self) -> bool:
        """Tell whether another run may wait for this one, or this one for others."""
        if self._start is None or self._run is None:
            return False
        types = (self._run.type_of(node) for node in self._run.graph.nodes)
        return self._start.awaited_by is not None or any(one.starts_runs for one in types)

    def frozen(self) -> dict[str, Any]:
        """Give the state as JSON, without what no later event needs: lead, variables, most outputs."""
        state = self.state
        if self._run is not None:
            needed = feeding(self._run)
            run = self._run.state
            outputs = {name: value for name, value in run.outputs.items() if name in needed}
            inner = {
                frame: {name: value for name, value in given.items() if name in needed}
                for frame, given in run.item_outputs.items()
            }
            blank: dict[str, Any] = {"lead": None, "vars": {}, "inbox": []}
            # Which loops are under way still counts, their items do not.
            blank["items"] = dict.fromkeys(run.items, ())
            lean = run.model_copy(update={**blank, "outputs": outputs, "item_outputs": inner})
            state = state.model_copy(update={"run": lean})
        return state.model_dump(mode="json", exclude_defaults=True)

    def _apply(self, event: Event) -> None:
        match event:
            case Started():
                self._begin_run(event)
            case TakenUp():
                self._take_up(event)
            case WasReset():
                self.run_id = event.run_id
                self.pages.execution(temporal_run_id=event.run_id)
                self.pages.note(f"Reset: {event.reason}" if event.reason else "Reset")
            case Commanded():
                self._command(event)
            case Signalled():
                self._live().hear(event.heard)
            case CancelAsked():
                self.state.cancel_cause = event.cause
            case Watched():
                self.state.is_told = True
            case RunEnded():
                self._end_run(event)
            case _:
                self._apply_to_step(event)

    def _apply_to_step(self, event: Event) -> None:
        match event:
            case Recorded():
                self._record(event)
            case Scheduled():
                self._schedule(event)
            case PickedUp():
                self._pick_up(event)
            case Closed():
                self._close(event)
            case Slept():
                self._sleep(event)
            case Woke():
                self._wake(event)

    # ── the run as a whole

    def _begin_run(self, event: Started) -> None:
        given = event.input
        self.run_id = event.run_id
        self.state.is_told = event.is_told
        self._start = given
        # The event is read more than once; the run changes its state in place.
        self._run = Run(given, given.state.model_copy(deep=True) if given.state else None)
        self.state.run = self._run.state
        self.state.run.began_at = self.state.run.began_at or event.at
        self.pages.hidden = masked(self._run)
        self.pages.execution(temporal_run_id=event.run_id)
        if not event.continued_from:
            self.pages.begin(event)
        if given.facts is not None:
            self._enter(event)

    def _take_up(self, event: TakenUp) -> None:
        """Begin a run that was admitted where it was started: that is what its first task does."""
        if self._start is not None and self._start.begun is not None and not self._live().decided:
            self._admit(event, self._start.begun)

    def _admit(self, event: Event, begun: Begun) -> None:
        self._live().admit(begun)
        self._enter(event)

    def _enter(self, event: Event) -> None:
        """Begin at the trigger, or carry on where a given state stands."""
        if self._start is None or self._run is None:
            return
        if self._start.state is None:
            self._follow(event, self._run.start())
            return
        if self._start.facts is None:
            # From the first event, not from what is left of it after another read.
            self._show_kept(event, Run(self._start, self._start.state.model_copy(deep=True)))
        state = self._run.state
        fresh = [key for key in (*state.walk.loops, *state.ready) if key not in self.state.steps]
        for number, key in enumerate(fresh, self._run.decided - len(fresh) + 1):
            self._open(event, key, number)

    def _show_kept(self, event: Event, run: Run) -> None:
        """Show a rerun's kept steps among its own, so that it reads as one story."""
        found = list(kept(run))
        for number, step in enumerate(found, 1):
            opened = OpenStep(number=number, decided_at=event.at, started_at=event.at)
            self._show(event, step.key, opened, step.status, **step.columns, finished_at=event.at)
        self.pages.note(f"{len(found)} steps kept from the earlier run")

    def _end_run(self, event: RunEnded) -> None:
        self.ended = event
        if event.next_run_id:
            return
        for key, step in self.state.steps.items():
            if not step.failed:
                self._show(event, key, step, "cancelled", error=step.error, finished_at=event.at)
        self.pages.end(event, self.state.cancel_cause if event.status == "cancelled" else "")
        self.state = State(status=event.status)

    def _show_status(self) -> None:
        if self._run is None or (self.ended is not None and not self.ended.next_run_id):
            return
        state, run = self.state, self._run.state
        resting = {*run.sleeping, *run.walk.loops}
        awake = [key for key, step in state.steps.items() if not step.failed and key not in resting]
        held = self._start is not None and self._start.holds_failures and bool(run.held)
        waits = not awake and bool(state.steps) and (held or not any(s.failed for s in state.steps.values()))
        status = "waiting" if waits or run.paused else "running"
        reason = "paused" if run.paused else "step_held" if held and waits else None
        if (status, reason) != (state.status, state.reason):
            state.status, state.reason = status, reason
            self.pages.execution(status=status, status_reason=reason)

    def _command(self, event: Commanded) -> None:
        """Follow what somebody had the run do, as the driver does."""
        run, key = self._live(), event.command.step
        if event.name in ("pause", "resume"):
            run.state.paused = event.name == "pause"
            self.pages.note(f"{event.name.capitalize()}d by {event.command.by}")
            return
        if event.name in DECISIONS:
            run.hear(event_of(event.command, approved=DECISIONS[event.name], at=event.at))
            return
        step = self.state.steps.get(key)
        if step is None or not step.failed:
            return
        node = run.node_of(key)
        if event.name == "retry_step":
            step.failed = False
            run.retry(key)
            self._show(event, key, step, "running", error=step.error)
            self.pages.note(f"{node.label or node.type} tried again by {event.command.by}", key=key)
        elif event.name == "skip_step":
            del self.state.steps[key]
            self._show(
                event,
                key,
                step,
                "skipped",
                skip_reason="skipped_by_user",
                error=step.error,
                finished_at=event.at,
            )
            self.pages.note(f"{node.label or node.type} skipped by {event.command.by}", key=key)
            self._follow(event, run.skip(key))

    # ── one step

    def _record(self, event: Recorded) -> None:
        """Read a local activity's marker, which may stand for several attempts, or for one of several."""
        if event.key == "begin":
            # A worker of an earlier release asks, too, where whoever started the run has admitted it.
            if isinstance(event.result, Begun) and self._start is not None and self._start.begun is None:
                self._admit(event, event.result)
            return
        step = self.state.steps.get(event.key)
        if step is None or event.cancelled:
            return
        step.attempt = max(step.attempt, event.attempt)
        if event.error is not None and (event.backs_off or self._goes_on_queued(event)):
            step.tried = event.attempt - (event.error.type == QUEUE_LIMITED)
            self._wait_for_retry(event, event.key, step, event.error)
            return
        self._settle(event, event.key, step, event)

    def _goes_on_queued(self, event: Recorded) -> bool:
        """Tell a failed first try from a failed step, as the driver does (`is_final`)."""
        run = self._live()
        return run.type_of(run.node_of(event.key)).queue is not None and not event.final

    def _wait_for_retry(self, event: Event, key: str, step: OpenStep, error: StepError) -> None:
        step.error = error.model_dump()
        step.started_at = step.started_at or step.decided_at
        self._show(event, key, step, "running", error=step.error)

    def _schedule(self, event: Scheduled) -> None:
        step = self.state.steps.get(event.key)
        if step is None:
            return
        self.state.activities[event.id] = event.key
        step.failed = False
        step.started_at = step.started_at or event.at
        self._show(event, event.key, step, "running", error=step.error)
        self.pages.narrate(self._live().node_of(event.key), event.key, "started")

    def _pick_up(self, event: PickedUp) -> None:
        key = self.state.activities.get(event.scheduled_id)
        step = self.state.steps.get(key) if key is not None else None
        if step is not None:
            step.attempt = step.tried + event.attempt

    def _close(self, event: Closed) -> None:
        key = self.state.activities.pop(event.scheduled_id, None)
        step = self.state.steps.get(key) if key is not None else None
        if key is not None and step is not None and not event.cancelled:
            self._settle(event, key, step, event)

    def _settle(self, event: Event, key: str, step: OpenStep, end: Ended) -> None:
        """Take in a step's result: it failed, sleeps on, or is done."""
        if end.error is not None:
            self._fail(event, key, step, end.error)
        elif isinstance(end.result, Outcome):
            step.started_at = step.started_at or began(event, step, end.result)
            self.pages.quote(self._live().node_of(key), key, end.result)
            if end.result.items is not None:
                self._show(event, key, step, "running", outcome=end.result)
                self._follow(event, self._live().finish(key, end.result))
                return
            if not end.result.rests:
                self._finish(event, key, step, end.result)
                return
            self._live().state.sleeping[key] = end.result
            self._show(event, key, step, "running", outcome=end.result)
            self.pages.narrate(self._live().node_of(key), key, waited(end.result))

    def _finish(self, event: Event, key: str, step: OpenStep, outcome: Outcome) -> None:
        del self.state.steps[key]
        self._show(event, key, step, "completed", outcome=outcome, finished_at=event.at)
        self.pages.narrate(self._live().node_of(key), key, "completed", level="INFO")
        self._follow(event, self._live().finish(key, outcome))

    def _fail(self, event: Event, key: str, step: OpenStep, error: StepError) -> None:
        run, told = self._live(), error.model_dump()
        step.started_at = step.started_at or step.decided_at
        outcome = run.recover(key, error)
        handle = ",".join(outcome.handles) if outcome else None
        self._show(event, key, step, "failed", error=told, handle=handle, finished_at=event.at)
        self.pages.fail(run.node_of(key), key, told)
        events = run.fail(key, error)
        if events is not None:
            del self.state.steps[key]
            self._follow(event, events)
            return
        step.failed, step.error = True, told
        held = self._start is not None and self._start.holds_failures
        if held and run.type_of(run.node_of(key)).recovers:
            run.state.held[key] = error

    def _sleep(self, event: Slept) -> None:
        # Not by the whole summary: a release may cut labels otherwise than the one that wrote it.
        named = [key for key in self.state.steps if event.summary.startswith(f"{key} | ")]
        if named:
            self.state.timers[event.id] = max(named, key=len)

    def _wake(self, event: Woke) -> None:
        key = self.state.timers.pop(event.timer_id, None)
        outcome = self._live().state.sleeping.get(key) if key and event.fired else None
        if key is not None and event.fired and key in self._live().state.walk.loops:
            self._follow(event, self._live().go_on(key))
        # What waits for events looks once more, and its marker tells what came of it.
        if key is not None and outcome is not None and not outcome.waits_for:
            self._finish(event, key, self.state.steps[key], outcome)

    # ── what follows from it

    def _follow(self, event: Event, decided: list[Decided]) -> None:
        """Number and show what the walk decided: each decision has the next number."""
        number = self._live().decided - sum(isinstance(d, Ready | Passed | Skipped) for d in decided)
        for decision in decided:
            if isinstance(decision, Looped | Dropped):
                self._end_open(event, decision)
                continue
            number += 1
            self._decide(event, decision, number)

    def _decide(self, event: Event, decision: Ready | Passed | Skipped, number: int) -> None:
        if isinstance(decision, Ready):
            self._open(event, decision.key, number)
            return
        step = OpenStep(number=number, decided_at=event.at)
        if isinstance(decision, Passed):
            step.started_at = event.at
            self._show(event, decision.key, step, "completed", outcome=decision.outcome, finished_at=event.at)
            self.pages.narrate(decision.node, decision.key, "completed")
            return
        self._show(event, decision.key, step, "skipped", skip_reason=decision.reason, finished_at=event.at)
        self.pages.narrate(decision.node, decision.key, f"skipped: {decision.reason}")

    def _end_open(self, event: Event, decision: Looped | Dropped) -> None:
        """Show the end of a step that did not end by itself: its loop is through, or its turn is over."""
        step = self.state.steps.pop(decision.key, None)
        if step is None:
            return
        if isinstance(decision, Dropped):
            self._show(event, decision.key, step, "cancelled", error=step.error, finished_at=event.at)
            return
        error = error_of(decision.node, decision.outcome.output)
        if error is not None:
            handle = ",".join(decision.outcome.handles)
            self._show(event, decision.key, step, "failed", error=error, handle=handle, finished_at=event.at)
            self.pages.fail(decision.node, decision.key, error)
            return
        self._show(event, decision.key, step, "completed", outcome=decision.outcome, finished_at=event.at)
        self.pages.narrate(decision.node, decision.key, "completed", level="INFO")

    def _open(self, event: Event, key: str, number: int) -> None:
        step = OpenStep(number=number, decided_at=event.at)
        self.state.steps[key] = step
        self._show(event, key, step, "running")

    def _show(
        self,
        event: Event,
        key: str,
        step: OpenStep,
        status: str,
        *,
        outcome: Outcome | None = None,
        **more: Any,
    ) -> None:
        self.pages.step(
            self._live().node_of(key),
            key,
            status=status,
            outcome=outcome,
            step_number=step.number,
            attempt=step.attempt,
            started_at=step.started_at or (step.decided_at if status == "running" else None),
            updated_at=event.at,
            **more,
        )

    def _live(self) -> Run:
        if self._run is None:
            raise LookupError("a run's first event comes first")
        return self._run
