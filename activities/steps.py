"""How every node's activity runs: load, render, act, weigh the edges, measure; one translation of errors."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any

from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities import links
from activities import nodes as effects_by_node
from activities.containment import Escaped, TookTooLong, contained
from activities.errors import StepDeferred, StepFailed, StepPostponed
from activities.onward import carried_on, within
from activities.outcomes import measured, sealed, told, unreadable
from activities.step import Step, prepare
from activities.world import World
from db import leads
from workflows import nodes
from workflows.failures import QUEUE_LIMITED
from workflows.graph import step_key
from workflows.messages import Outcome, StepInput
from workflows.nodetype import NodeType, Refused, common
from workflows.run import UNTOUCHED

LONGEST_DELAY = 30 * 86400


class Steps:
    """The activities of all node types, over one world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def activities(self, queue: str | None = None) -> Sequence[Callable[..., Any]]:
        """Return what a worker of this queue carries out; fast paths run on the workflow's own too."""
        found = [self._activity(t) for t in nodes.types().values() if runs_on(t, queue)]
        if queue is None:
            found.append(self._weighing())
        return found

    def _activity(self, node_type: type[NodeType]) -> Callable[..., Awaitable[Outcome]]:
        async def run(given: StepInput) -> Outcome:
            # Another attempt is about this step alone.
            if given.onward is None or activity.info().attempt > 1:
                return await self._carry_out(node_type, given)
            first = await within(self._carry_out, node_type, given)
            key = step_key(given.node.id, given.visit)
            return await carried_on(key, first, given.onward, self._carry_out)

        return activity.defn(name=node_type.name)(run)

    def _weighing(self) -> Callable[..., Awaitable[Outcome]]:
        """Build the activity of nodes that the run could decide alone but for the rules on their edges."""

        async def run(given: StepInput) -> Outcome:
            node_type = nodes.types()[given.node.type]
            return await self._guarded(node_type, given, lambda step: self._pass(node_type, step))

        return activity.defn(name=UNTOUCHED)(run)

    async def _carry_out(self, node_type: type[NodeType], given: StepInput) -> Outcome:
        if node_type.decides and not node_type.asks:
            return await self._guarded(node_type, given, lambda step: self._decide(node_type, step))
        if activity.info().is_local and self._world.limits.is_limited(node_type.queue):
            # Nothing is tried yet: it goes on in the queue, which keeps the limit.
            raise ApplicationError(
                f"The queue {node_type.queue} is limited.",
                type=QUEUE_LIMITED,
                category=ApplicationErrorCategory.BENIGN,
            )
        effect = effects_by_node.effect_of(node_type)
        return await self._guarded(node_type, given, lambda step: effect(step, self._world))

    async def _guarded(
        self, node_type: type[NodeType], given: StepInput, act: Callable[[Step], Coroutine[Any, Any, Outcome]]
    ) -> Outcome:
        """Run one attempt; whatever goes wrong becomes an ApplicationError with a stable type."""
        began = perf_counter()
        try:
            lead = await self._fresh_lead(given)
            now = self._now(given)
            written = self._links(given, now)
            step = prepare(node_type, given, lead=lead, now=now, written=written)
            measured("input", step.shown)
            given_back = await contained(act(step), seconds=time_of(node_type, given))
            outcome = sealed(given_back, step, node_type, lead)
        except Exception as error:
            # Not chained: a failure's cause goes into history, and its text may hold what no history should.
            raise translated(self._read(error, given), given) from None
        return outcome.model_copy(update={"ms": round((perf_counter() - began) * 1000, 3)})

    def _read(self, error: Exception, given: StepInput) -> StepFailed | ApplicationError:
        """Say what went wrong; what nobody foresaw stands in the log."""
        if isinstance(error, StepFailed):
            return error
        if isinstance(error, Refused):
            return StepFailed(error.type, error.message)
        if isinstance(error, TookTooLong):
            return StepDeferred("timed_out", "The step did not end within its time limit.")
        if isinstance(error, ValidationError) and error.title == Outcome.__name__:
            return unreadable(error)
        if isinstance(error, PoolTimeout) or (isinstance(error, DBAPIError) and is_outage(error)):
            return ApplicationError("The database is out of reach.", type="database_unavailable")
        activity.logger.exception("step raised", exc_info=error)
        name = str(error) if isinstance(error, Escaped) else type(error).__name__
        return StepDeferred("error", name)

    def _now(self, given: StepInput) -> datetime:
        return datetime.now(UTC)

    def _links(self, given: StepInput, now: datetime) -> dict[str, str]:
        return links.of_step(given, self._world, now)

    async def _fresh_lead(self, given: StepInput) -> dict[str, Any] | None:
        """Read the lead again where the run slept or an earlier attempt failed: it may have changed since."""
        retried = activity.info().attempt > 1 or given.first_attempt > 1
        if given.lead_id is None or not (given.load_lead or (retried and "lead" in given.scope)):
            return None
        alone = self._world.database.single(given.workspace_id)
        return await leads.scope(alone, given.workspace_id, given.lead_id)

    async def _decide(self, node_type: type[NodeType], step: Step) -> Outcome:
        return node_type.decide(step.situation())

    async def _pass(self, node_type: type[NodeType], step: Step) -> Outcome:
        if not node_type.passes:
            raise StepFailed("input_too_large", "All that this node's templates name is too large to send.")
        return node_type.pass_through(step.config, step.given.trigger, step.given.inputs)


def runs_on(node_type: type[NodeType], queue: str | None) -> bool:
    """Tell whether a queue's worker carries out a node type."""
    if node_type.passes or node_type.never_runs:
        return False
    return node_type.queue == queue or (queue is None and node_type.fast_path)


def time_of(node_type: type[NodeType], given: StepInput) -> float | None:
    """Give the seconds that one attempt has; a fast path's time is Temporal's, which then goes on slowly."""
    if node_type.queue is not None and activity.info().is_local:
        return None
    return node_type.start_to_close(common(given.node.config)).total_seconds()


def translated(error: StepFailed | ApplicationError, given: StepInput) -> ApplicationError:
    """Turn a step's failure into Temporal's, final once the node's attempts are used up."""
    if isinstance(error, ApplicationError):
        return error
    type_, message = told(error)
    seconds = error.seconds if isinstance(error, StepDeferred) else None
    delay = timedelta(seconds=seconds) if seconds is not None and 0 <= seconds <= LONGEST_DELAY else None
    if isinstance(error, StepPostponed):
        return ApplicationError(message, type=type_, next_retry_delay=delay)
    attempt = given.first_attempt - 1 + activity.info().attempt
    allowed = common(given.node.config).retry.max_attempts
    final = not error.retryable or attempt >= allowed
    return ApplicationError(message, type=type_, non_retryable=final, next_retry_delay=delay)


def is_outage(error: DBAPIError) -> bool:
    """Tell a database that is away, starting or full from a statement that is wrong (SQLSTATE classes)."""
    state = getattr(error.orig, "sqlstate", None)
    return error.connection_invalidated or state is None or state[:2] in {"08", "53", "57", "58", "40", "55"}
