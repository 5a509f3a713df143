"""Who is calling, and what they may do: a permission is the type of an argument."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Protocol
from uuid import UUID

import structlog
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api import errors
from db import doors, keys
from db.session import Database

SCOPES = (
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
)
EVERYTHING = "*"
MAX_TOKEN = 8192

bearer = HTTPBearer(
    scheme_name="ApiKey",
    bearerFormat="ft_<id>_<secret>",
    description="An API key of the workspace. Each operation names the scope it needs.",
    auto_error=False,
)


@dataclass(frozen=True)
class Caller:
    """Somebody who proved who they are, in the one workspace they speak for."""

    workspace_id: UUID
    scopes: frozenset[str]
    api_key_id: UUID | None = None
    user_id: UUID | None = None

    def may(self, scope: str) -> bool:
        """Tell whether a scope is granted, by itself, by its resource or by everything."""
        resource, _, verb = scope.partition(":")
        granted = {scope, f"{resource}:*", EVERYTHING}
        if verb == "read":
            granted.add(f"{resource}:write")
        return not granted.isdisjoint(self.scopes)


class Authenticator(Protocol):
    """One kind of token; the next kind is one more of these in `create_app`."""

    def knows(self, token: str) -> bool:
        """Tell by its shape whether a token is of this kind."""

    async def caller(self, token: str, request: Request) -> Caller | None:
        """Prove a token and name its caller; None if it proves nothing."""


class ApiKeys:
    """API keys, `ft_…`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def knows(self, token: str) -> bool:
        """Tell an API key by its prefix."""
        return token.startswith("ft_")

    async def caller(self, token: str, request: Request) -> Caller | None:
        """Look the key up by its public part and compare the hash of its secret."""
        async with self._database.door() as session:
            found = await keys.authenticate(session, token)
        if found is None:
            return None
        await self._touch(found)
        return Caller(found.workspace_id, frozenset(found.scopes), api_key_id=found.id)

    async def _touch(self, found: doors.KeyRecord) -> None:
        if found.last_used_at is None or found.last_used_at < datetime.now(UTC) - keys.LAST_USED_EVERY:
            async with self._database.workspace(found.workspace_id) as session:
                await keys.touch(session, found.workspace_id, found.id)


async def authenticate(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> Caller:
    """Name the caller or refuse."""
    token = credentials.credentials if credentials else ""
    if not token or len(token) > MAX_TOKEN:
        raise errors.Unauthorized()
    authenticators: Sequence[Authenticator] = request.app.state.authenticators
    for authenticator in authenticators:
        if authenticator.knows(token):
            caller = await authenticator.caller(token, request)
            if caller is not None:
                structlog.contextvars.bind_contextvars(**about(request, caller))
                return caller
            break
    raise errors.Unauthorized()


def about(request: Request, caller: Caller) -> dict[str, str]:
    """Say for the log whose request it is, and about which execution."""
    known = {"workspace_id": str(caller.workspace_id)}
    with suppress(KeyError, ValueError):
        known["execution_id"] = str(UUID(request.path_params["execution_id"]))
    return known


Authenticated = Annotated[Caller, Depends(authenticate)]


async def still_may(request: Request, caller: Caller, scope: str) -> bool:
    """Ask anew whether the caller of a request may do what it does, for answers that take long."""
    try:
        now = await authenticate(request, await bearer(request))
    except errors.Unauthorized:
        return False
    return now.workspace_id == caller.workspace_id and now.may(scope)


@dataclass(frozen=True)
class Requirement:
    """Demands one scope; the OpenAPI document reads it from here."""

    scope: str

    async def __call__(self, caller: Authenticated) -> Caller:
        """Let the caller through, or say which scope is missing."""
        if not caller.may(self.scope):
            raise errors.Forbidden(f"This API key lacks the scope {self.scope}.")
        return caller


def requires(scope: str) -> Any:
    """Make a permission: `caller: Annotated[Caller, requires("leads:read")]`."""
    if scope not in SCOPES:
        raise ValueError(f"unknown scope: {scope}")
    return Depends(Requirement(scope))
