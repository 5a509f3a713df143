"""A draft graph is read as it was saved, saved over the right version only, walked inside its workflow."""

import asyncio
from uuid import UUID

import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

from db import doors, graphs
from db.models import ExecutionStep, Workflow, WorkflowEdge, WorkflowNode
from db.session import Database
from tests.db.conftest import Place, queued
from workflows.reactflow import Draft, DraftEdge, DraftNode

pytestmark = pytest.mark.anyio

NODES = (
    DraftNode(id="z", type="TRIGGER_FORM", label="Form", position={"x": 1.5, "y": 0}, extra={"width": 10}),
    DraftNode(id="b", type="LOGIC_CONDITION", config={"rule": {"field": "budget", "operator": "is_set"}}),
    DraftNode(id="a", type="ACTION_SEND_EMAIL", extra={"data": {"color": "red"}}),
)
EDGES = (
    DraftEdge(id="e2", source="z", target="b"),
    DraftEdge(id="e1", source="b", target="a", source_handle="true", condition={"field": "x"}),
    DraftEdge(id="e0", source="z", target="a", is_enabled=False, extra={"animated": True}),
)
DRAFT = Draft(nodes=NODES, edges=EDGES, viewport={"x": 1, "y": 2, "zoom": 0.5})


async def save(database: Database, place: Place, draft: Draft, version: int) -> int | None:
    async with database.workspace(place.workspace_id) as session:
        return await graphs.replace(
            session, place.workspace_id, place.workflow_id, draft, expected_version=version
        )


async def ids(session: AsyncSession) -> dict[str, UUID]:
    rows = await session.execute(select(WorkflowNode.react_flow_node_id, WorkflowNode.id))
    return {row.react_flow_node_id: row.id for row in rows}


async def load(database: Database, place: Place) -> graphs.Loaded:
    async with database.workspace(place.workspace_id) as session:
        loaded = await graphs.load(session, place.workspace_id, place.workflow_id)
    assert loaded is not None
    return loaded


async def test_a_saved_draft_is_read_back_untouched_and_in_its_order(database: Database, here: Place):
    assert await save(database, here, DRAFT, 1) == 2
    assert await load(database, here) == graphs.Loaded(DRAFT, 2)


async def test_a_save_removes_changes_adds_and_keeps_the_ids_of_what_stays(database: Database, here: Place):
    await save(database, here, DRAFT, 1)
    async with database.workspace(here.workspace_id) as session:
        before = await ids(session)
    after = Draft(
        nodes=(
            NODES[2].model_copy(update={"label": "Mail"}),
            DraftNode(id="n", type="UTILITY_END"),
            NODES[0],
        ),
        edges=(EDGES[2].model_copy(update={"is_enabled": True}),),
    )
    await save(database, here, after, 2)
    assert (await load(database, here)).draft == after
    async with database.workspace(here.workspace_id) as session:
        found = await ids(session)
    assert {key: found[key] for key in ("a", "z")} == {key: before[key] for key in ("a", "z")}
    assert set(found) == {"a", "n", "z"}


async def test_an_empty_draft_can_be_saved(database: Database, here: Place):
    await save(database, here, DRAFT, 1)
    await save(database, here, Draft(), 2)
    assert (await load(database, here)).draft == Draft()


async def test_a_stale_version_is_refused_and_changes_nothing(database: Database, here: Place):
    await save(database, here, DRAFT, 1)
    with pytest.raises(graphs.Stale) as refused:
        await save(database, here, Draft(), 1)
    assert refused.value.version == 2
    assert (await load(database, here)).draft == DRAFT


async def test_of_parallel_saves_one_wins(database: Database, here: Place):
    results = await asyncio.gather(
        *(save(database, here, DRAFT, 1) for _ in range(6)), return_exceptions=True
    )
    assert results.count(2) == 1
    assert sum(isinstance(result, graphs.Stale) for result in results) == 5


async def test_missing_and_foreign_workflows_have_no_draft(database: Database, here: Place, there: Place):
    await save(database, there, DRAFT, 1)
    async with database.workspace(here.workspace_id) as session:
        for workflow_id in (uuid7(), there.workflow_id):
            assert await graphs.load(session, here.workspace_id, workflow_id) is None
            assert (
                await graphs.replace(session, here.workspace_id, workflow_id, Draft(), expected_version=2)
                is None
            )
            assert await graphs.next_nodes(session, here.workspace_id, workflow_id, "z") == []
    assert (await load(database, there)).draft == DRAFT


async def test_erd_pattern_2_finds_triggers_and_follows_enabled_edges_inside_one_workflow(
    database: Database, here: Place
):
    await save(database, here, DRAFT, 1)
    twin = uuid7()
    async with database.workspace(here.workspace_id) as session:
        session.add(Workflow(workspace_id=here.workspace_id, id=twin, name="Twin"))
        await session.flush()
        await graphs.replace(session, here.workspace_id, twin, DRAFT, expected_version=1)
        triggers = await graphs.trigger_nodes(session, here.workspace_id, here.workflow_id)
        assert [(node.react_flow_node_id, node.workflow_id) for node in triggers] == [("z", here.workflow_id)]
        following = await graphs.next_nodes(session, here.workspace_id, here.workflow_id, "z")
        assert [(node.react_flow_node_id, node.workflow_id) for node in following] == [
            ("b", here.workflow_id)
        ]


async def test_erd_5_deleting_a_node_leaves_its_edges_and_steps_forget_it(database: Database, here: Place):
    await save(database, here, DRAFT, 1)
    execution = queued(here)
    async with database.workspace(here.workspace_id) as session:
        session.add(execution)
        await session.flush()
        node = (
            await session.execute(select(WorkflowNode).where(WorkflowNode.react_flow_node_id == "a"))
        ).scalar_one()
        session.add(
            ExecutionStep(
                workspace_id=here.workspace_id,
                execution_id=execution.id,
                workflow_node_id=node.id,
                node_id="a",
                node_type="ACTION_SEND_EMAIL",
                step_number=1,
                status="completed",
            )
        )
        await session.flush()
        await session.delete(node)
    async with database.workspace(here.workspace_id) as session:
        step = (await session.execute(select(ExecutionStep))).scalar_one()
        assert (step.workflow_node_id, step.workspace_id, step.node_id) == (None, here.workspace_id, "a")
        assert len((await session.execute(select(WorkflowEdge))).scalars().all()) == 3


async def test_erd_6_orphaned_edges_go_at_the_next_save(database: Database, here: Place):
    await save(database, here, DRAFT, 1)
    await save(database, here, Draft(nodes=NODES[:2], edges=EDGES), 2)
    assert (await load(database, here)).draft.edges == EDGES[:1]


async def test_erd_6_orphaned_edges_go_at_the_nightly_upkeep(database: Database, here: Place):
    await save(database, here, DRAFT, 1)
    async with database.workspace(here.workspace_id) as session:
        node = (
            await session.execute(select(WorkflowNode).where(WorkflowNode.react_flow_node_id == "a"))
        ).scalar_one()
        await session.delete(node)
    async with database.door() as session:
        assert await doors.prune_edges(session) == 2
        assert await doors.prune_edges(session) == 0
    assert (await load(database, here)).draft.edges == EDGES[:1]


async def test_ten_thousand_nodes_are_saved_within_a_requests_limits(database: Database, here: Place):
    nodes = tuple(DraftNode(id=f"n{n}", type="UTILITY_NOTE", config={"n": n}) for n in range(10_000))
    edges = tuple(DraftEdge(id=f"e{n}", source=f"n{n}", target=f"n{n + 1}") for n in range(9_999))
    await save(database, here, Draft(nodes=nodes, edges=edges), 1)
    loaded = await load(database, here)
    assert (len(loaded.draft.nodes), len(loaded.draft.edges)) == (10_000, 9_999)
    await save(database, here, Draft(nodes=nodes[::-1], edges=edges), 2)
    assert (await load(database, here)).draft.nodes[0].id == "n9999"


async def test_a_deleted_workflow_has_no_draft(database: Database, here: Place):
    async with database.workspace(here.workspace_id) as session:
        await session.execute(update(Workflow).values(deleted_at=Workflow.created_at))
        assert await graphs.load(session, here.workspace_id, here.workflow_id) is None
