"""ACTION_DELIVER_WEBHOOK: written once, signed, tried, handed over, retried on schedule, given up."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from sqlalchemy import func, update
from standardwebhooks import Webhook, WebhookVerificationError
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from uuid_utils.compat import uuid7
from werkzeug import Request, Response

from activities.deliveries import Deliveries
from activities.nodes import action_deliver_webhook
from db import endpoints, webhooks
from db.models import WebhookDelivery, WebhookEndpoint
from tests.activities.conftest import MASTER_KEY, Stage
from workflows.delivery import DeliveryWorkflow
from workflows.messages import DeliveryInput

pytestmark = pytest.mark.anyio

DELIVER = "ACTION_DELIVER_WEBHOOK"
QUALIFIED = {"eventType": "lead.qualified", "payload": {"email": "{{ lead.email }}", "note": "Grüße 🎉"}}
WAITING = {**QUALIFIED, "waitForDelivery": True}


@pytest.fixture(autouse=True)
async def _nothing_left_under_way() -> AsyncIterator[None]:
    """Let no attempt outlive its test."""
    yield
    for task in list(action_deliver_webhook.under_way):
        task.cancel()
    await asyncio.gather(*action_deliver_webhook.under_way, return_exceptions=True)


@pytest.fixture
def with_temporal(stage: Stage, temporal_client: Client) -> Stage:
    """Bring Temporal to the stage."""
    stage.world = replace(stage.world, temporal=temporal_client)
    return stage


async def endpoint(stage: Stage, target: HTTPServer, path: str = "/hook", **values: Any) -> endpoints.Made:
    """Make an endpoint at the target."""
    given = {"url": target.url_for(path), "subscribed_events": ["lead.qualified"], **values}
    async with stage.database.workspace(stage.place.workspace_id) as session:
        return await endpoints.create(session, stage.place.workspace_id, given, key=MASTER_KEY)


def answers(target: HTTPServer, *responses: Response, path: str = "/hook") -> list[Request]:
    """Answer with one response after the other, the last one for ever; return what arrives."""
    seen: list[Request] = []

    def answer(request: Request) -> Response:
        seen.append(request)
        return responses[min(len(seen), len(responses)) - 1]

    target.expect_request(path, method="POST").respond_with_handler(answer)
    return seen


async def make_due(stage: Stage) -> None:
    """Let the time pass that a next attempt waits."""
    async with stage.database.workspace(stage.place.workspace_id) as session:
        await session.execute(
            update(WebhookDelivery)
            .where(WebhookDelivery.status == "pending")
            .values(scheduled_at=func.now(), lock_acquired_at=None)
        )


async def rows(stage: Stage) -> list[WebhookDelivery]:
    """Read every attempt."""
    found: list[WebhookDelivery] = await stage.rows(WebhookDelivery)
    return found


async def deliver(stage: Stage, delivery: DeliveryInput) -> str:
    """Make the attempt that DeliveryWorkflow would make."""
    status: str = await ActivityEnvironment().run(Deliveries(stage.world).deliver_webhook, delivery)
    return status


async def pending(stage: Stage, delivery: DeliveryInput) -> ApplicationError:
    """Make an attempt after which another is to come."""
    with pytest.raises(ApplicationError) as failure:
        await deliver(stage, delivery)
    assert failure.value.type == "delivery_pending"
    assert not failure.value.non_retryable
    return failure.value


def first_of(stage: Stage, row: WebhookDelivery) -> DeliveryInput:
    """Name a row's delivery."""
    return DeliveryInput(
        workspace_id=stage.place.workspace_id,
        endpoint_id=row.webhook_endpoint_id,
        message_id=row.message_id,
    )


async def test_an_event_arrives_signed_as_the_reference_library_verifies(
    stage: Stage, httpserver: HTTPServer
):
    seen = answers(httpserver, Response("thanks", 204))
    made = await endpoint(stage, httpserver, headers={"X-Team": "sales", "Content-Type": "text/plain"})
    outcome = await stage.run(DELIVER, QUALIFIED)
    (request,) = seen
    told = Webhook(made.secret).verify(request.data, dict(request.headers))
    assert told["type"] == "lead.qualified"
    assert told["data"] == {"email": "ada@example.com", "note": "Grüße 🎉"}
    assert request.headers["X-Team"] == "sales"
    assert request.headers["Content-Type"] == "application/json"
    (row,) = await rows(stage)
    # What has arrived is not sent again: nobody needs its bytes, and who sent them is done.
    assert (row.body, row.locked_by, row.lock_acquired_at) == (None, None, None)
    assert row.payload == json.loads(request.data)
    assert (row.status, row.http_status_code, row.attempt_number) == ("delivered", 204, 1)
    assert row.execution_id == stage.execution_id
    assert row.attempted_at is not None
    assert row.duration_ms is not None
    assert outcome.output["message_id"] == request.headers["webhook-id"]
    assert outcome.output["deliveries"][0]["status"] == "delivered"


async def test_without_a_payload_everything_of_the_run_is_told(stage: Stage, httpserver: HTTPServer):
    seen = answers(httpserver, Response(status=200))
    await endpoint(stage, httpserver)
    await stage.run(DELIVER, {"eventType": "lead.qualified"})
    data = json.loads(seen[0].data)["data"]
    assert data["lead"]["email"] == "ada@example.com"
    assert data["trigger"] == {"budget": "$5000"}
    assert data["execution"] == {"id": str(stage.execution_id)}


async def test_a_repeated_step_posts_nothing_again(stage: Stage, httpserver: HTTPServer):
    seen = answers(httpserver, Response(status=200))
    await endpoint(stage, httpserver)
    first, second = await stage.run(DELIVER, QUALIFIED), await stage.run(DELIVER, QUALIFIED, attempt=2)
    assert first.output == second.output
    assert len(seen) == len(await rows(stage)) == 1


async def test_parallel_attempts_of_one_step_post_once(with_temporal: Stage, httpserver: HTTPServer):
    seen = answers(httpserver, Response(status=200))
    await endpoint(with_temporal, httpserver)
    await asyncio.gather(*(with_temporal.run(DELIVER, QUALIFIED) for _ in range(5)))
    assert len(seen) == len(await rows(with_temporal)) == 1


@pytest.mark.parametrize(
    ("subscribed", "arrives"),
    [
        (["lead.qualified"], True),
        (["lead.*"], True),
        (["*"], True),
        (["lead.created", "lead.lost"], False),
        (["lead"], False),
        ([], False),
    ],
)
async def test_who_subscribed_gets_it(
    stage: Stage, httpserver: HTTPServer, subscribed: list[str], arrives: bool
):
    seen = answers(httpserver, Response(status=200))
    await endpoint(stage, httpserver, subscribed_events=subscribed)
    outcome = await stage.run(DELIVER, QUALIFIED)
    assert bool(seen) == bool(outcome.output["deliveries"]) == arrives
    assert outcome.handles == ("default",)


async def test_named_endpoints_get_it_and_unknown_ones_are_an_error(stage: Stage, httpserver: HTTPServer):
    named, other = (answers(httpserver, Response(status=200), path=path) for path in ("/named", "/other"))
    made = await endpoint(stage, httpserver, "/named", subscribed_events=[])
    await endpoint(stage, httpserver, "/other")
    await stage.run(DELIVER, {**QUALIFIED, "endpointIds": [str(made.endpoint.id)]})
    assert (len(named), len(other)) == (1, 0)
    failure = await stage.fail(DELIVER, {**QUALIFIED, "endpointIds": [str(uuid7())]}, visit=2)
    assert (failure.type, failure.non_retryable) == ("unknown_endpoint", True)


async def test_a_disabled_endpoints_event_is_kept_unsent(stage: Stage, httpserver: HTTPServer):
    seen = answers(httpserver, Response(status=200))
    await endpoint(stage, httpserver, is_enabled=False, disabled_reason="gone")
    outcome = await stage.run(DELIVER, QUALIFIED)
    (row,) = await rows(stage)
    assert (row.status, row.error) == ("cancelled", "endpoint_disabled: gone")
    assert outcome.output["deliveries"][0]["status"] == "cancelled"
    assert seen == []


@pytest.mark.parametrize("status", [500, 404, 301, 307, 400, 429])
async def test_only_2xx_is_success(with_temporal: Stage, httpserver: HTTPServer, status: int):
    elsewhere = answers(httpserver, Response(status=200), path="/elsewhere")
    answers(httpserver, Response("no", status, headers={"Location": httpserver.url_for("/elsewhere")}))
    await endpoint(with_temporal, httpserver)
    outcome = await with_temporal.run(DELIVER, QUALIFIED)
    failed, following = await rows(with_temporal)
    assert (failed.status, failed.http_status_code, failed.error) == ("failed", status, f"http_{status}")
    assert failed.response_body == "no"
    assert (following.status, following.attempt_number) == ("pending", 2)
    assert (following.body, following.message_id) == (failed.body, failed.message_id)
    assert outcome.output["deliveries"][0]["status"] == "pending"
    assert elsewhere == []


async def test_what_failed_is_taken_over_by_a_workflow_once(with_temporal: Stage, httpserver: HTTPServer):
    answers(httpserver, Response(status=500))
    made = await endpoint(with_temporal, httpserver)
    outcome = await with_temporal.run(DELIVER, QUALIFIED)
    again = await with_temporal.run(DELIVER, QUALIFIED, attempt=2)
    assert again.output["message_id"] == outcome.output["message_id"]
    workflow_id = f"delivery-{outcome.output['message_id']}-{made.endpoint.id}"
    described = await with_temporal.world.temporal.get_workflow_handle(workflow_id).describe()
    assert described.workflow_type == "DeliveryWorkflow"
    assert described.task_queue == with_temporal.world.task_queue


async def test_the_workflow_delivers_in_the_end_with_one_id_and_fresh_timestamps(
    with_temporal: Stage, httpserver: HTTPServer
):
    seen = answers(httpserver, Response(status=500), Response(status=200))
    made = await endpoint(with_temporal, httpserver)
    world = with_temporal.world
    queue = world.task_queue
    async with (
        Worker(
            world.temporal,
            task_queue=queue,
            workflows=[DeliveryWorkflow],
            workflow_runner=UnsandboxedWorkflowRunner(),
        ),
        Worker(
            world.temporal,
            task_queue=f"{queue}-webhooks",
            activities=[Deliveries(world).deliver_webhook],
        ),
    ):
        outcome = await with_temporal.run(DELIVER, QUALIFIED)
        handle = world.temporal.get_workflow_handle(
            f"delivery-{outcome.output['message_id']}-{made.endpoint.id}"
        )
        assert await handle.result() == "delivered"
    first, second = seen
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    waited = int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"])
    assert 4 <= waited <= 8
    assert [row.status for row in await rows(with_temporal)] == ["failed", "delivered"]


async def test_a_slow_endpoint_holds_no_run_and_loses_no_event(
    with_temporal: Stage, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(action_deliver_webhook, "PATIENCE", 0.2)
    hold = asyncio.Event()
    reached: list[bytes] = []

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(await reader.readuntil(b"\r\n\r\n"))
        await hold.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(slow, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await endpoint(with_temporal, httpserver, url=f"http://127.0.0.1:{port}/slow")
    outcome = await with_temporal.run(DELIVER, QUALIFIED)
    assert outcome.output["deliveries"][0]["status"] == "pending"
    (row,) = await rows(with_temporal)
    assert (await pending(with_temporal, first_of(with_temporal, row))).next_retry_delay is not None
    hold.set()
    await asyncio.gather(*action_deliver_webhook.under_way)
    assert await deliver(with_temporal, first_of(with_temporal, row)) == "delivered"
    assert len(reached) == 1
    server.close()


async def test_a_step_that_waits_comes_again_until_it_is_delivered(stage: Stage, httpserver: HTTPServer):
    answers(httpserver, Response(status=500), Response(status=500), Response(status=200))
    await endpoint(stage, httpserver)
    first = await stage.fail(DELIVER, WAITING)
    assert (first.type, first.non_retryable) == ("delivery_pending", False)
    assert first.next_retry_delay is not None
    assert timedelta(seconds=3.5) <= first.next_retry_delay <= timedelta(seconds=6)
    await make_due(stage)
    second = await stage.fail(DELIVER, WAITING, attempt=2)
    assert second.next_retry_delay is not None
    assert timedelta(minutes=4) <= second.next_retry_delay <= timedelta(minutes=6)
    await make_due(stage)
    outcome = await stage.run(DELIVER, WAITING, attempt=3)
    assert outcome.output["deliveries"][0] | {"endpoint_id": ""} == {
        "endpoint_id": "",
        "status": "delivered",
        "attempt": 3,
        "http_status": 200,
        "error": None,
    }


async def test_a_step_that_waits_fails_when_the_attempts_are_used_up(stage: Stage, httpserver: HTTPServer):
    answers(httpserver, Response(status=500))
    await endpoint(stage, httpserver, max_attempts=2)
    await stage.fail(DELIVER, WAITING)
    await make_due(stage)
    failure = await stage.fail(DELIVER, WAITING, attempt=2)
    assert (failure.type, failure.non_retryable) == ("delivery_failed", True)
    assert "http_500" in failure.message
    assert [row.status for row in await rows(stage)] == ["failed", "failed"]


async def test_410_disables_at_once_and_cancels_what_waits(with_temporal: Stage, httpserver: HTTPServer):
    stage = with_temporal
    answers(httpserver, Response(status=500), Response(status=410))
    await endpoint(stage, httpserver)
    await stage.run(DELIVER, QUALIFIED)
    await stage.run(DELIVER, QUALIFIED, visit=2)
    (found,) = await stage.rows(WebhookEndpoint)
    assert (found.is_enabled, found.disabled_reason) == (False, "gone")
    await make_due(stage)
    waiting = next(row for row in await rows(stage) if row.status == "pending")
    assert await deliver(stage, first_of(stage, waiting)) == "cancelled"
    assert sorted(row.status for row in await rows(stage)) == ["cancelled", "failed", "failed"]


async def test_an_endpoint_that_lost_ten_messages_in_a_row_is_disabled(stage: Stage, httpserver: HTTPServer):
    answers(httpserver, *[Response(status=200), *[Response(status=500)] * 10])
    await endpoint(stage, httpserver, max_attempts=1)
    for visit in range(1, 11):
        await stage.run(DELIVER, QUALIFIED, visit=visit)
    (found,) = await stage.rows(WebhookEndpoint)
    assert found.is_enabled
    await stage.run(DELIVER, QUALIFIED, visit=11)
    (found,) = await stage.rows(WebhookEndpoint)
    assert (found.is_enabled, found.disabled_reason) == (False, "10_messages_given_up")


async def test_an_endpoint_that_failed_for_five_days_is_disabled(
    with_temporal: Stage, httpserver: HTTPServer
):
    stage = with_temporal
    answers(httpserver, Response(status=500))
    await endpoint(stage, httpserver)
    await stage.run(DELIVER, QUALIFIED)
    async with stage.database.workspace(stage.place.workspace_id) as session:
        await session.execute(update(WebhookDelivery).values(attempted_at=func.now() - timedelta(hours=121)))
    await stage.run(DELIVER, QUALIFIED, visit=2)
    (found,) = await stage.rows(WebhookEndpoint)
    assert found.disabled_reason == "failing_for_120_hours"


async def test_after_a_rotation_old_and_new_secret_both_verify_for_a_day(
    stage: Stage, httpserver: HTTPServer
):
    seen = answers(httpserver, Response(status=200))
    made = await endpoint(stage, httpserver)
    async with stage.database.workspace(stage.place.workspace_id) as session:
        rotated = await endpoints.rotate(session, stage.place.workspace_id, made.endpoint.id, key=MASTER_KEY)
    assert rotated is not None
    await stage.run(DELIVER, QUALIFIED)
    for secret in (made.secret, rotated.secret):
        assert Webhook(secret).verify(seen[0].data, dict(seen[0].headers))
    async with stage.database.workspace(stage.place.workspace_id) as session:
        await session.execute(update(WebhookEndpoint).values(previous_secret_expires_at=func.now()))
    await stage.run(DELIVER, QUALIFIED, visit=2)
    assert Webhook(rotated.secret).verify(seen[1].data, dict(seen[1].headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(made.secret).verify(seen[1].data, dict(seen[1].headers))


async def test_two_workers_never_make_the_same_attempt_at_once(stage: Stage, httpserver: HTTPServer):
    await endpoint(stage, httpserver)
    row = await posted(stage)
    claims = await asyncio.gather(*(claimed(stage, row, str(number)) for number in range(8)))
    assert sum(claim is not None for claim in claims) == 1


async def test_a_dead_workers_claim_runs_out_and_its_late_word_does_not_count(
    stage: Stage, httpserver: HTTPServer
):
    await endpoint(stage, httpserver)
    row = await posted(stage)
    first = await claimed(stage, row, "dead")
    assert first is not None
    assert await claimed(stage, row, "other") is None
    async with stage.database.workspace(stage.place.workspace_id) as session:
        await session.execute(
            update(WebhookDelivery).values(lock_acquired_at=func.now() - webhooks.CLAIM * 1.1)
        )
    assert await claimed(stage, row, "other") is not None
    async with stage.database.workspace(stage.place.workspace_id) as session:
        result = webhooks.Result("failed", error="late")
        assert not await webhooks.settle(session, stage.place.workspace_id, first, result)
    seen = answers(httpserver, Response(status=200))
    await make_due(stage)
    assert await deliver(stage, first_of(stage, row)) == "delivered"
    assert seen[0].headers["webhook-id"] == row.message_id


async def posted(stage: Stage) -> WebhookDelivery:
    """Write a message as a worker does that dies before its first attempt."""
    message = webhooks.Message("msg_1", "lead.qualified", {"type": "lead.qualified"}, "{}")
    async with stage.database.workspace(stage.place.workspace_id) as session:
        await webhooks.post(session, stage.place.workspace_id, message)
    (row,) = await rows(stage)
    return row


async def claimed(stage: Stage, row: WebhookDelivery, by: str) -> webhooks.Claim | None:
    """Claim a row's attempt."""
    workspace_id = stage.place.workspace_id
    async with stage.database.workspace(workspace_id) as session:
        return await webhooks.claim(session, workspace_id, row.webhook_endpoint_id, row.message_id, by=by)


async def test_a_secret_moved_to_another_endpoint_signs_nothing(stage: Stage, httpserver: HTTPServer):
    seen = answers(httpserver, Response(status=200))
    one, _ = [await endpoint(stage, httpserver, max_attempts=1) for _ in range(2)]
    async with stage.database.workspace(stage.place.workspace_id) as session:
        await session.execute(update(WebhookEndpoint).values(secret_sealed=one.endpoint.secret_sealed))
    outcome = await stage.run(DELIVER, QUALIFIED)
    assert len(seen) == 1
    told = [(each["status"], each["error"]) for each in outcome.output["deliveries"]]
    assert sorted(told) == [("delivered", None), ("failed", "secret_unusable")]


async def test_an_unknown_delivery_is_told_and_not_tried_for_ever(stage: Stage):
    unknown = DeliveryInput(workspace_id=stage.place.workspace_id, endpoint_id=uuid7(), message_id="msg_x")
    with pytest.raises(ApplicationError) as failure:
        await deliver(stage, unknown)
    assert (failure.value.type, failure.value.non_retryable) == ("unknown_delivery", True)
