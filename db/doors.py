"""The doors: all that looks across workspaces, one database function each (migrations/sql/initial).

Each wrapper runs in `Database.door()`. The functions belong to the owner's role and are pinned to their
search path; a test holds this list against the catalogue.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from uuid_utils.compat import uuid7

DOORS = frozenset(
    {
        "door_api_key",
        "door_awaited_executions",
        "door_blob_totals",
        "door_claim_cancels",
        "door_claim_queued",
        "door_claim_wakes",
        "door_create_workspace",
        "door_delete_user",
        "door_due_deliveries",
        "door_ended_with_blobs",
        "door_end_wakes",
        "door_execution",
        "door_forget_runs",
        "door_form",
        "door_hook",
        "door_log_partitions",
        "door_measures",
        "door_memberships",
        "door_open_executions",
        "door_payload_key",
        "door_prune_edges",
        "door_purge_idempotency_keys",
        "door_roll_quotas",
        "door_save_user",
        "door_scheduled_workflows",
        "door_suspects",
        "door_unmirrored",
        "door_workspace_by_intake_email",
        "door_workspace_by_slug",
        "door_workspace_by_stripe",
    }
)


@dataclass(frozen=True)
class Form:
    """Where a public form leads."""

    workspace_id: UUID
    workflow_id: UUID
    status: str


@dataclass(frozen=True)
class Hook:
    """Where a hook's address leads."""

    workspace_id: UUID
    workflow_id: UUID
    status: str


@dataclass(frozen=True)
class Scheduled:
    """A workflow that runs on a schedule, or is paused."""

    workspace_id: UUID
    workflow_id: UUID
    status: str
    zone: str
    config: dict[str, Any]


@dataclass(frozen=True)
class KeyRecord:
    """What is stored of an API key."""

    workspace_id: UUID
    id: UUID
    secret_hash: bytes
    scopes: list[str]
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True)
class SealedKey:
    """A stored key of payloads, as it is sealed."""

    workspace_id: UUID
    id: UUID
    key_sealed: bytes


@dataclass(frozen=True)
class Membership:
    """A person's place in one workspace."""

    user_id: UUID
    workspace_id: UUID
    slug: str
    role: str
    permissions: dict[str, Any]


@dataclass(frozen=True)
class Claim:
    """An execution that the caller may start, or cancel, now."""

    workspace_id: UUID
    execution_id: UUID


@dataclass(frozen=True)
class Wake:
    """An event that an open run is to be told of; the caller holds it now."""

    workspace_id: UUID
    id: UUID
    execution_id: UUID
    event_id: UUID
    event_type: str
    happened_at: datetime


@dataclass(frozen=True)
class OpenExecution:
    """An execution that the mirror has not looked at for a while."""

    workspace_id: UUID
    execution_id: UUID
    status: str
    temporal_run_id: str | None


@dataclass(frozen=True)
class Seen:
    """A run of an execution as Temporal lists it, whoever's it is."""

    execution_id: UUID
    run_id: str
    is_open: bool


@dataclass(frozen=True)
class AwaitedExecution:
    """An execution whose end a step waits for, where one of the two runs is over and the other not told."""

    workspace_id: UUID
    execution_id: UUID
    is_open: bool
    parent_id: UUID | None
    parent_is_open: bool


@dataclass(frozen=True)
class DueDelivery:
    """A pending delivery whose sender is gone; the caller holds it now."""

    workspace_id: UUID
    delivery_id: UUID


@dataclass(frozen=True)
class NewWorkspace:
    """What a sign-up made."""

    workspace_id: UUID
    user_id: UUID


async def form(session: AsyncSession, workspace_slug: str, form_slug: str) -> Form | None:
    """Find the workflow behind a public form, whatever its status."""
    row = await _row(
        session, "door_form(:workspace, :form)", {"workspace": workspace_slug, "form": form_slug}
    )
    return Form(**row) if row else None


async def hook(session: AsyncSession, token_hash: bytes) -> Hook | None:
    """Find the workflow behind a hook's token, whatever its status."""
    row = await _row(session, "door_hook(:token_hash)", {"token_hash": token_hash})
    return Hook(**row) if row else None


async def scheduled_workflows(
    session: AsyncSession, *, after: UUID | None = None, limit: int = 500
) -> list[Scheduled]:
    """List workflows whose schedule should exist, by id; `after` is the last one seen."""
    values = {"after": after or UUID(int=0), "limit": limit}
    rows = await _rows(session, "door_scheduled_workflows(:after, :limit)", values)
    return [Scheduled(**row) for row in rows]


async def api_key(session: AsyncSession, key_id: str) -> KeyRecord | None:
    """Find a stored key by its public part."""
    row = await _row(session, "door_api_key(:key_id)", {"key_id": key_id})
    return KeyRecord(**row) if row else None


async def payload_key(session: AsyncSession, key_id: UUID) -> SealedKey | None:
    """Find a key of payloads, whichever workspace's it is."""
    row = await _row(session, "door_payload_key(:key_id)", {"key_id": key_id})
    return SealedKey(**row) if row else None


async def execution(session: AsyncSession, execution_id: UUID) -> UUID | None:
    """Find the workspace of an execution."""
    return await _id(session, "door_execution(:id)", {"id": execution_id})


async def workspace_by_slug(session: AsyncSession, slug: str) -> UUID | None:
    """Find a workspace by its slug."""
    return await _id(session, "door_workspace_by_slug(:slug)", {"slug": slug})


async def workspace_by_intake_email(session: AsyncSession, email: str) -> UUID | None:
    """Find the workspace that receives mail at an address."""
    return await _id(session, "door_workspace_by_intake_email(:email)", {"email": email})


async def workspace_by_stripe(
    session: AsyncSession, *, subscription_id: str | None = None, customer_id: str | None = None
) -> UUID | None:
    """Find the workspace that a billing event is about, by subscription before customer."""
    values = {"subscription": subscription_id, "customer": customer_id}
    return await _id(session, "door_workspace_by_stripe(:subscription, :customer)", values)


async def memberships(session: AsyncSession, clerk_user_id: str) -> list[Membership]:
    """List the workspaces of a signed-in person, oldest first."""
    rows = await _rows(session, "door_memberships(:clerk_user_id)", {"clerk_user_id": clerk_user_id})
    return [Membership(**row) for row in rows]


async def save_user(
    session: AsyncSession,
    email: str,
    *,
    clerk_user_id: str | None = None,
    first_name: str | None = None,
    last_name: str | None = None,
) -> UUID:
    """Make or complete a person by e-mail address and return the id."""
    values = {
        "id": uuid7(),
        "email": email,
        "clerk": clerk_user_id,
        "first_name": first_name,
        "last_name": last_name,
    }
    statement = text("SELECT door_save_user(:id, :email, :clerk, :first_name, :last_name)")
    user_id: UUID = (await session.execute(statement, values)).scalar_one()
    return user_id


async def delete_user(session: AsyncSession, clerk_user_id: str) -> bool:
    """Delete a person; the database refuses while they own a workspace."""
    statement = text("SELECT door_delete_user(:clerk_user_id)")
    return bool((await session.execute(statement, {"clerk_user_id": clerk_user_id})).scalar_one())


async def claim_queued(
    session: AsyncSession, *, limit: int, worker: str, stale_seconds: float
) -> list[Claim]:
    """Take queued executions that nobody has started; two claimers never get the same one."""
    values = {"limit": limit, "worker": worker, "stale_after": timedelta(seconds=stale_seconds)}
    rows = await _rows(session, "door_claim_queued(:limit, :worker, :stale_after)", values)
    return [Claim(**row) for row in rows]


async def claim_cancels(session: AsyncSession, *, limit: int, stale_seconds: float) -> list[Claim]:
    """Take executions that are to be cancelled; those not done with by then are given out again."""
    values = {"limit": limit, "stale_after": timedelta(seconds=stale_seconds)}
    rows = await _rows(session, "door_claim_cancels(:limit, :stale_after)", values)
    return [Claim(**row) for row in rows]


async def claim_wakes(session: AsyncSession, *, limit: int, worker: str, stale_seconds: float) -> list[Wake]:
    """Take wakes of runs that Temporal has, the oldest event first; two claimers never get the same one."""
    values = {"limit": limit, "worker": worker, "stale_after": timedelta(seconds=stale_seconds)}
    rows = await _rows(session, "door_claim_wakes(:limit, :worker, :stale_after)", values)
    return [Wake(**row) for row in rows]


async def end_wakes(session: AsyncSession, wakes: Sequence[Wake]) -> int:
    """Delete wakes that are done and say how many there still were."""
    statement = text("SELECT door_end_wakes(CAST(:workspaces AS uuid[]), CAST(:ids AS uuid[]))")
    values = {"workspaces": [wake.workspace_id for wake in wakes], "ids": [wake.id for wake in wakes]}
    return int((await session.execute(statement, values)).scalar_one())


async def open_executions(session: AsyncSession, *, silent_for: timedelta, limit: int) -> list[OpenExecution]:
    """List open executions that nothing was heard of, the longest silent first."""
    values = {"silent_for": silent_for, "limit": limit}
    rows = await _rows(session, "door_open_executions(:silent_for, :limit)", values)
    return [OpenExecution(**row) for row in rows]


async def unmirrored(session: AsyncSession, seen: Sequence[Seen]) -> list[UUID]:
    """Tell which are executions of ours that the mirror does not know to have closed with that run.

    Of open runs those count that took the place of one that the mirror knows.
    """
    call = "door_unmirrored(CAST(:ids AS uuid[]), CAST(:runs AS text[]), CAST(:open AS boolean[]))"
    values = {
        "ids": [run.execution_id for run in seen],
        "runs": [run.run_id for run in seen],
        "open": [run.is_open for run in seen],
    }
    return [row["execution_id"] for row in await _rows(session, call, values)]


async def awaited_executions(
    session: AsyncSession, *, after: UUID | None = None, limit: int = 200
) -> list[AwaitedExecution]:
    """List executions that are awaited while they, or the run that waits, are over, by id."""
    values = {"after": after or UUID(int=0), "limit": limit}
    rows = await _rows(session, "door_awaited_executions(:after, :limit)", values)
    return [AwaitedExecution(**row) for row in rows]


async def due_deliveries(
    session: AsyncSession, *, limit: int, worker: str, stale_seconds: float
) -> list[DueDelivery]:
    """Take pending deliveries that are due and that no living sender holds."""
    values = {"limit": limit, "worker": worker, "stale_after": timedelta(seconds=stale_seconds)}
    rows = await _rows(session, "door_due_deliveries(:limit, :worker, :stale_after)", values)
    return [DueDelivery(**row) for row in rows]


async def purge_idempotency_keys(session: AsyncSession, *, limit: int = 10_000) -> int:
    """Delete expired idempotency keys and say how many."""
    statement = text("SELECT door_purge_idempotency_keys(:limit)")
    return int((await session.execute(statement, {"limit": limit})).scalar_one())


async def forget_runs(session: AsyncSession, *, ended_before: datetime, limit: int = 2_000) -> int:
    """Delete what only guards a run while Temporal can carry it out again; say of how many runs.

    Repeat until there are none. Ids are ordered by time, so that what is younger is not even looked at.
    """
    values = {"ended_before": ended_before, "before": uuid_at(ended_before), "limit": limit}
    statement = text("SELECT door_forget_runs(:ended_before, :before, :limit)")
    return int((await session.execute(statement, values)).scalar_one())


def uuid_at(moment: datetime) -> UUID:
    """Give the lowest UUIDv7 of a moment."""
    return UUID(int=int(moment.timestamp() * 1000) << 80 | 0x7 << 76 | 0b10 << 62)


async def roll_quotas(session: AsyncSession, today: date | None = None, *, batch: int = 1000) -> int:
    """Open the periods that follow ended ones, up to today, and say how many; repeat until there are none."""
    values = {"today": today or datetime.now(UTC).date(), "batch": batch}
    statement = text("SELECT coalesce(sum(opened), 0) FROM door_roll_quotas(:today, :batch)")
    return int((await session.execute(statement, values)).scalar_one())


async def log_partitions(
    session: AsyncSession, today: date | None = None, *, months_ahead: int = 3, keep_days: int = 90
) -> list[str]:
    """Make the log's coming months, drop the outlived ones and tell each: "made execution_logs_2026_05"."""
    day = today or datetime.now(UTC).date()
    values = {"today": day, "months_ahead": months_ahead, "keep_days": keep_days}
    rows = await _rows(session, "door_log_partitions(:today, :months_ahead, :keep_days)", values)
    return [f"{row['action']} {row['partition_name']}" for row in rows]


async def prune_edges(session: AsyncSession, *, limit: int = 10_000) -> int:
    """Delete edges whose node is gone and say how many (ERD §6)."""
    statement = text("SELECT door_prune_edges(:limit)")
    return int((await session.execute(statement, {"limit": limit})).scalar_one())


async def create_workspace(
    session: AsyncSession,
    *,
    email: str,
    name: str,
    slug: str,
    today: date,
    plan_slug: str = "free",
    first_name: str | None = None,
    last_name: str | None = None,
    clerk_user_id: str | None = None,
    timezone: str = "UTC",
) -> NewWorkspace:
    """Make a workspace with its owner, membership, subscription and quotas."""
    workspace_id = uuid7()
    values = {
        "workspace_id": workspace_id,
        "user_id": uuid7(),
        "member_id": uuid7(),
        "subscription_id": uuid7(),
        "email": email,
        "clerk_user_id": clerk_user_id,
        "first_name": first_name,
        "last_name": last_name,
        "name": name,
        "slug": slug,
        "timezone": timezone,
        "plan_slug": plan_slug,
        "today": today,
    }
    arguments = ", ".join(f"p_{key} => :{key}" for key in values)
    owner: UUID = (
        await session.execute(text(f"SELECT door_create_workspace({arguments})"), values)
    ).scalar_one()
    return NewWorkspace(workspace_id=workspace_id, user_id=owner)


async def _rows(session: AsyncSession, call: str, values: dict[str, Any]) -> list[dict[str, Any]]:
    result = await session.execute(text(f"SELECT * FROM {call}"), values)
    return [dict(row) for row in result.mappings()]


async def _row(session: AsyncSession, call: str, values: dict[str, Any]) -> dict[str, Any] | None:
    rows = await _rows(session, call, values)
    return rows[0] if rows else None


async def _id(session: AsyncSession, call: str, values: dict[str, Any]) -> UUID | None:
    found: UUID | None = (await session.execute(text(f"SELECT {call}"), values)).scalar_one()
    return found
