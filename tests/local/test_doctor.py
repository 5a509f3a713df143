"""The doctor, against real servers and their absence."""

import asyncio
import socket

import pytest

from db import migrate
from local import doctor, ports

pytestmark = pytest.mark.anyio


def test_a_migrated_database_is_well(database_url, admin_url):
    assert doctor.app_database(database_url).is_well
    assert doctor.schema(admin_url, newest=migrate.newest()).is_well


def test_a_role_that_passes_row_level_security_by_is_found(admin_url):
    found = doctor.app_database(admin_url)
    assert not found.is_well
    assert "flowtrack_app" in found.remedy


def test_a_database_that_was_never_migrated_is_told_how(postgres):
    found = doctor.schema(postgres.admin_url, newest="x")
    assert not found.is_well
    assert "flowtrack migrate" in found.remedy


def test_an_old_schema_is_told_how(admin_url):
    found = doctor.schema(admin_url, newest="9999")
    assert not found.is_well
    assert "flowtrack migrate" in found.remedy


def test_a_database_that_is_away_names_its_variable():
    found = doctor.app_database(f"postgresql://app@127.0.0.1:{ports.free()}/flowtrack")
    assert not found.is_well
    assert "FLOWTRACK_DATABASE_URL" in found.remedy


async def test_temporal_that_answers_is_well(temporal_client, temporal_address):
    assert (await doctor.temporal(temporal_address, temporal_client.service_client.check_health)).is_well


async def test_temporal_that_is_away_names_its_variable():
    async def away() -> bool:
        raise RuntimeError("connection refused")

    found = await doctor.temporal("127.0.0.1:1", away)
    assert not found.is_well
    assert "FLOWTRACK_TEMPORAL_ADDRESS" in found.remedy


async def test_a_mail_server_that_answers_is_well(smtp_catcher):
    assert (await asyncio.to_thread(doctor.mail, smtp_catcher.smtp_url)).is_well


def test_a_mail_server_that_is_away_names_its_variable():
    found = doctor.mail(f"smtp://127.0.0.1:{ports.free()}")
    assert not found.is_well
    assert "FLOWTRACK_SMTP_URL" in found.remedy


def test_a_mail_server_that_does_not_speak_smtp_is_found(monkeypatch):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        monkeypatch.setattr(doctor, "SECONDS", 0.2)
        assert not doctor.mail(f"smtp://127.0.0.1:{port}").is_well


def test_a_misspelt_variable_is_found():
    environment = {"FLOWTRACK_DATABSE_URL": "x", "FLOWTRACK_ENV": "development", "HOME": "/"}
    found = doctor.variables(environment, ["FLOWTRACK_ENV"])
    assert not found.is_well
    assert "FLOWTRACK_DATABSE_URL" in found.what


def test_the_report_says_whether_all_is_well_with_a_remedy_for_what_is_not():
    said: list[str] = []
    assert doctor.report([doctor.python()], say=said.append)
    assert not doctor.report([doctor.python(), doctor.master_key(False)], say=said.append)
    assert "FLOWTRACK_MASTER_KEY" in said[-1]


def test_workers_without_builds_need_nothing():
    assert str(doctor.builds("", "", {})) == "ok    Workers: unversioned"


def test_builds_that_still_have_runs_are_told_apart_from_those_that_may_go():
    found = doctor.builds("three", "three", {"one": "drained", "two": "draining", "four": "inactive"})
    assert found.is_well
    assert found.what == "build three is current; one drained, two draining"


@pytest.mark.parametrize(
    ("mine", "current", "remedy"),
    [("two", "one", "run `flowtrack deploy two`"), ("", "one", "set FLOWTRACK_BUILD_ID=one")],
)
def test_workers_that_get_no_runs_are_found(mine: str, current: str, remedy: str):
    found = doctor.builds(mine, current, {})
    assert (found.is_well, found.remedy) == (False, remedy)
