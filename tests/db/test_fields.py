"""Form fields keep their order and their answers (ERD §8)."""

import uuid

import pytest

from db import fields, leads
from db.models import FormField
from db.session import Database
from tests.db.conftest import Place
from workflows.questions import FieldType

pytestmark = pytest.mark.anyio


def field(key: str, **values: object) -> dict[str, object]:
    return {"field_key": key, "label": key.title(), "field_type": "TEXT", **values}


async def _keys(database: Database, here: Place) -> list[str]:
    async with database.workspace(here.workspace_id) as session:
        return [row.field_key for row in await fields.every(session, here.workspace_id, here.workflow_id)]


async def _add(database: Database, here: Place, *keys: str) -> list[FormField]:
    async with database.workspace(here.workspace_id) as session:
        made = [await fields.add(session, here.workspace_id, here.workflow_id, field(key)) for key in keys]
    return [row for row in made if row]


async def test_erd_section_8_the_drop_down_is_stored_and_read_as_written(database: Database, here: Place):
    budget = field(
        "budget",
        label="Project Budget",
        field_type="DROPDOWN",
        options=["$500", "$5000", "$10000+"],
        is_required=True,
    )
    async with database.workspace(here.workspace_id) as session:
        await fields.add(session, here.workspace_id, here.workflow_id, budget)
    async with database.workspace(here.workspace_id) as session:
        [read] = await fields.form(session, here.workspace_id, here.workflow_id)
    assert (read.field_type, read.options, read.is_required) == (
        FieldType.DROPDOWN,
        ("$500", "$5000", "$10000+"),
        True,
    )


async def test_fields_stand_in_the_order_they_were_added_until_reordered(database: Database, here: Place):
    made = await _add(database, here, "a", "b", "c")
    assert await _keys(database, here) == ["a", "b", "c"]
    async with database.workspace(here.workspace_id) as session:
        order = [made[2].id, made[0].id, made[1].id]
        await fields.reorder(session, here.workspace_id, here.workflow_id, order)
    await _add(database, here, "d")
    assert await _keys(database, here) == ["c", "a", "b", "d"]


@pytest.mark.parametrize("wrong", ["too few", "twice", "foreign"])
async def test_an_order_that_does_not_name_every_field_once_is_refused(
    database: Database, here: Place, wrong: str
):
    one, two = (row.id for row in await _add(database, here, "a", "b"))
    order = {"too few": [one], "twice": [one, one], "foreign": [one, uuid.uuid4()]}[wrong]
    async with database.workspace(here.workspace_id) as session:
        with pytest.raises(fields.WrongOrder):
            await fields.reorder(session, here.workspace_id, here.workflow_id, order)
    assert await _keys(database, here) == ["a", "b"]
    assert two


async def test_a_key_is_unique_within_the_form(database: Database, here: Place, there: Place):
    await _add(database, there, "a")
    one, two = await _add(database, here, "a", "b")
    with pytest.raises(fields.KeyTaken):
        await _add(database, here, "a")
    with pytest.raises(fields.KeyTaken):
        async with database.workspace(here.workspace_id) as session:
            await fields.change(
                session, here.workspace_id, here.workflow_id, two.id, {"field_key": one.field_key}
            )


async def test_a_field_is_changed_column_by_column(database: Database, here: Place):
    [row] = await _add(database, here, "a")
    async with database.workspace(here.workspace_id) as session:
        here_ids = (here.workspace_id, here.workflow_id, row.id)
        changed = await fields.change(session, *here_ids, {"label": "New", "validation": {"maxLength": 3}})
        assert changed is not None
        assert (changed.label, changed.validation, changed.field_key) == ("New", {"maxLength": 3}, "a")
        assert await fields.change(session, *here_ids, {}) is changed
        with pytest.raises(ValueError, match="workflow_id"):
            await fields.change(session, *here_ids, {"workflow_id": uuid.uuid4()})


async def test_another_workspaces_form_is_not_there(database: Database, here: Place, there: Place):
    [row] = await _add(database, there, "a")
    async with database.workspace(here.workspace_id) as session:
        ids = (here.workspace_id, there.workflow_id)
        assert await fields.every(session, *ids) == []
        assert await fields.add(session, *ids, field("x")) is None
        assert await fields.reorder(session, *ids, [row.id]) is None
        assert await fields.get(session, *ids, row.id) is None
        assert await fields.change(session, *ids, row.id, {"label": "x"}) is None
        assert not await fields.remove(session, *ids, row.id)


async def test_erd_section_8_a_field_with_answers_is_kept_unless_they_go_too(database: Database, here: Place):
    [row] = await _add(database, here, "budget")
    ids = (here.workspace_id, here.workflow_id, row.id)
    async with database.workspace(here.workspace_id) as session:
        made = await leads.upsert(
            session, here.workspace_id, workflow_id=here.workflow_id, email="a@example.com"
        )
        await leads.set_fields(session, here.workspace_id, made.lead.id, {"budget": "$500"})
    with pytest.raises(fields.HasAnswers) as refused:
        async with database.workspace(here.workspace_id) as session:
            await fields.remove(session, *ids)
    assert refused.value.count == 1
    async with database.workspace(here.workspace_id) as session:
        assert await fields.remove(session, *ids, delete_answers=True)
        assert not await fields.remove(session, *ids, delete_answers=True)
        kept = await leads.get_with_fields(session, here.workspace_id, made.lead.id)
    assert kept is not None
    assert kept.fields == {}


async def test_a_form_has_a_hundred_fields_at_most(database: Database, here: Place):
    await _add(database, here, *(f"f{number}" for number in range(100)))
    with pytest.raises(fields.TooMany):
        await _add(database, here, "one_more")
