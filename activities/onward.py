"""Several steps in one activity: where only one step can follow, it follows at once (ADR 0028)."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from time import monotonic

from structlog.contextvars import bind_contextvars
from temporalio.exceptions import ApplicationError

from workflows.failures import told_by
from workflows.graph import step_key
from workflows.messages import ExecutionInput, Further, Outcome, StepError, StepInput
from workflows.nodetype import NodeType
from workflows.onward import asked, following
from workflows.run import Run

logger = logging.getLogger(__name__)

LONGEST = 1.0
"""Seconds after which no further step begins: whoever pauses or cancels the run is not kept waiting."""
HEAVIEST = 128 * 1024
"""Bytes after which none does: all of it is one event in history."""
TOO_SLOW = StepError(type="timed_out", message="The step did not end within its time limit.")

Act = Callable[[type[NodeType], StepInput], Awaitable[Outcome]]


async def carried_on(key: str, first: Outcome, start: ExecutionInput, act: Act) -> Outcome:
    """Carry out what follows a first step, as long as only one step can, and give it all back as one.

    What the run's own walk makes of it is the same: it takes the outcomes in one after the other.
    """
    if first.rests or first.items is not None:
        return first
    ended, done = monotonic(), list[tuple[float, Further]]()
    try:
        async for further in _following(key, first, start, act):
            done.append((monotonic(), further))
    except asyncio.CancelledError:
        # What is done is done: the run, which ends, is told of it.
        if task := asyncio.current_task():
            task.uncancel()
    except Exception:
        logger.exception("what follows a step is left to the run")
    if not done:
        return first
    then = [further.model_copy(update={"ago": since(at)}) for at, further in done]
    return first.model_copy(update={"then": tuple(then), "ago": since(ended)})


async def _following(
    key: str, outcome: Outcome | None, start: ExecutionInput, act: Act
) -> AsyncIterator[Further]:
    run, began, size = Run(start), monotonic(), 0
    while outcome is not None:
        run.finish(key, outcome)
        size += outcome.size
        following_key = following(run)
        if following_key is None or monotonic() - began > LONGEST or size > HEAVIEST:
            return
        key = following_key
        further = await _attempt(run.type_of(run.node_of(key)), asked(start, run, key), act)
        if further is None:
            return
        yield further
        outcome = further.outcome


def since(moment: float) -> float:
    """Count the milliseconds since a reading of the monotonic clock."""
    return round((monotonic() - moment) * 1000, 3)


async def _attempt(node_type: type[NodeType], given: StepInput, act: Act) -> Further | None:
    """Carry one step out; None for one that is to be tried alone, as it has done nothing that counts."""
    key, began = step_key(given.node.id, given.visit), monotonic()
    bind_contextvars(step=key)
    try:
        outcome = await within(act, node_type, given)
    except ApplicationError as error:
        if not node_type.fast_path:
            return None
        return Further(key=key, error=told_by(error), final=error.non_retryable, ms=since(began))
    if outcome.rests or outcome.items is not None:
        return None
    return Further(key=key, outcome=outcome)


async def within(act: Act, node_type: type[NodeType], given: StepInput) -> Outcome:
    """Run an attempt in its own time: Temporal's clock is set for all that the activity does."""
    seconds = node_type.fast_timeout.total_seconds() if node_type.fast_path else None
    try:
        async with asyncio.timeout(seconds):
            return await act(node_type, given)
    except TimeoutError:
        raise ApplicationError(TOO_SLOW.message, type=TOO_SLOW.type) from None
