"""Every executable node type fails as it says: a new type brings its own failure, in its own file."""

from typing import Any

import pytest

from tests.activities.conftest import Stage, rule_on_edge
from workflows import nodes
from workflows.nodetype import NodeType

pytestmark = pytest.mark.anyio

EXECUTABLE = [each for each in nodes.types().values() if not (each.passes or each.never_runs)]
WITHOUT = {"LOGIC_SPLIT", "LOGIC_GOTO"}
"""Nothing in its config can fail."""


@pytest.mark.parametrize("node_type", EXECUTABLE, ids=lambda t: t.name)
async def test_it_fails_as_it_is_documented_to(stage: Stage, node_type: type[NodeType]):
    given: dict[str, Any] = {}
    if node_type.failure is None:
        assert node_type.name in WITHOUT, "Give it a `failure`: a type of error, a config."
        type_, config = "bad_condition", node_type.example
        given["edges"] = (rule_on_edge("way", {"field": "x", "operator": "resembles"}),)
    else:
        type_, config = node_type.failure
    failure = await stage.fail(node_type.name, config, **given)
    assert (failure.type, failure.non_retryable) == (type_, True)
    assert failure.message
