"""The questions of a workflow's public form."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr

from api import errors, submissions
from api.auth import Caller, requires
from api.deps import Session
from api.idempotency import Idempotent, Made
from api.schemas import Given, Id, JsonObject, LongText, ShortText, Shown
from db import fields, workflows
from workflows.questions import Field as Question
from workflows.questions import FieldType, field_problems

router = APIRouter(tags=["forms"])

Reader = Annotated[Caller, requires("workflows:read")]
Writer = Annotated[Caller, requires("workflows:write")]
CONFLICT = errors.responses(errors.Conflict)
EXAMPLE: JsonObject = {
    "field_key": "budget",
    "label": "Project budget",
    "field_type": "DROPDOWN",
    "options": ["$500", "$5000", "$10000+"],
    "is_required": True,
}
Limit = StrictInt | StrictFloat | StrictStr | None
Length = Annotated[StrictInt, Field(ge=0, le=5000)]
Key = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]
Option = Annotated[str, Field(min_length=1, max_length=500)]


class FormFieldShown(Shown):
    """A form field."""

    model_config = ConfigDict(title="FormField", from_attributes=True)

    id: UUID
    field_key: str
    label: str
    field_type: FieldType
    options: list[str]
    is_required: bool
    placeholder: str | None
    help_text: str | None
    validation: JsonObject
    position: int
    created_at: datetime
    updated_at: datetime


class FormFields(BaseModel):
    """A form, in its order."""

    model_config = ConfigDict(title="FormFields")

    data: list[FormFieldShown]


class Rules(Given):
    """What an answer must meet beyond its type."""

    model_config = ConfigDict(title="FormFieldRules")

    min: Limit = None
    max: Limit = None
    minLength: Length | None = None  # noqa: N815 - config keys are camelCase, in JSON and in the database
    maxLength: Length | None = None  # noqa: N815 - as above
    pattern: Annotated[str, Field(max_length=1000)] | None = None


class FormFieldChange(Given):
    """What to change; what is left out stays."""

    model_config = ConfigDict(title="FormFieldChange", json_schema_extra={"examples": [{"label": "Budget"}]})

    field_key: Key = ""
    label: ShortText = ""
    field_type: FieldType = FieldType.TEXT
    options: Annotated[list[Option], Field(max_length=200)] = Field(default_factory=list)
    is_required: StrictBool = False
    placeholder: ShortText | None = None
    help_text: LongText | None = None
    validation: Rules = Rules()

    def values(self) -> dict[str, Any]:
        """List what was sent, as it is stored."""
        given = self.model_dump(mode="json", exclude_unset=True, exclude={"validation"})
        if "validation" in self.model_fields_set:
            given["validation"] = self.validation.model_dump(exclude_none=True)
        return given


class FormFieldGiven(FormFieldChange):
    """A field to add at the end of the form."""

    model_config = ConfigDict(title="FormFieldInput", json_schema_extra={"examples": [EXAMPLE]})

    field_key: Key
    label: Annotated[ShortText, Field(min_length=1)]
    field_type: FieldType


class Order(Given):
    """Every field of the form, once."""

    model_config = ConfigDict(title="FormFieldOrder", json_schema_extra={"examples": [{"field_ids": []}]})

    field_ids: Annotated[list[UUID], Field(max_length=100)]


class Removal(Given):
    """How to delete."""

    delete_answers: bool = Field(False, description="Also delete what leads answered.")


@router.get("/v1/workflows/{workflow_id}/form-fields", summary="List form fields")
async def form_fields_list(workflow_id: Id, caller: Reader, session: Session) -> FormFields:
    """In the form's order."""
    if await workflows.get(session, caller.workspace_id, workflow_id) is None:
        raise errors.NotFound()
    rows = await fields.every(session, caller.workspace_id, workflow_id)
    return FormFields(data=[FormFieldShown.model_validate(row) for row in rows])


@router.post(
    "/v1/workflows/{workflow_id}/form-fields",
    status_code=201,
    response_model=FormFieldShown,
    summary="Add a form field",
    responses=CONFLICT,
)
async def form_field_create(
    workflow_id: Id, body: FormFieldGiven, caller: Writer, session: Session, once: Idempotent
) -> Response:
    """The form changes at once; it is not part of a published version."""
    given = body.values()
    _check(given)

    async def make() -> Made:
        try:
            row = await fields.add(session, caller.workspace_id, workflow_id, given)
        except fields.KeyTaken as error:
            raise _key_taken() from error
        except fields.TooMany as error:
            raise errors.Conflict("A form has at most 100 fields.", code="too_many_fields") from error
        if row is None:
            raise errors.NotFound()
        await session.refresh(row)
        where = f"/v1/workflows/{workflow_id}/form-fields/{row.id}"
        return Made(FormFieldShown.model_validate(row), 201, {"Location": where})

    return await once.answer(session, make)


@router.put("/v1/workflows/{workflow_id}/form-fields/order", summary="Order the form fields")
async def form_fields_reorder(workflow_id: Id, body: Order, caller: Writer, session: Session) -> FormFields:
    """Names every field of the form once, in the wanted order."""
    try:
        rows = await fields.reorder(session, caller.workspace_id, workflow_id, body.field_ids)
    except fields.WrongOrder as error:
        detail = errors.Detail(
            code="wrong_order", message="Name each field of the form once.", pointer="/field_ids"
        )
        raise errors.Invalid(errors=[detail]) from error
    if rows is None:
        raise errors.NotFound()
    return FormFields(data=[FormFieldShown.model_validate(row) for row in rows])


@router.get("/v1/workflows/{workflow_id}/form-fields/{field_id}", summary="Read a form field")
async def form_field_show(workflow_id: Id, field_id: Id, caller: Reader, session: Session) -> FormFieldShown:
    """One question."""
    row = await fields.get(session, caller.workspace_id, workflow_id, field_id)
    if row is None:
        raise errors.NotFound()
    return FormFieldShown.model_validate(row)


@router.patch(
    "/v1/workflows/{workflow_id}/form-fields/{field_id}", summary="Change a form field", responses=CONFLICT
)
async def form_field_update(
    workflow_id: Id, field_id: Id, body: FormFieldChange, caller: Writer, session: Session
) -> FormFieldShown:
    """Answers given before stay as they are."""
    row = await fields.get(session, caller.workspace_id, workflow_id, field_id)
    if row is None:
        raise errors.NotFound()
    given = body.values()
    _check({**fields.as_field(row).model_dump(mode="json"), **given})
    try:
        row = await fields.change(session, caller.workspace_id, workflow_id, field_id, given)
    except fields.KeyTaken as error:
        raise _key_taken() from error
    if row is None:
        raise errors.NotFound()
    return FormFieldShown.model_validate(row)


@router.delete(
    "/v1/workflows/{workflow_id}/form-fields/{field_id}",
    status_code=204,
    summary="Delete a form field",
    responses=CONFLICT,
)
async def form_field_delete(
    workflow_id: Id,
    field_id: Id,
    caller: Writer,
    session: Session,
    query: Annotated[Removal, Query()],
) -> None:
    """A field that leads have answered is deleted only with `delete_answers=true`."""
    try:
        gone = await fields.remove(
            session, caller.workspace_id, workflow_id, field_id, delete_answers=query.delete_answers
        )
    except fields.HasAnswers as error:
        message = f"The field has {error.count} answers; delete_answers=true deletes them too."
        raise errors.Conflict(message, code="field_has_answers") from error
    if not gone:
        raise errors.NotFound()


def _check(values: dict[str, Any]) -> None:
    problems = field_problems(Question.model_validate(values))
    if problems:
        raise errors.Invalid(errors=submissions.details(problems))


def _key_taken() -> errors.Conflict:
    message = "The form has a field with this key."
    detail = errors.Detail(code="taken", message=message, pointer="/field_key")
    return errors.Conflict(message, code="field_key_taken", errors=[detail])
