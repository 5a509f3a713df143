"""Takes quota, now or from a period to come."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from activities.errors import StepFailed
from activities.step import Step
from activities.world import World
from db import effects, quotas
from workflows.messages import Outcome
from workflows.nodes.logic_quota_gate import EXCEEDED, WITHIN, Config

PERIODS_AHEAD = 12
"""Periods in which a held run may be booked; who finds no room in any of them would wait for ever."""


async def run(step: Step, world: World) -> Outcome:
    """Take the amount once; a held run has it already when it wakes, whoever else comes first by then."""
    async with world.database.workspace(step.workspace_id) as session:
        output = await effects.once(session, step.effect("quota"), lambda: _take(session, step))
    wake_at = datetime.fromisoformat(output["held_until"]) if output["held_until"] else None
    return Outcome(output=output, handles=(WITHIN if output["granted"] else EXCEEDED,), wake_at=wake_at)


def simulate(step: Step) -> Outcome:
    """Let the run through: no quota is looked at, nor taken."""
    config: Config = step.config
    told = {"granted": True, "quota_key": config.quota_key, "amount": config.amount}
    return Outcome(output={**told, "used": None, "limit": None, "held_until": None}, handles=(WITHIN,))


async def _take(session: AsyncSession, step: Step) -> dict[str, Any]:
    config: Config = step.config
    answer = await quotas.consume(session, step.workspace_id, config.quota_key, config.amount)
    if isinstance(answer, quotas.Granted) or config.on_exceeded == "branch":
        return _told(config, answer)
    if config.on_exceeded == "fail":
        raise StepFailed("quota_exceeded", _why(config, answer))
    return await _book(session, step, answer)


async def _book(session: AsyncSession, step: Step, answer: quotas.Exceeded) -> dict[str, Any]:
    """Take the amount from the first period to come that has room."""
    config: Config = step.config
    full: quotas.Granted | quotas.Exceeded = answer
    for _ in range(PERIODS_AHEAD):
        if full.period_end is None:
            break
        opens = full.period_end + timedelta(days=1)
        full = await quotas.consume(session, step.workspace_id, config.quota_key, config.amount, today=opens)
        if isinstance(full, quotas.Granted):
            return _told(config, full, opens=opens)
    raise StepFailed("quota_exceeded", f"{_why(config, answer)} No later period has room either.")


def _told(
    config: Config, answer: quotas.Granted | quotas.Exceeded, *, opens: date | None = None
) -> dict[str, Any]:
    held_until = datetime.combine(opens, time.min, UTC).isoformat() if opens else None
    return {
        "granted": isinstance(answer, quotas.Granted),
        "quota_key": config.quota_key,
        "amount": config.amount,
        "used": answer.used,
        "limit": answer.limit,
        "held_until": held_until,
    }


def _why(config: Config, answer: quotas.Exceeded) -> str:
    used = f"{answer.used} of {answer.limit} {config.quota_key}"
    return f"The workspace has used {used} in this period; {config.amount} more do not fit."
