"""The streams over HTTP: from a real server, since a stream is only one where bytes go out before the end."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from sqlalchemy import text
from starlette.requests import Request

from api.app import Config, create_app
from api.auth import Caller, still_may
from api.live.hub import MOST_VIEWERS, Hub
from api.server import GOODBYE_SECONDS, Server
from db.session import Database
from tests.api.conftest import Publish, Recorder, Tenant, key
from tests.api.live.test_streams import hearing

pytestmark = pytest.mark.anyio


@pytest.fixture
async def hub(database_url: str) -> AsyncIterator[Hub]:
    """Hear the test's database."""
    async with hearing(Hub(database_url)) as heard:
        yield heard


@pytest.fixture
def app(database: Database, starter: Recorder, config: Config, hub: Hub) -> FastAPI:
    return create_app(database, starter, config=config, hub=hub)


@asynccontextmanager
async def serving(app: FastAPI, hub: Hub) -> AsyncIterator[tuple[Server, str]]:
    """Serve the app on a free port."""
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        log_config=None,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=GOODBYE_SECONDS,
    )
    server = Server(config, on_exit=hub.close)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield server, f"http://127.0.0.1:{port}"
    finally:
        server.handle_exit(signal.SIGTERM, None)
        await task


@pytest.fixture
async def url(app: FastAPI, hub: Hub) -> AsyncIterator[str]:
    """Serve."""
    async with serving(app, hub) as (_, address):
        yield address


class Stream:
    """Somebody's open stream, event by event."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._lines = answer.aiter_lines()

    async def next(self) -> dict[str, Any] | None:
        """Read the next event; None at the end."""
        event: dict[str, Any] = {}
        async for line in self._lines:
            if not line and event:
                return event
            name, _, value = line.partition(": ")
            if name:
                event[name] = json.loads(value) if name == "data" else value
        return None

    async def named(self, name: str) -> dict[str, Any]:
        """Read on to the next event of this name."""
        while (event := await asyncio.wait_for(self.next(), 20)) is not None:
            if event["event"] == name:
                return event
        raise EOFError(name)


@asynccontextmanager
async def opened(url: str, path: str, token: str, **headers: str) -> AsyncIterator[Stream]:
    """Open a stream."""
    sent = {"Authorization": f"Bearer {token}", **headers}
    async with (
        httpx.AsyncClient(base_url=url, timeout=60) as client,
        client.stream("GET", path, headers=sent) as answer,
    ):
        yield Stream(answer)


@pytest.fixture
async def run_id(publish: Publish, anonymous) -> str:
    """Order a run, which nobody starts."""
    form = await publish()
    made: str = (await anonymous.post(form.path, json={"email": "a@example.com"})).json()["execution_id"]
    return made


async def change(database: Database, tenant: Tenant, run_id: str, status: str) -> None:
    async with database.workspace(tenant.workspace_id) as session:
        statement = "UPDATE workflow_executions SET status = :status, updated_at = clock_timestamp()"
        await session.execute(text(f"{statement} WHERE id = :id"), {"status": status, "id": run_id})


async def test_a_run_is_followed_to_its_end_and_after_it_there_is_nothing_more(
    url: str, run_id: str, acme: Tenant, database: Database
):
    path = f"/v1/executions/{run_id}/events"
    async with opened(url, path, acme.token) as stream:
        assert stream.answer.headers["content-type"].startswith("text/event-stream")
        assert stream.answer.headers["cache-control"] == "no-cache"
        first = await stream.named("snapshot")
        assert first["data"]["execution"]["status"] == "queued"
        assert (await stream.named("live"))["data"] == {"live": None, "live_missing": "temporal_unreachable"}
        await change(database, acme, run_id, "running")
        assert (await stream.named("changes"))["data"]["execution"]["status"] == "running"
    async with opened(url, path, acme.token, **{"Last-Event-ID": first["id"]}) as stream:
        assert (await stream.named("changes"))["data"]["execution"]["status"] == "running"
        await change(database, acme, run_id, "completed")
        last = await stream.named("end")
        assert await stream.next() is None
    async with opened(url, path, acme.token, **{"Last-Event-ID": last["id"]}) as stream:
        assert stream.answer.status_code == 204


async def test_a_workspace_is_followed(url: str, run_id: str, acme: Tenant, database: Database):
    async with opened(url, "/v1/executions/events", acme.token) as stream:
        assert [run["id"] for run in (await stream.named("snapshot"))["data"]["executions"]] == [run_id]
        await change(database, acme, run_id, "running")
        (run,) = (await stream.named("changes"))["data"]["executions"]
        assert (run["id"], run["status"]) == (run_id, "running")


async def test_the_time_that_somebody_watches_is_no_time_to_answer(
    app: FastAPI, url: str, run_id: str, acme: Tenant, hub: Hub
):
    began = monotonic()
    async with opened(url, f"/v1/executions/{run_id}/events", acme.token) as stream:
        answered = monotonic() - began
        await stream.named("live")
        await asyncio.sleep(0.2)
    while hub.viewers:
        await asyncio.sleep(0.02)
    labels = {"method": "GET", "route": "/v1/executions/{execution_id}/events", "status": "200"}
    registry = app.state.platform.metrics.registry
    while (told := registry.get_sample_value("flowtrack_http_request_seconds_sum", labels)) is None:
        await asyncio.sleep(0.02)
    assert told <= answered


async def test_the_mirror_looks_only_at_an_open_run_of_the_callers(
    url: str, run_id: str, *, acme: Tenant, rival: Tenant, hub: Hub, database: Database
):
    hinted: list[UUID] = []
    hub._hint = hinted.append
    path = f"/v1/executions/{run_id}/events"
    assert (await rival.client.get(path)).status_code == 404
    assert (await acme.client.get(f"/v1/executions/{uuid4()}/events")).status_code == 404
    assert hinted == []
    async with opened(url, path, acme.token) as stream:
        await stream.named("snapshot")
    assert hinted == [UUID(run_id)]
    await change(database, acme, run_id, "completed")
    async with opened(url, path, acme.token) as stream:
        await stream.named("end")
    assert hinted == [UUID(run_id)]


async def test_streams_take_no_connection_from_the_requests(
    database_url: str, run_id: str, *, acme: Tenant, starter: Recorder, config: Config, hub: Hub
):
    requests, viewing = (Database(database_url, pool_size=1) for _ in range(2))
    app = create_app(requests, starter, config=config, hub=hub, viewing=viewing)
    path = f"/v1/executions/{run_id}/events"
    async with serving(app, hub) as (_, url), opened(url, path, acme.token) as stream:
        await stream.named("live")
        async with requests.workspace(acme.workspace_id):
            await change(viewing, acme, run_id, "running")
            assert (await stream.named("changes"))["data"]["execution"]["status"] == "running"
    await requests.close()
    await viewing.close()


async def test_who_leaves_is_counted_no_more(url: str, run_id: str, acme: Tenant, hub: Hub):
    async with opened(url, f"/v1/executions/{run_id}/events", acme.token) as stream:
        await stream.named("snapshot")
        assert hub.viewers == 1
    while hub.viewers:
        await asyncio.sleep(0.02)


async def test_a_workspace_has_only_so_many_streams(acme: Tenant, rival: Tenant, hub: Hub, run_id: str):
    watching = [hub.watching(acme.workspace_id) for _ in range(MOST_VIEWERS)]
    for each in watching:
        each.__enter__()
    for path in (f"/v1/executions/{run_id}/events", "/v1/executions/events"):
        refused = await acme.client.get(path)
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_streams")
        assert refused.headers["retry-after"]
    hub.close()
    assert (await rival.client.get("/v1/executions/events")).status_code == 200


async def test_a_server_that_is_to_stop_ends_its_streams_at_once(
    app: FastAPI, hub: Hub, run_id: str, acme: Tenant
):
    async with serving(app, hub) as (server, url):
        path = f"/v1/executions/{run_id}/events"
        async with (
            opened(url, path, acme.token) as one,
            opened(url, "/v1/executions/events", acme.token) as all_,
        ):
            await one.named("live")
            await all_.named("snapshot")
            server.handle_exit(signal.SIGTERM, None)
            # A stream that was cut off after `GOODBYE_SECONDS` would raise here.
            assert await one.next() is None
            assert await all_.next() is None
    assert hub.viewers == 0


async def test_a_revoked_key_may_no_longer_see_what_it_began_to_watch(
    app: FastAPI, acme: Tenant, database: Database
):
    token = await key(database, acme.workspace_id, ["executions:read"])
    headers = [(b"authorization", f"Bearer {token}".encode())]
    request = Request({"type": "http", "app": app, "headers": headers})
    caller = Caller(acme.workspace_id, frozenset({"executions:read"}))
    assert await still_may(request, caller, "executions:read")
    assert not await still_may(request, caller, "leads:read")
    for made in (await acme.client.get("/v1/api-keys")).json()["data"]:
        if made["scopes"] == ["executions:read"]:
            await acme.client.delete(f"/v1/api-keys/{made['id']}")
    assert not await still_may(request, caller, "executions:read")
