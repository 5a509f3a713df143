"""LOGIC_QUOTA_GATE: what costs quota goes on only while there is some."""

from datetime import datetime
from typing import Any, ClassVar, Literal

from pydantic import Field

from workflows.nodetype import NodeConfig, NodeType, Result

WITHIN, EXCEEDED = "within_quota", "exceeded"


class Config(NodeConfig):
    """How much of which quota, and what to do when there is not so much left."""

    quota_key: Literal["workflows", "leads", "executions", "email_sends"]
    amount: int = Field(1, ge=1, le=1_000_000)
    on_exceeded: Literal["hold", "branch", "fail"] = "branch"


class Output(Result):
    """Whether there was enough, and how the quota stands."""

    granted: bool
    quota_key: str
    amount: int
    used: int
    limit: int | None
    held_until: datetime | None


class QuotaGate(NodeType):
    """Takes quota."""

    name = "LOGIC_QUOTA_GATE"
    title = "Quota gate"
    summary = (
        "Takes an amount from one of the workspace's quotas and goes on by `within_quota`. If not so much is "
        "left, `onExceeded` decides: `branch` goes on by `exceeded`, `fail` fails the step, and `hold` "
        "books the amount in the next period that has room for it and sleeps until that period begins."
    )
    Config = Config
    Output = Output
    example: ClassVar[dict[str, Any]] = {"quotaKey": "email_sends", "amount": 1, "onExceeded": "hold"}
    failure = ("quota_exceeded", {"quotaKey": "email_sends", "amount": 1_000_000, "onExceeded": "fail"})
    handles = (WITHIN, EXCEEDED)
