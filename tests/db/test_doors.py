"""The doors find and change across workspaces exactly what they are made for."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from uuid_utils.compat import uuid7

from db import doors
from db.models import (
    ApiKey,
    Effect,
    IdempotencyKey,
    MirrorCursor,
    WebhookDelivery,
    WebhookEndpoint,
    Workflow,
    WorkflowExecution,
    Workspace,
)
from db.session import Database
from tests.db.conftest import TODAY, Place, Superuser, queued, settle

pytestmark = pytest.mark.anyio
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


async def test_a_sign_up_makes_user_workspace_owner_subscription_and_quotas(
    database: Database, superuser: Superuser
):
    place = await settle(database, "fresh", plan="pro")
    with superuser() as connection:
        rows = connection.execute(
            "SELECT u.email, w.owner_user_id = u.id, m.role, p.slug, s.status,"
            " (SELECT count(*) FROM usage_quotas q WHERE q.workspace_id = w.id)"
            " FROM workspaces w JOIN users u ON u.id = w.owner_user_id"
            " JOIN workspace_members m ON m.workspace_id = w.id AND m.user_id = u.id"
            " JOIN subscriptions s ON s.workspace_id = w.id"
            " JOIN subscription_plans p ON p.id = s.subscription_plan_id"
            " WHERE w.id = %s",
            [place.workspace_id],
        ).fetchall()
    assert rows == [("fresh@example.com", True, "owner", "pro", "active", 4)]


async def test_a_sign_up_with_a_taken_slug_or_an_unknown_plan_leaves_nothing(
    database: Database, here: Place, superuser: Superuser
):
    for slug, plan in (("here", "free"), ("elsewhere", "nothing")):
        with pytest.raises(DBAPIError):
            async with database.door() as session:
                await doors.create_workspace(
                    session, email="new@example.com", name="New", slug=slug, today=TODAY, plan_slug=plan
                )
    with superuser() as connection:
        assert connection.execute("SELECT count(*) FROM users").fetchone() == (1,)


async def test_a_form_is_found_by_its_two_slugs_only(database: Database, here: Place):
    async with database.door() as session:
        assert await doors.form(session, "here", "intake") == doors.Form(
            workspace_id=here.workspace_id, workflow_id=here.workflow_id, status="active"
        )
        assert await doors.form(session, "here", "other") is None
        assert await doors.form(session, "other", "intake") is None


async def test_a_deleted_workflow_has_no_form(database: Database, here: Place):
    async with database.workspace(here.workspace_id) as session:
        await session.execute(update(Workflow).values(deleted_at=datetime.now(UTC)))
    async with database.door() as session:
        assert await doors.form(session, "here", "intake") is None


async def test_keys_workspaces_and_executions_are_resolved(database: Database, here: Place):
    execution = queued(here)
    async with database.workspace(here.workspace_id) as session:
        session.add(
            ApiKey(workspace_id=here.workspace_id, name="k", key_id="abc", secret_hash=b"h", scopes=["*"])
        )
        session.add(execution)
        await session.execute(update(Workspace).values(intake_email="in@flow.example"))
    async with database.door() as session:
        key = await doors.api_key(session, "abc")
        assert key is not None
        assert (key.workspace_id, key.secret_hash, key.scopes) == (here.workspace_id, b"h", ["*"])
        assert await doors.api_key(session, "abd") is None
        assert await doors.execution(session, execution.id) == here.workspace_id
        assert await doors.execution(session, uuid7()) is None
        assert await doors.workspace_by_slug(session, "here") == here.workspace_id
        assert await doors.workspace_by_slug(session, "nowhere") is None
        assert await doors.workspace_by_intake_email(session, "IN@flow.example") == here.workspace_id
        assert await doors.workspace_by_stripe(session, customer_id="cus_1") is None


async def test_a_person_is_saved_once_and_keeps_what_is_known(database: Database, here: Place):
    async with database.door() as session:
        again = await doors.save_user(session, "HERE@example.com", clerk_user_id="user_1", first_name="Ann")
        assert again == here.user_id
        assert await doors.save_user(session, "here@example.com") == here.user_id
        (membership,) = await doors.memberships(session, "user_1")
    assert (membership.workspace_id, membership.role) == (here.workspace_id, "owner")


async def test_erd_1_deleting_a_user_is_restricted_while_they_own_a_workspace(
    database: Database, here: Place
):
    async with database.door() as session:
        await doors.save_user(session, "here@example.com", clerk_user_id="user_1")
        await doors.save_user(session, "free@example.com", clerk_user_id="user_2")
    with pytest.raises(IntegrityError):
        async with database.door() as session:
            await doors.delete_user(session, "user_1")
    async with database.door() as session:
        assert await doors.delete_user(session, "user_2")
        assert not await doors.delete_user(session, "user_2")


async def test_two_claimers_get_disjoint_executions_and_all_of_them(
    database: Database, second_database: Database, here: Place, there: Place
):
    async with database.workspace(here.workspace_id) as session:
        session.add_all(queued(here) for _ in range(30))
    async with database.workspace(there.workspace_id) as session:
        session.add_all(queued(there) for _ in range(30))
    barrier = asyncio.Barrier(2)

    async def claim(source: Database, worker: str) -> set[doors.Claim]:
        async with source.door() as session:
            await barrier.wait()
            claimed = await doors.claim_queued(session, limit=30, worker=worker, stale_seconds=60)
            await barrier.wait()
        return set(claimed)

    first, second = await asyncio.gather(claim(database, "a"), claim(second_database, "b"))
    assert len(first) == len(second) == 30
    assert not first & second
    async with database.door() as session:
        assert await doors.claim_queued(session, limit=30, worker="c", stale_seconds=60) == []


async def test_a_claim_that_went_stale_is_taken_over_and_counted(database: Database, here: Place):
    execution = queued(here)
    async with database.workspace(here.workspace_id) as session:
        session.add(execution)
    async with database.door() as session:
        await doors.claim_queued(session, limit=1, worker="dead", stale_seconds=60)
    async with database.door() as session:
        (claimed,) = await doors.claim_queued(session, limit=1, worker="alive", stale_seconds=0)
    assert claimed.execution_id == execution.id
    async with database.workspace(here.workspace_id) as session:
        row = (await session.execute(select(WorkflowExecution))).scalar_one()
        assert (row.locked_by, row.dispatch_attempts, row.status) == ("alive", 2, "queued")
        row.dispatched_at = datetime.now(UTC)
    async with database.door() as session:
        assert await doors.claim_queued(session, limit=1, worker="alive", stale_seconds=0) == []


async def test_a_paused_workflow_holds_its_queued_runs(database: Database, here: Place):
    async with database.workspace(here.workspace_id) as session:
        session.add(queued(here))
        await session.execute(update(Workflow).values(status="paused"))
    async with database.door() as session:
        assert await doors.claim_queued(session, limit=5, worker="a", stale_seconds=60) == []
    async with database.workspace(here.workspace_id) as session:
        await session.execute(update(Workflow).values(status="active"))
    async with database.door() as session:
        assert len(await doors.claim_queued(session, limit=5, worker="a", stale_seconds=60)) == 1


@pytest.mark.parametrize(
    "condition", ["status = 'queued' AND dispatched_at IS NULL", "status IN ('queued', 'running', 'waiting')"]
)
async def test_the_queue_and_the_sweep_are_read_by_their_index(superuser: Superuser, condition: str):
    query = f"SELECT id FROM workflow_executions WHERE {condition} ORDER BY queued_at LIMIT 5"
    with superuser() as connection:
        connection.execute("SET enable_seqscan = off")
        connection.execute("SET enable_sort = off")
        plan = str(connection.execute(f"EXPLAIN {query}").fetchall())
    assert "door_workflow_executions_open" in plan


async def test_silent_open_executions_are_listed_longest_silence_first(database: Database, here: Place):
    old = datetime.now(UTC) - timedelta(hours=2)
    late, running, heard, done = (
        queued(here, dispatched_at=old, queued_at=old),
        queued(here, status="running", mirrored_at=old - MINUTE),
        queued(here, status="waiting", mirrored_at=datetime.now(UTC)),
        queued(here, status="completed", mirrored_at=old),
    )
    undispatched = queued(here, queued_at=old)
    async with database.workspace(here.workspace_id) as session:
        session.add_all([late, running, heard, done, undispatched])
    async with database.door() as session:
        found = await doors.open_executions(session, silent_for=timedelta(hours=1), limit=10)
    assert [entry.execution_id for entry in found] == [running.id, late.id]


async def test_what_is_not_mirrored_to_its_end_is_told_from_what_is_and_from_what_is_not_ours(
    database: Database, here: Place, there: Place
):
    rows = {
        name: queued(place)
        for name, place in [
            ("new", here),
            ("behind", there),
            ("done", here),
            ("reset", here),
            ("set back", there),
            ("going on", here),
            ("begun", here),
        ]
    }
    cursors = {"behind": ("1", False), "done": ("1", True), "reset": ("1", True), "set back": ("1", True)}
    cursors["going on"] = ("1", False)
    for name, row in rows.items():
        async with database.workspace(row.workspace_id) as session:
            session.add(row)
            await session.flush()
            if name in cursors:
                run_id, closed = cursors[name]
                place = {"workspace_id": row.workspace_id, "execution_id": row.id}
                session.add(MirrorCursor(**place, run_id=run_id, state={}, closed=closed))
    seen = [
        doors.Seen(rows["new"].id, "1", is_open=False),
        doors.Seen(rows["behind"].id, "1", is_open=False),
        doors.Seen(rows["done"].id, "1", is_open=False),
        doors.Seen(rows["reset"].id, "2", is_open=False),
        doors.Seen(rows["set back"].id, "2", is_open=True),
        doors.Seen(rows["going on"].id, "1", is_open=True),
        doors.Seen(rows["begun"].id, "1", is_open=True),
        doors.Seen(uuid7(), "1", is_open=False),
    ]
    async with database.door() as session:
        found = await doors.unmirrored(session, seen)
    names = {row.id: name for name, row in rows.items()}
    assert {names[execution_id] for execution_id in found} == {"new", "behind", "reset", "set back"}


async def test_due_deliveries_are_handed_to_one_sender(database: Database, here: Place):
    endpoint_id = uuid7()
    now = datetime.now(UTC)
    async with database.workspace(here.workspace_id) as session:
        key = {"workspace_id": here.workspace_id}
        session.add(WebhookEndpoint(**key, id=endpoint_id, url="https://a.example", secret_sealed=b"s"))
        await session.flush()

        def delivery(message: str, scheduled_at: datetime, **values: object) -> WebhookDelivery:
            return WebhookDelivery(
                **key,
                webhook_endpoint_id=endpoint_id,
                message_id=message,
                event_type="lead.created",
                scheduled_at=scheduled_at,
                **values,
            )

        due = delivery("due", now - MINUTE)
        session.add_all(
            [due, delivery("later", now + MINUTE), delivery("done", now - MINUTE, status="delivered")]
        )
    async with database.door() as session:
        found = await doors.due_deliveries(session, limit=10, worker="a", stale_seconds=60)
        assert [entry.delivery_id for entry in found] == [due.id]
    async with database.door() as session:
        assert await doors.due_deliveries(session, limit=10, worker="b", stale_seconds=60) == []


async def test_expired_idempotency_keys_are_purged(database: Database, here: Place):
    now = datetime.now(UTC)
    async with database.workspace(here.workspace_id) as session:
        for name, expires in (("old", now - MINUTE), ("new", now + MINUTE)):
            session.add(
                IdempotencyKey(
                    workspace_id=here.workspace_id,
                    scope="s",
                    idempotency_key=name,
                    request_hash=b"",
                    expires_at=expires,
                )
            )
    async with database.door() as session:
        assert await doors.purge_idempotency_keys(session) == 1
    async with database.workspace(here.workspace_id) as session:
        assert (await session.execute(select(IdempotencyKey.idempotency_key))).scalars().all() == ["new"]


async def test_what_guards_a_run_goes_once_its_time_is_over(database: Database, here: Place, there: Place):
    now = datetime.now(UTC)
    old, young = doors.uuid_at(now - 9 * HOUR), doors.uuid_at(now - MINUTE)

    async def run(place: Place, id_: UUID, ended: datetime | None, *, closed: bool = True) -> None:
        of = {"workspace_id": place.workspace_id, "execution_id": id_}
        async with database.workspace(place.workspace_id) as session:
            session.add(queued(place, id=id_, status="completed" if ended else "running", finished_at=ended))
            await session.flush()
            session.add(MirrorCursor(**of, run_id="1", state={}, closed=closed))
            for status in ("confirmed", "released", "reserved", "unknown"):
                session.add(Effect(**of, node_id=status, visit=1, effect="mail", status=status))

    await run(here, old, now - 3 * HOUR)
    await run(here, next_to(old), now - MINUTE)
    await run(here, next_to(next_to(old)), None, closed=False)
    await run(here, young, now - MINUTE)
    await run(there, next_to(young), now - 3 * HOUR)
    await run(there, next_to(next_to(next_to(old))), now - 3 * HOUR)
    async with database.door() as session:
        for gone in (1, 1, 0):
            assert await doors.forget_runs(session, ended_before=now - 2 * HOUR, limit=1) == gone
    async with database.workspace(here.workspace_id) as session:
        kept = set((await session.scalars(select(MirrorCursor.execution_id))).all())
        assert kept == {next_to(old), next_to(next_to(old)), young}
        left = await session.scalars(select(Effect.status).where(Effect.execution_id == old))
        assert sorted(left.all()) == ["reserved", "unknown"]
        guarded = await session.scalar(select(func.count()).where(Effect.execution_id != old))
        assert guarded == 12
    async with database.workspace(there.workspace_id) as session:
        # Younger by its id than the moment that is asked for: not looked at.
        assert (await session.scalars(select(MirrorCursor.execution_id))).all() == [next_to(young)]


def next_to(id_: UUID) -> UUID:
    """Give the id that follows."""
    return UUID(int=id_.int + 1)
