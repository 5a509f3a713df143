"""What the tests share: real servers, a fresh migrated database for each test, a mail catcher."""

import os
import sys
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO

import psycopg
import pytest
from psycopg import sql
from sqlalchemy.engine import make_url
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import PayloadCodec

from activities.clients.keyring import KeyGone
from activities.clients.payloads import is_ours
from db import migrate
from db.session import Database
from local import mail
from local.postgres import plain
from tests import servers

TEMPLATE = "flowtrack_template"
APP_ROLE = "flowtrack_app"
alive_key: pytest.StashKey[IO[str]] = pytest.StashKey()
status_key: pytest.StashKey[int] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    """Open the run, to which every server that a test asks for is tied."""
    alive = servers.begin()
    if alive is not None:
        config.stash[alive_key] = alive


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Print a failure when it happens: whoever stops a run before its end should know it, too."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        print(f"\n{report.nodeid} ({report.when})\n{report.longreprtext}", file=sys.__stdout__, flush=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Note the result for the end of the process."""
    session.config.stash[status_key] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the servers, and leave before the interpreter is taken down.

    About one process in ten that used the Temporal SDK aborts while it is taken down (rc 134), its work done.
    """
    if alive_key in config.stash:
        servers.finish(config.stash[alive_key])
    if status_key in config.stash and "temporalio" in sys.modules:
        config.get_terminal_writer().flush()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[status_key])


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Run async tests on asyncio alone: the Temporal SDK knows no other."""
    return "asyncio"


@dataclass(frozen=True)
class Postgres:
    """The run's PostgreSQL."""

    admin_url: str

    def url(self, database: str, *, user: str) -> str:
        """Build the URL of a database for a role."""
        url = make_url(self.admin_url).set(database=database, username=user)
        return url.render_as_string(hide_password=False)

    def execute(self, *statements: sql.Composed) -> None:
        """Run statements as the superuser, each on its own."""
        with psycopg.connect(plain(self.admin_url), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)


@pytest.fixture(scope="session", name="postgres")
def _postgres() -> Postgres:
    """Give the run's PostgreSQL, shared by all tests."""
    return Postgres(servers.address("postgres"))


@pytest.fixture(scope="session")
def template_database(postgres: Postgres) -> str:
    """Migrate one database, from which every test's own is copied."""
    with servers.once("template") as done:
        if not done.exists():
            postgres.execute(_statement("CREATE DATABASE {}", TEMPLATE))
            migrate.upgrade(postgres.url(TEMPLATE, user="postgres"), postgres.url(TEMPLATE, user=APP_ROLE))
            done.write_text("{}")
    return TEMPLATE


@pytest.fixture
def database_name(postgres: Postgres, template_database: str) -> Iterator[str]:
    """Copy the migrated template: each test has a database of its own, as committed work cannot be undone."""
    name = f"test_{uuid.uuid4().hex}"
    postgres.execute(
        _statement("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY", name, template_database),
        # Privileges on a database itself are not copied with it.
        _statement("REVOKE TEMPORARY, CREATE ON DATABASE {} FROM PUBLIC", name),
    )
    yield name
    postgres.execute(_statement("DROP DATABASE {} WITH (FORCE)", name))


@pytest.fixture
def database_url(postgres: Postgres, database_name: str) -> str:
    """Give the test's database as the app's role sees it."""
    return postgres.url(database_name, user=APP_ROLE)


@pytest.fixture
def admin_url(postgres: Postgres, database_name: str) -> str:
    """Give the test's database as the superuser sees it."""
    return postgres.url(database_name, user="postgres")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Open the test's database as the app does."""
    opened = Database(database_url)
    yield opened
    await opened.close()


class Stranger(PayloadCodec):
    """Reads and writes in the clear, and has no key to anything."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Leave everything as it is."""
        return list(payloads)

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Say what a keyring says of keys that it does not have."""
        if any(map(is_ours, payloads)):
            raise KeyGone("written by another test")
        return list(payloads)


@pytest.fixture(scope="session")
def temporal_address() -> str:
    """Give the run's Temporal server, with FlowTrack's search attributes and settings."""
    return servers.address("temporal")


@pytest.fixture
async def temporal_client(temporal_address: str) -> Client:
    """Connect to the run's Temporal server, in the clear; other tests' runs are those of strangers."""
    converter = replace(pydantic_data_converter, payload_codec=Stranger())
    return await Client.connect(temporal_address, data_converter=converter)


@pytest.fixture
def task_queue() -> str:
    """Name a task queue that no other test uses."""
    return f"test-{uuid.uuid4()}"


@pytest.fixture
async def smtp_catcher(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[mail.Catcher]:
    """Catch mail over real SMTP: `.smtp_url` to send to, `.messages()` to look at."""
    catcher = mail.Catcher(tmp_path_factory.mktemp("mail"))
    await catcher.start(smtp_port=0, http_port=0)
    yield catcher
    await catcher.stop()


def _statement(text: str, *names: str) -> sql.Composed:
    return sql.SQL(text).format(*map(sql.Identifier, names))
