"""ACTION_HTTP_REQUEST: asks or tells an HTTP service."""

import re
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, StringConstraints, field_validator, model_validator
from pydantic_core import PydanticCustomError

from workflows.nodetype import Data, NodeConfig, NodeType, Part, Result, Template

DEADLINE = 15.0
"""Seconds for the whole exchange, unless `timeoutSeconds` says otherwise."""
MARGIN = timedelta(seconds=15)
"""What the step needs besides, so that an answer which was given is also recorded."""
PLACEHOLDER = re.compile(r"\{[{%]")
PARTS = {"none": (), "bearer": ("token",), "basic": ("username", "password"), "header": ("name", "value")}
OURS = {
    "authorization": "Set `auth` instead: it stays out of the steps.",
    "idempotency-key": "FlowTrack sets it.",
}


def _literal(secret: SecretStr) -> SecretStr:
    # Rendered, it would have to travel through the run and so through its history.
    if PLACEHOLDER.search(secret.get_secret_value()):
        raise PydanticCustomError("literal_only", "a secret is literal, templates are not rendered in it")
    return secret


Secret = Annotated[SecretStr, Field(max_length=8192), AfterValidator(_literal)]
Header = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$")]
Status = (
    Annotated[int, Field(ge=100, le=599)]
    | Annotated[str, StringConstraints(pattern=r"^[1-5][0-9]{2}-[1-5][0-9]{2}$")]
)


class Auth(Part):
    """How the request proves itself; its values are never shown in a step."""

    type: Literal["none", "bearer", "basic", "header"] = "none"
    token: Secret | None = None
    username: Secret | None = None
    password: Secret | None = None
    name: Header | None = None
    value: Secret | None = None

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        given = {part for parts in PARTS.values() for part in parts if getattr(self, part) is not None}
        if given != set(PARTS[self.type]):
            told = {"type": self.type, "parts": " and ".join(PARTS[self.type]) or "nothing else"}
            raise PydanticCustomError("bad_auth", "The type `{type}` takes {parts}.", told)
        return self


class Config(NodeConfig):
    """The request, and which answers are good ones."""

    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    url: Template = Field(min_length=1)
    query: dict[str, Data] = Field(default_factory=dict, max_length=100)
    headers: dict[Header, Template] = Field(default_factory=dict, max_length=50)
    body: Data = None
    auth: Auth = Auth()
    timeout_seconds: float | None = Field(None, gt=0, le=120)
    success_statuses: list[Status] = Field(["200-299"], min_length=1, max_length=50)
    max_response_bytes: int = Field(64 * 1024, ge=0, le=256 * 1024)

    @field_validator("headers")
    @classmethod
    def _check_headers(cls, headers: dict[str, str]) -> dict[str, str]:
        for name in headers:
            if name.lower() in OURS:
                told = {"name": name, "why": OURS[name.lower()]}
                raise PydanticCustomError("reserved_header", "`{name}` cannot be set here. {why}", told)
        return headers

    @model_validator(mode="after")
    def _check_body(self) -> Self:
        if self.body is not None and self.method in ("GET", "HEAD"):
            raise PydanticCustomError("no_body", "A {method} has no body.", {"method": self.method})
        return self

    @property
    def deadline(self) -> float:
        """Limit the exchange, in seconds."""
        return self.timeout_seconds or DEADLINE

    def succeeds(self, status: int) -> bool:
        """Tell a good answer."""
        return any(low <= status <= high for low, high in map(_bounds, self.success_statuses))


def _bounds(status: int | str) -> tuple[int, int]:
    low, _, high = str(status).partition("-")
    return int(low), int(high or low)


class Output(Result):
    """What was answered."""

    status: int
    headers: dict[str, str]
    body: Any
    truncated: bool


class HTTPRequest(NodeType):
    """Sends a request."""

    name = "ACTION_HTTP_REQUEST"
    title = "HTTP request"
    summary = (
        "Sends one HTTP request to a public address and keeps what was answered: `status`, some `headers`, "
        "the `body` (JSON is parsed) and whether it was `truncated`. A text `body` is sent as it is, all "
        "else as JSON. Lost connections and the answers 429, 502, 503 and 504 are tried again as `retry` "
        "says, after `Retry-After` where it is given; any other answer outside `successStatuses` fails the "
        "step. Redirects are not followed. All but GET and HEAD carry an `Idempotency-Key`, the same at each "
        "attempt: a request that was answered well is never repeated, one whose answer was lost is, so a "
        "service that ignores the key may see it twice."
    )
    Config = Config
    Output = Output
    example: ClassVar[dict[str, Any]] = {
        "method": "POST",
        "url": "https://api.example.com/contacts",
        "body": {"email": "{{ lead.email }}", "budget": "{{ trigger.budget }}"},
        "auth": {"type": "bearer", "token": "a-token-of-the-service"},
    }
    failure = ("blocked_destination", {"url": "ftp://files.example.com/"})
    # No fast path: what comes after one comes at once, and `Retry-After` would not be honoured.
    sends = True
    queue = "http"

    @classmethod
    def start_to_close(cls, config: NodeConfig) -> timedelta:
        """Let the exchange have its time, and the step some more."""
        return timedelta(seconds=config.timeout_seconds or DEADLINE) + MARGIN
