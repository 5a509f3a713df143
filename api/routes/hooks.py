"""Hooks: the public address that starts a workflow, and its owner's view of it."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse
from psycopg.errors import DeadlockDetected, LockNotAvailable, SerializationFailure, UniqueViolation
from pydantic import ConfigDict, Field
from sqlalchemy.exc import DBAPIError

from api import calls, errors, proofs
from api.auth import Caller, requires
from api.deps import Config, OurPlatform, Platform, Session
from api.idempotency import IdempotencyKey
from api.schemas import Given, Id, Shown
from db import doors, forms, hooks, idempotency, intake, runs, workflows
from db.forms import Form

router = APIRouter(tags=["hooks"])

ATTEMPTS = 3
Writer = Annotated[Caller, requires("workflows:write")]
REFUSALS = (errors.Malformed, errors.CallerUnproved, errors.Conflict)
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "Any JSON object; templates see it as `trigger`.",
        "content": {
            "application/json": {
                "schema": {"type": "object", "additionalProperties": True, "title": "HookBody"},
                "example": {"id": "evt_1", "contact": {"email": "ada@example.com"}},
            }
        },
    }
}


class HookShown(Shown):
    """Where a workflow takes webhooks; the URL is itself a credential."""

    model_config = ConfigDict(title="Hook")

    url: str | None = Field(description="Null before the workflow is published with a TRIGGER_WEBHOOK.")
    has_secret: bool = Field(description="Whether `auth: token` and `auth: hmac` have a secret to ask for.")
    previous_secret_expires_at: datetime | None = None


class HookRotated(HookShown):
    """A hook with what was made for it."""

    model_config = ConfigDict(title="RotatedHook")

    secret: str | None = Field(description="Shown this once; null where no new one was asked for.")


class HookRotation(Given):
    """What to make anew."""

    model_config = ConfigDict(title="HookRotation", json_schema_extra={"examples": [{"secret": True}]})

    url: bool = Field(False, description="The former URL leads nowhere at once.")
    secret: bool = Field(True, description="The former secret is good for another 24 hours.")


@router.get("/v1/workflows/{workflow_id}/hook", summary="Read a workflow's hook")
async def hook_show(workflow_id: Id, caller: Writer, session: Session, platform: OurPlatform) -> HookShown:
    """Its URL and whether it has a secret. Writers only: who knows the URL may start runs."""
    await _check_workflow(session, caller, workflow_id)
    key = platform.config.master_key
    return _shown(platform.config, await hooks.get(session, caller.workspace_id, workflow_id, key=key))


@router.post("/v1/workflows/{workflow_id}/hook/rotate", summary="Renew a hook's secret or URL")
async def hook_rotate(
    *, workflow_id: Id, body: HookRotation, caller: Writer, session: Session, platform: OurPlatform
) -> HookRotated:
    """Makes a new secret, a new URL or both. The first secret is made here, too."""
    await _check_workflow(session, caller, workflow_id)
    place = (session, caller.workspace_id, workflow_id)
    key = platform.config.master_key
    await hooks.ensure(*place, key=key)
    if body.url:
        await hooks.rotate_token(*place, key=key)
    secret = await hooks.rotate_secret(*place, key=key) if body.secret else None
    return HookRotated(
        **_shown(platform.config, await hooks.get(*place, key=key)).model_dump(), secret=secret
    )


@router.post(
    "/hooks/{token}",
    status_code=202,
    summary="Call a workflow's hook",
    responses={
        202: {"model": calls.Receipt, "description": "Accepted; the run starts by itself."},
        **errors.responses(*REFUSALS),
    },
    openapi_extra=BODY,
)
async def hook_call(
    token: Annotated[str, Path(max_length=200)],
    request: Request,
    platform: OurPlatform,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Takes a JSON object, finds its lead and starts a run.

    The answer does not wait for the run. A repeat gets the first call's answer: the workflow says where in
    the body its calls have their names; else an `Idempotency-Key` or a signed `webhook-id` does.
    """
    hook, secrets = await _find(platform, token)
    trigger = calls.settings(hook)
    if trigger.auth != "none" and not secrets:
        raise errors.NotFound()
    proved = proofs.check(trigger.auth, request.headers, await request.body(), secrets=secrets)
    body = getattr(request.state, "json", None)
    if not isinstance(body, dict):
        raise errors.Malformed("The body must be a JSON object.")
    name = calls.name_of(trigger, body, header=idempotency_key, signed=proved.message_id)
    submission, receipt = calls.prepare(hook, trigger, body, name=name)
    accepted = await _accept(platform, hook, submission)
    if accepted.earlier is not None:
        receipt = calls.Receipt.model_validate_json(accepted.earlier.body)
        return JSONResponse(receipt.model_dump(mode="json"), 202, {"Idempotent-Replayed": "true"})
    platform.launch(hook, submission, accepted)
    return JSONResponse(receipt.model_dump(mode="json"), 202)


async def _find(platform: Platform, token: str) -> tuple[Form, tuple[str, ...]]:
    if not hooks.is_token(token):
        raise errors.NotFound()
    async with platform.database.door() as session:
        door = await doors.hook(session, hooks.hash_of(token))
    if door is None or door.status not in ("active", "paused"):
        raise errors.NotFound()
    place, key = (door.workspace_id, door.workflow_id), platform.config.master_key
    async with platform.database.workspace(door.workspace_id) as session:
        found = await forms.load(session, *place, forms.HOOKS)
        secrets = await hooks.live_secrets(session, *place, key=key) if found else ()
    if found is None:
        raise errors.NotFound()
    # Read a moment ago: it needs no second look.
    return replace(found, stamp=None), tuple(secrets)


async def _accept(platform: Platform, hook: Form, submission: intake.Submission) -> intake.Accepted:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            async with platform.database.workspace(hook.workspace_id) as session:
                return await intake.accept(session, hook, submission)
        except idempotency.InFlight as error:
            raise errors.InFlight() from error
        except DBAPIError as error:
            if isinstance(error.orig, LockNotAvailable):
                raise errors.InFlight() from error
            if isinstance(error.orig, UniqueViolation) and submission.run_key:
                return await _long_ago(platform, hook, submission)
            if not isinstance(error.orig, DeadlockDetected | SerializationFailure) or attempt == ATTEMPTS:
                raise
    raise errors.Unavailable()


async def _long_ago(platform: Platform, hook: Form, submission: intake.Submission) -> intake.Accepted:
    """Answer for a name whose stored answer has expired, while its one run is still remembered (ERD §13)."""
    async with platform.database.workspace(hook.workspace_id) as session:
        found = await runs.by_key(session, hook.workspace_id, hook.workflow_id, submission.run_key or "")
    answer = submission.claim.answer
    if found is None or answer is None:
        raise errors.InFlight()
    return intake.Accepted(earlier=replace(answer, body=calls.Receipt(execution_id=found).model_dump_json()))


async def _check_workflow(session: Session, caller: Caller, workflow_id: UUID) -> None:
    if await workflows.get(session, caller.workspace_id, workflow_id) is None:
        raise errors.NotFound()


def _shown(config: Config, hook: hooks.Hook | None) -> HookShown:
    if hook is None:
        return HookShown(url=None, has_secret=False)
    url = f"{config.public_url.rstrip('/')}/hooks/{hook.token}"
    return HookShown(
        url=url, has_secret=hook.has_secret, previous_secret_expires_at=hook.previous_secret_expires_at
    )
