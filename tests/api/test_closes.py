"""Where Temporal tells of closes: who did not ask for it is told nothing, and no body does any harm."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from activities.clients.callbacks import CLOSED_AT, PATH, signed
from api.app import Config, create_app
from api.bodies import API
from db.session import Database
from tests.api.conftest import KEY, Recorder, speaking
from tests.serving import served

pytestmark = pytest.mark.anyio

AT = datetime(2026, 11, 27, 7, 7, 29, 247812, UTC)
RUN = UUID(int=7)
RIGHT = {**signed(KEY, f"execution-{RUN}"), CLOSED_AT: "2026-11-27T07:07:29.247812793Z"}
BODIES: list[tuple[bytes, str]] = [
    (b"", "text/plain"),
    (b'{"result": "json"}', "application/json"),
    (b'{"cut": ', "application/json"),
    (b"\xff\x00\xfe", "application/x-temporal-payload"),
    (b"[" * 100_000, "application/json; charset=utf-7"),
]


@pytest.fixture
def told() -> list[tuple[UUID, datetime | None]]:
    return []


@pytest.fixture
def app(database: Database, starter: Recorder, config: Config, told: list[Any]) -> FastAPI:
    return create_app(database, starter, config=config, closed=lambda *close: told.append(close))


@pytest.mark.parametrize("which", range(len(BODIES)))
async def test_a_signed_close_is_heard_whatever_its_body(app: FastAPI, told: list[Any], which: int):
    body, kind = BODIES[which]
    async with speaking(app) as client:
        answer = await client.post(PATH, content=body, headers={**RIGHT, "content-type": kind})
    assert (answer.status_code, answer.content) == (204, b"")
    assert told == [(RUN, AT)]


async def test_nobody_else_is_heard_or_learns_anything(app: FastAPI, told: list[Any]):
    unsigned = {**RIGHT, "x-flowtrack-signature": "0" * 64}
    elsewhere = signed(KEY[::-1], f"execution-{RUN}")
    strange = {b"x-flowtrack-workflow": "\xe9".encode(), b"x-flowtrack-signature": b"\xff\xfe"}
    async with speaking(app) as client:
        nowhere = await client.post("/internal/temporal/nothing")
        answers = [await client.post(PATH, headers=each) for each in ({}, unsigned, elsewhere)]
        answers.append(await client.request("POST", PATH, headers=strange))
    for answer in answers:
        assert answer.status_code == 404
        assert {**answer.json(), "request_id": ""} == {**nowhere.json(), "request_id": ""}
    assert told == []


async def test_it_is_no_part_of_the_public_interface(app: FastAPI):
    assert not [path for path in app.openapi()["paths"] if path.startswith("/internal")]


async def test_a_body_without_end_is_answered_and_not_kept(app: FastAPI, told: list[Any]):
    head = "".join(f"{name}: {value}\r\n" for name, value in RIGHT.items())
    size = API.max_bytes * 100
    async with served(app) as url:
        where = httpx.URL(url)
        reader, writer = await asyncio.open_connection(where.host, where.port)
        writer.write(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n{head}\r\n".encode())
        writer.write(b"x" * 1_000_000)
        status = await asyncio.wait_for(reader.readline(), 5)
        writer.close()
    assert status.startswith(b"HTTP/1.1 204")
    assert told == [(RUN, AT)]
