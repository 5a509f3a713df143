"""`flowtrack doctor` as a whole: on a house that works, with nobody at work, and with everything away."""

import json
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from temporalio.client import Client
from uuid_utils.compat import uuid7

import examination
import flowtrack
from activities.clients import cluster
from db.session import Database
from local import mail, ports
from local.findings import Finding
from settings import Settings
from tests.db.conftest import queued, settle

pytestmark = pytest.mark.anyio

AWAY = "postgresql+psycopg://nobody@127.0.0.1:1/nothing"


async def examined(settings: Settings, tmp_path: Path) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for each in await examination.examine(
        settings, partial(flowtrack._temporal, settings), data_dir=tmp_path
    ):
        found.setdefault(each.subject, []).append(each)
    return found


async def test_every_subject_is_looked_at_and_what_nobody_does_is_told(
    database: Database, admin_url: str, temporal_address: str, smtp_catcher: mail.Catcher, tmp_path: Path
):
    settings = Settings(
        database_url=database.engine.url.render_as_string(hide_password=False),
        migration_database_url=admin_url,
        temporal_address=temporal_address,
        smtp_url=smtp_catcher.smtp_url,
        public_url=f"http://127.0.0.1:{ports.free()}",
    )
    here = await settle(database, "here")
    hours_ago = datetime.now(UTC) - timedelta(hours=2)
    async with database.workspace(here.workspace_id) as session:
        session.add(queued(here, id=uuid7(), queued_at=hours_ago))
        lost = queued(here, id=uuid7(), status="running", queued_at=hours_ago)
        lost.dispatched_at = lost.updated_at = lost.mirrored_at = hours_ago
        session.add(lost)
    found = await examined(settings, tmp_path)
    assert set(found) >= {
        *("Python", "Configuration", "Master key", "Disk", "Database", "Role", "PostgreSQL", "Log", "Clocks"),
        *("Schema", "Temporal", "Retention", "Search attributes", "Pollers", "Workers", "Upkeep"),
        *("Simulations", "Callbacks", "Mail", "Public URL", "Backlog", "Effects", "Mirror", "Stuck runs"),
        "Large payloads",
    }
    well = {subject for subject, each in found.items() if all(one.is_well for one in each)}
    assert well >= {"Python", "Disk", "Database", "Role", "Log", "Schema", "Temporal", "Mail", "Effects"}
    (mirror,), (stuck,) = found["Mirror"], found["Stuck runs"]
    assert not mirror.is_well
    assert stuck.what.startswith("2: ")
    assert "not_started" in stuck.what
    assert any("starts wait, the first for 7" in each.what for each in found["Backlog"])
    assert all(each.remedy for several in found.values() for each in several if not each.is_well)


async def test_what_is_away_is_told_once_and_stops_no_other_check(tmp_path: Path):
    settings = Settings(
        database_url=AWAY, temporal_address="127.0.0.1:1", smtp_url=f"smtp://127.0.0.1:{ports.free()}"
    )
    found = await examined(settings, tmp_path)
    assert {subject for subject, each in found.items() if not each[0].is_well} >= {
        "Database",
        "Temporal",
        "Mail",
    }
    assert "Backlog" not in found
    assert "Pollers" not in found


async def test_pollers_and_schedules_are_told_as_the_server_knows_them(
    temporal_client: Client, task_queue: str
):
    workflows, _ = cluster.KINDS
    assert await cluster.polls(temporal_client, task_queue, workflows) is None
    assert await cluster.missing_attributes(temporal_client) == []
    assert (await cluster.retention(temporal_client)) is not None
    nowhere = await Client.connect(
        temporal_client.service_client.config.target_host, namespace="nowhere", lazy=True
    )
    assert await cluster.retention(nowhere) is None


def test_the_verb_prints_json_and_fails_where_something_does(
    database_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("FLOWTRACK_DATABASE_URL", database_url)
    monkeypatch.setenv("FLOWTRACK_TEMPORAL_ADDRESS", "127.0.0.1:1")
    chosen = flowtrack.parser().parse_args(["doctor", "--json", "--data-dir", str(tmp_path)])
    assert chosen.verb(chosen) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["level"] == "fail"
    assert {each["subject"]: each["level"] for each in told["findings"]}["Temporal"] == "fail"
