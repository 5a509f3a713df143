"""The embedded PostgreSQL: killed, restarted, and started beside another process's leftovers."""

import asyncio
import os
import signal

import psycopg
import pytest

from local import postgres, supervisor

pytestmark = pytest.mark.anyio


@pytest.fixture
def cluster(tmp_path):
    return postgres.Cluster(tmp_path / "postgres")


def service(cluster: postgres.Cluster) -> supervisor.Service:
    cluster.prepare()
    return supervisor.Service(
        "postgres",
        cluster.command,
        cluster.is_ready,
        prepare=cluster.prepare,
        account=cluster.account,
        stop_signal=signal.SIGINT,
    )


def execute(cluster: postgres.Cluster, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(postgres.plain(cluster.url()), autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


async def test_what_was_committed_survives_kill_9_of_the_server(cluster, tmp_path):
    keeper = supervisor.Supervisor(tmp_path / "logs", say=lambda line: None)
    await keeper.start(service(cluster))
    execute(cluster, "CREATE TABLE kept AS SELECT 1 AS number")
    before = keeper.pids["postgres"]
    os.kill(before, signal.SIGKILL)
    async with asyncio.timeout(20):
        while keeper.pids["postgres"] == before or not await cluster.is_ready():
            await asyncio.sleep(0.05)
    assert execute(cluster, "SELECT number FROM kept") == [(1,)]
    await keeper.stop()
    assert not (cluster.directory / "postmaster.pid").exists()


async def test_a_lock_that_names_another_living_process_does_not_stop_the_start(cluster, tmp_path):
    cluster.prepare()
    # As after a reboot: the number stands for another process now.
    (cluster.directory / "postmaster.pid").write_text(f"{os.getpid()}\n{cluster.directory}\n")
    keeper = supervisor.Supervisor(tmp_path / "logs", say=lambda line: None)
    await keeper.start(service(cluster))
    assert execute(cluster, "SELECT 1") == [(1,)]
    await keeper.stop()


async def test_a_server_that_outlived_its_supervisor_gives_way(cluster, tmp_path):
    first = supervisor.Supervisor(tmp_path / "first", say=lambda line: None)
    await first.start(service(cluster))
    execute(cluster, "CREATE TABLE kept AS SELECT 2 AS number")
    # What a supervisor killed on a system without ties to the parent leaves behind.
    left_behind = first._children.pop("postgres")
    assert left_behind.keeper is not None
    left_behind.keeper.cancel()
    second = supervisor.Supervisor(tmp_path / "second", say=lambda line: None)
    await second.start(service(cluster))
    assert execute(cluster, "SELECT number FROM kept") == [(2,)]
    assert await left_behind.process.wait() is not None
    await second.stop()


async def test_an_interrupted_initialisation_leaves_nothing_half_made(cluster):
    draft = cluster.directory.with_name("postgres.new")
    draft.mkdir(parents=True)
    (draft / "PG_VERSION").write_text("18\n")
    cluster.prepare()
    assert (cluster.directory / "global").exists()
    assert not draft.exists()


async def test_a_long_path_gets_its_socket_elsewhere(tmp_path):
    cluster = postgres.Cluster(tmp_path / ("long" * 30) / "postgres")
    keeper = supervisor.Supervisor(tmp_path / "logs", say=lambda line: None)
    await keeper.start(service(cluster))
    assert cluster.socket_directory != cluster.directory
    assert execute(cluster, "SELECT 1") == [(1,)]
    await keeper.stop()
    cluster.socket_directory.rmdir()


async def test_a_directory_of_another_user_is_refused_with_a_way_out(cluster):
    cluster.prepare()
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    other = postgres.Account(12345, 12345)
    with pytest.raises(postgres.PostgresError, match="--data-dir"):
        postgres._require_owner(cluster.directory, other)


def test_a_database_is_made_once(postgres_server_url):
    postgres.ensure_database(postgres_server_url, "made_once")
    postgres.ensure_database(postgres_server_url, "made_once")
    with psycopg.connect(postgres.plain(postgres_server_url)) as connection:
        found = connection.execute("SELECT count(*) FROM pg_database WHERE datname = 'made_once'").fetchone()
    assert found == (1,)


@pytest.fixture
def postgres_server_url(request):
    return request.getfixturevalue("postgres").admin_url
