"""What each registered node type promises the other rooms; a new type is held to it by being there."""

import inspect
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any, get_type_hints

import pytest
from temporalio import activity
from temporalio.client import Client

import worker
from activities import nodes as effects_by_node
from activities.clients import addresses, http
from activities.clients.limits import QUEUES
from activities.step import Step
from activities.world import World
from db.session import Database
from tests.golden.corpus import ROOT
from workflows import catalogue, configs, nodes
from workflows.messages import Outcome, StepInput
from workflows.nodetype import NodeType
from workflows.run import UNTOUCHED

every_type = pytest.mark.parametrize("node_type", nodes.types().values(), ids=lambda t: t.name)
Activity = Callable[..., Any]


@pytest.fixture
async def by_queue() -> dict[str, dict[str, Activity]]:
    """Return what a worker registers, by queue and name; nothing of its world is ever asked."""
    caller = http.Client(addresses.DEVELOPMENT)
    world = World(
        database=Database("postgresql://nobody@127.0.0.1:1/nothing"),
        temporal=await Client.connect("127.0.0.1:1", lazy=True),
        http=caller,
        smtp=worker.mail_client("smtp://127.0.0.1:1"),
        mail_from="FlowTrack <hello@flowtrack.example>",
        public_url="http://127.0.0.1:8000",
        master_key=bytes(32),
        task_queue="nowhere",
    )
    found = {queue: {name_of(each): each for each in all_} for queue, all_ in worker.by_queue(world).items()}
    await caller.aclose()
    return found


def name_of(registered: Activity) -> str:
    """Name an activity as Temporal knows it."""
    name = activity._Definition.must_from_callable(registered).name
    assert name is not None
    return name


@every_type
def test_its_example_is_read_without_a_flaw(node_type: type[NodeType]):
    config, flaws = configs.read(node_type, node_type.example)
    assert (flaws, type(config)) == ([], node_type.Config)


@every_type
def test_it_has_ways_out_unless_it_ends_a_branch(node_type: type[NodeType]):
    ways = node_type.ways_out(node_type.Config.model_validate(node_type.example))
    assert len(set(ways)) == len(ways)
    ends = node_type.never_runs or node_type.name in ("UTILITY_END", "UTILITY_FAIL")
    assert bool(ways) != ends
    assert node_type.kind() in ("trigger", "action", "logic", "utility")


@every_type
def test_each_attempt_is_limited(node_type: type[NodeType]):
    config = node_type.Config.model_validate(node_type.example)
    assert timedelta(0) < node_type.start_to_close(config) <= timedelta(minutes=5)
    assert timedelta(0) < node_type.fast_timeout <= timedelta(minutes=1)
    assert node_type.queue is None or node_type.queue in QUEUES
    assert 1 <= config.retry.max_attempts <= 100


@every_type
def test_what_it_does_is_a_decision_or_an_effect_of_the_right_shape(node_type: type[NodeType]):
    own = vars(node_type)
    if node_type.never_runs:
        assert not {"decide", "pass_through"} & set(own)
    elif node_type.passes:
        assert "pass_through" in own
    elif node_type.decides:
        assert "decide" in own
    if not node_type.never_runs and not node_type.passes and (node_type.asks or not node_type.decides):
        effect = effects_by_node.effect_of(node_type)
        assert inspect.iscoroutinefunction(effect)
        assert list(get_type_hints(effect).values()) == [Step, World, Outcome]


@every_type
@pytest.mark.anyio
async def test_its_activity_is_registered_where_the_workflow_looks_for_it(
    node_type: type[NodeType], by_queue: dict[str, dict[str, Activity]]
):
    found = {queue for queue, registered in by_queue.items() if node_type.name in registered}
    if node_type.passes or node_type.never_runs:
        assert found == set()
        return
    assert found == {node_type.queue or "", *([""] if node_type.fast_path else [])}
    for queue in found:
        hints = get_type_hints(by_queue[queue][node_type.name])
        assert (hints["given"], hints["return"]) == (StepInput, Outcome)


@pytest.mark.anyio
async def test_the_workflows_own_activities_are_registered(by_queue: dict[str, dict[str, Activity]]):
    own = {"begin", UNTOUCHED, "roll_quotas", "keep_log_partitions", "tidy"}
    assert own <= set(by_queue[""])
    assert "deliver_webhook" in by_queue["webhooks"]
    assert all(queue in ("", *QUEUES) for queue in by_queue)


@every_type
def test_its_description_is_json(node_type: type[NodeType]):
    described = catalogue.describe(node_type)
    assert json.loads(json.dumps(described)) == described
    schema = described["config_schema"]
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert set(node_type.example) <= set(schema["properties"])


@every_type
def test_a_config_survives_the_graph_it_is_stored_in(node_type: type[NodeType]):
    dumped = node_type.Config.model_validate(node_type.example).model_dump(mode="json", by_alias=True)
    read = node_type.Config.model_validate(json.loads(json.dumps(dumped)))
    assert read.model_dump(mode="json", by_alias=True) == dumped


def test_the_page_of_the_node_types_is_made_from_them():
    assert (ROOT / "docs" / "nodes.md").read_text() == catalogue.page(), "Write it again: `make docs`"
