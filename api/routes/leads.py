"""Leads: who came in, what they answered, what happened to them."""

from datetime import datetime
from typing import Annotated
from uuid import UUID
from zoneinfo import available_timezones

from fastapi import APIRouter, BackgroundTasks, Query
from pydantic import AfterValidator, ConfigDict, Field

from api import errors
from api.auth import Caller, requires
from api.cursors import OurPaging, Page, Window, Windowed
from api.deps import OurPlatform, Platform, Session
from api.schemas import Filter, Given, Id, JsonObject, Moment, ShortText, Shown
from db import changes, leads, reactions
from db.models import Lead
from workflows.fields import normal_email

router = APIRouter(tags=["leads"])


def _zone(name: str) -> str:
    if name not in available_timezones():
        raise ValueError("not a time zone, such as Europe/Berlin")
    return name


def _address(text: str) -> str:
    try:
        return normal_email(text)
    except ValueError as error:
        raise ValueError("not a complete e-mail address") from error


Status = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.\-]*$")]


class LeadShown(Shown):
    """A lead."""

    model_config = ConfigDict(title="Lead", from_attributes=True)

    id: UUID
    workflow_id: UUID
    email: str = Field(examples=["ada@example.com"])
    first_name: str | None
    last_name: str | None
    phone: str | None
    company: str | None
    status: str = Field(examples=["NEW"])
    source: str | None = Field(examples=["form"])
    timezone: str | None
    unsubscribed_at: datetime | None
    created_at: datetime
    updated_at: datetime


class LeadWithFields(LeadShown):
    """A lead with its answers."""

    model_config = ConfigDict(title="LeadWithFields", from_attributes=True)

    fields: dict[str, str | None] = Field(description="Answers by field key.", examples=[{"budget": "$5000"}])


class LeadEventShown(Shown):
    """Something that happened to a lead."""

    model_config = ConfigDict(title="LeadEvent", from_attributes=True)

    id: UUID
    event_type: str = Field(examples=["FORM_SUBMITTED"])
    description: str | None
    metadata: JsonObject = Field(validation_alias="event_metadata")
    triggered_by_user_id: UUID | None
    triggered_by_workflow_execution_id: UUID | None
    created_at: datetime


class LeadPage(Page[LeadShown]):
    """Leads, newest first."""

    model_config = ConfigDict(title="LeadPage")


class LeadEventPage(Page[LeadEventShown]):
    """A lead's history, newest first."""

    model_config = ConfigDict(title="LeadEventPage")


class LeadQuery(Window):
    """Which leads to list."""

    status: Status | None = Field(None, examples=["NEW"])
    workflow_id: UUID | None = None
    email: Filter | None = None
    search: Filter | None = Field(None, description="Part of the address, a name or the company.")
    created_after: Moment | None = None
    created_before: Moment | None = None


class LeadChange(Given):
    """What to change; what is left out stays, null empties."""

    model_config = ConfigDict(title="LeadChange", json_schema_extra={"examples": [{"status": "QUALIFIED"}]})

    email: Annotated[str, Field(max_length=320), AfterValidator(_address)] | None = None
    first_name: ShortText | None = None
    last_name: ShortText | None = None
    phone: ShortText | None = None
    company: ShortText | None = None
    timezone: Annotated[str, Field(max_length=64), AfterValidator(_zone)] | None = None
    status: Status | None = None


@router.get("/v1/leads", summary="List leads")
async def leads_list(
    caller: Annotated[Caller, requires("leads:read")],
    session: Session,
    paging: OurPaging,
    query: Annotated[LeadQuery, Query()],
) -> LeadPage:
    """Newest first."""
    cursors = paging.of(query)
    before = cursors.position(UUID)
    filters = leads.Filters(
        workflow_id=query.workflow_id,
        statuses=[query.status] if query.status else (),
        email=query.email,
        search=query.search,
        created_after=query.created_after,
        created_before=query.created_before,
    )
    found = await leads.page(
        session,
        caller.workspace_id,
        limit=query.limit + 1,
        before=before,
        filters=filters,
    )
    rows, following = cursors.page(found, "id")
    return LeadPage(data=[LeadShown.model_validate(row) for row in rows], next_cursor=following)


@router.get("/v1/leads/{lead_id}", summary="Read a lead")
async def lead_show(
    lead_id: Id, caller: Annotated[Caller, requires("leads:read")], session: Session
) -> LeadWithFields:
    """A lead with its answers."""
    return await _read(session, caller, lead_id)


@router.patch("/v1/leads/{lead_id}", summary="Change a lead", responses=errors.responses(errors.Conflict))
async def lead_update(
    *,
    lead_id: Id,
    body: LeadChange,
    caller: Annotated[Caller, requires("leads:write")],
    session: Session,
    platform: OurPlatform,
    afterwards: BackgroundTasks,
) -> LeadWithFields:
    """A change of status leaves a STATUS_CHANGED event, any other change a LEAD_UPDATED one.

    Workflows with a TRIGGER_LEAD_STATUS_CHANGED start by a change of status.
    """
    given = body.model_dump(exclude_unset=True)
    for name in ("email", "status"):
        if name in given and given[name] is None:
            detail = errors.Detail(code="null", message=f"{name} cannot be emptied.", pointer=f"/{name}")
            raise errors.Invalid(errors=[detail])
    status, email = given.pop("status", None), given.pop("email", None)
    lead = await leads.update_columns(session, caller.workspace_id, lead_id, given)
    if lead is None:
        raise errors.NotFound()
    await _change_email(session, caller, lead, email)
    if given or email:
        await _note(
            session, caller, lead_id, "LEAD_UPDATED", {"fields": sorted([*given, *["email"] * bool(email)])}
        )
    # They start once the answer is out, so after the commit.
    for execution_id in await _move(session, caller, lead_id, status):
        afterwards.add_task(_start, platform, caller.workspace_id, execution_id)
    return await _read(session, caller, lead_id)


@router.delete("/v1/leads/{lead_id}", status_code=204, summary="Delete a lead")
async def lead_delete(
    lead_id: Id, caller: Annotated[Caller, requires("leads:write")], session: Session
) -> None:
    """The lead disappears from lists; its history stays, and a new submission brings it back."""
    if not await leads.remove(session, caller.workspace_id, lead_id):
        raise errors.NotFound()
    await _note(session, caller, lead_id, "LEAD_DELETED", {})


@router.get("/v1/leads/{lead_id}/events", summary="List a lead's events")
async def lead_events_list(
    lead_id: Id,
    caller: Annotated[Caller, requires("leads:read")],
    session: Session,
    paging: OurPaging,
    window: Windowed,
) -> LeadEventPage:
    """The lead's history, newest first."""
    if await leads.get(session, caller.workspace_id, lead_id) is None:
        raise errors.NotFound()
    cursors = paging.of(window)
    before = cursors.position(UUID)
    found = await leads.events(session, caller.workspace_id, lead_id, limit=window.limit + 1, before=before)
    rows, following = cursors.page(found, "id")
    return LeadEventPage(data=[LeadEventShown.model_validate(row) for row in rows], next_cursor=following)


async def _read(session: Session, caller: Caller, lead_id: UUID) -> LeadWithFields:
    # What was changed by a statement is read anew.
    session.expire_all()
    found = await leads.get_with_fields(session, caller.workspace_id, lead_id)
    if found is None:
        raise errors.NotFound()
    own = LeadShown.model_validate(found.lead).model_dump()
    return LeadWithFields(**own, fields=found.fields)


async def _change_email(session: Session, caller: Caller, lead: Lead, email: str | None) -> None:
    if email is None or email == lead.email:
        return
    if not await changes.change_email(session, caller.workspace_id, lead.id, email):
        detail = errors.Detail(
            code="taken", message="Another lead of this workflow has this address.", pointer="/email"
        )
        raise errors.Conflict("Another lead of this workflow has this address.", errors=[detail])


async def _move(session: Session, caller: Caller, lead_id: UUID, status: str | None) -> list[UUID]:
    """Move the lead and queue the runs that react to it."""
    if status is None:
        return []
    moved = await leads.set_status(session, caller.workspace_id, lead_id, status)
    if moved is None or not moved.changed:
        return []
    metadata: JsonObject = {"from": moved.before, "to": moved.after}
    event_id = await _note(session, caller, lead_id, "STATUS_CHANGED", metadata)
    change = reactions.Change(
        event="status_changed",
        lead_id=lead_id,
        event_id=event_id,
        by="api",
        before=moved.before,
        after=moved.after,
    )
    return await reactions.react(session, caller.workspace_id, change)


async def _start(platform: Platform, workspace_id: UUID, execution_id: UUID) -> None:
    platform.start_soon(workspace_id, execution_id)


async def _note(
    session: Session, caller: Caller, lead_id: UUID, event_type: str, metadata: JsonObject
) -> UUID:
    who: JsonObject = {"api_key_id": str(caller.api_key_id)} if caller.api_key_id else {}
    event = await leads.add_event(
        session,
        caller.workspace_id,
        lead_id,
        event_type,
        metadata={**metadata, **who},
        user_id=caller.user_id,
    )
    return event.id
