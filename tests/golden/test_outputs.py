"""What node types say of their outputs is what their steps really output: asked of every golden history."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema_rs
import pytest
from temporalio.contrib.pydantic import pydantic_data_converter

from api.mirror.decoding import decode
from api.mirror.events import Started
from api.mirror.pages import Pages
from api.mirror.projection import Projection
from local import demo
from tests.golden import corpus
from tests.golden.scenes import FIELDS
from workflows import nodes, publish, shapes
from workflows.drawing import Drawing
from workflows.graph import Graph
from workflows.questions import Field
from workflows.shapes import Dead, Shape
from workflows.surroundings import Surroundings

pytestmark = pytest.mark.anyio
PATHS = [path for path in corpus.paths() if corpus.steps(path)]
UNSEEN = {"ACTION_HTTP_REQUEST"}
"""Its golden history has no answer, as no service can be named there: its own tests ask the same of it."""
Step = tuple[str, str, Any]
"""Node id, type and output."""


async def ran(path: Path) -> tuple[Graph, list[Step]]:
    """Give the graph of a history and the steps that completed."""
    projection = Projection(Pages(UUID(int=0)))
    graph = Graph(nodes=(), edges=())
    for event in corpus.read(path).events:
        decoded = await decode(event, pydantic_data_converter)
        if isinstance(decoded, Started):
            graph = decoded.input.graph
        if decoded is not None:
            projection.apply([decoded])
    rows = projection.pages.take().steps.values()
    done = [row for row in rows if row.status == "completed" and row.output_data is not None]
    return graph, [(row.node_id, row.node_type, row.output_data) for row in done]


@cache
def validator(name: str) -> jsonschema_rs.Draft202012Validator:
    schema = nodes.types()[name].output_schema()
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True)


def strangers(value: Any, shape: Shape, path: str = "") -> Iterator[str]:
    """Name the places of a real output that its shape does not know."""
    kind = next(iter(shapes.of_value(value).kinds))
    if not shape.is_any and kind not in shape.kinds and not (kind == "text" and "date" in shape.kinds):
        yield f"{path} is a {kind}"
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        inner = shapes.follow(shape, [str(key)])
        if isinstance(inner, Dead):
            yield f"{path}.{key}"
        else:
            yield from strangers(item, inner, f"{path}.{key}")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
async def test_every_step_of_a_golden_history_outputs_what_its_type_says(path: Path):
    graph, steps = await ran(path)
    asked = demo.FIELDS if path.stem in ("intake", "admitted_at_start") else FIELDS
    fields = [Field.model_validate(field) for field in asked]
    drawing = Drawing(publish.draft_of(graph))
    around = Surroundings(drawing, fields)
    for node_id, name, output in steps:
        if nodes.types()[name].kind() == "trigger" and name != "TRIGGER_FORM":
            # These runs were started by hand, which may bring anything.
            continue
        if not (isinstance(output, dict) and "error" in output):
            assert [error.message for error in validator(name).iter_errors(output)] == [], node_id
        assert list(strangers(output, around.output_of(drawing.by_id[node_id]))) == [], node_id


async def test_every_type_that_declares_an_output_is_seen_with_one():
    seen = {name for path in PATHS for _, name, output in (await ran(path))[1] if "error" not in output}
    declared = {name for name, node_type in nodes.types().items() if node_type.Output is not None}
    assert {name for name in declared - seen if not name.startswith("TRIGGER_")} <= UNSEEN
