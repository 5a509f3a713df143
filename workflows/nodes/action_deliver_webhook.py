"""ACTION_DELIVER_WEBHOOK: a signed event for the workspace's webhook endpoints."""

from datetime import timedelta
from typing import Any, ClassVar, Literal
from uuid import UUID

from pydantic import Field

from workflows.nodetype import Data, NodeConfig, NodeType, Result

EVERYTHING = {"lead": "{{ lead }}", "trigger": "{{ trigger }}", "execution": "{{ execution }}"}


class Config(NodeConfig):
    """Which event, what it tells, and who gets it."""

    event_type: str = Field(pattern=r"^[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*$", max_length=128)
    payload: Data = EVERYTHING
    endpoint_ids: Literal["all"] | list[UUID] = "all"
    wait_for_delivery: bool = False


class Delivery(Result):
    """How one endpoint's delivery stood when the run went on."""

    endpoint_id: str
    status: str
    attempt: int
    http_status: int | None
    error: str | None


class Output(Result):
    """The message and its deliveries."""

    message_id: str
    deliveries: list[Delivery]


class DeliverWebhook(NodeType):
    """Delivers an event."""

    name = "ACTION_DELIVER_WEBHOOK"
    title = "Deliver a webhook"
    summary = (
        "Posts a signed event (Standard Webhooks) to every endpoint that subscribed to it, or to those "
        "named. The run goes on after the first attempt, unless `waitForDelivery` is set; further attempts "
        "follow for up to three days, always with the same `webhook-id`."
    )
    Config = Config
    Output = Output
    example: ClassVar[dict[str, Any]] = {
        "eventType": "lead.qualified",
        "payload": {"email": "{{ lead.email }}", "budget": "{{ trigger.budget }}"},
    }
    failure = (
        "unknown_endpoint",
        {"eventType": "lead.won", "endpointIds": ["00000000-0000-0000-0000-000000000000"]},
    )
    queue = "webhooks"
    fast_path = True
    timeout = timedelta(seconds=20)
    # The first attempts get 4 seconds of it; handing over takes the rest.
    fast_timeout = timedelta(seconds=8)
