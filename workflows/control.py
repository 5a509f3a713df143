"""What others may have a running execution do: signals and updates; validators refuse what changes nothing.

The same can be sent from the Temporal Web UI; a refused update leaves no event (Temporal docs, Updates).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from workflows.failures import defect
from workflows.messages import Command, ExecutionInput, Heard
from workflows.nodes.logic_approval import decided, event_of, event_type
from workflows.run import Event, Run


def guarded(handler: Callable[..., None]) -> Callable[..., None]:
    """Have a defect end the run visibly: what a handler raises has its task retried for ever."""

    @wraps(handler)
    def run(self: "Controlled", *args: Any) -> None:
        try:
            handler(self, *args)
        except Exception as error:
            workflow.logger.exception(
                "interpreter defect", extra={**self._start.about, "handler": handler.__name__}
            )
            self._failure = self._failure or defect(error)

    return run


class Controlled(ABC):
    """The handlers of an ExecutionWorkflow; they change the run's state and let it go on."""

    _start: ExecutionInput

    def __init__(self, run: Run) -> None:
        self._run = run
        self._news: set[str] = set()
        """Waiting steps that have something to look at."""
        self._failure: ApplicationError | None = None
        self._looking: dict[str, set[str]] = {}
        """Steps at work, and the types of what was heard meanwhile: it may have come too late for them."""

    @workflow.signal(name="event")
    @guarded
    def hear(self, event: Heard) -> None:
        """Take in an event; waits that began, and those that begin later, look at it."""
        self._run.hear(event)
        waiting = self._run.state.sleeping.items()
        self._news.update(key for key, outcome in waiting if event.type in outcome.waits_for)
        for types in self._looking.values():
            types.add(event.type)

    @workflow.update
    @guarded
    def pause(self, command: Command) -> None:
        """Start no more steps; those under way end, sleeping ones sleep on."""
        self._run.state.paused = True

    @pause.validator
    def _may_pause(self, command: Command) -> None:
        refuse_unless(not self._run.state.paused, "already_paused", "The execution is paused already.")

    @workflow.update
    @guarded
    def resume(self, command: Command) -> None:
        """Start what a pause held back."""
        self._run.state.paused = False
        self._go_on()

    @resume.validator
    def _may_resume(self, command: Command) -> None:
        refuse_unless(self._run.state.paused, "not_paused", "The execution is not paused.")

    @workflow.update
    @guarded
    def retry_step(self, command: Command) -> None:
        """Carry a held step out again."""
        self._run.retry(command.step)
        self._go_on()

    @workflow.update
    @guarded
    def skip_step(self, command: Command) -> None:
        """Go on from a held step as if it had done nothing."""
        self._launch(self._run.skip(command.step))

    @retry_step.validator
    def _may_retry(self, command: Command) -> None:
        self._expect_held(command.step)

    @skip_step.validator
    def _may_skip(self, command: Command) -> None:
        self._expect_held(command.step)

    @workflow.update
    @guarded
    def approve(self, command: Command) -> None:
        """Decide for what an approval asks."""
        self._take_decision(command, approved=True)

    @workflow.update
    @guarded
    def reject(self, command: Command) -> None:
        """Decide against what an approval asks."""
        self._take_decision(command, approved=False)

    @approve.validator
    def _may_approve(self, command: Command) -> None:
        self._expect_asked(command)

    @reject.validator
    def _may_reject(self, command: Command) -> None:
        self._expect_asked(command)

    def _take_decision(self, command: Command, *, approved: bool) -> None:
        self.hear(event_of(command, approved=approved, at=workflow.now()))

    def _expect_held(self, key: str) -> None:
        is_held = key in self._run.state.held
        refuse_unless(is_held, "step_not_held", f"The step {key} is not held by a failure.")

    def _expect_asked(self, command: Command) -> None:
        key = command.step
        before = decided(self._run.state.inbox, key, command.by) if command.once else None
        word = "approved" if before else "rejected"
        refuse_unless(before is None, "already_decided", f"{command.by} has {word} already.", word)
        outcome = self._run.state.sleeping.get(key)
        asks = outcome is not None and event_type(key) in outcome.waits_for
        # Who was asked first may decide while others are still being asked.
        is_asking = key in self._looking and self._run.type_of(self._run.node_of(key)).asks
        refuse_unless(asks or is_asking, "step_not_asking", f"The step {key} does not wait for a decision.")

    @abstractmethod
    def _go_on(self) -> None:
        """Start every step that is to run and has not begun."""

    @abstractmethod
    def _launch(self, events: list[Event]) -> None:
        """Carry on with what came of a step."""


def refuse_unless(allowed: bool, type_: str, message: str, *details: str) -> None:
    """Refuse an update."""
    if not allowed:
        raise ApplicationError(message, *details, type=type_, non_retryable=True)
