"""Publishing makes immutable versions, only when something changed, and only of the draft that was read."""

import asyncio

import pytest
from sqlalchemy import update
from sqlalchemy.exc import DBAPIError

from db import graphs, versions, workflows
from db.models import WorkflowVersion
from db.session import Database
from tests.db.conftest import Place
from workflows.graph import Edge, Graph, Node

pytestmark = pytest.mark.anyio


def graph(message: str = "hi") -> Graph:
    log = Node(id="log", type="UTILITY_LOG", config={"message": message, "level": "INFO"}, save_as="log")
    trigger = Node(id="start", type="TRIGGER_MANUAL", save_as="start")
    return Graph(nodes=(log, trigger), edges=(Edge(id="e", source="start", target="log"),))


async def test_a_draft_becomes_active_with_version_one(database: Database, here: Place):
    async with database.workspace(here.workspace_id) as session:
        draft = await workflows.create(session, here.workspace_id, name="Draft")
        made = await versions.publish(
            session, here.workspace_id, draft.id, graph(), graph_version=1, user_id=here.user_id
        )
        found = await versions.current(session, here.workspace_id, draft.id)
    assert made is not None
    assert found is not None
    assert (made.version, made.is_new) == (1, True)
    assert found.trigger is not None
    assert found.trigger.id == "start"
    assert (found.version_id, found.version, found.status, found.graph) == (made.id, 1, "active", graph())


async def test_equal_content_makes_no_new_version(database: Database, here: Place):
    # The stored JSON orders keys in its own way, so the same config is written in another order.
    turned = graph().nodes[0].model_copy(update={"config": {"level": "INFO", "message": "hi"}})
    same = Graph(nodes=(turned, graph().nodes[1]), edges=graph().edges)
    async with database.workspace(here.workspace_id) as session:
        made = [
            await versions.publish(session, here.workspace_id, here.workflow_id, one, graph_version=1)
            for one in (graph(), same, graph("other"), graph())
        ]
        listed = await versions.page(session, here.workspace_id, here.workflow_id, limit=2)
        rest = await versions.page(session, here.workspace_id, here.workflow_id, limit=9, before=3)
    assert [(m.version, m.is_new) for m in made if m] == [(2, True), (2, False), (3, True), (4, True)]
    assert [v.version for v in listed] == [4, 3]
    assert [v.version for v in rest] == [2, 1]


async def test_a_draft_that_changed_since_it_was_read_is_not_published(database: Database, here: Place):
    async with database.workspace(here.workspace_id) as session:
        with pytest.raises(graphs.Stale):
            await versions.publish(session, here.workspace_id, here.workflow_id, graph(), graph_version=7)


async def test_publishing_leaves_a_paused_workflow_paused_and_refuses_an_archived_one(
    database: Database, here: Place
):
    async with database.workspace(here.workspace_id) as session:
        await workflows.move(session, here.workspace_id, here.workflow_id, "paused")
        await versions.publish(session, here.workspace_id, here.workflow_id, graph(), graph_version=1)
        found = await versions.current(session, here.workspace_id, here.workflow_id)
        assert found is not None
        assert (found.status, found.version) == ("paused", 2)
        await workflows.move(session, here.workspace_id, here.workflow_id, "archived")
        with pytest.raises(workflows.WrongStatus):
            await versions.publish(session, here.workspace_id, here.workflow_id, graph("b"), graph_version=1)


async def test_publishing_twice_at_once_makes_one_version(database: Database, here: Place):
    async def one() -> versions.Published | None:
        async with database.workspace(here.workspace_id) as session:
            return await versions.publish(
                session, here.workspace_id, here.workflow_id, graph(), graph_version=1
            )

    made = await asyncio.gather(*(one() for _ in range(5)))
    assert sorted((m.version, m.is_new) for m in made if m) == [(2, False)] * 4 + [(2, True)]


async def test_a_version_never_changes(database: Database, here: Place):
    with pytest.raises(DBAPIError):
        async with database.workspace(here.workspace_id) as session:
            await session.execute(update(WorkflowVersion).values(graph={}))
    async with database.workspace(here.workspace_id) as session:
        one = await versions.get(session, here.workspace_id, here.workflow_id, 1)
        assert one is not None
        assert one.id == here.version_id
        assert await versions.get(session, here.workspace_id, here.workflow_id, 2) is None


async def test_what_was_never_published_has_nothing_to_start(database: Database, here: Place, there: Place):
    async with database.workspace(here.workspace_id) as session:
        draft = await workflows.create(session, here.workspace_id, name="Draft")
        assert await versions.current(session, here.workspace_id, draft.id) is None
        assert await versions.current(session, here.workspace_id, there.workflow_id) is None
        assert (
            await versions.publish(session, here.workspace_id, there.workflow_id, graph(), graph_version=1)
        ) is None
