"""Workflows are made with free slugs, changed, and moved only where they may go."""

import asyncio

import pytest
from sqlalchemy.exc import IntegrityError
from uuid_utils.compat import uuid7

from db import workflows
from db.session import Database
from tests.db.conftest import Place

pytestmark = pytest.mark.anyio


async def test_a_slug_reads_like_the_name_and_is_counted_up_when_taken(database: Database, here: Place):
    async with database.workspace(here.workspace_id) as session:
        made = [
            await workflows.create(session, here.workspace_id, name=name)
            for name in ("Été & Leads", "Été & Leads", "été leads!", "日本", "x" * 90, "x" * 90)
        ]
    assert [w.slug for w in made] == [
        "ete-leads",
        "ete-leads-2",
        "ete-leads-3",
        "workflow",
        "x" * 63,
        "x" * 56 + "-2",
    ]
    assert {w.status for w in made} == {"draft"}


async def test_twenty_of_the_same_name_at_once_get_twenty_slugs(database: Database, here: Place):
    async def one() -> str | None:
        async with database.workspace(here.workspace_id) as session:
            return (await workflows.create(session, here.workspace_id, name="Race")).slug

    slugs = await asyncio.gather(*(one() for _ in range(5)))
    assert len(set(slugs)) == 5


async def test_a_slug_that_was_asked_for_and_is_taken_is_refused(database: Database, here: Place):
    with pytest.raises(workflows.SlugTaken):
        async with database.workspace(here.workspace_id) as session:
            await workflows.create(session, here.workspace_id, name="Again", slug="intake")


async def test_changing_to_a_taken_slug_is_refused_and_to_a_bad_one_breaks(database: Database, here: Place):
    async with database.workspace(here.workspace_id) as session:
        other = await workflows.create(session, here.workspace_id, name="Other")
    with pytest.raises(workflows.SlugTaken):
        async with database.workspace(here.workspace_id) as session:
            await workflows.change(session, here.workspace_id, other.id, {"slug": "intake"})
    with pytest.raises(IntegrityError):
        async with database.workspace(here.workspace_id) as session:
            await workflows.change(session, here.workspace_id, other.id, {"slug": "No Slug"})


async def test_only_a_workflows_own_columns_are_changed(database: Database, here: Place):
    async with database.workspace(here.workspace_id) as session:
        changed = await workflows.change(
            session, here.workspace_id, here.workflow_id, {"name": "New", "settings": {"a": 1}}
        )
        assert changed is not None
        assert (changed.name, changed.settings, changed.slug) == ("New", {"a": 1}, "intake")
        with pytest.raises(ValueError, match="status"):
            await workflows.change(session, here.workspace_id, here.workflow_id, {"status": "archived"})
        same = await workflows.change(session, here.workspace_id, here.workflow_id, {})
        assert same is not None
        assert same.name == "New"


async def test_another_workspaces_workflow_is_not_there(database: Database, here: Place, there: Place):
    async with database.workspace(here.workspace_id) as session:
        assert await workflows.get(session, there.workspace_id, there.workflow_id) is None
        assert await workflows.change(session, here.workspace_id, there.workflow_id, {"name": "x"}) is None
        assert await workflows.move(session, here.workspace_id, there.workflow_id, "paused") is None
        assert not await workflows.remove(session, here.workspace_id, there.workflow_id)


async def test_a_list_is_cut_into_pages_newest_first_and_filtered(database: Database, here: Place):
    async with database.workspace(here.workspace_id) as session:
        made = [
            (await workflows.create(session, here.workspace_id, name=f"100% {number}")).id
            for number in range(4)
        ]
        first = await workflows.page(session, here.workspace_id, limit=3)
        second = await workflows.page(session, here.workspace_id, limit=3, before=first[-1].id)
        active = await workflows.page(session, here.workspace_id, limit=9, statuses=["active"])
        found = await workflows.page(session, here.workspace_id, limit=9, search="00% 2")
    assert [w.id for w in (*first, *second)] == [*reversed(made), here.workflow_id]
    assert [w.id for w in active] == [here.workflow_id]
    assert [w.id for w in found] == [made[2]]


async def test_a_workflow_is_paused_resumed_and_archived_and_repeats_are_success(
    database: Database, here: Place
):
    steps: list[workflows.Status] = ["paused", "paused", "active", "active", "archived", "archived", "active"]
    async with database.workspace(here.workspace_id) as session:
        for status in steps:
            moved = await workflows.move(session, here.workspace_id, here.workflow_id, status)
            assert moved is not None
            assert moved.status == status


@pytest.mark.parametrize(("status", "reason"), [("active", "never published"), ("paused", "it is draft")])
async def test_a_draft_is_neither_resumed_nor_paused(
    database: Database, here: Place, status: workflows.Status, reason: str
):
    async with database.workspace(here.workspace_id) as session:
        draft = await workflows.create(session, here.workspace_id, name="Draft")
        with pytest.raises(workflows.WrongStatus, match=reason):
            await workflows.move(session, here.workspace_id, draft.id, status)


async def test_an_archived_draft_that_was_never_published_stays_so(database: Database, here: Place):
    async with database.workspace(here.workspace_id) as session:
        draft = await workflows.create(session, here.workspace_id, name="Draft")
        await workflows.move(session, here.workspace_id, draft.id, "archived")
        with pytest.raises(workflows.WrongStatus):
            await workflows.move(session, here.workspace_id, draft.id, "active")


async def test_a_removed_workflow_is_gone_and_its_slug_free(database: Database, here: Place):
    async with database.workspace(here.workspace_id) as session:
        assert await workflows.remove(session, here.workspace_id, here.workflow_id)
        assert await workflows.get(session, here.workspace_id, here.workflow_id) is None
        assert not await workflows.remove(session, here.workspace_id, here.workflow_id)
        again = await workflows.create(session, here.workspace_id, name="Intake", slug="intake")
        assert again.slug == "intake"
        assert await workflows.page(session, here.workspace_id, limit=9) == [again]


async def test_the_published_version_is_told_by_number(database: Database, here: Place):
    async with database.workspace(here.workspace_id) as session:
        draft = await workflows.create(session, here.workspace_id, name="Draft")
        ids = [here.workflow_id, draft.id, uuid7()]
        assert await workflows.published_versions(session, here.workspace_id, ids) == {here.workflow_id: 1}
