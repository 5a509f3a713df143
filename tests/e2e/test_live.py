"""Live inspection of real runs: attempts as they are made, what a run waits for, and why."""

import asyncio
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from tests.e2e.graphs import chain, node
from tests.e2e.house import House, ok

pytestmark = pytest.mark.anyio

FORM = node("form", "TRIGGER_FORM", "Form")
PERSON = {"email": "ada@example.com"}


async def until(asked: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:
    """Ask the API until something holds of its answer."""
    deadline = asyncio.get_running_loop().time() + 30
    while True:
        answer = (await ok(asked())).json()
        if holds(answer):
            return answer
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError(f"still {answer}")
        await asyncio.sleep(0.05)


def calling(house: House, **retry: Any) -> dict[str, Any]:
    """Draw a form whose step calls the target."""
    call = node("call", "ACTION_HTTP_REQUEST", "Ask the bank", url=house.target.url, retry=retry)
    return chain(FORM, call)


async def called(house: House, graph: dict[str, Any]) -> tuple[UUID, str]:
    """Start a run and wait for its step; return the address of the step's attempts."""
    execution_id = await house.submit(await house.workflow(graph), PERSON)
    step = await house.until_step(execution_id, "call", "running")
    return execution_id, f"/v1/executions/{execution_id}/steps/{step['id']}/attempts"


async def test_attempts_are_listed_while_the_step_is_still_tried(house: House):
    house.target.answers.extend([503, 503])
    execution_id, path = await called(house, calling(house, initialSeconds=1, backoff=10))

    def are_told(page: Any) -> bool:
        # Temporal may tell of a failure before the worker's record of its start is there.
        statuses = [each["status"] for each in page["data"]]
        return statuses == ["failed", "failed", "scheduled"] and page["data"][1]["started_at"] is not None

    told = await until(lambda: house.api.get(path), are_told)
    first, second, third = told["data"]
    assert [each["attempt"] for each in told["data"]] == [1, 2, 3]
    assert first["error"]["type"] == second["error"]["type"] == "http_status"
    assert first["started_at"] < first["finished_at"] < first["next_attempt_at"] == second["started_at"]
    assert second["finished_at"] < second["next_attempt_at"] == third["next_attempt_at"]

    house.target.held = asyncio.Event()
    await ok(house.api.post(f"/v1/executions/{execution_id}/cancel"))
    await house.ended(execution_id)
    after = (await ok(house.api.get(path))).json()["data"]
    assert [each["status"] for each in after[:2]] == ["failed", "failed"]


async def test_the_attempt_under_way_names_its_worker(house: House):
    house.target.answers.append(503)
    house.target.held = held = asyncio.Event()
    held.set()
    execution_id, path = await called(house, calling(house, initialSeconds=1))
    await until(lambda: house.api.get(path), lambda page: len(page["data"]) == 2)
    held.clear()
    told = await until(lambda: house.api.get(path), lambda page: page["data"][-1]["status"] == "running")
    assert told["data"][-1]["attempt"] == 2
    assert told["data"][-1]["worker"] == house.temporal.identity
    held.set()
    await house.ended(execution_id)
    after = (await ok(house.api.get(path))).json()["data"]
    assert [(each["attempt"], each["status"]) for each in after] == [(1, "failed"), (2, "succeeded")]
