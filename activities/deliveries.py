"""Delivering webhook messages: each attempt is claimed, signed, sent and recorded (security.md §2)."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from hashlib import sha256
from uuid import UUID, uuid4

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.clients import http, signatures
from activities.clients.addresses import OutwardError
from activities.errors import StepFailed
from activities.world import World
from db import endpoints, secrets, webhooks
from db.webhooks import Claim, Result, Standing
from workflows.messages import DeliveryInput

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
SCHEDULE = (5 * SECOND, 5 * MINUTE, 30 * MINUTE, *(hours * HOUR for hours in (2, 5, 10, 14, 20, 24)))
"""How long after each failed attempt the next one comes; the last interval repeats."""
JITTER = 0.2
KEPT = 4096
"""Characters of an answer that the attempt's row keeps."""
GONE = 410


class Deliveries:
    """The activity of DeliveryWorkflow."""

    def __init__(self, world: World) -> None:
        self._world = world

    @activity.defn(name="deliver_webhook")
    async def deliver_webhook(self, delivery: DeliveryInput) -> str:
        """Make the attempt that is due; name the next one's delay, or return the delivery's last status."""
        try:
            standing = await attempt(self._world, delivery)
        except StepFailed as error:
            raise ApplicationError(error.message, type=error.type, non_retryable=True) from error
        if standing.status != "pending":
            return standing.status
        wait = timedelta(seconds=max(standing.wait, 0.1))
        raise ApplicationError(
            f"Attempt {standing.attempt} is to come.", type="delivery_pending", next_retry_delay=wait
        )


async def attempt(world: World, delivery: DeliveryInput, claimed: Claim | None = None) -> Standing:
    """Make a delivery's due attempt unless another worker is at it, and tell how the delivery stands then."""
    claimed = claimed or await _claim(world, delivery)
    if claimed is None:
        return await _standing(world, delivery)
    sent = await _send(world, delivery, claimed)
    return await _settle(world, delivery, claimed, sent)


async def _claim(world: World, delivery: DeliveryInput) -> Claim | None:
    workspace_id, endpoint_id = delivery.workspace_id, delivery.endpoint_id
    async with world.database.workspace(workspace_id) as session:
        return await webhooks.claim(session, workspace_id, endpoint_id, delivery.message_id, by=token())


def token() -> str:
    """Make the token of a claim."""
    return str(uuid4())


async def _standing(world: World, delivery: DeliveryInput) -> Standing:
    async with world.database.workspace(delivery.workspace_id) as session:
        found = await webhooks.standing(
            session, delivery.workspace_id, delivery.endpoint_id, delivery.message_id
        )
    if found is None:
        raise StepFailed("unknown_delivery", "There is no such message for this endpoint.")
    return found


@dataclass(frozen=True)
class _Sent:
    """What came of one request, and when the endpoint wants the next."""

    result: Result
    retry_after: timedelta | None = None


async def _send(world: World, delivery: DeliveryInput, claimed: Claim) -> _Sent:
    try:
        headers = _headers(world, delivery, claimed)
        reply = await world.http.send("POST", claimed.endpoint.url, headers, claimed.body.encode())
    except OutwardError as error:
        return _Sent(Result("failed", error=error.code))
    except (secrets.Unopenable, signatures.InvalidSecret):
        activity.logger.exception("an endpoint's secret cannot be used")
        return _Sent(Result("failed", error="secret_unusable"))
    result = Result(
        status="delivered" if 200 <= reply.status < 300 else "failed",
        http_status=reply.status,
        response_body=reply.body.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")[:KEPT],
        error=None if 200 <= reply.status < 300 else f"http_{reply.status}",
        duration_ms=reply.duration_ms,
    )
    return _Sent(result, retry_after(reply.headers.get("retry-after"), now=datetime.now(UTC)))


def _headers(world: World, delivery: DeliveryInput, claimed: Claim) -> dict[str, str]:
    """Sign the body; the endpoint's own headers are checked again, as the rules may have grown since."""
    http.check_headers(claimed.endpoint.headers)
    now = datetime.now(UTC)
    ours = {
        "content-type": "application/json",
        **signatures.headers(
            delivery.message_id,
            int(now.timestamp()),
            claimed.body.encode(),
            secrets=_secrets(world, delivery.workspace_id, claimed, now=now),
        ),
    }
    own = {k: v for k, v in claimed.endpoint.headers.items() if k.lower() not in ours}
    return {**own, **ours}


def _secrets(world: World, workspace_id: UUID, claimed: Claim, *, now: datetime) -> list[str]:
    """Open the endpoint's secret and, for a day after a rotation, the one before."""
    endpoint = claimed.endpoint
    sealed = {endpoints.SECRET: endpoint.secret_sealed}
    expires = endpoint.previous_secret_expires_at
    if endpoint.previous_secret_sealed is not None and expires is not None and expires > now:
        sealed[endpoints.PREVIOUS] = endpoint.previous_secret_sealed
    return [
        secrets.open_(
            value,
            key=world.master_key,
            table=endpoints.TABLE,
            column=column,
            row_id=endpoint.id,
            workspace_id=workspace_id,
        ).decode()
        for column, value in sealed.items()
    ]


async def _settle(world: World, delivery: DeliveryInput, claimed: Claim, sent: _Sent) -> Standing:
    result, last = sent.result, claimed.attempt >= claimed.endpoint.max_attempts
    gone = result.http_status == GONE
    again = None
    if result.status == "failed" and not last and not gone:
        again = delay_after(claimed.attempt, delivery, wanted=sent.retry_after)
    if not await _recorded(world, delivery, claimed, result, again):
        return await _standing(world, delivery)
    outcome = "to_retry" if again is not None else result.status
    world.metrics.deliveries.labels(outcome).inc()
    if result.duration_ms is not None:
        world.metrics.delivery_seconds.observe(result.duration_ms / 1000)
    if again is not None:
        wait = again.total_seconds()
        return Standing("pending", claimed.attempt + 1, result.http_status, result.error, wait=wait)
    return Standing(result.status, claimed.attempt, result.http_status, result.error)


async def _recorded(
    world: World, delivery: DeliveryInput, claimed: Claim, result: Result, again: timedelta | None
) -> bool:
    """Record an attempt, and disable an endpoint that is past hope; False if the claim was lost."""
    workspace_id, endpoint_id = delivery.workspace_id, delivery.endpoint_id
    if result.status == "delivered":
        return await webhooks.settle(world.database.single(workspace_id), workspace_id, claimed, result)
    async with world.database.workspace(workspace_id) as session:
        if not await webhooks.settle(session, workspace_id, claimed, result, again_after=again):
            return False
        is_gone = result.http_status == GONE
        reason = "gone" if is_gone else await webhooks.hopelessness(session, workspace_id, endpoint_id)
        if reason and await webhooks.disable(session, workspace_id, endpoint_id, reason=reason):
            world.metrics.given_up.inc()
    return True


def delay_after(number: int, delivery: DeliveryInput, *, wanted: timedelta | None = None) -> timedelta:
    """Return the pause after a failed attempt: ±20 %, the same whenever it is asked for.

    An endpoint's own wish (Retry-After) lengthens it, up to an hour or twice the pause.
    """
    base = SCHEDULE[min(number, len(SCHEDULE)) - 1]
    digest = sha256(f"{delivery.message_id} {delivery.endpoint_id} {number}".encode()).digest()
    share = int.from_bytes(digest[:4], "big") / 0xFFFFFFFF
    pause = base * (1 - JITTER + 2 * JITTER * share)
    return max(pause, min(wanted, max(2 * base, HOUR))) if wanted is not None else pause


def retry_after(header: str | None, *, now: datetime) -> timedelta | None:
    """Read Retry-After as seconds or as a date; None for a past, negative or unreadable one."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return timedelta(seconds=min(int(text[:9]), 10**8))
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    left = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now
    return left if left > timedelta(0) else None
