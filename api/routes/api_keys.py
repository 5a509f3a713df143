"""API keys: made, listed and revoked by callers that hold the scope for it."""

from datetime import UTC, datetime
from typing import Annotated, Literal, get_args
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import AwareDatetime, ConfigDict, Field

from api import errors
from api.auth import EVERYTHING, SCOPES, Caller, requires
from api.cursors import OurPaging, Page, Windowed
from api.deps import Session
from api.idempotency import Idempotent, Made
from api.schemas import Given, Id, Name, Shown
from db import keys

router = APIRouter(tags=["api-keys"])

Scope = Literal[
    "*",
    "workflows:read",
    "workflows:write",
    "executions:read",
    "executions:write",
    "leads:read",
    "leads:write",
    "webhooks:read",
    "webhooks:write",
    "workspace:read",
    "workspace:write",
    "keys:read",
    "keys:write",
    "codec:decode",
]
if set(get_args(Scope)) != {EVERYTHING, *SCOPES}:
    raise AssertionError("the documented scopes differ from those that are checked")


class ApiKeyShown(Shown):
    """An API key; its secret is not kept."""

    model_config = ConfigDict(title="ApiKey", from_attributes=True)

    id: UUID
    name: str = Field(examples=["Website"])
    key_id: str = Field(description="The public part, by which a key in a log can be recognised.")
    scopes: list[str]
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    created_at: datetime


class ApiKeyMade(ApiKeyShown):
    """A new API key."""

    model_config = ConfigDict(title="NewApiKey", from_attributes=True)

    token: str | None = Field(description="Shown this once; null when the answer is replayed.")


class ApiKeyGiven(Given):
    """A key to make."""

    model_config = ConfigDict(title="ApiKeyInput", json_schema_extra={"examples": [{"name": "Website"}]})

    name: Name
    scopes: list[Scope] = Field(default=["*"], min_length=1, max_length=len(SCOPES) + 1)
    expires_at: AwareDatetime | None = None


class ApiKeyPage(Page[ApiKeyShown]):
    """API keys, newest first."""

    model_config = ConfigDict(title="ApiKeyPage")


@router.get("/v1/api-keys", summary="List API keys")
async def api_keys_list(
    caller: Annotated[Caller, requires("keys:read")],
    session: Session,
    paging: OurPaging,
    window: Windowed,
) -> ApiKeyPage:
    """Newest first, revoked ones too."""
    cursors = paging.of(window)
    before = cursors.position(UUID)
    found = await keys.page(session, caller.workspace_id, limit=window.limit + 1, before=before)
    rows, following = cursors.page(found, "id")
    return ApiKeyPage(data=[ApiKeyShown.model_validate(row) for row in rows], next_cursor=following)


@router.post(
    "/v1/api-keys",
    status_code=201,
    response_model=ApiKeyMade,
    summary="Make an API key",
    responses=errors.responses(errors.Conflict),
)
async def api_key_create(
    body: ApiKeyGiven, caller: Annotated[Caller, requires("keys:write")], session: Session, once: Idempotent
) -> Response:
    """The token is in this answer and nowhere else. Nobody can grant more than they have themselves."""
    lacking = [scope for scope in body.scopes if not _may_grant(caller, scope)]
    if lacking:
        raise errors.Forbidden(f"This API key cannot grant what it lacks: {', '.join(lacking)}.")
    if body.expires_at is not None and body.expires_at <= datetime.now(UTC):
        detail = errors.Detail(
            code="in_the_past", message="expires_at must lie in the future.", pointer="/expires_at"
        )
        raise errors.Invalid(errors=[detail])

    async def make() -> Made:
        made = await keys.create(
            session, caller.workspace_id, name=body.name, scopes=body.scopes, expires_at=body.expires_at
        )
        shown = ApiKeyShown.model_validate(made.key).model_dump()
        location = {"Location": f"/v1/api-keys/{made.key.id}"}
        return Made(ApiKeyMade(**shown, token=made.token), 201, location, frozenset({"token"}))

    return await once.answer(session, make)


@router.delete("/v1/api-keys/{api_key_id}", status_code=204, summary="Revoke an API key")
async def api_key_revoke(
    api_key_id: Id, caller: Annotated[Caller, requires("keys:write")], session: Session
) -> None:
    """Ends the key at once; it stays in the list."""
    if not await keys.revoke(session, caller.workspace_id, api_key_id):
        raise errors.NotFound()


def _may_grant(caller: Caller, scope: str) -> bool:
    return EVERYTHING in caller.scopes if scope == EVERYTHING else caller.may(scope)
