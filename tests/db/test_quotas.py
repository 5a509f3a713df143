"""Quotas hold under races, and their periods follow each other exactly once."""

import asyncio
from datetime import date
from itertools import pairwise

import pytest
from sqlalchemy import delete, func, select, update
from uuid_utils.compat import uuid7

from db import doors, effects, quotas, usage
from db.effects import EffectKey
from db.models import Effect, Subscription, SubscriptionPlan, UsageQuota, WorkflowExecution
from db.session import Database
from tests.db.conftest import TODAY, Place, Superuser, queued

pytestmark = pytest.mark.anyio


async def limit(database: Database, place: Place, value: int | None, key: str = "executions") -> None:
    async with database.workspace(place.workspace_id) as session:
        await session.execute(update(UsageQuota).where(UsageQuota.quota_key == key).values(quota_limit=value))


async def periods(database: Database, place: Place, key: str = "executions") -> list[tuple[date, date]]:
    async with database.workspace(place.workspace_id) as session:
        rows = await session.execute(
            select(UsageQuota.period_start, UsageQuota.period_end)
            .where(UsageQuota.quota_key == key)
            .order_by(UsageQuota.period_start)
        )
        return [(row.period_start, row.period_end) for row in rows]


async def test_erd_18_the_overage_buffer_is_a_fifth_and_then_a_hard_block(database: Database, here: Place):
    await limit(database, here, 11)
    answers = []
    for _ in range(14):
        async with database.workspace(here.workspace_id) as session:
            answers.append(await quotas.consume(session, here.workspace_id, "executions", 1, today=TODAY))
    assert [type(answer) for answer in answers] == [quotas.Granted] * 13 + [quotas.Exceeded]
    assert [isinstance(a, quotas.Granted) and a.is_over for a in answers] == [False] * 11 + [True] * 2 + [
        False
    ]
    refused = answers[-1]
    assert isinstance(refused, quotas.Exceeded)
    assert (refused.limit, refused.used, refused.hard_limit) == (11, 13, 13)


@pytest.mark.parametrize(("amount", "granted"), [(12, True), (13, False), (0, True)])
async def test_an_amount_is_taken_whole_or_not_at_all(
    database: Database, here: Place, amount: int, granted: bool
):
    await limit(database, here, 10)
    async with database.workspace(here.workspace_id) as session:
        answer = await quotas.consume(session, here.workspace_id, "executions", amount, today=TODAY)
    assert isinstance(answer, quotas.Granted) is granted
    assert answer.used == (amount if granted else 0)


async def test_a_negative_amount_is_a_bug(database: Database, here: Place):
    async with database.workspace(here.workspace_id) as session:
        with pytest.raises(ValueError, match="negative"):
            await quotas.consume(session, here.workspace_id, "executions", -1)


async def test_no_limit_is_never_reached(database: Database, here: Place):
    await limit(database, here, None)
    async with database.workspace(here.workspace_id) as session:
        answer = await quotas.consume(session, here.workspace_id, "executions", 10**12, today=TODAY)
    assert isinstance(answer, quotas.Granted)
    assert not answer.is_over


@pytest.mark.parametrize("ceiling", [7, 20])
async def test_d8_parallel_takers_on_real_connections_get_exactly_the_hard_limit(
    database_url: str, database: Database, here: Place, ceiling: int
):
    await limit(database, here, ceiling)
    crowd = Database(database_url, pool_size=16)

    async def take() -> bool:
        async with crowd.workspace(here.workspace_id) as session:
            answer = await quotas.consume(session, here.workspace_id, "executions", 1, today=TODAY)
        return isinstance(answer, quotas.Granted)

    results = await asyncio.gather(*(take() for _ in range(60)))
    await crowd.close()
    assert sum(results) == ceiling * 6 // 5


async def test_parallel_first_users_open_one_period(database_url: str, database: Database, here: Place):
    crowd = Database(database_url, pool_size=12)

    async def take() -> quotas.Granted | quotas.Exceeded:
        async with crowd.workspace(here.workspace_id) as session:
            return await quotas.consume(session, here.workspace_id, "leads", 1, today=date(2026, 4, 2))

    answers = await asyncio.gather(*(take() for _ in range(24)))
    await crowd.close()
    assert all(isinstance(answer, quotas.Granted) for answer in answers)
    assert max(answer.used for answer in answers) == 24
    assert await periods(database, here, "leads") == [
        (date(2026, 1, 31), date(2026, 2, 27)),
        (date(2026, 2, 28), date(2026, 3, 30)),
        (date(2026, 3, 31), date(2026, 4, 29)),
    ]


async def test_a_workspace_without_a_plan_or_a_past_has_nothing_to_use(database: Database, here: Place):
    async with database.workspace(here.workspace_id) as session:
        await session.execute(update(Subscription).values(status="expired"))
        await session.execute(delete(UsageQuota))
    async with database.workspace(here.workspace_id) as session:
        answer = await quotas.consume(session, here.workspace_id, "leads", 1, today=TODAY)
    assert isinstance(answer, quotas.Exceeded)
    assert answer.limit == 0


async def test_the_anchor_day_survives_short_months_and_leap_years(database: Database, here: Place):
    async with database.door() as session:
        await doors.roll_quotas(session, date(2028, 3, 1))
    found = await periods(database, here)
    starts = [start for start, _ in found]
    assert starts[:5] == [
        date(2026, 1, 31),
        date(2026, 2, 28),
        date(2026, 3, 31),
        date(2026, 4, 30),
        date(2026, 5, 31),
    ]
    assert date(2028, 2, 29) in starts
    assert all((after - end).days == 1 for (_, end), (after, _) in pairwise(found))


async def test_d8_the_reset_run_twice_late_and_in_parallel_changes_each_period_once(
    database: Database, second_database: Database, here: Place, there: Place
):
    day = date(2026, 5, 15)

    async def roll(source: Database) -> int:
        async with source.door() as session:
            return await doors.roll_quotas(session, day)

    opened = await asyncio.gather(roll(database), roll(second_database))
    assert sum(opened) == 2 * 4 * 3
    assert await roll(database) == 0
    for place in (here, there):
        assert len(await periods(database, place)) == 4


async def test_a_period_is_not_over_on_its_last_day(database: Database, here: Place):
    async with database.door() as session:
        assert await doors.roll_quotas(session, date(2026, 2, 27)) == 0
        assert await doors.roll_quotas(session, date(2026, 2, 28)) == 4


async def test_a_reset_is_done_in_batches_until_none_is_left(database: Database, here: Place):
    async with database.door() as session:
        counts = [await doors.roll_quotas(session, date(2026, 3, 1), batch=3) for _ in range(3)]
    assert counts == [3, 1, 0]


async def test_the_successor_starts_at_zero_with_the_current_plans_limit(
    database: Database, here: Place, superuser: Superuser
):
    async with database.workspace(here.workspace_id) as session:
        await quotas.consume(session, here.workspace_id, "executions", 9, today=TODAY)
        pro = select(SubscriptionPlan.id).where(SubscriptionPlan.slug == "pro").scalar_subquery()
        await session.execute(update(Subscription).values(subscription_plan_id=pro))
    async with database.door() as session:
        await doors.roll_quotas(session, date(2026, 3, 1))
    async with database.workspace(here.workspace_id) as session:
        now = await quotas.current(session, here.workspace_id, "executions", today=date(2026, 3, 1))
        assert now is not None
        assert (now.quota_limit, now.quota_used) == (1_000_000, 0)
        old = await quotas.current(session, here.workspace_id, "executions", today=TODAY)
        assert old is not None
        assert (old.quota_limit, old.quota_used) == (5000, 9)


async def test_without_a_current_plan_the_successor_keeps_the_old_limit(database: Database, here: Place):
    await limit(database, here, 77)
    async with database.workspace(here.workspace_id) as session:
        await session.execute(update(Subscription).values(status="cancelled"))
    async with database.door() as session:
        await doors.roll_quotas(session, date(2026, 3, 1))
    async with database.workspace(here.workspace_id) as session:
        now = await quotas.current(session, here.workspace_id, "executions", today=date(2026, 3, 1))
    assert now is not None
    assert now.quota_limit == 77


async def test_the_overview_opens_what_nobody_has_used(database: Database, here: Place):
    async with database.workspace(here.workspace_id) as session:
        rows = await quotas.overview(session, here.workspace_id, today=date(2026, 6, 1))
    assert {row.quota_key for row in rows} == {"workflows", "leads", "executions", "email_sends"}
    assert {row.period_start for row in rows} == {date(2026, 5, 31)}


async def test_a_quota_of_another_workspace_is_out_of_reach(database: Database, here: Place, there: Place):
    async with database.workspace(here.workspace_id) as session:
        answer = await quotas.consume(session, there.workspace_id, "executions", 1, today=TODAY)
    assert isinstance(answer, quotas.Exceeded)
    async with database.workspace(there.workspace_id) as session:
        used = await session.scalar(select(func.sum(UsageQuota.quota_used)))
    assert used == 0


def test_the_hard_limit_is_rounded_down():
    assert [quotas.hard_limit(value) for value in (0, 1, 4, 5, 9, 10, 10**15)] == [
        0, 1, 4, 6, 10, 12, 1_200_000_000_000_000,
    ]  # fmt: skip


async def run(database: Database, place: Place) -> EffectKey:
    execution = queued(place, id=uuid7())
    async with database.workspace(place.workspace_id) as session:
        session.add(execution)
    return EffectKey(place.workspace_id, execution.id, "", 0, "quota")


async def opened(database: Database, place: Place, limit: int | None, quota_key: str = "executions") -> None:
    async with database.workspace(place.workspace_id) as session:
        await quotas.consume(session, place.workspace_id, quota_key, 0)
        await session.execute(
            update(UsageQuota).where(UsageQuota.quota_key == quota_key).values(quota_limit=limit)
        )


async def used(database: Database, place: Place, quota_key: str = "executions") -> int:
    async with database.workspace(place.workspace_id) as session:
        found = await quotas.current(session, place.workspace_id, quota_key)
    return found.quota_used if found else 0


async def at_once(database: Database, key: EffectKey) -> bool:
    (row,) = await database.at_once(key.workspace_id, quotas.admission(key))
    return bool(row)


async def by_steps(database: Database, key: EffectKey) -> bool:
    async with database.workspace(key.workspace_id) as session:
        return bool((await quotas.admit(session, key))["granted"])


async def test_a_run_is_admitted_once_and_refused_for_good(database: Database, here: Place):
    first, second = await run(database, here), await run(database, here)
    await opened(database, here, 1)
    assert [await at_once(database, key) for key in (first, first, second)] == [True, False, False]
    assert [await by_steps(database, key) for key in (first, second)] == [True, False]
    await opened(database, here, None)
    assert [await at_once(database, key) for key in (first, second)] == [False, False]
    assert [await by_steps(database, key) for key in (second, first)] == [False, True]
    async with database.workspace(here.workspace_id) as session:
        told = [event.related_resource_id for event in await usage.page(session, here.workspace_id, limit=9)]
    assert told == [str(first.execution_id)]
    assert await used(database, here) == 1


async def test_a_period_that_nobody_has_opened_is_opened_by_the_closer_look(database: Database, here: Place):
    async with database.workspace(here.workspace_id) as session:
        await session.execute(delete(UsageQuota))
    first, second = await run(database, here), await run(database, here)
    assert not await at_once(database, first)
    assert await by_steps(database, first)
    assert await at_once(database, second)
    assert await used(database, here) == 2


async def test_a_withdrawn_run_takes_nothing(database: Database, here: Place):
    key = await run(database, here)
    await opened(database, here, None)
    async with database.workspace(here.workspace_id) as session:
        await session.execute(update(WorkflowExecution).values(cancel_requested_at=func.now()))
    assert not await at_once(database, key)
    assert await used(database, here) == 0


async def test_parallel_runs_are_each_counted_and_parallel_attempts_of_one_are_not(
    database: Database, here: Place
):
    await opened(database, here, 10)
    keys = [await run(database, here) for _ in range(14)]
    answers = await asyncio.gather(*(at_once(database, key) for key in keys for _ in range(2)))
    # A fifth over the limit, and then no more.
    assert sum(answers) == 12
    assert await used(database, here) == 12


async def test_attempts_of_a_run_at_once_and_by_steps_count_it_once_whoever_is_first(
    database: Database, second_database: Database, here: Place
):
    await opened(database, here, 100)
    for _ in range(10):
        key = await run(database, here)
        before = await used(database, here)
        ways = (at_once(database, key), by_steps(second_database, key), by_steps(database, key))
        _, *closer = await asyncio.gather(*ways)
        assert closer == [True, True]
        assert await used(database, here) == before + 1
    async with database.workspace(here.workspace_id) as session:
        assert len(await usage.page(session, here.workspace_id, limit=99)) == 10


async def test_an_admission_that_is_not_committed_holds_the_next_attempt_and_counts_for_nothing(
    database: Database, second_database: Database, here: Place
):
    """A process killed in the midst: the attempt beside it waits, and counts what the first one did not."""
    await opened(database, here, 100)
    key = await run(database, here)
    waiting: list[asyncio.Task[bool]] = []

    async def killed() -> None:
        async with database.workspace(here.workspace_id) as session:
            assert (await quotas.admit(session, key))["granted"]
            waiting.append(asyncio.create_task(at_once(second_database, key)))
            done, _ = await asyncio.wait(waiting, timeout=0.3)
            assert not done
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await killed()
    assert await waiting[0]
    assert await used(database, here) == 1


async def test_a_run_that_was_admitted_under_an_effect_of_its_own_is_not_counted_again(
    database: Database, here: Place
):
    """As releases before did it, whose runs may be reset."""
    await opened(database, here, 100)
    key = await run(database, here)

    async def grant() -> dict[str, bool]:
        return quotas.GRANTED

    async with database.workspace(here.workspace_id) as session:
        await effects.once(session, key, grant)
    assert not await at_once(database, key)
    assert await by_steps(database, key)
    assert await used(database, here) == 0


async def test_a_run_stays_admitted_when_its_effects_are_forgotten(database: Database, here: Place):
    await opened(database, here, 1)
    key = await run(database, here)
    assert await at_once(database, key)
    async with database.workspace(here.workspace_id) as session:
        await session.execute(delete(Effect))
    assert not await at_once(database, key)
    assert await by_steps(database, key)
    assert await used(database, here) == 1


async def test_a_mail_is_reserved_and_paid_for_once(database: Database, here: Place):
    keys = [await run(database, here) for _ in range(4)]
    await opened(database, here, 2, "email_sends")
    answers = await asyncio.gather(
        *(quotas.reserve(database, key, "email_sends") for key in keys for _ in range(2))
    )
    assert sum(answers) == 2
    assert await used(database, here, "email_sends") == 2
    async with database.workspace(here.workspace_id) as session:
        found = await session.execute(select(Effect.effect, Effect.status).order_by(Effect.effect))
        assert found.all() == [("quota", "reserved")] * 2
