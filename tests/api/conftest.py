"""The API over ASGI on a real database; only the starter of runs is a recorder."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
import structlog
from fastapi import FastAPI
from sqlalchemy import text

from api.app import Config, create_app
from db import doors, keys
from db.session import Database
from db.starts import Rerun, Start
from workflows.graph import Graph
from workflows.messages import Command, Heard

KEY = bytes(range(32))
BASE = "http://flowtrack.test"


@dataclass
class Recorder:
    """A starter that notes what it is asked for."""

    started: list[UUID] = field(default_factory=list)
    cancelled: list[UUID] = field(default_factory=list)
    commands: list[tuple[UUID, str, Command]] = field(default_factory=list)
    told: list[tuple[UUID, Heard]] = field(default_factory=list)
    checked: list[Rerun] = field(default_factory=list)
    failure: Exception | None = None
    reachable: bool = True
    knows_runs: bool = True

    async def start(self, workspace_id: UUID, execution_id: UUID) -> bool:
        self.started.append(execution_id)
        return True

    @property
    def is_away(self) -> bool:
        return not self.reachable

    async def launch(self, start: Start) -> bool:
        self.started.append(start.execution_id)
        return True

    async def cancel(self, execution_id: UUID, *, reason: str) -> bool:
        if self.failure is not None:
            raise self.failure
        self.cancelled.append(execution_id)
        return self.knows_runs

    async def command(self, execution_id: UUID, name: str, command: Command) -> bool:
        if self.failure is not None:
            raise self.failure
        self.commands.append((execution_id, name, command))
        return True

    async def tell(self, execution_id: UUID, event: Heard) -> bool:
        if self.failure is not None:
            raise self.failure
        self.told.append((execution_id, event))
        return self.knows_runs

    async def check_rerun(self, rerun: Rerun, graph: Graph, trigger_id: str) -> None:
        self.checked.append(rerun)
        if self.failure is not None:
            raise self.failure

    async def is_reachable(self) -> bool:
        return self.reachable


@dataclass
class Tenant:
    """A workspace and a client that may do everything in it."""

    workspace_id: UUID
    slug: str
    token: str
    client: httpx.AsyncClient

    async def make(self, path: str, body: Any, status: int = 201) -> Any:
        """Post and give back what was made."""
        answer = await self.client.post(path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def graph(self, workflow_id: str, document: Any) -> httpx.Response:
        """Save a graph over the newest version."""
        tag = (await self.client.get(f"/v1/workflows/{workflow_id}/graph")).headers["etag"]
        return await self.client.put(
            f"/v1/workflows/{workflow_id}/graph", json=document, headers={"If-Match": tag}
        )


@pytest.fixture(autouse=True)
def plain_logs() -> Iterator[None]:
    """Write log lines as production does: structlog's default draws every local of a traceback."""
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    yield
    structlog.reset_defaults()


@pytest.fixture
def starter() -> Recorder:
    return Recorder()


@pytest.fixture
def config() -> Config:
    return Config(public_url=BASE, master_key=KEY, temporal_ui_url="http://temporal.test")


@pytest.fixture
def app(database: Database, starter: Recorder, config: Config) -> FastAPI:
    return create_app(database, starter, config=config)


@asynccontextmanager
async def speaking(app: FastAPI, token: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """Open a client, with a key or without."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=BASE, headers=headers) as client:
        yield client


@pytest.fixture
async def anonymous(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with speaking(app) as client:
        yield client


async def found(database: Database, slug: str) -> tuple[UUID, str]:
    """Found a workspace and give it a key."""
    async with database.door() as session:
        made = await doors.create_workspace(
            session,
            email=f"owner@{slug}.test",
            name=slug.title(),
            slug=slug,
            today=datetime.now(UTC).date(),
        )
    return made.workspace_id, await key(database, made.workspace_id, ["*"])


async def key(database: Database, workspace_id: UUID, scopes: list[str]) -> str:
    """Make a key with scopes."""
    async with database.workspace(workspace_id) as session:
        return (await keys.create(session, workspace_id, name="test", scopes=scopes)).token


@pytest.fixture
async def acme(app: FastAPI, database: Database) -> AsyncIterator[Tenant]:
    workspace_id, token = await found(database, "acme")
    async with speaking(app, token) as client:
        yield Tenant(workspace_id, "acme", token, client)


@pytest.fixture
async def rival(app: FastAPI, database: Database) -> AsyncIterator[Tenant]:
    workspace_id, token = await found(database, "rival")
    async with speaking(app, token) as client:
        yield Tenant(workspace_id, "rival", token, client)


FIELDS: list[dict[str, Any]] = [
    {"field_key": "email", "label": "Your e-mail", "field_type": "EMAIL", "is_required": True},
    {"field_key": "first_name", "label": "First name", "field_type": "TEXT", "help_text": "As on a badge"},
    {
        "field_key": "budget",
        "label": "Budget",
        "field_type": "DROPDOWN",
        "options": ["$500", "$5000", "$10000+"],
    },
    {"field_key": "seats", "label": "Seats", "field_type": "NUMBER"},
    {"field_key": "news", "label": "News, please", "field_type": "CHECKBOX"},
]


def drawing(**trigger: Any) -> dict[str, Any]:
    """Draw a form that logs a line."""
    return {
        "nodes": [
            {
                "id": "form",
                "type": "TRIGGER_FORM",
                "position": {"x": 0, "y": 0},
                "data": {"label": "Form", "config": trigger},
            },
            {
                "id": "log",
                "type": "UTILITY_LOG",
                "position": {"x": 0, "y": 100},
                "data": {"label": "Log", "config": {"message": "hello"}},
            },
        ],
        "edges": [{"id": "e1", "source": "form", "target": "log", "data": {"isEnabled": True}}],
        "viewport": {"x": 0, "y": 0, "zoom": 1},
    }


@dataclass
class Form:
    """A published form."""

    tenant: Tenant
    workflow_id: str
    path: str


Publish = Callable[..., Any]


@pytest.fixture
def publish(acme: Tenant) -> Publish:
    """Publish a form with these settings of its trigger."""

    async def made(*, name: str = "Contact", questions: Any = None, **trigger: Any) -> Form:
        workflow = await acme.make("/v1/workflows", {"name": name, "description": "Write to us."})
        for question in FIELDS if questions is None else questions:
            await acme.make(f"/v1/workflows/{workflow['id']}/form-fields", question)
        saved = await acme.graph(workflow["id"], drawing(**trigger))
        assert saved.status_code == 200, saved.text
        published = await acme.client.post(f"/v1/workflows/{workflow['id']}/publish")
        assert published.status_code == 200, published.text
        return Form(acme, workflow["id"], f"/f/acme/{workflow['slug']}")

    return made


async def count(database: Database, workspace_id: UUID, table: str) -> int:
    """Count the rows that a workspace has in a table."""
    async with database.workspace(workspace_id) as session:
        return int((await session.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one())
