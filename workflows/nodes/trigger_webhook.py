"""TRIGGER_WEBHOOK: a run for each call of the workflow's own address."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints

from workflows import paths
from workflows.messages import Outcome
from workflows.nodetype import NodeConfig, NodeType

Path = Annotated[str, StringConstraints(pattern=paths.PATTERN, max_length=500)]
"""Dotted, into the body: `data.items.0.email`."""
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]


class Config(NodeConfig):
    """Who may call, and where in the body the lead and the call's own name stand."""

    auth: Literal["none", "token", "hmac"] = "none"
    email_path: Path | None = None
    field_map: dict[Key, Path] = Field(default_factory=dict, max_length=100)
    idempotency_path: Path | None = None


class WebhookTrigger(NodeType):
    """Starts with a call of the workflow's hook."""

    name = "TRIGGER_WEBHOOK"
    title = "Incoming webhook"
    summary = (
        "Starts when another system posts a JSON object to the workflow's own address (`/hooks/{token}`); "
        "the body is `trigger`. With an address at `emailPath` there is a lead, whose columns and custom "
        "fields `fieldMap` fills (`{field: path}`). Calls with an equal value at `idempotencyPath` (else "
        "`Idempotency-Key`, else a signed `webhook-id`) count once. With `auth: token` the caller shows the "
        "hook's secret as `Authorization: Bearer`, with `hmac` it signs: as Standard Webhooks do, or by "
        "`X-FlowTrack-Signature: t=<unix time>,v1=<hex>`, an HMAC-SHA256 over `<unix time>.<body>`."
    )
    Config = Config
    example: ClassVar[dict[str, Any]] = {
        "auth": "hmac",
        "emailPath": "contact.email",
        "fieldMap": {"first_name": "contact.name", "budget": "deal.amount"},
        "idempotencyPath": "id",
    }
    passes = True

    @classmethod
    def brings_lead(cls, config: Any) -> bool:
        """Have one where the body names an address."""
        return config.email_path is not None

    @classmethod
    def pass_through(cls, config: NodeConfig, trigger: dict[str, Any], inputs: dict[str, Any]) -> Outcome:
        """Hand the body on."""
        return Outcome(output=trigger)
