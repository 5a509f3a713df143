"""Adding a node type is two new files and no edited line (design §3)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.graphs import chain, node
from tests.e2e.house import House, ok
from tests.e2e.planted import planted
from tests.e2e.target import Target
from workflows import catalogue

pytestmark = pytest.mark.anyio

NAME, FILE = "ACTION_GREET_BOARD", "action_greet_board"
TYPE = '''"""ACTION_GREET_BOARD: says hello to the board."""

from typing import Any, ClassVar

from workflows.nodetype import NodeConfig, NodeType, Template


class Config(NodeConfig):
    """What to say."""

    greeting: Template = "Hello"


class GreetBoard(NodeType):
    """Greets."""

    name = "ACTION_GREET_BOARD"
    title = "Greet the board"
    summary = "Says hello."
    Config = Config
    example: ClassVar[dict[str, Any]] = {"greeting": "Hello {{ lead.email }}"}
    handles = ("default", "ignored")
'''
EFFECT = '''"""Says hello to the board."""

from activities.step import Step
from activities.world import World
from workflows.messages import Outcome


async def run(step: Step, world: World) -> Outcome:
    """Say it, loudly."""
    return Outcome(output={"said": step.config.greeting.upper()}, handles=("ignored",))
'''


@pytest.fixture
def two_files(tmp_path: Path) -> Iterator[None]:
    """Write the two files beside the others, as far as Python can tell."""
    with planted(tmp_path, FILE, node_type=TYPE, effect=EFFECT):
        yield


# The files must be there before the house is: its worker registers what it finds.
@pytest.fixture
async def target(two_files: None, target: Target) -> Target:
    """Listen for webhooks, once the two files are there."""
    return target


async def test_two_new_files_are_validated_registered_described_and_run(house: House):
    form, bad = node("form", "TRIGGER_FORM"), node("greet", NAME, greetings="x")
    made = (await ok(house.api.post("/v1/workflows", json={"name": "Bad"}))).json()
    path = f"/v1/workflows/{made['id']}/graph"
    checked = (await ok(house.api.post(f"{path}/validate", json=chain(form, bad)))).json()
    assert "has no setting `greetings`" in str(checked)

    listed = (await ok(house.api.get("/v1/node-types"))).json()["data"]
    assert NAME in {each["name"] for each in listed}
    assert f"## {NAME}" in catalogue.page()

    greet = node("greet", NAME, greeting="Hello {{ lead.email }}")
    workflow = await house.workflow(chain(form, greet))
    execution_id = await house.submit(workflow, {"email": "ada@example.com"})
    assert (await house.ended(execution_id))["status"] == "completed"
    step = (await house.steps(execution_id))["greet"]
    assert (step["handle"], step["output_data"]) == ("ignored", {"said": "HELLO ADA@EXAMPLE.COM"})
