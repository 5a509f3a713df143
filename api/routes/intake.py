"""The public forms: a page for people and its JSON twin."""

import json
import re
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.routing import APIRoute
from psycopg.errors import LockNotAvailable, UniqueViolation
from sqlalchemy.exc import DBAPIError

from api import bodies, cors, errors, submissions, tokens
from api.deps import OurPlatform, Platform, platform_of
from api.pages import form as page
from api.submissions import Receipt
from db import idempotency, intake, runs
from db.forms import Form
from workflows import fields
from workflows.nodes.trigger_form import Config as Trigger

log = structlog.get_logger()


class Plain(APIRoute):
    """Hands its endpoint the request and nothing else: FastAPI's injection costs more than a submission."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Call the endpoint by the path's parts; what is no slug names no form."""
        endpoint, slug = self.endpoint, re.compile(SLUG)

        async def handle(request: Request) -> Response:
            place = request.path_params
            if not all(map(slug.fullmatch, place.values())):
                raise errors.NotFound()
            answer: Response = await endpoint(**place, request=request, platform=await platform_of(request))
            return answer

        return handle


router = APIRouter(tags=["forms"])
posts = APIRouter(tags=["forms"], route_class=Plain)

ATTEMPTS = 3
SLUG = r"^[a-z0-9][a-z0-9-]{0,62}$"
Slug = Annotated[str, Path(pattern=SLUG, examples=["contact"])]
PAGE = {"text/html": {"schema": {"type": "string"}}}
REFUSALS = (
    errors.Malformed,
    errors.Forbidden,
    errors.NotFound,
    errors.Conflict,
    errors.FormClosed,
    errors.Invalid,
    errors.Unavailable,
)
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "Answers by field key.",
        "content": {
            "application/json": {
                "schema": {"type": "object", "additionalProperties": True, "title": "FormAnswers"},
                "example": {"email": "ada@example.com", "budget": "$5000"},
            },
            "application/x-www-form-urlencoded": {"schema": {"type": "object", "additionalProperties": True}},
            "multipart/form-data": {"schema": {"type": "object", "additionalProperties": True}},
        },
    },
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "schema": {"type": "string", "maxLength": 255},
            "description": "Names this submission. Without one, equal answers within ten minutes count once.",
        }
    ],
}


def _or_page(*kinds: type[errors.Refusal]) -> dict[int | str, dict[str, Any]]:
    documented = errors.responses(*kinds)
    for answer in documented.values():
        answer["content"].update(PAGE)
    return documented


@router.get(
    "/f/{workspace}/{form}",
    summary="Show a public form",
    response_class=HTMLResponse,
    responses=_or_page(errors.NotFound),
)
async def form_show(workspace: Slug, form: Slug, request: Request, platform: OurPlatform) -> Response:
    """The page of an active or paused workflow's form. It works without JavaScript."""
    try:
        found = await _find(platform, workspace, form)
    except errors.NotFound as refusal:
        return _notice(refusal, "There is no form here", "Please check the address.")
    return _page(platform, request, found, submissions.settings(found))


@router.options("/f/{workspace}/{form}", include_in_schema=False)
async def form_preflight(workspace: Slug, form: Slug, request: Request, platform: OurPlatform) -> Response:
    """Tell a browser whether another site's script may submit."""
    found = await _find(platform, workspace, form)
    _admit(platform, request, submissions.settings(found))
    return Response(status_code=204, headers=cors.PREFLIGHT)


@posts.post(
    "/f/{workspace}/{form}",
    status_code=202,
    summary="Submit a public form",
    responses={
        202: {"model": Receipt, "description": "Accepted; the run starts by itself."},
        200: {"content": PAGE, "description": "The thank-you page, for a browser's form."},
        303: {"description": "To the form's redirect address, for a browser's form."},
        **_or_page(*REFUSALS),
    },
    openapi_extra=BODY,
)
async def form_submit(workspace: Slug, form: Slug, request: Request, platform: OurPlatform) -> Response:
    """Takes answers as JSON or as a browser's form.

    The answer does not wait for the run. It never tells whether an address was known, unless the form
    refuses repeated addresses.
    """
    known = platform.desk.known(workspace, form)
    if known is not None:
        # What is wrong may be so only with the form as it was: it is read again before anybody is told.
        try:
            return await _take_in(platform, request, known, is_fresh=False)
        except (errors.Malformed, errors.MediaTypeRefused):
            raise  # A body is read once, whatever the form.
        except (intake.Stale, errors.Refusal) as doubtful:
            log.debug("form read again", reason=type(doubtful).__name__)
    for _ in range(ATTEMPTS):
        try:
            found = await _find(platform, workspace, form)
        except errors.NotFound as refusal:
            if _speaks_json(request):
                raise
            return _notice(refusal, "There is no form here", "Please check the address.")
        with suppress(intake.Stale):
            return await _take_in(platform, request, found, is_fresh=True)
    raise errors.Unavailable()


def _speaks_json(request: Request) -> bool:
    return bodies.is_json(request.headers.get("content-type", ""))


async def _find(platform: Platform, workspace: str, form: str) -> Form:
    found = await platform.desk.read(workspace, form)
    if found is None:
        raise errors.NotFound()
    return found


async def _take_in(platform: Platform, request: Request, form: Form, *, is_fresh: bool) -> Response:
    """Answer for a submission to a form as it is, or as it was lately; raises Stale where that matters."""
    speaks_json, trigger = _speaks_json(request), submissions.settings(form)
    _admit(platform, request, trigger)
    answers = await submissions.read(request)
    try:
        receipt, is_replay = await _submit(platform, request, form, trigger, dict(answers))
    except errors.Refusal as refusal:
        if speaks_json or not is_fresh:
            raise
        return _again(platform, request, form, trigger, answers=answers, refusal=refusal)
    platform.metrics.submissions.labels("true" if is_replay else "false").inc()
    replayed = {"Idempotent-Replayed": "true"} if is_replay else {}
    if speaks_json:
        return Response(receipt.model_dump_json(), 202, replayed, "application/json")
    return _thanks(form, receipt, replayed)


async def _submit(
    platform: Platform, request: Request, form: Form, trigger: Trigger, answers: dict[str, Any]
) -> tuple[Receipt, bool]:
    key = submissions.key_of(form, request, answers, secret=platform.config.derive("form"))
    checked = fields.check(form.fields, answers)
    if checked.problems:
        raise errors.Invalid("Some answers need another look.", errors=submissions.details(checked.problems))
    submission, receipt = submissions.prepare(form, trigger, checked, key=key)
    accepted = await _accept(platform, form, submission)
    if accepted.earlier is not None:
        if accepted.earlier.request_hash != submission.claim.request_hash:
            raise errors.KeyReused("This was already sent, with other answers.")
        return submissions.receipt(trigger, accepted.earlier.body), True
    platform.launch(form, submission, accepted)
    return receipt, False


async def _accept(platform: Platform, form: Form, submission: intake.Submission) -> intake.Accepted:
    try:
        with platform.traffic.submission():
            starts = platform.starts_now and form.status != "paused"
            return await platform.desk.accept(form, submission, starts=starts)
    except intake.Closed as error:
        raise errors.FormClosed() from error
    except intake.Duplicate as error:
        raise errors.DuplicateSubmission() from error
    except idempotency.InFlight as error:
        raise errors.InFlight() from error
    except DBAPIError as error:
        if isinstance(error.orig, LockNotAvailable):
            raise errors.InFlight() from error
        if isinstance(error.orig, UniqueViolation) and submission.run_key:
            return await _long_ago(platform, form, submission)
        raise


async def _long_ago(platform: Platform, form: Form, submission: intake.Submission) -> intake.Accepted:
    """Answer for a key whose stored answer has expired, while its one run is still remembered (ERD §13)."""
    async with platform.database.workspace(form.workspace_id) as session:
        found = await runs.by_key(session, form.workspace_id, form.workflow_id, submission.run_key or "")
    answer = submission.claim.answer
    if found is None or answer is None:
        raise errors.InFlight()
    ids = json.loads(answer.body)
    if ids["execution_id"] is not None:
        ids["execution_id"] = str(found)
    return intake.Accepted(earlier=replace(answer, body=json.dumps(ids)))


def _admit(platform: Platform, request: Request, trigger: Trigger) -> None:
    cors.admit(request, trigger.allowed_origins, own=platform.config.public_url)


def _page(
    platform: Platform,
    request: Request,
    form: Form,
    trigger: Trigger,
    *,
    status: int = 200,
    answers: Mapping[str, Any] | None = None,
    mistakes: Mapping[str, str] | None = None,
) -> Response:
    shown = page.Page(
        title=_text(form, "title") or form.name,
        intro=_text(form, "intro") or form.description or "",
        submit=_text(form, "submitLabel") or "Send",
        action=request.url.path,
        token=tokens.issue(platform.config.derive("form"), form.workflow_id),
        questions=[_question(field) for field in form.fields],
        answers=answers or {},
        mistakes=mistakes or {},
    )
    return _html(page.form(shown), status, trigger)


def _again(
    platform: Platform,
    request: Request,
    form: Form,
    trigger: Trigger,
    *,
    answers: Mapping[str, Any],
    refusal: errors.Refusal,
) -> Response:
    """Show the form again with what was answered, and say what is wrong beside each field."""
    if isinstance(refusal, errors.FormClosed):
        return _notice(refusal, "This form is closed", "It takes no more answers.")
    known = {field.field_key for field in form.fields}
    mistakes: dict[str, str] = {}
    for detail in refusal.errors:
        mistakes.setdefault(detail.field if detail.field in known else "", detail.message)
    return _page(
        platform,
        request,
        form,
        trigger,
        status=refusal.status,
        answers={key: value for key, value in answers.items() if isinstance(value, str)},
        mistakes=mistakes or {"": refusal.detail},
    )


def _thanks(form: Form, receipt: Receipt, headers: Mapping[str, str]) -> Response:
    if receipt.redirect_url:
        return RedirectResponse(receipt.redirect_url, 303, headers)
    response = _html(page.thanks(_text(form, "title") or form.name, receipt.message), 200, None)
    response.headers.update(headers)
    return response


def _notice(refusal: errors.Refusal, title: str, message: str) -> Response:
    return _html(page.notice(title, message), refusal.status, None)


def _html(content: str, status: int, trigger: Trigger | None) -> Response:
    # A browser applies form-action to the redirect that follows a submission, too.
    after = _origin(trigger.redirect_url) if trigger and trigger.redirect_url else ""
    framed = " ".join(trigger.allowed_origins) if trigger else ""
    policy = (
        f"default-src 'self'; script-src 'none'; base-uri 'none'; form-action 'self' {after}; "
        f"frame-ancestors 'self' {framed}"
    )
    return HTMLResponse(content, status, {"Content-Security-Policy": policy.strip()})


def _origin(url: str) -> str:
    scheme, _, rest = url.partition("://")
    host = rest.partition("/")[0].partition("?")[0].partition("#")[0]
    return f"{scheme}://{host}" if all(c.isalnum() or c in ".-:[]" for c in host) else ""


def _text(form: Form, key: str) -> str | None:
    shown = form.settings.get("form")
    value = shown.get(key) if isinstance(shown, Mapping) else None
    return value if isinstance(value, str) else None


def _question(field: fields.Field) -> page.Question:
    return page.Question(
        key=field.field_key,
        label=field.name,
        kind=field.field_type.value,
        options=field.options,
        required=field.is_required,
        placeholder=field.placeholder,
        help_text=field.help_text,
        max_length=field.validation.max_length,
    )
