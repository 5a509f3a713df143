"""`Idempotency-Key`: a repeated POST gets the first one's answer and has no second effect."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from api import errors
from api.auth import Authenticated, Caller
from db import idempotency

KEY = r"^[\x21-\x7e]{1,255}$"
HELP = "Any text that names this request; a repeat with the same key gets the same answer for 24 hours."
IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key", pattern=KEY, description=HELP)]


@dataclass(frozen=True)
class Made:
    """What a handler made: the answer's body, and what of it must not be kept."""

    body: BaseModel
    status: int = 201
    headers: Mapping[str, str] = field(default_factory=dict)
    secret: frozenset[str] = frozenset()
    """Fields shown once: a replay shows them as null."""


@dataclass(frozen=True)
class Once:
    """The key of the request at hand, if it has one."""

    caller: Caller
    key: str | None
    scope: str
    request_hash: bytes

    async def earlier(self, session: AsyncSession) -> Response | None:
        """Give the kept answer of a repeat, for whoever has to ask others before the work is done."""
        if self.key is None:
            return None
        workspace_id = self.caller.workspace_id
        try:
            kept = await idempotency.find(session, workspace_id, scope=self.scope, key=self.key)
        except idempotency.InFlight:
            return None
        return replayed(kept, self.request_hash)

    async def answer(self, session: AsyncSession, make: Callable[[], Awaitable[Made]]) -> Response:
        """Do the work unless it was done before; only what succeeds is kept, in the same transaction."""
        if self.key is None:
            return _fresh(await make())
        claim = idempotency.Claim(scope=self.scope, key=self.key, request_hash=self.request_hash)
        workspace_id = self.caller.workspace_id
        try:
            earlier = await idempotency.take(session, workspace_id, claim)
        except idempotency.InFlight as error:
            raise errors.InFlight() from error
        if earlier is not None:
            return replayed(earlier, self.request_hash)
        made = await make()
        answer = idempotency.Answer(self.request_hash, made.status, _kept(made), dict(made.headers))
        await idempotency.record(session, workspace_id, claim, answer)
        return _fresh(made)


def replayed(earlier: idempotency.Answer, request_hash: bytes) -> Response:
    """Answer as before, or refuse a key that was used for something else."""
    if earlier.request_hash != request_hash:
        raise errors.KeyReused()
    headers = {**earlier.headers, "Idempotent-Replayed": "true"}
    return Response(earlier.body, earlier.status, headers, media_type="application/json")


async def once(request: Request, caller: Authenticated, idempotency_key: IdempotencyKey = None) -> Once:
    """Read the header; the key counts for this address and this caller's workspace only."""
    body_hash: bytes = request.state.body_hash
    return Once(caller, idempotency_key, f"{request.method} {request.url.path}", body_hash)


Idempotent = Annotated[Once, Depends(once)]


def _fresh(made: Made) -> Response:
    return Response(
        made.body.model_dump_json(by_alias=True), made.status, made.headers, media_type="application/json"
    )


def _kept(made: Made) -> str:
    hidden: dict[str, Any] = dict.fromkeys(made.secret)
    return made.body.model_copy(update=hidden).model_dump_json(by_alias=True)
