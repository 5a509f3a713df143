"""Big graphs whose cost is known: a long one and a wide one."""

from typing import Any

from tests.e2e.graphs import chain, edge, graph, node

NODES, BRANCHES = 200, 50
START = node("start", "TRIGGER_MANUAL")
BIG = {"field": "trigger.amount", "operator": ">=", "value": 100}


def long(nodes: int = NODES) -> dict[str, Any]:
    """Draw so many nodes of logic in a row."""
    kinds = (
        lambda n: node(
            f"n{n}", "UTILITY_SET_VARIABLES", assignments={"step": n, "text": "{{ trigger.amount }}"}
        ),
        lambda n: node(f"n{n}", "LOGIC_CONDITION", condition=BIG),
        lambda n: node(f"n{n}", "UTILITY_LOG", message="At {{ vars.step }}"),
        lambda n: node(f"n{n}", "LOGIC_SPLIT", variants=[{"id": "a"}, {"id": "b"}]),
    )
    return chain(START, *(kinds[(n - 1) % len(kinds)](n) for n in range(1, nodes)))


def wide(branches: int = BRANCHES) -> dict[str, Any]:
    """Draw so many branches of two nodes side by side, and a merge that waits for all of them."""
    first = [node(f"a{n}", "UTILITY_SET_VARIABLES", assignments={f"v{n}": n}) for n in range(branches)]
    second = [node(f"b{n}", "UTILITY_LOG", message=f"Branch {{{{ vars.v{n} }}}}") for n in range(branches)]
    join = node("join", "LOGIC_MERGE", mode="all")
    ways = [
        part
        for n in range(branches)
        for part in (edge("start", f"a{n}"), edge(f"a{n}", f"b{n}"), edge(f"b{n}", "join"))
    ]
    return graph(
        START, *first, *second, join, node("end", "UTILITY_LOG", message="Joined"), *ways, edge("join", "end")
    )


def loop(count: int, **config: Any) -> dict[str, Any]:
    """Draw a loop over so many numbers with one log in it, and an end behind it."""
    numbers = node("loop", "LOGIC_FOR_EACH", items=list(range(count)), maxItems=count, **config)
    return graph(
        node("start", "TRIGGER_MANUAL"),
        numbers,
        node("log", "UTILITY_LOG", message="x"),
        node("done", "UTILITY_END"),
        edge("start", "loop"),
        edge("loop", "log", "each"),
        edge("loop", "done", "done"),
    )
