"""The operator's routes: nowhere without a token, the operator's alone with one, on a real server."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest
from fastapi import FastAPI
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from activities.clients.limits import Change, Standing, Throttle, Unsupported
from api.app import Config, create_app
from db.session import Database
from tests.api.conftest import BASE, KEY, Recorder, Tenant, speaking

pytestmark = pytest.mark.anyio

TOKEN = "t" * 40
PATH = "/operator/limits"


class Broken:
    """A throttle whose server is away, or old."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def standings(self) -> list[Standing]:
        return [Standing("mail", None, None, 0, timedelta(0))]

    async def change(self, queue: str, wanted: Change) -> Standing:
        raise self._error


@pytest.fixture
def config() -> Config:
    return Config(public_url=BASE, master_key=KEY, operator_token=TOKEN)


@pytest.fixture
def app(
    database: Database, starter: Recorder, config: Config, temporal_client: Client, task_queue: str
) -> FastAPI:
    throttle = Throttle(temporal_client, task_queue=task_queue)
    return create_app(database, starter, config=config, throttle=throttle)


@pytest.fixture
async def operator(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with speaking(app, TOKEN) as client:
        yield client


async def test_a_limit_is_set_shown_and_taken_away(operator: httpx.AsyncClient):
    before = (await operator.get(PATH)).json()["data"]
    assert [queue["queue"] for queue in before] == ["mail", "http", "webhooks"]
    assert all(queue["whole"] is queue["each_workspace"] is None for queue in before)
    wanted = {"per_second": 5, "per_workspace": 0.5, "reason": "The provider throttles."}
    answer = await operator.put(f"{PATH}/mail", json=wanted)
    assert answer.status_code == 200
    mail = answer.json()
    assert mail["queue"] == "mail"
    assert mail["whole"].pop("since")
    told = {"per_second": 5, "reason": "The provider throttles.", "by": "operator, by HTTP"}
    assert mail["whole"] == told
    assert mail["each_workspace"]["per_second"] == 0.5
    async with asyncio.timeout(20):
        while (await operator.get(PATH)).json()["data"][0]["whole"] is None:
            await asyncio.sleep(0.1)
    # In place of those before: what is not named is not limited.
    mail = (await operator.put(f"{PATH}/mail", json={"per_second": 0})).json()
    assert (mail["whole"]["per_second"], mail["each_workspace"]) == (0, None)
    mail = (await operator.delete(f"{PATH}/mail")).json()
    assert (mail["whole"], mail["each_workspace"]) == (None, None)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_nobody_but_the_operator_is_let_in(
    app: FastAPI, acme: Tenant, anonymous: httpx.AsyncClient, method: str
):
    path = PATH if method == "GET" else f"{PATH}/mail"
    body: dict[str, object] | None = {} if method == "PUT" else None
    async with speaking(app, "t" * 39) as guess:
        answers = [
            await client.request(method, path, json=body) for client in (anonymous, acme.client, guess)
        ]
    odd = {b"Authorization": b"Bearer " + b"\xe9" * 40}
    answers.append(await anonymous.request(method, path, json=body, headers=odd))
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(401, "unauthorized")] * 4


async def test_without_a_token_there_is_nothing_here(
    database: Database, starter: Recorder, temporal_client: Client, task_queue: str
):
    throttle = Throttle(temporal_client, task_queue=task_queue)
    config = Config(public_url=BASE, master_key=KEY)
    async with speaking(create_app(database, starter, config=config, throttle=throttle), TOKEN) as client:
        for answer in (await client.get(PATH), await client.put(f"{PATH}/mail", json={})):
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"per_second": -1}, "/per_second"),
        ({"per_second": "fast"}, "/per_second"),
        ({"per_workspace": 100_001}, "/per_workspace"),
        ({"reason": "x" * 501}, "/reason"),
        ({"rate": 5}, "/rate"),
    ],
)
async def test_what_is_no_limit_is_refused_by_name(
    operator: httpx.AsyncClient, body: dict[str, object], pointer: str
):
    answer = await operator.put(f"{PATH}/mail", json=body)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_a_queue_that_is_none_is_named_with_those_that_are(operator: httpx.AsyncClient):
    answer = await operator.put(f"{PATH}/fax", json={})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "mail, http, webhooks" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (Unsupported(), (409, "limits_unsupported")),
        (RPCError("away", RPCStatusCode.UNAVAILABLE, b""), (503, "unavailable")),
        (RuntimeError("Failed client connect"), (503, "unavailable")),
    ],
)
async def test_an_old_server_and_one_that_is_away_are_told_apart(
    database: Database, starter: Recorder, config: Config, error: Exception, told: tuple[int, str]
):
    app = create_app(database, starter, config=config, throttle=Broken(error))
    async with speaking(app, TOKEN) as client:
        answer = await client.put(f"{PATH}/mail", json={"per_second": 1})
    assert (answer.status_code, answer.json()["code"]) == told


async def test_the_workspaces_document_does_not_tell_of_it(app: FastAPI):
    assert not [path for path in app.openapi()["paths"] if path.startswith("/operator")]
