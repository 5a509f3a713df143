"""The doctor's checks, against real servers and their absence; each problem comes with its remedy."""

import asyncio
import json
import socket
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from pytest_httpserver import HTTPServer

from db import migrate
from local import database, doctor, findings, ports
from local.findings import Finding, Level
from local.postgres import plain

TODAY = datetime.now(UTC).date()

pytestmark = pytest.mark.anyio


def levels(found: list[Finding]) -> dict[str, Level]:
    return {each.subject: each.level for each in found}


# ── PostgreSQL


def test_a_migrated_database_works(database_url, admin_url):
    found = database.app(database_url, pool_size=10)
    # The tests' server syncs nothing to the disk, which is to be told.
    bad = {each.subject for each in found if not each.is_well}
    assert bad == {"PostgreSQL"}
    assert [each.what for each in found if not each.is_well] == ["fsync, full_page_writes off"]
    assert database.schema(admin_url, newest=migrate.newest()).is_well


def test_a_role_that_passes_row_level_security_by_is_found(admin_url):
    found = {each.subject: each for each in database.app(admin_url)}
    assert found["Role"].level is Level.FAIL
    assert "flowtrack_app" in found["Role"].remedy


def test_a_role_that_owns_a_table_is_found(admin_url, database_url):
    with psycopg.connect(plain(admin_url)) as connection:
        connection.execute("CREATE TABLE planted (id integer)")
        connection.execute("GRANT CREATE ON SCHEMA public TO flowtrack_app")
        connection.execute("ALTER TABLE planted OWNER TO flowtrack_app")
    found = {each.subject: each for each in database.app(database_url)}
    assert "owns 1 table" in found["Role"].what


def test_a_table_without_row_level_security_is_found(admin_url, database_url):
    with psycopg.connect(plain(admin_url)) as connection:
        connection.execute("ALTER TABLE leads DISABLE ROW LEVEL SECURITY")
    found = {each.subject: each for each in database.app(database_url)}
    assert found["Role"].what == "1 tables lack row-level security"


def test_too_few_connections_are_found(database_url):
    with psycopg.connect(plain(database_url)) as connection:
        (most,) = connection.execute("SELECT current_setting('max_connections')::int").fetchone() or (0,)
        fitting = (most - database.VIEWING) // database.POOLS
        told = [
            [each.what for each in database.settings(connection, pool_size=size, hosts=hosts)]
            for size, hosts in ((fitting, False), (fitting + 1, False), (fitting, True))
        ]
    assert [any("max_connections" in what for what in each) for each in told] == [False, True, True]


def test_a_month_that_is_missing_is_named(database_url):
    with psycopg.connect(plain(database_url)) as connection:
        late = database.months(connection, TODAY + timedelta(days=62))
        assert database.months(connection, TODAY).is_well
    assert late.level is Level.WARN
    assert late.what.count("execution_logs_") == 2
    assert "upkeep-keep_log_partitions" in late.remedy


def test_the_months_ahead_go_over_the_end_of_the_year():
    assert database.ahead(date(2026, 11, 30)) == [
        "execution_logs_2026_11",
        "execution_logs_2026_12",
        "execution_logs_2027_01",
        "execution_logs_2027_02",
    ]


def test_a_database_that_was_never_migrated_is_told_how(postgres):
    found = database.schema(postgres.admin_url, newest="x")
    assert found.level is Level.FAIL
    assert "flowtrack migrate" in found.remedy


def test_an_old_schema_is_told_how(admin_url):
    found = database.schema(admin_url, newest="9999")
    assert found.level is Level.FAIL
    assert "flowtrack migrate" in found.remedy


def test_a_database_that_is_away_is_one_finding_and_names_its_variable():
    (found,) = database.app(f"postgresql://app@127.0.0.1:{ports.free()}/flowtrack")
    assert found.level is Level.FAIL
    assert "FLOWTRACK_DATABASE_URL" in found.remedy


# ── mail, the public URL, this machine


async def test_a_mail_server_that_answers_is_well(smtp_catcher):
    assert (await asyncio.to_thread(doctor.mail, smtp_catcher.smtp_url)).is_well


def test_a_mail_server_that_is_away_names_its_variable():
    found = doctor.mail(f"smtp://127.0.0.1:{ports.free()}")
    assert found.level is Level.FAIL
    assert "FLOWTRACK_SMTP_URL" in found.remedy


async def test_a_mail_server_without_starttls_cannot_be_asked_for_it(smtp_catcher):
    found = await asyncio.to_thread(doctor.mail, f"{smtp_catcher.smtp_url}?tls=starttls")
    assert found.level is Level.FAIL
    assert "STARTTLS" in found.what


def test_a_mail_server_that_does_not_speak_smtp_is_found(monkeypatch):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        monkeypatch.setattr(doctor, "SECONDS", 0.2)
        assert not doctor.mail(f"smtp://127.0.0.1:{port}").is_well


def test_a_public_url_is_well_when_the_api_behind_it_is_ready(httpserver: HTTPServer):
    httpserver.expect_request("/readyz").respond_with_json({"status": "ready"})
    url = httpserver.url_for("").rstrip("/")
    assert doctor.public_url(url, is_production=False).is_well
    plain_text = doctor.public_url(url, is_production=True)
    assert (plain_text.level, "https" in plain_text.what) == (Level.FAIL, True)


def test_a_public_url_that_leads_elsewhere_or_nowhere_names_its_variable(httpserver: HTTPServer):
    httpserver.expect_request("/readyz").respond_with_data("", status=502)
    elsewhere = doctor.public_url(httpserver.url_for("").rstrip("/"), is_production=False)
    nowhere = doctor.public_url(f"http://127.0.0.1:{ports.free()}", is_production=False)
    assert (elsewhere.level, nowhere.level) == (Level.FAIL, Level.WARN)
    assert all("FLOWTRACK_PUBLIC_URL" in each.remedy for each in (elsewhere, nowhere))


def test_a_misspelt_variable_is_found():
    environment = {"FLOWTRACK_DATABSE_URL": "x", "FLOWTRACK_ENV": "development", "HOME": "/"}
    found = doctor.variables(environment, ["FLOWTRACK_ENV"])
    assert found.level is Level.FAIL
    assert "FLOWTRACK_DATABSE_URL" in found.what


def test_the_room_on_the_disk_is_that_of_the_data_directory_or_of_where_it_would_be(
    tmp_path: Path, monkeypatch
):
    assert "MB free at" in doctor.disk(tmp_path / "not" / "there").what
    monkeypatch.setattr(doctor, "NONE", 2**80)
    assert doctor.disk(tmp_path).level is Level.FAIL


# ── what others found out


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
    assert (found.level, found.remedy) == (Level.FAIL, remedy)


@pytest.mark.parametrize(
    ("found", "level"),
    [
        (doctor.away("127.0.0.1:1"), Level.FAIL),
        (doctor.temporal("a:1", "1.32", namespace="n", exists=False), Level.FAIL),
        (doctor.temporal("a:1", "1.32", namespace="n", exists=True), Level.OK),
        (doctor.retention(timedelta(hours=24)), Level.WARN),
        (doctor.retention(timedelta(days=30)), Level.OK),
        (doctor.search_attributes(["FlowTrackLeadId"]), Level.FAIL),
        (doctor.search_attributes([]), Level.OK),
        (doctor.simulations("n", exists=False), Level.WARN),
        (doctor.pollers(["flowtrack-mail"]), Level.FAIL),
        (doctor.upkeep(["tidy"], []), Level.FAIL),
        (doctor.upkeep([], ["tidy"]), Level.WARN),
        (doctor.clock("x", -0.5), Level.OK),
        (doctor.clock("x", -5), Level.WARN),
        (doctor.clock("x", 60), Level.FAIL),
        (doctor.outbox("starts", 0, 0, remedy="r"), Level.OK),
        (doctor.outbox("starts", 3, 120, remedy="r"), Level.WARN),
        (doctor.outbox("starts", 3, 1200, remedy="r"), Level.FAIL),
        (doctor.doubts(1), Level.WARN),
        (doctor.mirror(1), Level.FAIL),
        (doctor.large_payloads(3, 200_000), Level.OK),
        (doctor.large_payloads(9_000, 20 * 2**30), Level.WARN),
        (doctor.stuck([("e", "idle", "look")]), Level.WARN),
        (doctor.callbacks(None), Level.WARN),
        (doctor.master_key(False), Level.FAIL),
    ],
)
def test_what_is_wrong_is_judged_and_has_its_remedy(found: Finding, level: Level):
    assert found.level is level
    assert found.is_well or found.remedy


def test_stuck_runs_are_named_with_what_to_do_for_each_reason():
    found = doctor.stuck([(f"e{n}", "idle" if n else "no_worker", f"do {bool(n)}") for n in range(7)])
    assert found.what.startswith("7: e0 (no_worker), e1 (idle)")
    assert found.what.endswith("and 2 more")
    assert found.remedy == "no_worker: do False; idle: do True"
    assert doctor.stuck([("e", "idle", "look")], unexamined=7).what == "1: e (idle); 7 more may be"
    assert doctor.stuck([], unexamined=7).level is Level.WARN
    assert doctor.stuck([]).level is Level.OK


def test_the_report_fails_by_failures_only_with_a_remedy_for_each_problem():
    said: list[str] = []
    mild, bad = findings.warn("Disk", "little", "make room"), doctor.master_key(False)
    assert findings.report([doctor.python(), mild], say=said.append)
    assert not findings.report([doctor.python(), bad], say=said.append)
    assert said[1] == "WARN  Disk: little\n      → make room"
    assert "FLOWTRACK_MASTER_KEY" in said[-1]


def test_the_report_is_json_for_programs():
    said: list[str] = []
    findings.report(
        [doctor.python(), findings.warn("Disk", "little", "make room")], as_json=True, say=said.append
    )
    told = json.loads("".join(said))
    assert told["level"] == "warn"
    assert told["findings"][1] == {
        "subject": "Disk",
        "level": "warn",
        "what": "little",
        "remedy": "make room",
    }
    assert "remedy" not in told["findings"][0]
