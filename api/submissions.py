"""From a posted body to a checked submission: reading answers, naming the lead, choosing the key."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field
from python_multipart.exceptions import FormParserError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from uuid_utils.compat import uuid7

from api import bodies, errors, idempotency, tokens
from api.pages import form as page
from db import forms, intake
from db import idempotency as kept
from workflows import fields
from workflows.nodes.trigger_form import Config as Trigger
from workflows.problems import Problem

REPEAT_WINDOW = timedelta(minutes=10)
"""Equal answers without a key within this time are one submission: an impatient client's retry.

Whoever means to submit the same answers twice uses two Idempotency-Keys, or two renderings of the page.
"""
MAX_FIELDS = 100


class Receipt(BaseModel):
    """What the sender of a submission is told; nothing in it depends on whether the address was known."""

    model_config = ConfigDict(title="SubmissionReceipt")

    submission_id: UUID
    status: str = Field("accepted", examples=["accepted"])
    execution_id: UUID | None = Field(
        None, description="The run it starts; null where the form's policy could make it tell who is known."
    )
    message: str = Field(description="What to show to the person.")
    redirect_url: str | None = None


async def read(request: Request) -> dict[str, Any]:
    """Read the answers from JSON or from a browser's form; a key given twice comes back as a list."""
    content_type = request.headers.get("content-type", "")
    if bodies.is_json(content_type):
        answers = getattr(request.state, "json", None)
        if not isinstance(answers, dict):
            raise errors.Invalid(errors=[_detail("wrong_type", "The body must be an object of answers.", "")])
        return answers
    kind = bodies.media_type(content_type)
    if kind == "multipart/form-data":
        return _gather(await _multipart(request))
    body = await request.body()
    if kind != "application/x-www-form-urlencoded" and body:
        raise errors.MediaTypeRefused()
    return _gather(_urlencoded(body))


def _urlencoded(body: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS + 1
        )
    except ValueError as error:
        raise errors.Malformed("The form's encoding could not be read.") from error


async def _multipart(request: Request) -> list[tuple[str, str]]:
    try:
        parsed = await request.form(max_files=0, max_fields=MAX_FIELDS + 1)
    except (HTTPException, FormParserError, KeyError, ValueError) as error:
        raise errors.Malformed("The multipart body could not be read; files are not taken.") from error
    return [(key, value) for key, value in parsed.multi_items() if isinstance(value, str)]


def _gather(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    for key, value in pairs:
        earlier = answers.get(key)
        if earlier is None:
            answers[key] = value
        else:
            answers[key] = [*earlier, value] if isinstance(earlier, list) else [earlier, value]
    return answers


def settings(form: forms.Form) -> Trigger:
    """Read the form's own settings from the published graph."""
    known = {alias for info in Trigger.model_fields.values() if (alias := info.alias)}
    return Trigger.model_validate({key: value for key, value in form.trigger_config.items() if key in known})


def prepare(
    form: forms.Form, trigger: Trigger, answers: fields.Answers, *, key: str | None
) -> tuple[intake.Submission, Receipt]:
    """Put together what is stored and what is answered; `key` names the submission if its sender did."""
    policy = intake.Policy(trigger.duplicate_policy)
    execution_id = uuid7()
    tells = policy in (intake.Policy.UPDATE_ONLY, intake.Policy.IGNORE)
    ids = {"submission_id": str(uuid7()), "execution_id": None if tells else str(execution_id)}
    stored = json.dumps(ids, separators=(",", ":"))
    digest = sha256(json.dumps(answers.typed, sort_keys=True).encode()).digest()
    answer = kept.Answer(digest, 202, stored, {})
    claim = kept.Claim(
        scope=f"form {form.workflow_id}",
        key=key or f"same:{digest[:16].hex()}",
        request_hash=digest,
        kept=kept.KEPT if key else REPEAT_WINDOW,
        answer=answer,
    )
    submission = intake.Submission(
        claim=claim,
        execution_id=execution_id,
        run_key=key and f"form:{key}",
        values=answers.values,
        typed=answers.typed,
        lead=lead_columns(form.fields, answers.values),
        policy=policy,
        closes_at=trigger.closes_at,
        max_submissions=trigger.max_submissions,
        notes={
            "submission_id": ids["submission_id"],
            "fields": sorted(answers.values),
            **({"flags": [flag.code for flag in answers.flags]} if answers.flags else {}),
        },
    )
    return submission, receipt(trigger, stored)


def receipt(trigger: Trigger, stored: str) -> Receipt:
    """Say what was said before: of an answer only the ids are kept, the words are the form's."""
    message = trigger.success_message or page.THANKS
    return Receipt(message=message, redirect_url=trigger.redirect_url, **json.loads(stored))


def key_of(form: forms.Form, request: Request, answers: dict[str, Any], *, secret: bytes) -> str | None:
    """Take the name of the submission from the page's token or the header; neither is fine too."""
    token = answers.pop(page.TOKEN, None)
    if token is not None:
        return f"page:{tokens.read(secret, form.workflow_id, str(token))}"
    header = request.headers.get("idempotency-key")
    if header is None:
        return None
    if not re.fullmatch(idempotency.KEY.strip("^$"), header):
        detail = errors.Detail(code="invalid_key", message=idempotency.HELP, header="Idempotency-Key")
        raise errors.Invalid(errors=[detail])
    return f"key:{header}"


def lead_columns(questions: Sequence[fields.Field], values: Mapping[str, str]) -> dict[str, str]:
    """Pick the answers that are columns of the lead itself, by their field keys."""
    addresses = [
        q.field_key for q in questions if q.field_type is fields.FieldType.EMAIL and q.field_key in values
    ]
    found = {key: values[key] for key in ("first_name", "last_name", "phone", "company") if values.get(key)}
    if addresses:
        found["email"] = values["email" if "email" in addresses else addresses[0]]
    if values.get("name") and not found.keys() & {"first_name", "last_name"}:
        first, _, last = values["name"].partition(" ")
        found |= {"first_name": first} | ({"last_name": last.strip()} if last.strip() else {})
    if _is_zone(values.get("timezone", "")):
        found["timezone"] = values["timezone"]
    return found


def details(problems: Sequence[Problem]) -> list[errors.Detail]:
    """Tell mistakes of a form or a graph in a problem document."""
    return [
        errors.Detail(
            code=p.code,
            message=p.message,
            pointer=p.pointer,
            node_id=p.node_id,
            field=p.field,
            remedy=p.remedy or None,
            line=p.line,
            column=p.column,
        )
        for p in problems
    ]


def _is_zone(name: str) -> bool:
    try:
        return bool(name) and ZoneInfo(name) is not None
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False


def _detail(code: str, message: str, pointer: str) -> errors.Detail:
    return errors.Detail(code=code, message=message, pointer=pointer)
