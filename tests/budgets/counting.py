"""Counting what a run costs: statements by who asks, waits for PostgreSQL, calls to Temporal."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from sqlalchemy import event
from temporalio.client import Client

from db.session import Database
from local import demo
from tests.e2e.graphs import chain, node
from tests.e2e.house import House

INTAKE = chain(
    node("form", "TRIGGER_FORM", "Form"),
    node("rich", "LOGIC_CONDITION", "Rich?", condition=demo.BIG),
    node("qualify", "ACTION_SET_LEAD_STATUS", "Qualify", status="QUALIFIED"),
    node("mail", "ACTION_SEND_EMAIL", "Thank", emailSubject="Hi {{ lead.name }}", emailBody="<p>Thanks.</p>"),
    node(
        "hook", "ACTION_DELIVER_WEBHOOK", "Tell", eventType=demo.EVENT, payload={"lead": "{{ lead.email }}"}
    ),
)
"""The workload that performance.md measures."""


async def intake(house: House) -> dict[str, Any]:
    """Publish the intake workload, with somebody listening to its webhook."""
    body = {"url": house.target.url, "subscribed_events": [demo.EVENT]}
    await house.api.post("/v1/webhook-endpoints", json=body)
    return await house.workflow(INTAKE, fields=demo.FIELDS)


async def taken_through(house: House, workflow: dict[str, Any], number: int) -> None:
    """Take somebody's submission to the end of its run."""
    answers = {**demo.ANSWERS, "email": f"ada{number}@example.com"}
    run = await house.ended(await house.submit(workflow, answers), patience=60)
    assert run["status"] == "completed", run


PREPARED = b'Parse\t "_pg3_'
"""Only a statement that stays has a name."""


@contextmanager
def statements(database: Database) -> Iterator[list[tuple[str, str]]]:
    """Note every statement of a database, with the coroutine whose task sent it."""
    noted: list[tuple[str, str]] = []

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        task = asyncio.current_task()
        coroutine = task.get_coro() if task else None
        noted.append((getattr(coroutine, "__qualname__", ""), statement))

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    try:
        yield noted
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", note)


@contextmanager
def transactions(database: Database) -> Iterator[list[Any]]:
    """Note every transaction of a database."""
    noted: list[Any] = []

    def note(connection: Any) -> None:
        noted.append(connection)

    event.listen(database.engine.sync_engine, "begin", note)
    try:
        yield noted
    finally:
        event.remove(database.engine.sync_engine, "begin", note)


class Wire:
    """The protocol of a database's connections as libpq traces it: each ReadyForQuery ends one wait.

    A statement's preparation is not counted: it is done once for each connection.
    """

    def __init__(self) -> None:
        self.trips = 0
        self._connections: dict[Any, IO[bytes]] = {}

    @contextmanager
    def traced(self, database: Database) -> Iterator["Wire"]:
        """Trace every connection that is taken from the pool meanwhile; `trips` is known at the end."""
        pool = database.engine.sync_engine.pool
        event.listen(pool, "checkout", self._trace)
        try:
            yield self
        finally:
            event.remove(pool, "checkout", self._trace)
            for connection, file in self._connections.items():
                connection.untrace()
                file.seek(0)
                told = file.read()
                self.trips += told.count(b"ReadyForQuery") - told.count(PREPARED)
                file.close()

    def _trace(self, connection: Any, record: Any, proxy: Any) -> None:
        wire = connection.driver_connection.pgconn
        if wire not in self._connections:
            self._connections[wire] = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - `traced` closes it
            wire.trace(self._connections[wire].fileno())


@contextmanager
def calls(
    client: Client, *methods: str, about: Callable[[str], bool] = lambda workflow_id: True
) -> Iterator[Counter[str]]:
    """Count a client's calls of the raw service about these workflows."""
    service, counted = client.workflow_service, Counter[str]()
    kept = {method: getattr(service, method) for method in methods}

    def counting(method: str) -> Any:
        async def call(request: Any, **options: Any) -> Any:
            counted[method] += about(request.execution.workflow_id)
            return await kept[method](request, **options)

        return call

    for method in methods:
        setattr(service, method, counting(method))
    try:
        yield counted
    finally:
        for method, original in kept.items():
            setattr(service, method, original)
