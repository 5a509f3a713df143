"""The configuration: readable refusals, no default secret outside development."""

import base64

import pytest
from pydantic import ValidationError

import settings
from settings import ConfigurationError, Environment, Settings

KEY = base64.b64encode(bytes(range(32))).decode()
PRODUCTION = {
    "FLOWTRACK_ENV": "production",
    "FLOWTRACK_DATABASE_URL": "postgresql://app:hunter2@db.example.com/flowtrack",
    "FLOWTRACK_TEMPORAL_ADDRESS": "temporal.example.com:7233",
    "FLOWTRACK_PUBLIC_URL": "https://flowtrack.example.com/",
    "FLOWTRACK_SMTP_URL": "smtp://user:hunter2@mail.example.com:587?tls=starttls",
    "FLOWTRACK_MAIL_FROM": "Acme <hello@example.com>",
    "FLOWTRACK_MASTER_KEY": KEY,
}


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in Settings.model_fields:
        monkeypatch.delenv(f"FLOWTRACK_{name.upper()}", raising=False)


@pytest.fixture
def production(monkeypatch):
    for name, value in PRODUCTION.items():
        monkeypatch.setenv(name, value)


def test_development_starts_without_any_variable():
    loaded = settings.load()
    assert loaded.env is Environment.DEVELOPMENT
    assert loaded.may_reach_private_addresses


@pytest.mark.usefixtures("production")
def test_production_starts_with_its_keys():
    loaded = settings.load()
    assert loaded.master_key_bytes == bytes(range(32))
    assert loaded.public_url == "https://flowtrack.example.com"
    assert not loaded.may_reach_private_addresses


@pytest.mark.usefixtures("production")
@pytest.mark.parametrize("missing", [name for name in PRODUCTION if name != "FLOWTRACK_ENV"])
@pytest.mark.parametrize("how", ["unset", "empty"])
def test_production_refuses_to_start_without_a_key_and_names_it(monkeypatch, missing, how):
    if how == "unset":
        monkeypatch.delenv(missing)
    else:
        monkeypatch.setenv(missing, "")
    with pytest.raises(ConfigurationError) as refused:
        settings.load()
    assert missing in str(refused.value)
    assert not any(
        name in str(refused.value) for name in PRODUCTION if name not in (missing, "FLOWTRACK_ENV")
    )


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("FLOWTRACK_MASTER_KEY", "not base64!", "make one with"),
        ("FLOWTRACK_MASTER_KEY", base64.b64encode(b"short").decode(), "32 bytes"),
        ("FLOWTRACK_DATABASE_URL", "mysql://db/flowtrack", "postgresql://"),
        ("FLOWTRACK_TEMPORAL_ADDRESS", "temporal", "host:port"),
        ("FLOWTRACK_PUBLIC_URL", "elsewhere.example.com", "https://"),
        ("FLOWTRACK_SMTP_URL", "mail.example.com", "smtp://"),
        ("FLOWTRACK_API_PORT", "http", "integer"),
        ("FLOWTRACK_OPERATOR_TOKEN", "guessable", "at least 32"),
        ("FLOWTRACK_API_PORT", "70000", "65535"),
        ("FLOWTRACK_ENV", "staging", "production"),
        ("FLOWTRACK_LOG_LEVEL", "loud", "warning"),
    ],
)
def test_a_wrong_value_is_named_with_its_remedy_and_never_shown(monkeypatch, variable, value, remedy):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError) as refused:
        settings.load()
    assert variable in str(refused.value)
    assert remedy in str(refused.value)
    assert value not in str(refused.value) or value == "http"


@pytest.mark.usefixtures("production")
def test_secrets_stay_out_of_what_is_printed():
    shown = repr(settings.load())
    assert "hunter2" not in shown
    assert KEY not in shown


def test_any_postgresql_url_gets_the_driver_that_we_use(monkeypatch):
    for scheme in ("postgres", "postgresql", "postgresql+psycopg"):
        monkeypatch.setenv("FLOWTRACK_DATABASE_URL", f"{scheme}://app@db/flowtrack")
        assert settings.load().database_url == "postgresql+psycopg://app@db/flowtrack"


def test_migrations_use_their_own_login_where_there_is_one(monkeypatch):
    monkeypatch.setenv("FLOWTRACK_DATABASE_URL", "postgresql://app@db/flowtrack")
    assert settings.load().admin_database_url == "postgresql+psycopg://app@db/flowtrack"
    monkeypatch.setenv("FLOWTRACK_MIGRATION_DATABASE_URL", "postgresql://owner@db/flowtrack")
    assert settings.load().admin_database_url == "postgresql+psycopg://owner@db/flowtrack"


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        ("127.0.0.1", "8001", "http://127.0.0.1:8001"),
        ("0.0.0.0", "8000", "http://127.0.0.1:8000"),
        ("::", "8000", "http://[::1]:8000"),
        ("127.0.0.1", "0", None),
    ],
)
def test_in_development_temporal_reaches_the_api_where_it_listens(monkeypatch, host, port, url):
    monkeypatch.setenv("FLOWTRACK_API_HOST", host)
    monkeypatch.setenv("FLOWTRACK_API_PORT", port)
    assert settings.load().closes_url == url


@pytest.mark.usefixtures("production")
def test_in_production_temporal_is_told_where_it_reaches_the_api(monkeypatch):
    assert settings.load().closes_url is None
    monkeypatch.setenv("FLOWTRACK_CALLBACK_URL", "http://api.internal:8000/")
    assert settings.load().closes_url == "http://api.internal:8000"


def test_the_settings_do_not_change_once_they_are_read():
    with pytest.raises(ValidationError):
        settings.load().api_port = 1  # type: ignore[misc] # the very thing that is refused


def test_the_key_that_seals_secrets_is_asked_for_when_it_is_needed():
    with pytest.raises(ConfigurationError, match="FLOWTRACK_MASTER_KEY"):
        _ = settings.load().master_key_bytes
