"""Quotas: taken in one conditional statement, hard at 120 % of the limit, opened on first use (ERD §18)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, LiteralString
from uuid import UUID

from sqlalchemy import ScalarResult, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from db import effects, usage
from db.effects import EffectKey
from db.models import UsageQuota
from db.models.billing import QUOTA_KEYS
from db.session import Database, fetch
from db.wire import Statement

ATTEMPTS = 3
EXECUTIONS = "executions"
GRANTED = {"granted": True}
IS_COUNTED: LiteralString = (
    "SELECT 1 FROM usage_events WHERE workspace_id = %(workspace_id)s AND id = %(use_id)s"
)
OPEN = text(
    "SELECT open_quota_periods(:workspace_id, quota_key, :day)"
    " FROM unnest(CAST(:quota_keys AS text[])) AS quota_key"
)
# The check and the increment are one statement: the row's lock lets parallel takers through one by one.
TAKE = """
    UPDATE usage_quotas SET quota_used = quota_used + %(amount)s, updated_at = now()
    WHERE workspace_id = %(workspace_id)s AND quota_key = %(quota_key)s
        AND period_start <= %(day)s AND period_end >= %(day)s
        AND (quota_limit IS NULL OR quota_used + %(amount)s <= quota_limit * 6 / 5)
    RETURNING quota_limit, quota_used, period_end
"""

# The row is the whole workspace's and is locked until the commit: it comes last of a message, whose commit
# waits for nobody. Where nothing is left, or the key is known, nothing at all is written: `admit` and
# the mail's closer look say why. The lock comes before the key and the key before the count, so a repeat that
# waited for the lock finds the key taken and counts nothing.
ROOM: LiteralString = f"""
    SELECT FROM usage_quotas WHERE workspace_id = %(workspace_id)s AND quota_key = %(quota_key)s
        AND period_start <= %(day)s AND period_end >= %(day)s
        AND (quota_limit IS NULL OR quota_used + 1 <= quota_limit * 6 / 5)
        AND {effects.UNKNOWN}
"""
TAKEN: LiteralString = """
    taken AS (
        UPDATE usage_quotas SET quota_used = quota_used + 1, updated_at = now()
        WHERE workspace_id = %(workspace_id)s AND quota_key = %(quota_key)s
            AND period_start <= %(day)s AND period_end >= %(day)s AND EXISTS (SELECT FROM key))
    SELECT 1 FROM key
"""
# The line for billing is the key itself: it has the run's id, stays, and tells that the run is counted.
ONE_RUN: LiteralString = f"""
        AND NOT EXISTS ({IS_COUNTED}) FOR NO KEY UPDATE),
    key AS (
        {usage.INTO} SELECT {usage.VALUES} FROM room
        ON CONFLICT (workspace_id, id) DO NOTHING RETURNING 1),
    {TAKEN}
"""
ADMIT_LATE = f"WITH room AS ({ROOM} {ONE_RUN}"
ADMIT = f"""
    WITH room AS (
        {ROOM} AND EXISTS (
            SELECT FROM workflow_executions e
            WHERE e.workspace_id = %(workspace_id)s AND e.id = %(execution_id)s
                AND e.status <> 'cancelled' AND e.cancel_requested_at IS NULL)
        {ONE_RUN}
"""
RESERVE = f"""
    WITH room AS ({ROOM} FOR NO KEY UPDATE),
    key AS (
        INSERT INTO effects (workspace_id, execution_id, node_id, visit, effect)
        SELECT %(workspace_id)s, %(execution_id)s, %(node_id)s, %(visit)s, %(effect)s FROM room
        {effects.UNLESS_KNOWN} RETURNING 1),
    {TAKEN}
"""


@dataclass(frozen=True)
class Granted:
    """The amount is taken; `limit` is None where the plan sets none."""

    limit: int | None
    used: int
    period_end: date

    @property
    def is_over(self) -> bool:
        """Tell whether the overage buffer is being used."""
        return self.limit is not None and self.used > self.limit


@dataclass(frozen=True)
class Exceeded:
    """Nothing is taken: the amount does not fit under the hard limit."""

    limit: int
    used: int
    period_end: date | None

    @property
    def hard_limit(self) -> int:
        """What may be used at most, overage included."""
        return hard_limit(self.limit)


def hard_limit(limit: int) -> int:
    """Allow a fifth on top, rounded down."""
    return limit * 6 // 5


async def consume(
    session: AsyncSession, workspace_id: UUID, quota_key: str, amount: int = 1, *, today: date | None = None
) -> Granted | Exceeded:
    """Take an amount from the current period, or nothing at all."""
    if amount < 0:
        raise ValueError("an amount is not negative")
    day = today or datetime.now(UTC).date()
    period = None
    for _ in range(ATTEMPTS):
        granted = await _take(session, workspace_id, quota_key, amount, day)
        if granted is not None:
            return granted
        period = await current(session, workspace_id, quota_key, today=day)
        if period is None:
            await _open(session, workspace_id, [quota_key], day)
        elif not _fits(period, amount):
            break
        # Else somebody opened the period, or raised its limit, between the two statements.
    if period is None:
        return Exceeded(limit=0, used=0, period_end=None)
    return Exceeded(limit=period.quota_limit or 0, used=period.quota_used, period_end=period.period_end)


async def reserve(database: Database, key: EffectKey, quota_key: str) -> bool:
    """Reserve an effect outside and take one for it, in one message: its row says that it is paid for.

    False where there is more to it: it is known already, or nothing is left.
    """
    given = {**key.values, "quota_key": quota_key, "day": datetime.now(UTC).date()}
    return bool(await fetch(database.single(key.workspace_id), RESERVE, given))


def admission(key: EffectKey) -> Statement:
    """Take one execution for the run and note its use, in one statement: a row says that it did.

    A run that was withdrawn takes none.
    """
    return ADMIT, _of_run(key)


async def admit(session: AsyncSession, key: EffectKey) -> dict[str, Any]:
    """Do what the admission's statement did not: repeat its answer, open a period, or refuse for good.

    A refusal stands under the key, so that no later attempt asks again. Where two attempts come to
    different ends, as somebody raises the limit between them, the run is admitted.
    """
    given = _of_run(key)
    for _ in range(ATTEMPTS):
        if await fetch(session, ADMIT_LATE, given) or await fetch(session, IS_COUNTED, given):
            return GRANTED
        period = await current(session, key.workspace_id, EXECUTIONS)
        if period is None:
            await _open(session, key.workspace_id, [EXECUTIONS], given["day"])
        elif not _fits(period, 1):
            break

    async def refuse() -> dict[str, Any]:
        used, limit = (period.quota_used, period.quota_limit) if period else (0, 0)
        message = f"The workspace has used {used} of {limit} executions in this period."
        return {"granted": False, "message": message}

    return await effects.once(session, key, refuse)


def _of_run(key: EffectKey) -> dict[str, Any]:
    use = usage.of_run(key.workspace_id, key.execution_id, "execution", category="compute")
    known = {"use_id": key.execution_id, "quota_key": EXECUTIONS, "day": datetime.now(UTC).date()}
    return {**key.values, **use, **known}


async def current(
    session: AsyncSession, workspace_id: UUID, quota_key: str, *, today: date | None = None
) -> UsageQuota | None:
    """Read the current period of one quota (ERD pattern 3); None if nothing has opened it yet."""
    found = await _periods(session, workspace_id, [quota_key], today or datetime.now(UTC).date())
    return found.one_or_none()


async def overview(
    session: AsyncSession, workspace_id: UUID, *, today: date | None = None
) -> Sequence[UsageQuota]:
    """Read the current period of every quota, opening those that nobody has used yet."""
    day = today or datetime.now(UTC).date()
    await _open(session, workspace_id, QUOTA_KEYS, day)
    return (await _periods(session, workspace_id, QUOTA_KEYS, day)).all()


def _fits(period: UsageQuota, amount: int) -> bool:
    return period.quota_limit is None or period.quota_used + amount <= hard_limit(period.quota_limit)


async def _take(
    session: AsyncSession, workspace_id: UUID, quota_key: str, amount: int, day: date
) -> Granted | None:
    given = {"workspace_id": workspace_id, "quota_key": quota_key, "amount": amount, "day": day}
    taken = await fetch(session, TAKE, given)
    return Granted(*taken[0]) if taken else None


async def _periods(
    session: AsyncSession, workspace_id: UUID, quota_keys: Sequence[str], day: date
) -> ScalarResult[UsageQuota]:
    query = (
        select(UsageQuota)
        .where(
            UsageQuota.workspace_id == workspace_id,
            UsageQuota.quota_key.in_(quota_keys),
            UsageQuota.period_start <= day,
            UsageQuota.period_end >= day,
        )
        .order_by(UsageQuota.quota_key)
        .execution_options(populate_existing=True)
    )
    return (await session.execute(query)).scalars()


async def _open(session: AsyncSession, workspace_id: UUID, quota_keys: Sequence[str], day: date) -> None:
    await session.execute(OPEN, {"workspace_id": workspace_id, "quota_keys": list(quota_keys), "day": day})
