"""Delivers an event: the message is written once, tried here, and a workflow goes on where that failed."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity
from temporalio.common import Priority, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from activities import deliveries
from activities.clients import payloads
from activities.errors import StepDeferred, StepFailed, StepPostponed
from activities.step import Step
from activities.world import World
from db import effects, webhooks
from db.webhooks import Claim, Message, Standing
from workflows import telling
from workflows.graph import step_key, summary
from workflows.messages import DeliveryInput, Outcome
from workflows.nodes.action_deliver_webhook import Config

PATIENCE = 4.0
"""Seconds that the run waits for the first attempts; what takes longer goes on without it."""
FULL_PATIENCE = 16.0
"""Seconds that a step waits which is there to wait: longer than a request may take."""

Claims = dict[UUID, Claim | None]
Standings = dict[UUID, Standing]
under_way: set[asyncio.Task[Standing]] = set()
"""Attempts that outlive their step; a set keeps them from being collected."""


async def run(step: Step, world: World) -> Outcome:
    """Write the message, try each endpoint once and see to it that somebody goes on trying."""
    config: Config = step.config
    message_id, claims = await _posted(step, world)
    standings = await _first_attempts(step, world, message_id, claims)
    if config.wait_for_delivery:
        _insist(standings)
    else:
        await _hand_over(step, world, message_id, standings)
    return Outcome(output={"message_id": message_id, "deliveries": _shown(standings)})


def simulate(step: Step) -> Outcome:
    """Write the message; which endpoints would get it is not looked up."""
    return Outcome(output={"message_id": message(step).id, "deliveries": []})


async def _posted(step: Step, world: World) -> tuple[str, Claims]:
    """Write the message once, and say who has it to deliver."""
    key, made, by = step.effect("webhook"), message(step), deliveries.token()
    found = await webhooks.post_once(world.database, key, made, endpoint_ids=_named(step), by=by)
    if found is not None:
        return made.id, found
    claims: Claims = {}
    async with world.database.workspace(step.workspace_id) as session:
        posted = await effects.once(session, key, lambda: _post(session, step, made, claims, by=by))
    # A repeat of the step finds no claims here: its attempts claim for themselves what is due.
    return posted["message_id"], claims or dict.fromkeys(map(UUID, posted["endpoints"]))


def _named(step: Step) -> list[UUID] | None:
    config: Config = step.config
    return None if config.endpoint_ids == "all" else config.endpoint_ids


async def _post(
    session: AsyncSession, step: Step, made: Message, claims: Claims, *, by: str
) -> dict[str, Any]:
    named = _named(step)
    claims |= await webhooks.post(session, step.workspace_id, made, endpoint_ids=named, by=by)
    missing = set(named or ()) - set(claims)
    if missing:
        listed = ", ".join(sorted(map(str, missing)))
        raise StepFailed("unknown_endpoint", f"endpointIds: this workspace has no endpoint {listed}.")
    return {"message_id": made.id, "endpoints": [str(each) for each in claims]}


def message(step: Step) -> Message:
    """Write the event as Standard Webhooks has it; its id comes from the effect's key."""
    config: Config = step.config
    key = "\x1f".join(map(str, step.effect("webhook").values.values()))
    payload = {
        "type": config.event_type,
        "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "data": config.payload,
    }
    return Message(
        id=f"msg_{sha256(key.encode()).hexdigest()[:32]}",
        event_type=config.event_type,
        payload=payload,
        body=json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":")),
        execution_id=step.given.execution_id,
    )


async def _first_attempts(step: Step, world: World, message_id: str, claims: Claims) -> Standings:
    """Try all endpoints side by side; one that is slow is left to itself and stands as pending."""
    tasks = {each: _begin(world, _delivery(step, each, message_id), held) for each, held in claims.items()}
    if tasks:
        waits = step.config.wait_for_delivery and not activity.info().is_local
        await asyncio.wait(tasks.values(), timeout=FULL_PATIENCE if waits else PATIENCE)
    return {each: _standing(task) for each, task in tasks.items()}


def _begin(world: World, delivery: DeliveryInput, held: Claim | None) -> asyncio.Task[Standing]:
    task = asyncio.create_task(deliveries.attempt(world, delivery, held))
    under_way.add(task)
    task.add_done_callback(_ended)
    return task


def _ended(task: asyncio.Task[Standing]) -> None:
    under_way.discard(task)
    if not task.cancelled() and task.exception() is not None:
        activity.logger.warning("delivery attempt raised", exc_info=task.exception())


def _standing(task: asyncio.Task[Standing]) -> Standing:
    """Read how an attempt ended; whatever kept it from ending, whoever comes next finds out from its row."""
    if not task.done() or task.cancelled() or task.exception() is not None:
        return Standing("pending", 1, wait=1)
    return task.result()


def _insist(standings: Standings) -> None:
    """Come again until every endpoint has the message or was given up; then a failure fails the step."""
    waits = [standing.wait for standing in standings.values() if standing.status == "pending"]
    if waits:
        raise StepPostponed(
            "delivery_pending", "The webhook is not delivered yet.", seconds=max(min(waits), 1)
        )
    lost = {each: standing for each, standing in standings.items() if standing.status != "delivered"}
    if lost:
        told = "; ".join(f"{each}: {standing.error or standing.status}" for each, standing in lost.items())
        raise StepFailed("delivery_failed", f"The webhook was not delivered: {told}")


async def _hand_over(step: Step, world: World, message_id: str, standings: Standings) -> None:
    """Start the workflow that goes on trying, for each endpoint that is still to be served."""
    for each, standing in standings.items():
        if standing.status == "pending":
            await _start(step, world, _delivery(step, each, message_id), seconds=standing.wait)


async def _start(step: Step, world: World, delivery: DeliveryInput, *, seconds: float) -> None:
    given = step.given
    name = f"delivery-{delivery.message_id}-{delivery.endpoint_id}"
    payloads.tell(world.temporal, name, delivery.workspace_id)
    try:
        await world.temporal.start_workflow(
            "DeliveryWorkflow",
            delivery,
            id=name,
            task_queue=world.task_queue,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            start_delay=timedelta(seconds=seconds),
            static_summary=summary(step_key(given.node.id, given.visit), given.node),
            static_details=telling.delivery_details(delivery, execution_id=given.execution_id),
            priority=Priority(fairness_key=str(step.workspace_id)),
        )
    except WorkflowAlreadyStartedError:
        return  # an earlier attempt of this step started it, and it has ended
    except RPCError as error:
        raise StepDeferred("temporal_unavailable", "The delivery could not be handed over.") from error


def _delivery(step: Step, endpoint_id: UUID, message_id: str) -> DeliveryInput:
    return DeliveryInput(workspace_id=step.workspace_id, endpoint_id=endpoint_id, message_id=message_id)


def _shown(standings: Standings) -> list[dict[str, Any]]:
    """Tell of each delivery what the run's rows shall hold."""
    return [
        {
            "endpoint_id": str(each),
            "status": standing.status,
            "attempt": standing.attempt,
            "http_status": standing.http_status,
            "error": standing.error,
        }
        for each, standing in standings.items()
    ]
