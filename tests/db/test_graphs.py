"""A draft is saved whole, over the version it was made from, and reads back as drawn (ERD §5-7)."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import event, select

from db import graphs
from db.models import ExecutionStep, WorkflowEdge, WorkflowNode
from db.session import Database
from tests.db.conftest import Place, Superuser, queued
from workflows import reactflow
from workflows.reactflow import Draft

pytestmark = pytest.mark.anyio


def node(node_id: str, type_: str = "UTILITY_LOG", **data: Any) -> dict[str, Any]:
    return {"id": node_id, "type": type_, "position": {"x": 1.5, "y": -2}, "data": {"config": {}, **data}}


def edge(edge_id: str, source: str, target: str, **rest: Any) -> dict[str, Any]:
    return {"id": edge_id, "source": source, "target": target, **rest}


def draft(nodes: list[dict[str, Any]], edges: list[dict[str, Any]] | None = None) -> Draft:
    reading = reactflow.read({"nodes": nodes, "edges": edges or [], "viewport": {"x": 0, "y": 0, "zoom": 1}})
    assert reading.draft is not None, reading.problems
    return reading.draft


async def save(database: Database, here: Place, drawn: Draft, *, expected: int) -> int | None:
    async with database.workspace(here.workspace_id) as session:
        return await graphs.replace(
            session, here.workspace_id, here.workflow_id, drawn, expected_version=expected
        )


async def load(database: Database, here: Place) -> graphs.Loaded:
    async with database.workspace(here.workspace_id) as session:
        loaded = await graphs.load(session, here.workspace_id, here.workflow_id)
    assert loaded is not None
    return loaded


async def test_a_draft_reads_back_as_drawn_with_what_we_do_not_know(database: Database, here: Place):
    drawn = draft(
        [
            node(
                "z", label="Ä 🎉", color="red", config={"message": "{{ lead.name }}", "deep": [{"a": None}]}
            ),
            {**node("a"), "measured": {"width": 10.25}, "selected": True},
        ],
        [
            edge("e2", "z", "a", sourceHandle="default", type="smoothstep", data={"condition": {"any": []}}),
            edge("e1", "a", "z", targetHandle="in", data={"isEnabled": False, "note": "x"}),
        ],
    )
    assert await save(database, here, drawn, expected=1) == 2
    assert await load(database, here) == graphs.Loaded(drawn, 2)


async def test_a_stale_save_is_refused_and_changes_nothing(database: Database, here: Place):
    await save(database, here, draft([node("a")]), expected=1)
    with pytest.raises(graphs.Stale) as refused:
        await save(database, here, draft([node("b")]), expected=1)
    assert refused.value.version == 2
    assert [n.id for n in (await load(database, here)).draft.nodes] == ["a"]


async def test_of_five_saves_at_once_one_wins(database: Database, here: Place):
    async def one(name: str) -> bool:
        try:
            return await save(database, here, draft([node(name)]), expected=1) == 2
        except graphs.Stale:
            return False

    won = await asyncio.gather(*(one(f"n{number}") for number in range(5)))
    assert sum(won) == 1
    assert len((await load(database, here)).draft.nodes) == 1


async def test_nodes_keep_their_ids_so_that_earlier_steps_still_name_them(
    database: Database, here: Place, superuser: Superuser
):
    await save(database, here, draft([node("stays"), node("goes")]), expected=1)
    async with database.workspace(here.workspace_id) as session:
        rows = {n.react_flow_node_id: n.id for n in (await session.scalars(select(WorkflowNode))).all()}
        run = queued(here)
        session.add(run)
        await session.flush()
        for number, name in enumerate(rows):
            session.add(
                ExecutionStep(
                    workspace_id=here.workspace_id,
                    execution_id=run.id,
                    workflow_node_id=rows[name],
                    node_id=name,
                    node_type="UTILITY_LOG",
                    step_number=number,
                    status="completed",
                )
            )
    await save(database, here, draft([node("new"), node("stays", label="Other")]), expected=2)
    async with database.workspace(here.workspace_id) as session:
        steps = (await session.scalars(select(ExecutionStep))).all()
    assert {step.node_id: step.workflow_node_id for step in steps} == {"stays": rows["stays"], "goes": None}


async def test_orphaned_edges_are_removed_at_the_save(database: Database, here: Place):
    drawn = draft([node("a"), node("b")], [edge("e", "a", "b"), edge("lost", "a", "gone")])
    await save(database, here, drawn, expected=1)
    assert [e.id for e in (await load(database, here)).draft.edges] == ["e"]
    await save(database, here, draft([node("a")], [edge("e", "a", "b")]), expected=2)
    assert (await load(database, here)).draft.edges == ()


async def test_two_edges_may_swap_their_ends(database: Database, here: Place):
    nodes = [node("a"), node("b"), node("c")]
    await save(database, here, draft(nodes, [edge("1", "a", "b"), edge("2", "a", "c")]), expected=1)
    swapped = draft(nodes, [edge("1", "a", "c"), edge("2", "a", "b")])
    await save(database, here, swapped, expected=2)
    assert (await load(database, here)).draft == swapped


async def test_erd_section_7_the_next_nodes_are_those_of_the_same_workflow(
    database: Database, here: Place, there: Place
):
    drawn = draft(
        [node("start", "TRIGGER_MANUAL"), node("a"), node("b"), node("c")],
        [
            edge("1", "start", "b"),
            edge("2", "start", "a"),
            edge("3", "start", "c", data={"isEnabled": False}),
        ],
    )
    await save(database, here, drawn, expected=1)
    await save(
        database, there, draft([node("start"), node("a"), node("c")], [edge("1", "start", "c")]), expected=1
    )
    async with database.workspace(here.workspace_id) as session:
        ids = (here.workspace_id, here.workflow_id)
        triggers = await graphs.trigger_nodes(session, *ids)
        following = await graphs.next_nodes(session, *ids, "start")
    assert [n.react_flow_node_id for n in triggers] == ["start"]
    assert [n.react_flow_node_id for n in following] == ["b", "a"]
    assert {n.workflow_id for n in following} == {here.workflow_id}


async def test_another_workspaces_graph_is_neither_read_nor_written(
    database: Database, here: Place, there: Place
):
    await save(database, there, draft([node("theirs")]), expected=1)
    async with database.workspace(here.workspace_id) as session:
        for workspace_id in (here.workspace_id, there.workspace_id):
            ids = (workspace_id, there.workflow_id)
            assert await graphs.load(session, *ids) is None
            assert await graphs.replace(session, *ids, draft([node("mine")]), expected_version=2) is None
        assert (await session.scalars(select(WorkflowEdge))).all() == []
    assert [n.id for n in (await load(database, there)).draft.nodes] == ["theirs"]


async def test_a_graph_of_thousands_of_nodes_is_saved_in_a_handful_of_statements(
    database: Database, here: Place
):
    nodes = [node(f"n{number}", label="x") for number in range(3000)]
    edges = [edge(f"e{number}", f"n{number}", f"n{number + 1}") for number in range(2999)]
    statements: list[str] = []
    event.listen(
        database.engine.sync_engine,
        "before_cursor_execute",
        lambda _c, _cursor, statement, *_rest: statements.append(statement),
    )
    await save(database, here, draft(nodes, edges), expected=1)
    assert len(statements) <= 8
    loaded = await load(database, here)
    assert (len(loaded.draft.nodes), len(loaded.draft.edges)) == (3000, 2999)
