"""From a hook's body to what is stored: finding the lead, its answers and the call's own name."""

from collections.abc import Mapping
from datetime import timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from uuid_utils.compat import uuid7

from api import submissions
from db import forms, intake
from db import idempotency as kept
from workflows import fields, paths
from workflows.nodes.trigger_webhook import Config as Trigger

NAMELESS = timedelta(minutes=1)
"""How long the row of a call without a name of its own is kept: nothing will ever ask for it."""
LONGEST_NAME = 200
"""Characters; a longer value goes into the key by its hash."""


class Receipt(BaseModel):
    """What the caller of a hook is told."""

    model_config = ConfigDict(title="HookReceipt")

    execution_id: UUID
    status: str = Field("accepted", examples=["accepted"])


def settings(hook: forms.Form) -> Trigger:
    """Read the trigger's settings from the published graph."""
    known = {alias for info in Trigger.model_fields.values() if (alias := info.alias)}
    return Trigger.model_validate({key: value for key, value in hook.trigger_config.items() if key in known})


def name_of(
    trigger: Trigger, body: Mapping[str, Any], *, header: str | None, signed: str | None
) -> str | None:
    """Find the call's own name: the value at `idempotencyPath`, the header, or the signed message id."""
    value = paths.follow(body, trigger.idempotency_path) if trigger.idempotency_path else None
    if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
        return f"value:{_short(str(value))}"
    if header:
        return f"key:{header}"
    return f"message:{signed}" if signed else None


def prepare(
    hook: forms.Form, trigger: Trigger, body: Mapping[str, Any], *, name: str | None
) -> tuple[intake.Submission, Receipt]:
    """Put together what is stored and what is answered."""
    execution_id = uuid7()
    receipt = Receipt(execution_id=execution_id)
    key = name or f"nameless:{execution_id}"
    # A sender that repeats a call may count its attempts in it: the name decides, not the body.
    digest = sha256(key.encode()).digest()
    claim = kept.Claim(
        scope=f"hook {hook.workflow_id}",
        key=key,
        request_hash=digest,
        kept=kept.KEPT if name else NAMELESS,
        answer=kept.Answer(digest, 202, receipt.model_dump_json(), {}),
    )
    answers = _answers(hook, trigger, body)
    notes: dict[str, Any] = {"fields": sorted(answers.values)}
    if answers.problems:
        # The lead is worth more than an answer that does not fit its field; the run's `trigger` has it all.
        notes["refused"] = {problem.field: problem.code for problem in answers.problems}
    return (
        intake.Submission(
            claim=claim,
            execution_id=execution_id,
            run_key=name and f"hook:{name}",
            values=answers.values,
            typed=body,
            lead=_lead(hook, trigger, body, answers),
            notes=notes,
        ),
        receipt,
    )


def _answers(hook: forms.Form, trigger: Trigger, body: Mapping[str, Any]) -> fields.Answers:
    """Check what the mapping finds against the form fields of the same keys; nothing is required here."""
    found = {key: paths.follow(body, path) for key, path in trigger.field_map.items()}
    asked = [
        field.model_copy(update={"is_required": False})
        for field in hook.fields
        if found.get(field.field_key) is not None
    ]
    return fields.check(asked, {field.field_key: _given(field, found[field.field_key]) for field in asked})


def _lead(
    hook: forms.Form, trigger: Trigger, body: Mapping[str, Any], answers: fields.Answers
) -> dict[str, str]:
    email = _email(paths.follow(body, trigger.email_path)) if trigger.email_path else None
    if email is None:
        return {}
    columns = {key: paths.follow(body, path) for key, path in trigger.field_map.items()}
    asked = fields.check(
        [fields.Field(field_key=key, field_type=fields.FieldType.TEXT) for key in columns],
        {key: _text(value) for key, value in columns.items()},
    )
    return submissions.lead_columns((), asked.values | answers.values) | {"email": email}


def _email(value: Any) -> str | None:
    try:
        return fields.normal_email(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _given(field: fields.Field, value: Any) -> Any:
    """Hand a number to a question that takes text as the text it was sent as."""
    if field.field_type in (fields.FieldType.NUMBER, fields.FieldType.CHECKBOX):
        return value
    return _text(value) if isinstance(value, int | float) else value


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def _short(value: str) -> str:
    return value if len(value) <= LONGEST_NAME else f"sha256:{sha256(value.encode()).hexdigest()}"
