"""LOGIC_QUOTA_GATE takes quota once: now, from a period to come, or not at all."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import update

from db.models import UsageQuota
from tests.activities.conftest import Stage

pytestmark = pytest.mark.anyio

GATE = "LOGIC_QUOTA_GATE"
MAILS = {"quotaKey": "email_sends"}


async def limit(stage: Stage, to: int | None, *, used: int = 0) -> None:
    """Set the limit of every period that is open, and what is used of it."""
    async with stage.database.workspace(stage.place.workspace_id) as session:
        await session.execute(
            update(UsageQuota)
            .where(UsageQuota.quota_key == "email_sends")
            .values(quota_limit=to, quota_used=used)
        )


async def periods(stage: Stage) -> list[UsageQuota]:
    """Read the quota's current period and those to come."""
    today = datetime.now(UTC).date()
    rows = [row for row in await stage.rows(UsageQuota) if row.quota_key == "email_sends"]
    return sorted((row for row in rows if row.period_end >= today), key=lambda row: row.period_start)


async def used_up(stage: Stage) -> UsageQuota:
    """Open the current period and use it up, overage and all."""
    await stage.run(GATE, MAILS, visit=99)
    await limit(stage, 10, used=12)
    return (await periods(stage))[0]


async def test_what_fits_is_taken_once(stage: Stage):
    config = {**MAILS, "amount": 3}
    first, second = await stage.run(GATE, config), await stage.run(GATE, config, attempt=2)
    assert first.handles == second.handles == ("within_quota",)
    assert first.output == second.output
    assert (first.output["granted"], first.output["used"], first.wake_at) == (True, 3, None)
    assert [row.quota_used for row in await periods(stage)] == [3]
    assert await stage.effects() == {"quota": "confirmed"}


async def test_a_fifth_more_than_the_limit_is_taken_and_no_more(stage: Stage):
    await stage.run(GATE, MAILS, visit=99)
    await limit(stage, 10)
    outcomes = await asyncio.gather(*(stage.run(GATE, MAILS, visit=visit) for visit in range(1, 16)))
    assert [outcome.handles for outcome in outcomes].count(("within_quota",)) == 12
    assert [row.quota_used for row in await periods(stage)] == [12]


async def test_without_a_limit_everything_fits(stage: Stage):
    await stage.run(GATE, MAILS, visit=99)
    await limit(stage, None)
    outcome = await stage.run(GATE, {**MAILS, "amount": 1_000_000})
    assert (outcome.handles, outcome.output["limit"]) == (("within_quota",), None)


async def test_what_does_not_fit_branches_off_and_stays_so(stage: Stage):
    await used_up(stage)
    first = await stage.run(GATE, {**MAILS, "onExceeded": "branch"})
    await limit(stage, 100)
    second = await stage.run(GATE, {**MAILS, "onExceeded": "branch"}, attempt=2)
    assert first.handles == second.handles == ("exceeded",)
    assert first.output == second.output
    assert (first.output["granted"], first.output["used"], first.output["limit"]) == (False, 12, 10)


async def test_it_may_fail_and_takes_nothing_then(stage: Stage):
    await used_up(stage)
    failure = await stage.fail(GATE, {**MAILS, "onExceeded": "fail"})
    assert (failure.type, failure.non_retryable) == ("quota_exceeded", True)
    assert "12 of 10 email_sends" in failure.message
    await limit(stage, 100)
    assert (await stage.run(GATE, {**MAILS, "onExceeded": "fail"})).handles == ("within_quota",)


async def test_a_held_run_is_booked_in_the_next_period_and_sleeps_until_then(stage: Stage):
    now = await used_up(stage)
    config = {**MAILS, "amount": 2, "onExceeded": "hold"}
    first, second = await stage.run(GATE, config), await stage.run(GATE, config, attempt=2)
    assert first.output == second.output
    assert first.handles == ("within_quota",)
    this, following = await periods(stage)
    assert (this.id, this.quota_used, following.quota_used) == (now.id, 12, 2)
    assert first.wake_at == second.wake_at
    assert first.wake_at.isoformat() == f"{following.period_start}T00:00:00+00:00"
    assert first.output["held_until"] == first.wake_at.isoformat()


async def test_held_runs_are_spread_over_the_periods_that_have_room(stage: Stage):
    await used_up(stage)
    hold = {**MAILS, "onExceeded": "hold"}
    await stage.run(GATE, hold, visit=98)
    await limit(stage, 10, used=12)
    outcome = await stage.run(GATE, hold)
    assert [row.quota_used for row in await periods(stage)] == [12, 12, 1]
    assert outcome.wake_at.date() == (await periods(stage))[2].period_start


async def test_who_would_be_held_for_ever_fails(stage: Stage):
    await used_up(stage)
    failure = await stage.fail(GATE, {**MAILS, "amount": 1_000_000, "onExceeded": "hold"})
    assert (failure.type, failure.non_retryable) == ("quota_exceeded", True)
    assert len(await periods(stage)) == 1


@pytest.mark.parametrize("config", [{"quotaKey": "coffee"}, {**MAILS, "amount": 0}, {"amount": 1}])
async def test_a_gate_needs_a_quota_and_an_amount(stage: Stage, config: Any):
    assert (await stage.fail(GATE, config)).type == "bad_config"
