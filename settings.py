"""FlowTrack's configuration: one frozen Settings, read from FLOWTRACK_* variables only."""

import base64
import binascii
import os
from enum import StrEnum
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "FLOWTRACK_"
MASTER_KEY_BYTES = 32
NEW_KEY = 'python3 -c "import base64, secrets; print(base64.b64encode(secrets.token_bytes(32)).decode())"'
# What production has no default for; each says what it is, so that the refusal is its own manual.
REQUIRED_IN_PRODUCTION = {
    "database_url": "the app role's database, e.g. postgresql://flowtrack_app:…@db.example.com/flowtrack",
    "temporal_address": "the Temporal frontend, e.g. temporal.example.com:7233",
    "public_url": "where the world reaches this API, e.g. https://flowtrack.example.com",
    "smtp_url": "the mail server, e.g. smtp://user:password@mail.example.com:587?tls=starttls",
    "mail_from": "the sender of workflow mails, e.g. Acme <hello@example.com>",
    "master_key": f"the key that seals stored secrets; make one with: {NEW_KEY}",
}


class Environment(StrEnum):
    """Where FlowTrack runs; only development has defaults for keys and reaches private addresses."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class ConfigurationError(Exception):
    """The configuration is incomplete or wrong; the message names each variable and its remedy."""


def _database_url(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in {"postgresql", "postgres", "postgresql+psycopg"}:
        raise ValueError("must be a PostgreSQL URL, e.g. postgresql://user:password@host/database")
    return f"postgresql+psycopg://{rest}"


def _smtp_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"smtp", "smtps"} or not parts.hostname:
        raise ValueError("must look like smtp://user:password@host:587?tls=starttls")
    return url


def _public_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an http or https URL without a query, e.g. https://flowtrack.example.com")
    return url.rstrip("/")


def _master_key(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        key = base64.b64decode(value, validate=True)
    except binascii.Error as failure:
        raise ValueError(f"must be base64; make one with: {NEW_KEY}") from failure
    if len(key) != MASTER_KEY_BYTES:
        raise ValueError(f"must hold {MASTER_KEY_BYTES} bytes, not {len(key)}; make one with: {NEW_KEY}")
    return value


def _address(value: str) -> str:
    host, separator, port = value.rpartition(":")
    if not separator or not host or not port.isdigit():
        raise ValueError("must be host:port, e.g. 127.0.0.1:7233")
    return value


Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=3600)]
DatabaseURL = Annotated[str, AfterValidator(_database_url)]
SMTPURL = Annotated[str, AfterValidator(_smtp_url)]
PublicURL = Annotated[str, AfterValidator(_public_url)]
MasterKey = Annotated[SecretStr, BeforeValidator(_master_key)]


class Settings(BaseSettings):
    """Everything that can be configured, each field by the variable FLOWTRACK_<NAME>."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    env: Environment = Environment.DEVELOPMENT
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    # These URLs hold passwords: they stay out of the repr, and so out of logs and tracebacks.
    database_url: DatabaseURL = Field(
        "postgresql+psycopg://flowtrack_app@127.0.0.1:5432/flowtrack", repr=False
    )
    migration_database_url: DatabaseURL | None = Field(None, repr=False)
    database_pool_size: int = Field(10, ge=1, le=500)

    temporal_address: Annotated[str, AfterValidator(_address)] = "127.0.0.1:7233"
    temporal_namespace: str = "default"
    simulation_namespace: str = "flowtrack-simulations"
    temporal_tls: bool | None = None
    temporal_api_key: SecretStr | None = None
    temporal_ui_url: PublicURL = "http://127.0.0.1:8233"

    public_url: PublicURL = "http://127.0.0.1:8000"
    api_host: str = "127.0.0.1"
    api_port: Port = 8000
    callback_url: PublicURL | None = None

    # Off by default: numbers over all workspaces are the operator's alone.
    metrics_port: Port | None = None
    metrics_host: str = "127.0.0.1"
    # The one variable that is not ours alone: a machine's own collector is named by it for all programs.
    otlp_endpoint: PublicURL | None = Field(
        default_factory=lambda: os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or None, validate_default=True
    )

    smtp_url: SMTPURL = Field("smtp://127.0.0.1:2525", repr=False)
    mail_from: str = "FlowTrack <hello@flowtrack.example>"

    master_key: MasterKey | None = None
    # Unset: nobody is the operator over HTTP. Long, as it may be guessed at.
    operator_token: SecretStr | None = Field(None, min_length=32, max_length=500)
    allow_private_destinations: bool | None = None

    # Empty: unversioned, every worker takes every run.
    build_id: str = Field("", max_length=64, pattern=r"^[A-Za-z0-9._-]*$")
    worker_concurrency: int = Field(50, ge=1, le=1000)
    # So many runs at once are carried out by the API that starts them; the workers take all others.
    api_runs: int = Field(0, ge=0, le=1000)
    dispatcher_poll_seconds: Seconds = 1.0
    mirror_sweep_seconds: Seconds = 20.0

    @model_validator(mode="after")
    def _production_needs_its_keys(self) -> Self:
        if self.env is not Environment.PRODUCTION:
            return self
        missing = [name for name in REQUIRED_IN_PRODUCTION if name not in self.model_fields_set]
        if missing:
            lines = [f"{PREFIX}{name.upper()}: {REQUIRED_IN_PRODUCTION[name]}" for name in missing]
            raise ValueError("production does not start without\n" + "\n".join(lines))
        return self

    @property
    def admin_database_url(self) -> str:
        """Give the URL that migrations use: their own, or the app's."""
        return self.migration_database_url or self.database_url

    @property
    def may_reach_private_addresses(self) -> bool:
        """Tell whether webhooks and mail may go to private addresses: in development only, unless told."""
        if self.allow_private_destinations is None:
            return self.env is Environment.DEVELOPMENT
        return self.allow_private_destinations

    @property
    def closes_url(self) -> str | None:
        """Give where Temporal tells the API of closed runs; in development it is on the same machine."""
        if self.callback_url is not None or self.env is not Environment.DEVELOPMENT or not self.api_port:
            return self.callback_url
        # Where it listens on every address it is reached by the machine's own.
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.api_host, self.api_host)  # noqa: S104
        return f"http://{host}:{self.api_port}"

    @property
    def temporal_token(self) -> str | None:
        """Give the API key that Temporal asks for, if it does."""
        return None if self.temporal_api_key is None else self.temporal_api_key.get_secret_value()

    @property
    def operator_secret(self) -> str | None:
        """Give the token by which the installation's operator is known over HTTP."""
        return None if self.operator_token is None else self.operator_token.get_secret_value()

    @property
    def master_key_bytes(self) -> bytes:
        """Give the key that seals stored secrets."""
        if self.master_key is None:
            raise ConfigurationError(f"{PREFIX}MASTER_KEY is not set. Make one with: {NEW_KEY}")
        return base64.b64decode(self.master_key.get_secret_value())


def load() -> Settings:
    """Read the settings, or say which variable is wrong and how to put it right."""
    try:
        return Settings()
    except ValidationError as failure:
        raise ConfigurationError(explain(failure)) from None


def explain(failure: ValidationError) -> str:
    """Turn a validation failure into lines that name each variable; values are left out, some are secret."""
    lines = ["FlowTrack's configuration is not usable:"]
    for error in failure.errors(include_url=False, include_input=False):
        name = PREFIX + "_".join(str(part).upper() for part in error["loc"][:1])
        message = error["msg"].removeprefix("Value error, ")
        detail = message if not error["loc"] else f"{name}: {message}"
        lines += [f"  {line}" for line in detail.splitlines()]
    return "\n".join([*lines, "Each is an environment variable; the README lists them all."])
