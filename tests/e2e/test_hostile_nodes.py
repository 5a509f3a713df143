"""No node's failure leaves a workflow task retrying for ever: its step ends with a reason.

The bad nodes are planted node types, one for each way that a step is carried out.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import hostile
from tests.e2e.graphs import chain, edge, graph, node
from tests.e2e.house import House
from tests.e2e.planted import WAYS, hostile_types_in
from tests.e2e.target import Target

pytestmark = pytest.mark.anyio

EXPECTED = {
    **dict.fromkeys(hostile.RAISED, "error"),
    "deferred_for_no_time": "later",
    "step_failed_oddly": "x" * 100,
    **dict.fromkeys(hostile.GIVEN, "bad_outcome"),
    **dict.fromkeys(("huge", "vars_huge", "lead_huge", "log_huge", "ending_huge"), "output_too_large"),
    **dict.fromkeys(hostile.NOT_JSON, "output_not_json"),
    "vars_list": "output_not_json",
    "lead_text": "output_not_json",
    "never": "timed_out",
    "stubborn": "timed_out",
}
ENDS_WELL = ("half_characters", "long_ago", "blocks", "nothing wrong")
SOME = (
    *(
        "exception",
        "huge_exception",
        "system_exit",
        "cancelled",
        "speechless",
        "temporals_own",
        "huge",
        "deep",
    ),
    *("a_set", "bytes", "half_characters", "wrong_handle", "never", "stubborn", "blocks", "nothing wrong"),
)


@pytest.fixture
def hostile_types(tmp_path: Path) -> Iterator[None]:
    """Plant one bad node type for each way to carry out a step."""
    with hostile_types_in(tmp_path):
        yield


@pytest.fixture
async def target(hostile_types: None, target: Target) -> Target:
    """Listen for webhooks, once the files are there: the house's worker registers what it finds."""
    return target


def drawn(way: str) -> dict[str, Any]:
    """Draw a run whose one node misbehaves as its trigger says, tried twice, with a second to do it in."""
    retry = {"maxAttempts": 2, "initialSeconds": 0.1}
    config: Any = {"how": "{{ trigger.how }}", "timeoutSeconds": 1, "retry": retry}
    return graph(
        node("start", "TRIGGER_MANUAL"),
        node("bad", f"ACTION_HOSTILE_{way.upper()}", **config),
        node("after", "UTILITY_LOG", message="on"),
        edge("start", "bad"),
        edge("bad", "after"),
    )


@pytest.mark.parametrize("way", WAYS)
async def test_whatever_a_node_does_its_step_ends_with_a_stable_reason(house: House, way: str):
    workflow = await house.workflow(drawn(way), fields=())
    # What an attempt makes of a failure is the same on every way; how Temporal takes it is not.
    every = [*hostile.RAISED, *hostile.GIVEN, "never", "stubborn", "blocks", "nothing wrong"]
    hows = every if way == "local" else SOME
    runs = {how: await house.start(workflow, how=how) for how in hows}
    turns = asyncio.Semaphore(4)

    async def told(how: str) -> tuple[str, str | None, str | None]:
        async with turns:
            run = await house.ended(runs[how], patience=60)
            step = (await house.steps(runs[how]))["bad"]
        return run["status"], run["status_reason"], (step["error"] or {}).get("type")

    found = dict(zip(hows, await asyncio.gather(*map(told, hows)), strict=True))
    failed = {how: ("failed", "node_failed", EXPECTED.get(how)) for how in hows}
    well = {how: ("completed", None, None) for how in hows if how in ENDS_WELL}
    assert found == failed | well
    # A failure's text may hold what no history should.
    history = str(await house.read_history(runs["exception"]))
    assert "ValueError" in history
    assert "s3cret" not in history
    mended = (await house.steps(runs["half_characters"]))["bad"]["output_data"]
    assert mended == {"a\ufffd": "b\ufffdc", "d": ["?e"]}


@pytest.mark.parametrize(("how", "type_"), [("raises", "error"), ("returns", "bad_outcome")])
@pytest.mark.parametrize("first", [True, False])
async def test_a_node_that_the_run_decides_by_itself_stops_neither_run_nor_mirror(
    house: House, how: str, type_: str, first: bool
):
    before = [] if first else [node("log", "UTILITY_LOG", message="on")]
    bad = node("bad", "LOGIC_HOSTILE", how=how, retry={"maxAttempts": 1})
    workflow = await house.workflow(chain(node("start", "TRIGGER_MANUAL"), *before, bad), fields=())
    run = await house.ended(await house.start(workflow))
    assert (run["status"], run["status_reason"], run["error"]["type"]) == ("failed", "node_failed", type_)
