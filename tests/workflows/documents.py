"""React Flow documents for tests, as short as they can be written."""

from typing import Any

from workflows import reactflow, validation
from workflows.problems import Problem
from workflows.questions import Field
from workflows.reactflow import Draft

LOG = {"message": "hi"}


def node(node_id: str, type_: str = "UTILITY_LOG", **config: Any) -> dict[str, Any]:
    """Draw a node; a log needs a message, so it has one."""
    given = {**LOG, **config} if type_ == "UTILITY_LOG" else config
    return {"id": node_id, "type": type_, "position": {"x": 0, "y": 0}, "data": {"config": given}}


def edge(pair: str, **data: Any) -> dict[str, Any]:
    """Draw an edge written `source>target` or `source.handle>target`; its id is what was written."""
    source, target = pair.split(">")
    name, _, handle = source.partition(".")
    drawn: dict[str, Any] = {"id": pair, "source": name, "target": target, "data": data}
    return {**drawn, "sourceHandle": handle} if handle else drawn


def document(*nodes: dict[str, Any], edges: tuple[Any, ...] = ()) -> dict[str, Any]:
    """Draw a document; edges may be written as text."""
    drawn = [edge(one) if isinstance(one, str) else one for one in edges]
    return {"nodes": list(nodes), "edges": drawn, "viewport": {"x": 0, "y": 0, "zoom": 1}}


def draft(*nodes: dict[str, Any], edges: tuple[Any, ...] = ()) -> Draft:
    """Draw a draft."""
    reading = reactflow.read(document(*nodes, edges=edges))
    assert reading.draft is not None, reading.problems
    return reading.draft


def told(problems: list[Problem]) -> list[tuple[str, str, str | None]]:
    """Shorten problems to code, place and node."""
    return [(problem.code, problem.pointer, problem.node_id) for problem in problems]


START = node("start", "TRIGGER_FORM")
BUDGET = (Field(field_key="email", field_type="EMAIL"), Field(field_key="budget", field_type="DROPDOWN"))
RULE = {"field": "budget", "operator": ">=", "value": 5000}


def found(*drawn: dict[str, Any], edges: tuple[Any, ...] = (), fields: Any = BUDGET) -> list[Problem]:
    """Validate for publishing, and see that every problem says what to do."""
    problems = validation.problems(draft(*drawn, edges=edges), fields, publishing=True)
    assert all(problem.message and problem.remedy for problem in problems)
    return problems


def errors(*drawn: dict[str, Any], edges: tuple[Any, ...] = ()) -> list[tuple[str, str, str | None]]:
    """Validate and keep what stands in the way."""
    return told([p for p in found(*drawn, edges=edges) if p.severity == "error"])


def warnings(*drawn: dict[str, Any], edges: tuple[Any, ...] = ()) -> list[tuple[str, str, str | None]]:
    """Validate and keep what does not."""
    return told([p for p in found(*drawn, edges=edges) if p.severity == "warning"])
