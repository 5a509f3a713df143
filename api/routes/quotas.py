"""What the workspace may use, and has used."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from api.auth import Caller, requires
from api.deps import Session
from db import quotas
from db.models import UsageQuota

router = APIRouter(tags=["billing"])


class Quota(BaseModel):
    """One quota in its current period."""

    model_config = ConfigDict(title="Quota")

    quota_key: str = Field(examples=["executions"])
    quota_limit: int | None = Field(description="Null: no limit.", examples=[1000])
    hard_limit: int | None = Field(description="A fifth above; nothing goes beyond.", examples=[1200])
    quota_used: int = Field(examples=[17])
    remaining: int | None = Field(description="Until the limit; 0 once it is reached.", examples=[983])
    period_start: date
    period_end: date = Field(description="The last day of the period.")

    @classmethod
    def of(cls, row: UsageQuota) -> "Quota":
        """Show a stored quota."""
        limit = row.quota_limit
        return cls(
            quota_key=row.quota_key,
            quota_limit=limit,
            hard_limit=None if limit is None else quotas.hard_limit(limit),
            quota_used=row.quota_used,
            remaining=None if limit is None else max(limit - row.quota_used, 0),
            period_start=row.period_start,
            period_end=row.period_end,
        )


class Quotas(BaseModel):
    """All quotas."""

    model_config = ConfigDict(title="Quotas")

    data: list[Quota]


@router.get("/v1/quotas", summary="List quotas")
async def quotas_list(caller: Annotated[Caller, requires("workspace:read")], session: Session) -> Quotas:
    """The current period of every quota; a period that nobody opened yet opens here."""
    rows = await quotas.overview(session, caller.workspace_id)
    return Quotas(data=[Quota.of(row) for row in rows])
