"""The API against its own document: generated requests, good and bad, over a real socket."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from api.app import Config, create_app
from db.session import Database
from local import ports
from tests.api.conftest import KEY, Recorder, found

# A schema cannot say that a cursor is signed, that a host is public or that a day lies ahead.
BEYOND = [positive_data_acceptance]

ENDLESS = "/v1/executions/events"
"""A workspace's stream goes on for as long as it is watched: tests/api/live holds it to what it says."""


@dataclass
class Served:
    """The API on a port of its own."""

    url: str
    token: str


class Server:
    """Serves the app from a thread, whose loop owns the database's connections."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self.port = ports.free()
        self.token = ""
        self._ready = threading.Event()
        self._server: uvicorn.Server | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        database = Database(self._database_url)
        config = Config(public_url=f"http://127.0.0.1:{self.port}", master_key=KEY)
        app = create_app(database, Recorder(), config=config)
        _, self.token = await found(database, "acme")
        options = uvicorn.Config(app, host="127.0.0.1", port=self.port, log_level="warning", ws="none")
        self._server = uvicorn.Server(options)
        serving = asyncio.create_task(self._server.serve())
        while not self._server.started:
            await asyncio.sleep(0.01)
        self._ready.set()
        await serving
        await database.close()

    def __enter__(self) -> Served:
        self._thread.start()
        assert self._ready.wait(20)
        return Served(f"http://127.0.0.1:{self.port}", self.token)

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.should_exit = True
        self._thread.join(20)


@pytest.fixture
def served(database_url: str) -> Iterator[Served]:
    with Server(database_url) as running:
        yield running


def hold_to_schema(served: Served, examples: int) -> None:
    """Send generated requests to every operation and hold the answers to all checks."""
    broken: list[str] = []
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json").exclude(path=ENDLESS)
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        limits = settings(
            max_examples=examples,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )

        @limits
        @given(case=operation.as_strategy())
        def hold(case: Any) -> None:
            headers = {"Authorization": f"Bearer {served.token}"}
            case.call_and_validate(headers=headers, timeout=20, excluded_checks=BEYOND)

        try:
            hold()
        except (FailureGroup, ExceptionGroup) as failure:
            broken.append(f"{operation.label}: {failure}")
    assert not broken, "\n\n".join(broken)


def test_generated_requests_keep_to_the_document(served: Served):
    hold_to_schema(served, examples=4)


@pytest.mark.slow
def test_many_generated_requests_keep_to_the_document(served: Served):
    hold_to_schema(served, examples=200)
