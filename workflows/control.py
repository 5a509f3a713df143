"""What others may have a running execution do: signals and updates; validators refuse what changes nothing.

The same can be sent from the Temporal Web UI; a refused update leaves no event (Temporal docs, Updates).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from pydantic import JsonValue, ValidationError
from temporalio import workflow
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.exceptions import ApplicationError

from workflows import telling
from workflows.failures import defect, failed_step
from workflows.messages import Command, ExecutionInput, Heard
from workflows.nodes.logic_approval import decided, event_of, event_type
from workflows.run import Event, Run

METADATA = "__temporal_workflow_metadata"
"""The query by which the Web UI asks for the current details and for what may be sent to a run."""
ABOUT_RUN = "Argument: none, or {{}}. {}"
ABOUT_STEP = 'Argument: {{"step": "<node id>:<visit>"}}. {}'
SHAPE = 'Send {"step": "<node id>:<visit>", "by": "<your name>", "comment": "…"}, each of them optional.'
DECISION = 'Argument: {{"step": "<node id>:<visit>", "by": "<your name>"}}. {}'


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


def commanded(handler: Callable[[Any, Command], None]) -> Callable[..., None]:
    """Have an update take what a person types, and say clearly what is wrong with it.

    Without this a wrong argument is refused by the converter, in words that only its author understands.
    """

    # The converter looks at these hints while the class is still being made: they must not name it.
    def run(self: Any, given: JsonValue = None) -> None:
        handler(self, asked(given))

    run.__name__, run.__doc__ = handler.__name__, handler.__doc__
    return run


def vetted(validator: Callable[[Any, Command], None]) -> Callable[..., None]:
    """Have a validator refuse what nobody reads as well.

    A handler must not: of a run that an older build accepted such an update for, a replay runs it again, and
    no validator.
    """

    def run(self: Any, given: JsonValue = None) -> None:
        unknown = sorted(given.keys() - Command.model_fields.keys()) if isinstance(given, dict) else []
        refuse_unless(not unknown, "bad_command", f"Unknown: {', '.join(unknown)}. {SHAPE}")
        validator(self, asked(given))

    run.__name__, run.__doc__ = validator.__name__, validator.__doc__
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
        self._metadata: Callable[[], WorkflowMetadata] | None = None

    @workflow.signal(name="event")
    @guarded
    def hear(self, event: Heard) -> None:
        """Take in an event; waits that began, and those that begin later, look at it."""
        self._run.hear(event)
        waiting = self._run.state.sleeping.items()
        self._news.update(key for key, outcome in waiting if event.type in outcome.waits_for)
        for types in self._looking.values():
            types.add(event.type)

    @workflow.update(description=ABOUT_RUN.format("Starts no more steps; those under way end."))
    @guarded
    @commanded
    def pause(self, command: Command) -> None:
        """Start no more steps; those under way end, sleeping ones sleep on."""
        self._run.state.paused = True

    @pause.validator
    @vetted
    def _may_pause(self, command: Command) -> None:
        refuse_unless(not self._run.state.paused, "already_paused", "The execution is paused already.")

    @workflow.update(description=ABOUT_RUN.format("Starts what a pause held back."))
    @guarded
    @commanded
    def resume(self, command: Command) -> None:
        """Start what a pause held back."""
        self._run.state.paused = False
        self._go_on()

    @resume.validator
    @vetted
    def _may_resume(self, command: Command) -> None:
        refuse_unless(self._run.state.paused, "not_paused", "The execution is not paused.")

    @workflow.update(description=ABOUT_STEP.format("Carries a step that is held by its failure out again."))
    @guarded
    @commanded
    def retry_step(self, command: Command) -> None:
        """Carry a held step out again."""
        self._run.retry(command.step)
        self._go_on()

    @workflow.update(description=ABOUT_STEP.format("Goes on from a held step as if it had done nothing."))
    @guarded
    @commanded
    def skip_step(self, command: Command) -> None:
        """Go on from a held step as if it had done nothing."""
        self._launch(self._run.skip(command.step))

    @retry_step.validator
    @vetted
    def _may_retry(self, command: Command) -> None:
        self._expect_held(command.step)

    @skip_step.validator
    @vetted
    def _may_skip(self, command: Command) -> None:
        self._expect_held(command.step)

    @workflow.update(description=DECISION.format("Decides for what an approval asks."))
    @guarded
    @commanded
    def approve(self, command: Command) -> None:
        """Decide for what an approval asks."""
        self._take_decision(command, approved=True)

    @workflow.update(description=DECISION.format("Decides against what an approval asks."))
    @guarded
    @commanded
    def reject(self, command: Command) -> None:
        """Decide against what an approval asks."""
        self._take_decision(command, approved=False)

    @approve.validator
    @vetted
    def _may_approve(self, command: Command) -> None:
        self._expect_asked(command)

    @reject.validator
    @vetted
    def _may_reject(self, command: Command) -> None:
        self._expect_asked(command)

    def _take_decision(self, command: Command, *, approved: bool) -> None:
        self.hear(event_of(command, approved=approved, at=workflow.now()))

    def _answer_the_web_ui(self) -> None:
        """Stand before the SDK's own answer: what only a looker pays for shall cost no step anything."""
        self._metadata = workflow.get_query_handler(METADATA)
        workflow.set_query_handler(METADATA, self._describe)

    def _describe(self) -> WorkflowMetadata:
        """Tell what can be sent to the run, and how far it is."""
        told = self._metadata() if self._metadata else WorkflowMetadata()
        told.current_details = telling.progress(
            self._run,
            failures=failed_step(self._failure),
            is_cancelled=workflow.cancellation_reason() is not None,
        )
        return told

    def _expect_held(self, key: str) -> None:
        held = self._run.state.held
        refuse_unless(key in held, "step_not_held", _unfit(key, "is not held by a failure", held))

    def _expect_asked(self, command: Command) -> None:
        key = command.step
        before = decided(self._run.state.inbox, key, command.by) if command.once else None
        word = "approved" if before else "rejected"
        refuse_unless(before is None, "already_decided", f"{command.by} has {word} already.", word)
        outcome = self._run.state.sleeping.get(key)
        asks = outcome is not None and event_type(key) in outcome.waits_for
        # Who was asked first may decide while others are still being asked.
        is_asking = key in self._looking and self._run.type_of(self._run.node_of(key)).asks
        asking = [k for k, slept in self._run.state.sleeping.items() if event_type(k) in slept.waits_for]
        message = _unfit(key, "does not wait for a decision", asking)
        refuse_unless(asks or is_asking, "step_not_asking", message)

    @abstractmethod
    def _go_on(self) -> None:
        """Start every step that is to run and has not begun."""

    @abstractmethod
    def _launch(self, events: list[Event]) -> None:
        """Carry on with what came of a step."""


def asked(given: JsonValue) -> Command:
    """Read an update's argument; raise ApplicationError `bad_command` if it is none."""
    try:
        return Command.model_validate(given)
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False, include_input=False)
        where = ".".join(map(str, first["loc"])) or "The argument"
        raise ApplicationError(
            f"{where}: {first['msg']}. {SHAPE}", type="bad_command", non_retryable=True
        ) from error


def _unfit(key: str, what: str, fit: Iterable[str]) -> str:
    """Say that an update about a step changes nothing, and for which steps it would."""
    begun = f"The step {key} {what}." if key else "No step is named."
    names = ", ".join(fit)
    return f"{begun} {f'It can be sent for: {names}.' if names else 'There is no step that it fits.'}"


def refuse_unless(allowed: bool, type_: str, message: str, *details: str) -> None:
    """Refuse an update."""
    if not allowed:
        raise ApplicationError(message, *details, type=type_, non_retryable=True)
