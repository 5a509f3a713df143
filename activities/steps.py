"""How every node's activity runs: load, render, act, weigh the edges, measure; one translation of errors."""

import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities import nodes as effects_by_node
from activities.errors import StepDeferred, StepFailed, StepPostponed
from activities.step import Step, prepare
from activities.world import World
from db import leads
from workflows import nodes
from workflows.graph import step_key
from workflows.messages import Outcome, StepInput
from workflows.nodetype import NodeType, Refused, Situation, common
from workflows.run import UNTOUCHED

LARGEST = {"input": 128 * 1024, "output": 256 * 1024}
"""Bytes; an outcome holds the input too."""


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
            return await self._carry_out(node_type, given)

        return activity.defn(name=node_type.name)(run)

    def _weighing(self) -> Callable[..., Awaitable[Outcome]]:
        """Build the activity of nodes that the run could decide alone but for the rules on their edges."""

        async def run(given: StepInput) -> Outcome:
            node_type = nodes.types()[given.node.type]
            return await self._guarded(node_type, given, lambda step: self._pass(node_type, step))

        return activity.defn(name=UNTOUCHED)(run)

    async def _carry_out(self, node_type: type[NodeType], given: StepInput) -> Outcome:
        if node_type.decides:
            return await self._guarded(node_type, given, lambda step: self._decide(node_type, step))
        effect = effects_by_node.effect_of(node_type)
        return await self._guarded(node_type, given, lambda step: effect(step, self._world))

    async def _guarded(
        self, node_type: type[NodeType], given: StepInput, act: Callable[[Step], Awaitable[Outcome]]
    ) -> Outcome:
        """Run one attempt; whatever goes wrong becomes an ApplicationError with a stable type."""
        began = perf_counter()
        try:
            lead = await self._fresh_lead(given)
            step = prepare(node_type, given, lead=lead, now=self._now(given))
            check_size("input", step.shown)
            outcome = complete(await act(step), step, lead)
        except StepFailed as error:
            raise translated(error, given) from error
        except Refused as error:
            raise translated(StepFailed(error.type, error.message), given) from error
        except (DBAPIError, PoolTimeout) as error:
            if isinstance(error, DBAPIError) and not error.connection_invalidated and not is_outage(error):
                raise translated(StepDeferred("error", type(error).__name__), given) from error
            raise ApplicationError("The database is out of reach.", type="database_unavailable") from error
        except Exception as error:
            activity.logger.exception("step raised", extra={"node": given.node.id})
            # Its text may hold what no history should: the log has it.
            raise translated(StepDeferred("error", type(error).__name__), given) from error
        return outcome.model_copy(update={"ms": round((perf_counter() - began) * 1000, 3)})

    def _now(self, given: StepInput) -> datetime:
        return datetime.now(UTC)

    async def _fresh_lead(self, given: StepInput) -> dict[str, Any] | None:
        """Read the lead again where the run slept or an earlier attempt failed: it may have changed since."""
        retried = activity.info().attempt > 1 or given.first_attempt > 1
        if given.lead_id is None or not (given.load_lead or (retried and "lead" in given.scope)):
            return None
        async with self._world.database.workspace(given.workspace_id) as session:
            return await leads.scope(session, given.workspace_id, given.lead_id)

    async def _decide(self, node_type: type[NodeType], step: Step) -> Outcome:
        given = step.given
        situation = Situation(
            step.config,
            step.scope,
            step.now,
            step.zone,
            edges=given.edges,
            ids=ids_of(given),
            key=step_key(given.node.id, given.visit),
            heard=given.heard,
            entered_at=given.entered_at,
        )
        return node_type.decide(situation)

    async def _pass(self, node_type: type[NodeType], step: Step) -> Outcome:
        return node_type.pass_through(step.config, step.given.trigger, step.given.inputs)


def ids_of(given: StepInput) -> dict[str, str]:
    """Name whom and what a decision is made for."""
    found = {"workflow": given.workflow_id, "execution": given.execution_id, "lead": given.lead_id}
    return {"node": given.node.id, **{name: str(value) for name, value in found.items() if value}}


def runs_on(node_type: type[NodeType], queue: str | None) -> bool:
    """Tell whether a queue's worker carries out a node type."""
    if node_type.passes or node_type.never_runs:
        return False
    return node_type.queue == queue or (queue is None and node_type.fast_path)


def complete(outcome: Outcome, step: Step, lead: dict[str, Any] | None) -> Outcome:
    """Add to an outcome what every step records, and refuse what history must not hold (design §5)."""
    completed = outcome.model_copy(
        update={
            "input": outcome.input if outcome.input is not None else step.shown,
            "conditions": step.conditions(outcome.output),
            "lead": outcome.lead if outcome.lead is not None else lead,
        }
    )
    check_size("output", completed.model_dump(mode="json"))
    return completed


def check_size(what: str, data: Any) -> None:
    """Refuse what is no JSON or too large for history; of the input, before anything is done with it."""
    try:
        size = len(json.dumps(data, allow_nan=False).encode())
    except (TypeError, ValueError) as error:
        raise StepFailed(f"{what}_not_json", f"The {what} is no JSON: {error}") from error
    if size > LARGEST[what]:
        raise StepFailed(f"{what}_too_large", f"The {what} has {size} bytes; the limit is {LARGEST[what]}.")


def translated(error: StepFailed, given: StepInput) -> ApplicationError:
    """Turn a step's failure into Temporal's, final once the node's attempts are used up."""
    seconds = error.seconds if isinstance(error, StepDeferred) else None
    delay = None if seconds is None else timedelta(seconds=seconds)
    if isinstance(error, StepPostponed):
        return ApplicationError(error.message, type=error.type, next_retry_delay=delay)
    attempt = given.first_attempt - 1 + activity.info().attempt
    allowed = common(given.node.config).retry.max_attempts
    final = not error.retryable or attempt >= allowed
    return ApplicationError(error.message, type=error.type, non_retryable=final, next_retry_delay=delay)


def is_outage(error: DBAPIError) -> bool:
    """Tell a database that is away, starting or full from a statement that is wrong (SQLSTATE classes)."""
    state = getattr(error.orig, "sqlstate", None)
    return state is None or state[:2] in {"08", "53", "57", "58", "40", "55"}
