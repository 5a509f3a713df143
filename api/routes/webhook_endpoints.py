"""Webhook endpoints: where the workspace's events are delivered."""

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import AfterValidator, ConfigDict, Field, StrictBool, StrictInt

from activities.clients import addresses, http
from api import errors
from api.auth import Caller, requires
from api.cursors import OurPaging, Page, Window, Windowed
from api.deps import Config, OurPlatform, Session
from api.idempotency import Idempotent, Made
from api.schemas import Given, Id, JsonObject, ShortText, Shown
from db import endpoints
from db import listing as stored

router = APIRouter(tags=["webhooks"])

Reader = Annotated[Caller, requires("webhooks:read")]
Writer = Annotated[Caller, requires("webhooks:write")]
MAX_HEADERS = 20


def _unique(names: list[str]) -> list[str]:
    return list(dict.fromkeys(names))


Event = Annotated[str, Field(max_length=100, pattern=r"^(\*|[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*(\.\*)?)$")]
Events = Annotated[list[Event], Field(max_length=100), AfterValidator(_unique)]
URL = Annotated[str, Field(min_length=1, max_length=2048, examples=["https://example.com/hooks/flowtrack"])]
Attempts = Annotated[StrictInt, Field(ge=1, le=20)]


class WebhookEndpointShown(Shown):
    """An endpoint; its secret is not shown again."""

    model_config = ConfigDict(title="WebhookEndpoint", from_attributes=True)

    id: UUID
    url: str
    description: str | None
    subscribed_events: list[str] = Field(examples=[["lead.created", "workflow.completed"]])
    is_enabled: bool
    disabled_reason: str | None
    max_attempts: int
    headers: JsonObject
    previous_secret_expires_at: datetime | None = Field(
        description="Until then deliveries carry signatures with the secret before, too."
    )
    created_at: datetime
    updated_at: datetime


class WebhookEndpointMade(WebhookEndpointShown):
    """An endpoint with its new secret."""

    model_config = ConfigDict(title="WebhookEndpointWithSecret", from_attributes=True)

    secret: str | None = Field(description="`whsec_…`, shown this once; null when the answer is replayed.")


class DeliveryShown(Shown):
    """One attempt to deliver one message."""

    model_config = ConfigDict(title="WebhookDelivery", from_attributes=True)

    id: UUID
    message_id: str = Field(description="`webhook-id`: the same on every attempt.")
    event_type: str
    execution_id: UUID | None
    payload: JsonObject
    status: Literal["pending", "delivered", "failed", "cancelled"]
    attempt_number: int
    http_status_code: int | None
    response_body: str | None
    error: str | None
    scheduled_at: datetime
    attempted_at: datetime | None
    duration_ms: int | None


class WebhookEndpointPage(Page[WebhookEndpointShown]):
    """Endpoints, newest first."""

    model_config = ConfigDict(title="WebhookEndpointPage")


class DeliveryPage(Page[DeliveryShown]):
    """Attempts, newest first."""

    model_config = ConfigDict(title="WebhookDeliveryPage")


class DeliveryQuery(Window):
    """Which attempts to list."""

    status: Literal["pending", "delivered", "failed", "cancelled"] | None = None


class WebhookEndpointChange(Given):
    """What to change; what is left out stays."""

    model_config = ConfigDict(
        title="WebhookEndpointChange", json_schema_extra={"examples": [{"is_enabled": True}]}
    )

    url: URL = ""
    description: ShortText | None = None
    subscribed_events: Events = Field(default_factory=list)
    is_enabled: StrictBool = True
    max_attempts: Attempts = 10
    headers: dict[str, Annotated[str, Field(max_length=4096)]] = Field(default_factory=dict)


class WebhookEndpointGiven(WebhookEndpointChange):
    """An endpoint to make."""

    model_config = ConfigDict(
        title="WebhookEndpointInput",
        json_schema_extra={
            "examples": [
                {"url": "https://example.com/hooks/flowtrack", "subscribed_events": ["lead.created"]}
            ]
        },
    )

    url: URL
    subscribed_events: Events = Field(["*"], description="Names, families such as `lead.*`, or `*`.")


@router.get("/v1/webhook-endpoints", summary="List webhook endpoints")
async def webhook_endpoints_list(
    caller: Reader, session: Session, paging: OurPaging, window: Windowed
) -> WebhookEndpointPage:
    """Newest first."""
    cursors = paging.of(window)
    before = cursors.position(UUID)
    found = await endpoints.page(session, caller.workspace_id, limit=window.limit + 1, before=before)
    rows, following = cursors.page(found, "id")
    data = [WebhookEndpointShown.model_validate(row) for row in rows]
    return WebhookEndpointPage(data=data, next_cursor=following)


@router.post(
    "/v1/webhook-endpoints",
    status_code=201,
    response_model=WebhookEndpointMade,
    summary="Make a webhook endpoint",
    responses=errors.responses(errors.Conflict, errors.BlockedDestination),
)
async def webhook_endpoint_create(
    body: WebhookEndpointGiven, caller: Writer, session: Session, platform: OurPlatform, once: Idempotent
) -> Response:
    """Deliveries are signed by Standard Webhooks with the secret in this answer."""
    values = _checked(body.model_dump(), platform.config)

    async def make() -> Made:
        made = await endpoints.create(session, caller.workspace_id, values, key=platform.config.master_key)
        where = {"Location": f"/v1/webhook-endpoints/{made.endpoint.id}"}
        return Made(_with_secret(made), 201, where, frozenset({"secret"}))

    return await once.answer(session, make)


@router.get("/v1/webhook-endpoints/{endpoint_id}", summary="Read a webhook endpoint")
async def webhook_endpoint_show(endpoint_id: Id, caller: Reader, session: Session) -> WebhookEndpointShown:
    """One endpoint, without its secret."""
    row = await endpoints.get(session, caller.workspace_id, endpoint_id)
    if row is None:
        raise errors.NotFound()
    return WebhookEndpointShown.model_validate(row)


@router.patch(
    "/v1/webhook-endpoints/{endpoint_id}",
    summary="Change a webhook endpoint",
    responses=errors.responses(errors.BlockedDestination),
)
async def webhook_endpoint_update(
    endpoint_id: Id, body: WebhookEndpointChange, caller: Writer, session: Session, platform: OurPlatform
) -> WebhookEndpointShown:
    """Enabling an endpoint again sends nothing by itself."""
    values = _checked(body.model_dump(exclude_unset=True), platform.config)
    row = await endpoints.change(session, caller.workspace_id, endpoint_id, values)
    if row is None:
        raise errors.NotFound()
    return WebhookEndpointShown.model_validate(row)


@router.delete("/v1/webhook-endpoints/{endpoint_id}", status_code=204, summary="Delete a webhook endpoint")
async def webhook_endpoint_delete(endpoint_id: Id, caller: Writer, session: Session) -> None:
    """Deletes the record of its deliveries, too."""
    if not await endpoints.remove(session, caller.workspace_id, endpoint_id):
        raise errors.NotFound()


@router.post(
    "/v1/webhook-endpoints/{endpoint_id}/rotate-secret",
    response_model=WebhookEndpointMade,
    summary="Give a webhook endpoint a new secret",
    responses=errors.responses(errors.Conflict),
)
async def webhook_endpoint_rotate_secret(
    endpoint_id: Id, caller: Writer, session: Session, platform: OurPlatform, once: Idempotent
) -> Response:
    """For 24 hours deliveries are signed with the new and the old secret."""

    async def make() -> Made:
        made = await endpoints.rotate(
            session, caller.workspace_id, endpoint_id, key=platform.config.master_key
        )
        if made is None:
            raise errors.NotFound()
        return Made(_with_secret(made), 200, {}, frozenset({"secret"}))

    return await once.answer(session, make)


@router.get("/v1/webhook-endpoints/{endpoint_id}/deliveries", summary="List an endpoint's deliveries")
async def webhook_deliveries_list(
    endpoint_id: Id,
    caller: Reader,
    session: Session,
    paging: OurPaging,
    query: Annotated[DeliveryQuery, Query()],
) -> DeliveryPage:
    """Every attempt, newest first."""
    if await endpoints.get(session, caller.workspace_id, endpoint_id) is None:
        raise errors.NotFound()
    cursors = paging.of(query)
    before = cursors.position(UUID)
    found = await stored.deliveries(
        session,
        caller.workspace_id,
        endpoint_id,
        limit=query.limit + 1,
        before=before,
        status=query.status,
    )
    rows, following = cursors.page(found, "id")
    return DeliveryPage(data=[DeliveryShown.model_validate(row) for row in rows], next_cursor=following)


def _checked(values: dict[str, Any], config: Config) -> dict[str, Any]:
    """Bring the URL to the form that is stored and dialled; refuse what may not be dialled or sent."""
    if "headers" in values:
        _check_headers(values["headers"])
    if "url" not in values:
        return values
    try:
        return {**values, "url": addresses.parse(values["url"], config.destinations()).url}
    except addresses.BlockedDestination as error:
        detail = errors.Detail(code=error.code, message=str(error), pointer="/url")
        raise errors.BlockedDestination(errors=[detail]) from error


def _check_headers(headers: dict[str, str]) -> None:
    if len(headers) > MAX_HEADERS:
        raise _bad_headers(f"An endpoint has at most {MAX_HEADERS} headers of its own.")
    try:
        http.check_headers(headers)
    except addresses.RefusedHeader as error:
        raise _bad_headers(str(error)) from error


def _bad_headers(message: str) -> errors.Invalid:
    return errors.Invalid(errors=_one("refused_header", message, "/headers"))


def _one(code: str, message: str, pointer: str) -> Iterable[errors.Detail]:
    return [errors.Detail(code=code, message=message, pointer=pointer)]


def _with_secret(made: endpoints.Made) -> WebhookEndpointMade:
    shown = WebhookEndpointShown.model_validate(made.endpoint).model_dump()
    return WebhookEndpointMade(**shown, secret=made.secret)
