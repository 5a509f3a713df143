"""Leads are one per workflow and address, carry their answers and show runs a plain scope."""

import asyncio
import json

import pytest
from sqlalchemy import select, update
from uuid_utils.compat import uuid7

from db import leads
from db.leads import Filters
from db.models import FormField, Lead, LeadFieldData
from db.session import Database
from tests.db.conftest import Place, queued

pytestmark = pytest.mark.anyio


@pytest.fixture
async def fields(database: Database, here: Place) -> None:
    async with database.workspace(here.workspace_id) as session:
        for position, (key, kind) in enumerate((("budget", "NUMBER"), ("note", "TEXT"))):
            session.add(
                FormField(
                    workspace_id=here.workspace_id,
                    workflow_id=here.workflow_id,
                    field_key=key,
                    label=key,
                    field_type=kind,
                    position=position,
                )
            )


async def make(database: Database, place: Place, email: str, **values: str | None) -> leads.Upserted:
    async with database.workspace(place.workspace_id) as session:
        return await leads.upsert(
            session, place.workspace_id, workflow_id=place.workflow_id, email=email, values=values
        )


async def test_erd_10_an_address_is_one_lead_however_it_is_written(database: Database, here: Place):
    first = await make(database, here, "Ａnn@EXAMPLE.com ", first_name="Ann")
    again = await make(database, here, "ann@example.com", last_name="Lee", first_name=None)
    assert (first.created, again.created) == (True, False)
    assert first.lead.id == again.lead.id
    kept = again.lead
    assert (kept.email, kept.first_name, kept.last_name) == ("ann@example.com", "Ann", "Lee")
    assert kept.status == "NEW"


async def test_parallel_submissions_make_one_lead(database: Database, here: Place):
    made = await asyncio.gather(*(make(database, here, "a@b.example") for _ in range(8)))
    assert len({entry.lead.id for entry in made}) == 1
    assert sum(entry.created for entry in made) == 1


async def test_a_deleted_lead_is_gone_until_it_comes_back(database: Database, here: Place):
    lead = (await make(database, here, "a@b.example")).lead
    async with database.workspace(here.workspace_id) as session:
        assert await leads.remove(session, here.workspace_id, lead.id)
        assert not await leads.remove(session, here.workspace_id, lead.id)
        assert await leads.get(session, here.workspace_id, lead.id) is None
        assert await leads.get(session, here.workspace_id, lead.id, include_deleted=True)
        assert await leads.get_with_fields(session, here.workspace_id, lead.id) is None
        assert await leads.scope(session, here.workspace_id, lead.id) is None
        assert await leads.page(session, here.workspace_id, limit=5) == []
    back = await make(database, here, "a@b.example")
    assert (back.created, back.lead.id, back.lead.deleted_at) == (False, lead.id, None)


async def test_a_lead_is_found_by_its_address_within_its_workflow(database: Database, here: Place):
    lead = (await make(database, here, "a@b.example")).lead
    async with database.workspace(here.workspace_id) as session:
        found = await leads.find(
            session, here.workspace_id, workflow_id=here.workflow_id, email="A@B.example"
        )
        assert found is not None
        assert found.id == lead.id
        assert await leads.find(session, here.workspace_id, workflow_id=uuid7(), email="a@b.example") is None


@pytest.mark.usefixtures("fields")
async def test_erd_11_a_lead_has_one_value_per_field_read_by_pattern_1(database: Database, here: Place):
    lead = (await make(database, here, "a@b.example")).lead
    async with database.workspace(here.workspace_id) as session:
        empty = await leads.get_with_fields(session, here.workspace_id, lead.id)
        assert empty is not None
        assert empty.fields == {}
        stored = await leads.set_fields(
            session, here.workspace_id, lead.id, {"budget": "5000", "note": None, "foreign": "x"}
        )
        assert stored == {"budget", "note"}
        assert await leads.set_fields(session, here.workspace_id, lead.id, {"budget": "6000"}) == {"budget"}
        assert await leads.set_fields(session, here.workspace_id, lead.id, {}) == set()
        found = await leads.get_with_fields(session, here.workspace_id, lead.id)
        assert found is not None
        assert found.fields == {"budget": "6000", "note": None}
        assert found.lead.email == "a@b.example"
        assert len((await session.execute(select(LeadFieldData))).scalars().all()) == 2
        assert await leads.get_with_fields(session, here.workspace_id, uuid7()) is None


async def test_columns_are_written_by_name_and_others_are_refused(database: Database, here: Place):
    lead = (await make(database, here, "a@b.example", company="Old")).lead
    async with database.workspace(here.workspace_id) as session:
        changed = await leads.update_columns(
            session, here.workspace_id, lead.id, {"company": "New", "phone": None}
        )
        assert changed is not None
        assert changed.company == "New"
        unchanged = await leads.update_columns(session, here.workspace_id, lead.id, {})
        assert unchanged is not None
        assert await leads.update_columns(session, here.workspace_id, uuid7(), {"company": "New"}) is None
        for column in ("workspace_id", "status", "email", "id"):
            with pytest.raises(ValueError, match=column):
                await leads.update_columns(session, here.workspace_id, lead.id, {column: "x"})


async def test_a_status_moves_only_from_where_it_may(database: Database, here: Place):
    lead = (await make(database, here, "a@b.example")).lead
    async with database.workspace(here.workspace_id) as session:

        async def move(status: str, *allowed: str) -> leads.Moved:
            moved = await leads.set_status(session, here.workspace_id, lead.id, status, allowed_from=allowed)
            assert moved is not None
            return moved

        assert await move("QUALIFIED", "NEW") == leads.Moved("NEW", "QUALIFIED")
        assert not (await move("WON", "NEW", "BOOKED")).changed
        assert not (await move("QUALIFIED")).changed
        assert (await move("WON")).changed
        assert await leads.set_status(session, here.workspace_id, uuid7(), "WON") is None


async def test_parallel_guarded_moves_let_one_through(database: Database, here: Place):
    lead = (await make(database, here, "a@b.example")).lead

    async def move(status: str) -> bool:
        async with database.workspace(here.workspace_id) as session:
            moved = await leads.set_status(session, here.workspace_id, lead.id, status, allowed_from=["NEW"])
        return moved is not None and moved.changed

    assert sum(await asyncio.gather(*(move(f"S{n}") for n in range(6)))) == 1


async def test_leads_are_listed_newest_first_by_pages_and_filters(database: Database, here: Place):
    made = [(await make(database, here, f"lead{n}@b.example", company=f"50%_{n}")).lead for n in range(5)]
    newest_first = [lead.id for lead in reversed(made)]
    async with database.workspace(here.workspace_id) as session:

        async def ids(limit: int = 10, before: object = None, **filters: object) -> list[object]:
            page = await leads.page(
                session,
                here.workspace_id,
                limit=limit,
                before=before,  # type: ignore[arg-type] # handed through
                filters=Filters(**filters),  # type: ignore[arg-type] # handed through
            )
            return [lead.id for lead in page]

        assert await ids(limit=2) == newest_first[:2]
        assert await ids(limit=9, before=newest_first[1]) == newest_first[2:]
        await leads.set_status(session, here.workspace_id, made[2].id, "WON")
        assert await ids(statuses=["WON", "LOST"]) == [made[2].id]
        assert await ids(email="LEAD3@b.example") == [made[3].id]
        assert await ids(search="%_4") == [made[4].id]
        assert await ids(search="LEAD1") == [made[1].id]
        assert await ids(workflow_id=uuid7()) == []
        assert await ids(created_after=made[0].created_at) == newest_first
        assert await ids(created_before=made[0].created_at) == []
        await leads.remove(session, here.workspace_id, made[0].id)
        assert len(await ids()) == 4
        assert len(await ids(include_deleted=True)) == 5


@pytest.mark.usefixtures("fields")
async def test_the_scope_is_plain_json_with_name_fields_and_event_types(database: Database, here: Place):
    lead = (await make(database, here, "ann.lee@b.example", company="Flow")).lead
    execution = queued(here, lead_id=lead.id)
    async with database.workspace(here.workspace_id) as session:
        session.add(execution)
        await session.flush()
        await leads.set_fields(session, here.workspace_id, lead.id, {"budget": "5000"})
        for kind in ("FORM_SUBMITTED", "EMAIL_SENT", "EMAIL_SENT"):
            await leads.add_event(session, here.workspace_id, lead.id, kind, execution_id=execution.id)
        seen = await leads.scope(session, here.workspace_id, lead.id)
        assert seen is not None
        assert json.loads(json.dumps(seen)) == seen
        assert seen["fields"] == {"budget": "5000"}
        assert seen["events"] == ["EMAIL_SENT", "FORM_SUBMITTED"]
        assert (seen["id"], seen["name"], seen["company"], seen["phone"]) == (
            str(lead.id),
            "ann.lee",
            "Flow",
            None,
        )
        await leads.update_columns(
            session, here.workspace_id, lead.id, {"first_name": "Ann", "last_name": "Lee"}
        )
        seen = await leads.scope(session, here.workspace_id, lead.id)
        assert seen is not None
        assert seen["name"] == "Ann Lee"


async def test_erd_12_events_are_listed_newest_first_with_their_cause(database: Database, here: Place):
    lead = (await make(database, here, "a@b.example")).lead
    async with database.workspace(here.workspace_id) as session:
        first = await leads.add_event(
            session, here.workspace_id, lead.id, "FORM_SUBMITTED", description="d", metadata={"a": 1}
        )
        second = await leads.add_event(session, here.workspace_id, lead.id, "X", user_id=here.user_id)
    async with database.workspace(here.workspace_id) as session:
        found = await leads.events(session, here.workspace_id, lead.id, limit=5)
        assert [event.id for event in found] == [second.id, first.id]
        assert (found[1].event_metadata, found[1].description) == ({"a": 1}, "d")
        assert found[0].triggered_by_user_id == here.user_id
        older = await leads.events(session, here.workspace_id, lead.id, limit=5, before=second.id)
        assert [event.id for event in older] == [first.id]


async def test_a_lead_of_another_workspace_is_out_of_reach(database: Database, here: Place, there: Place):
    lead = (await make(database, there, "a@b.example")).lead
    async with database.workspace(here.workspace_id) as session:
        for workspace_id in (here.workspace_id, there.workspace_id):
            assert await leads.get(session, workspace_id, lead.id) is None
            assert await leads.scope(session, workspace_id, lead.id) is None
            assert await leads.update_columns(session, workspace_id, lead.id, {"company": "x"}) is None
            assert await leads.set_status(session, workspace_id, lead.id, "WON") is None
        await session.execute(update(Lead).values(company="x"))
    async with database.workspace(there.workspace_id) as session:
        kept = await leads.get(session, there.workspace_id, lead.id)
    assert kept is not None
    assert (kept.company, kept.status) == (None, "NEW")
