"""What is drawn on a graph, from sums: without a database."""

import pytest

from api.live import overlays
from db.overlays import Sum
from workflows.graph import Edge, Graph, Loop, Node

LOG = "UTILITY_LOG"


def way(
    node_id: str, status: str = "completed", count: int = 1, handle: str = "default", reason: str = ""
) -> Sum:
    return Sum(node_id, status, reason, handle, count, count, 10.0 * count, None)


def whole(node_id: str, leads: int) -> Sum:
    return Sum(node_id, None, "", "", leads, leads, 30.0, (10.04, 20.06))


def edge(source: str, target: str, handle: str | None = None, *, rule: bool = False) -> Edge:
    condition = {"field": "x", "operator": "is_not_empty"} if rule else None
    return Edge(
        id=f"{source}>{target}", source=source, target=target, source_handle=handle, condition=condition
    )


def graph(*edges: Edge, **special: Node) -> Graph:
    names = dict.fromkeys(name for each in edges for name in (each.source, each.target))
    return Graph(nodes=tuple(special.get(name) or Node(id=name, type=LOG) for name in names), edges=edges)


def counts(drawn: Graph, *sums: Sum) -> dict[str, int]:
    found = overlays.edges(drawn, overlays.tallies(sums))
    return {edge_id: each.count for edge_id, each in found.items()}


def test_an_edge_counts_the_steps_that_left_by_its_handle():
    drawn = graph(edge("a", "b", "yes"), edge("a", "c", "no"), edge("a", "d"))
    sums = way("a", count=3, handle="yes"), way("a", count=2, handle="no"), way("a", "running", handle="")
    assert counts(drawn, *sums) == {"a>b": 3, "a>c": 2, "a>d": 5}


def test_a_step_may_leave_by_several_handles_and_a_failed_one_by_error_or_not_at_all():
    drawn = graph(edge("a", "b", "one"), edge("a", "c", "two"), edge("a", "d", "error"), edge("a", "e"))
    sums = way("a", handle="one,two"), way("a", "failed", 4, "error"), way("a", "failed", 2, "")
    assert counts(drawn, *sums) == {"a>b": 1, "a>c": 1, "a>d": 4, "a>e": 1}


def test_an_edge_with_a_rule_counts_when_what_it_leads_to_ran():
    drawn = graph(edge("a", "b", rule=True), edge("a", "c", rule=True))
    sums = way("a", count=5), way("b", count=2), way("c", "skipped", 5, "", "branch_not_taken")
    assert counts(drawn, *sums) == {"a>b": 2, "a>c": 0}


@pytest.mark.parametrize("reason", ["disabled", "skipped_by_user"])
def test_what_is_passed_by_is_left_by_the_first_way(reason: str):
    drawn = graph(edge("a", "b"), edge("b", "c", rule=True))
    assert counts(
        drawn, way("a", "skipped", 3, "", reason), way("b", count=3), way("c", "skipped", 3, "", reason)
    ) == {
        "a>b": 3,
        "b>c": 3,
    }


def test_a_loop_goes_into_its_items_once_for_each():
    head = Node(id="each", type="LOGIC_FOR_EACH", config={"items": []}, loop=Loop(kind="each", cap=9))
    drawn = graph(edge("each", "in", "each"), edge("each", "out", "done"), each=head)
    assert counts(drawn, way("each", handle="done"), way("in", count=7)) == {"each>in": 7, "each>out": 1}


def test_an_edge_to_a_node_that_is_gone_counts_nothing():
    drawn = Graph(nodes=(Node(id="a", type=LOG),), edges=(edge("a", "gone"), edge("gone", "a")))
    assert counts(drawn, way("a")) == {"a>gone": 0, "gone>a": 0}


def test_of_a_node_that_ran_often_the_most_telling_status_is_shown():
    drawn = graph(edge("a", "b"), edge("b", "c"))
    sums = (
        *(way("a", count=2), way("a", "failed"), whole("a", 3)),
        way("b", "skipped", 1, "", "branch_not_taken"),
    )
    found = overlays.of_run(drawn, overlays.tallies(sums))
    assert (found["a"].status, found["a"].visits, found["a"].failed) == ("failed", 3, 1)
    assert found["a"].duration_ms == 30
    assert (found["b"].status, found["b"].visits, found["b"].skip_reason) == (
        "skipped",
        0,
        "branch_not_taken",
    )
    assert (found["c"].status, found["c"].visits, found["c"].duration_ms) == (None, 0, None)


def test_many_runs_add_up_node_by_node():
    drawn = graph(edge("a", "b"), edge("b", "c"))
    sums = (
        *(
            way("a", count=5),
            way("a", "failed", 2, ""),
            way("a", "failed", 1, "error"),
            way("a", "running", 1, ""),
        ),
        *(way("a", "skipped", 4, "", "disabled"), way("a", "cancelled", 3, ""), whole("a", 9)),
    )
    node = overlays.of_workflow(drawn, overlays.tallies(sums), {"a": 2, "elsewhere": 9})["a"]
    assert (node.leads, node.came, node.left, node.waiting) == (9, 12, 10, 2)
    assert (node.failed, node.skipped, node.cancelled) == (3, 4, 3)
    assert (node.p50_ms, node.p95_ms) == (10.0, 20.1)
    empty = overlays.of_workflow(drawn, {}, {})["b"]
    assert (empty.leads, empty.came, empty.p50_ms) == (0, 0, None)
