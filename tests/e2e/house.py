"""The whole house in one process: API, worker, mirror and mail on the run's real servers."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
from sqlalchemy import text
from temporalio.client import Client as TemporalClient

import worker
from activities.clients import addresses, histories, http, payloads, temporal
from activities.clients.blobs import Blobs
from activities.clients.callbacks import Callbacks
from activities.clients.keyring import Keyring
from activities.interceptors import MirrorInterceptor
from activities.world import World
from api import app
from api.dispatcher import Dispatcher
from api.live.describer import Temporals
from api.live.hub import Hub
from api.metrics import Metrics
from api.mirror.mirror import Mirror
from api.planner import Planner
from api.simulation.simulator import Simulator
from api.starter import Starter
from db import doors, keys
from db.session import Database
from local import mail
from local.temporal import SIMULATIONS
from telemetry.traces import Traces
from tests.e2e.target import Target
from tests.serving import served

MASTER_KEY = bytes(range(32))
ENDED = ("completed", "failed", "cancelled")
EMAIL = {"field_key": "email", "label": "E-mail", "field_type": "EMAIL", "is_required": True}


@dataclass
class House:
    """What a test works with."""

    application: Any
    token: str
    api: httpx.AsyncClient
    public: httpx.AsyncClient
    database: Database
    keyring: Keyring
    blobs: Blobs
    temporal: TemporalClient
    world: World
    mirror: Mirror
    catcher: mail.Catcher
    target: Target
    workspace_id: UUID
    slug: str
    seen: list[UUID] = field(default_factory=list)

    async def workflow(
        self, graph: dict[str, Any], *, fields: Sequence[dict[str, Any]] = (EMAIL,), name: str = "Test"
    ) -> dict[str, Any]:
        """Make and publish a workflow through the API."""
        made = (await ok(self.api.post("/v1/workflows", json={"name": name}))).json()
        path = f"/v1/workflows/{made['id']}"
        for one in fields:
            await ok(self.api.post(f"{path}/form-fields", json=one))
        return await self.publish(made, graph)

    async def publish(self, workflow: dict[str, Any], graph: dict[str, Any]) -> dict[str, Any]:
        """Publish another version of a workflow."""
        path = f"/v1/workflows/{workflow['id']}"
        etag = (await ok(self.api.get(f"{path}/graph"))).headers["ETag"]
        await ok(self.api.put(f"{path}/graph", json=graph, headers={"If-Match": etag}))
        published: dict[str, Any] = (await ok(self.api.post(f"{path}/publish"))).json()
        return published

    async def submit(self, workflow: dict[str, Any], answers: dict[str, Any], **headers: str) -> UUID:
        """Submit a workflow's form as a stranger; return the execution."""
        answer = await ok(
            self.public.post(f"/f/{self.slug}/{workflow['slug']}", json=answers, headers=headers)
        )
        return self._noted(answer.json()["execution_id"])

    async def start(self, workflow: dict[str, Any], **trigger_data: Any) -> UUID:
        """Start a workflow through the API; return the execution."""
        path = f"/v1/workflows/{workflow['id']}/executions"
        answer = await ok(self.api.post(path, json={"trigger_data": trigger_data}))
        return self._noted(answer.json()["id"])

    async def ended(self, execution_id: UUID, *, patience: float = 30) -> dict[str, Any]:
        """Wait until the rows say that an execution has ended."""
        return await self.until(execution_id, lambda run: run["status"] in ENDED, patience=patience)

    async def until(
        self, execution_id: UUID, holds: Callable[[dict[str, Any]], bool], *, patience: float = 30
    ) -> dict[str, Any]:
        """Wait until something holds of an execution's row."""
        deadline = asyncio.get_running_loop().time() + patience
        while True:
            run: dict[str, Any] = (await ok(self.api.get(f"/v1/executions/{execution_id}"))).json()
            if holds(run):
                return run
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError(f"still {run}")
            await asyncio.sleep(0.05)

    async def steps(self, execution_id: UUID) -> dict[str, dict[str, Any]]:
        """Return an execution's steps by node id, in the order of their numbers."""
        answer = await ok(self.api.get(f"/v1/executions/{execution_id}/steps", params={"limit": 100}))
        return {step["node_id"]: step for step in answer.json()["data"]}

    async def until_step(self, execution_id: UUID, node_id: str, status: str) -> dict[str, Any]:
        """Wait until a step has a status."""
        deadline = asyncio.get_running_loop().time() + 30
        while True:
            step = (await self.steps(execution_id)).get(node_id)
            if step is not None and step["status"] == status:
                return step
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError(f"still {step}")
            await asyncio.sleep(0.05)

    async def logs(self, execution_id: UUID) -> list[dict[str, Any]]:
        """Return an execution's log lines, the newest first."""
        answer = await ok(self.api.get(f"/v1/executions/{execution_id}/logs", params={"limit": 100}))
        lines: list[dict[str, Any]] = answer.json()["data"]
        return lines

    async def events(self, lead_id: str) -> list[str]:
        """Return the types of a lead's events, the oldest first."""
        answer = await ok(self.api.get(f"/v1/leads/{lead_id}/events", params={"limit": 100}))
        return [event["event_type"] for event in reversed(answer.json()["data"])]

    async def history(self, execution_id: UUID) -> list[Any]:
        """Return the events of an execution's Temporal history."""
        handle = self.temporal.get_workflow_handle(f"execution-{execution_id}")
        return list((await handle.fetch_history()).events)

    async def read_history(self, execution_id: UUID) -> Any:
        """Return an execution's history as JSON, decoded as by `flowtrack decode`."""
        handle = self.temporal.get_workflow_handle(f"execution-{execution_id}")
        written = json.loads((await handle.fetch_history()).to_json())
        return await histories.decoded(written, histories.opener(self.keyring, self.blobs))

    async def rows(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        """Read rows as the app's role sees them in this workspace."""
        async with self.database.workspace(self.workspace_id) as session:
            return [dict(row) for row in (await session.execute(text(statement), values)).mappings()]

    async def expect_rebuildable(self) -> None:
        """Check that what the mirror wrote of every run equals what it writes from zero (design §7)."""
        for execution_id in self.seen:
            stored = await self._mirrored(execution_id)
            if stored["execution"][0]["status"] not in ENDED:
                continue
            assert await self.mirror.rebuild(execution_id)
            assert await self._mirrored(execution_id) == stored

    async def _mirrored(self, execution_id: UUID) -> dict[str, list[dict[str, Any]]]:
        found = {}
        for name, table, where, order in (
            ("execution", "workflow_executions", "id = :id", "id"),
            ("steps", "execution_steps", "execution_id = :id", "step_number"),
            ("logs", "execution_logs", "execution_id = :id AND source <> 'attempt'", "created_at, id"),
        ):
            rows = await self.rows(f"SELECT * FROM {table} WHERE {where} ORDER BY {order}", id=execution_id)
            ours = ("updated_at", "mirrored_at")
            found[name] = [{key: value for key, value in row.items() if key not in ours} for row in rows]
        return found

    def _noted(self, execution_id: str) -> UUID:
        self.seen.append(UUID(execution_id))
        return self.seen[-1]


async def ok(calling: Any) -> httpx.Response:
    """Await an answer and show it when it is a refusal."""
    answer: httpx.Response = await calling
    assert answer.is_success, (
        f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
    )
    return answer


@asynccontextmanager
async def built(
    database_url: str,
    temporal_address: str,
    task_queue: str,
    catcher: mail.Catcher,
    target: Target,
    *,
    encrypts: bool = True,
    traced: Traces | None = None,
    hosts: int = 0,
) -> AsyncIterator[House]:
    """Build the house and tear it down; what it writes in the clear is for the golden histories.

    With `hosts` so many runs at once are carried out where they start, and there is no other worker.
    """
    async with AsyncExitStack() as stack:
        database = Database(database_url, pool_size=20)
        stack.push_async_callback(database.close)
        interceptor, metrics = MirrorInterceptor(database), Metrics()
        watching = [traced.interceptor] if traced else []
        keyring = Keyring(database, MASTER_KEY)
        blobs = Blobs(database, metrics.registry)
        converter = payloads.converter(keyring, blobs) if encrypts else temporal.PLAIN
        client = await temporal.connect(
            temporal_address, interceptors=[interceptor, *watching], data_converter=converter
        )
        world = replace(_world(database, client, task_queue, catcher), metrics=interceptor.metrics)
        stack.push_async_callback(world.http.aclose)
        stack.push_async_callback(world.smtp.aclose)
        mirror = Mirror(client, database, database_url=database_url, metrics=metrics)
        told: dict[str, Any] = {"hint": mirror.hint, "expect": mirror.expect, "metrics": metrics}
        host = client if hosts else None
        starter = Starter(
            database, client, task_queue=task_queue, public_url="http://test", host=lambda: host, **told
        )
        dispatcher = Dispatcher(
            database, starter, name="test", interval=0.3, stale_seconds=1, metrics=metrics
        )
        await stack.enter_async_context(_running(mirror.run))
        await stack.enter_async_context(_running(dispatcher.run))
        await stack.enter_async_context(interceptor.sending())
        working = worker.hosting(client, world, runs=hosts) if hosts else worker.running(client, world)
        await stack.enter_async_context(working)
        imagined = await temporal.connect(
            temporal_address, SIMULATIONS, data_converter=payloads.inside(converter)
        )
        await stack.enter_async_context(worker.simulating(imagined, task_queue=task_queue))
        config = app.Config(
            master_key=MASTER_KEY,
            task_queue=task_queue,
            allow_private_destinations=True,
            temporal_ui_url="http://127.0.0.1:8233",
        )
        planner = Planner(database, client, task_queue=task_queue)
        simulator = Simulator(imagined, task_queue=task_queue)
        hub = Hub(database_url, database=database, hint=mirror.hint)
        await stack.enter_async_context(_running(hub.run))
        # Of its own, so that tests which count the mirror's calls count no viewer's.
        viewing = await temporal.connect(temporal_address, data_converter=converter)
        application = app.create_app(
            database,
            starter,
            config=config,
            planner=planner,
            simulator=simulator,
            metrics=metrics,
            tracer=traced.tracer if traced else None,
            describer=Temporals(viewing),
            closed=mirror.closed,
            hub=hub,
            keyring=keyring,
            blobs=blobs,
        )
        await stack.enter_async_context(application.router.lifespan_context(application))
        url = await stack.enter_async_context(served(application))
        mirror.callbacks = Callbacks(client, url, MASTER_KEY)
        workspace_id, token = await _workspace(database, "acme")
        public = await stack.enter_async_context(_client(application))
        api = await stack.enter_async_context(_client(application, token))
        yield House(
            application=application,
            token=token,
            api=api,
            public=public,
            database=database,
            keyring=keyring,
            blobs=blobs,
            temporal=client,
            world=world,
            mirror=mirror,
            catcher=catcher,
            target=target,
            workspace_id=workspace_id,
            slug="acme",
        )


@asynccontextmanager
async def _running(task: Callable[[], Any]) -> AsyncIterator[None]:
    running = asyncio.create_task(task())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def _client(application: Any, token: str | None = None) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    transport = httpx.ASGITransport(application)
    return httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers)


def _world(database: Database, client: TemporalClient, task_queue: str, catcher: mail.Catcher) -> World:
    return World(
        database=database,
        temporal=client,
        http=http.Client(addresses.DEVELOPMENT),
        smtp=worker.mail_client(catcher.smtp_url),
        mail_from="FlowTrack <hello@flowtrack.example>",
        public_url="http://test",
        master_key=MASTER_KEY,
        task_queue=task_queue,
    )


async def _workspace(database: Database, slug: str) -> tuple[UUID, str]:
    async with database.door() as session:
        made = await doors.create_workspace(
            session,
            email=f"owner@{slug}.example",
            name=slug.title(),
            slug=slug,
            today=datetime.now(UTC).date(),
        )
    async with database.workspace(made.workspace_id) as session:
        created = await keys.create(session, made.workspace_id, name="test", scopes=["*"])
    return made.workspace_id, created.token
