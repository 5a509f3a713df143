"""The command line: quick help, readable refusals."""

import subprocess
import sys

import pytest

SLOW = {"fastapi", "temporalio", "sqlalchemy", "stripe", "pydantic", "uvicorn", "psycopg", "alembic"}
VERBS = (
    "up",
    "api",
    "worker",
    "deploy",
    "limits",
    "migrate",
    "seed",
    "doctor",
    "simulate",
    "decode",
    "rotate",
)


def flowtrack(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flowtrack", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", **environment},
    )


def test_help_names_every_verb():
    shown = flowtrack("--help")
    assert shown.returncode == 0
    assert all(verb in shown.stdout for verb in VERBS)


@pytest.mark.parametrize("arguments", [["--help"], ["up", "--help"], ["api", "--help"]])
def test_help_imports_nothing_that_is_slow(arguments):
    program = (
        "import sys, flowtrack\n"
        "try: flowtrack.main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print('MODULES', *sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    assert SLOW.isdisjoint(shown.stdout.partition("MODULES")[2].split())


def test_the_version_is_shown():
    assert flowtrack("--version").stdout.startswith("flowtrack 0.")


def test_no_verb_is_a_mistake_with_usage():
    shown = flowtrack()
    assert shown.returncode == 2
    assert "usage" in shown.stderr


@pytest.mark.parametrize("port", ["-1", "65536", "http"])
def test_a_port_that_is_none_is_refused(port):
    shown = flowtrack("up", f"--api-port={port}")
    assert shown.returncode == 2
    assert "0 to 65535" in shown.stderr


@pytest.mark.parametrize("verb", ["api", "worker", "migrate", "doctor"])
def test_production_without_keys_is_refused_by_every_verb_without_a_traceback(verb):
    shown = flowtrack(verb, FLOWTRACK_ENV="production")
    assert shown.returncode == 2
    assert "FLOWTRACK_MASTER_KEY" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_up_is_for_development(tmp_path):
    shown = flowtrack("up", "--data-dir", str(tmp_path), FLOWTRACK_ENV="production")
    assert shown.returncode == 1
    assert "development" in shown.stderr


def test_migrate_brings_a_database_to_the_newest_revision(admin_url, database_url):
    shown = flowtrack(
        "migrate", FLOWTRACK_DATABASE_URL=database_url, FLOWTRACK_MIGRATION_DATABASE_URL=admin_url
    )
    assert shown.returncode == 0, shown.stderr
    assert "revision" in shown.stdout


def test_migrate_says_which_variable_to_check_when_no_database_answers():
    refused = flowtrack("migrate", FLOWTRACK_DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing")
    assert refused.returncode == 1
    assert "FLOWTRACK_DATABASE_URL" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_deploy_says_which_variable_to_check_when_temporal_does_not_answer():
    refused = flowtrack("deploy", "two", "--patience", "0", FLOWTRACK_TEMPORAL_ADDRESS="127.0.0.1:1")
    assert refused.returncode == 1
    assert "FLOWTRACK_TEMPORAL_ADDRESS" in refused.stderr
    assert "Traceback" not in refused.stderr
