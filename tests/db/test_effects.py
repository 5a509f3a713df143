"""An effect is made once under its key, whatever is repeated, raced or rolled back."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import func, select

from db import effects
from db.effects import EffectKey, Reservation
from db.models import Effect
from db.session import Database
from tests.db.conftest import Place, queued

pytestmark = pytest.mark.anyio


@pytest.fixture
async def key(database: Database, here: Place) -> EffectKey:
    execution = queued(here)
    async with database.workspace(here.workspace_id) as session:
        session.add(execution)
    return EffectKey(here.workspace_id, execution.id, "mail", 1, "email")


async def test_a_reserved_effect_is_in_doubt_for_who_comes_next(database: Database, key: EffectKey):
    async with database.workspace(key.workspace_id) as session:
        assert await effects.reserve(session, key) == Reservation("new", is_first=True)
    async with database.workspace(key.workspace_id) as session:
        assert await effects.reserve(session, key) == Reservation("reserved")


async def test_a_confirmed_effect_answers_with_its_output_for_ever(database: Database, key: EffectKey):
    async with database.workspace(key.workspace_id) as session:
        await effects.reserve(session, key)
        assert await effects.confirm(session, key, {"id": "m1"})
    async with database.workspace(key.workspace_id) as session:
        assert await effects.reserve(session, key) == Reservation("confirmed", {"id": "m1"})
        assert not await effects.confirm(session, key, {"id": "m2"})
        assert not await effects.release(session, key)
        assert not await effects.doubt(session, key)
        assert await effects.reserve(session, key) == Reservation("confirmed", {"id": "m1"})


async def test_a_released_effect_may_be_made_again(database: Database, key: EffectKey):
    async with database.workspace(key.workspace_id) as session:
        await effects.reserve(session, key)
        assert await effects.release(session, key)
        assert await effects.reserve(session, key) == Reservation("new")
        assert await effects.reserve(session, key) == Reservation("reserved")


async def test_an_unknown_effect_stays_unknown_until_it_is_looked_up(database: Database, key: EffectKey):
    async with database.workspace(key.workspace_id) as session:
        await effects.reserve(session, key)
        assert await effects.doubt(session, key)
        assert await effects.reserve(session, key) == Reservation("unknown")
        assert await effects.confirm(session, key, {"found": True})
        assert await effects.reserve(session, key) == Reservation("confirmed", {"found": True})


@pytest.mark.parametrize("part", ["node_id", "effect", "visit"])
async def test_every_part_of_the_key_tells_effects_apart(database: Database, key: EffectKey, part: str):
    other = EffectKey(**{**key.values, part: 2 if part == "visit" else "other"})
    async with database.workspace(key.workspace_id) as session:
        await effects.reserve(session, key)
        assert await effects.reserve(session, other) == Reservation("new", is_first=True)


async def test_once_makes_an_effect_once_among_parallel_callers(database: Database, key: EffectKey):
    made = []

    async def make() -> dict[str, Any]:
        made.append(1)
        await asyncio.sleep(0.02)
        return {"n": len(made)}

    async def call() -> dict[str, Any]:
        async with database.workspace(key.workspace_id) as session:
            return await effects.once(session, key, make)

    assert await asyncio.gather(*(call() for _ in range(8))) == [{"n": 1}] * 8
    assert len(made) == 1


async def test_once_leaves_no_record_of_what_was_rolled_back(database: Database, key: EffectKey):
    async def fail() -> dict[str, Any]:
        raise RuntimeError("no")

    async def make() -> dict[str, Any]:
        return {"ok": True}

    with pytest.raises(RuntimeError):
        async with database.workspace(key.workspace_id) as session:
            await effects.once(session, key, fail)
    async with database.workspace(key.workspace_id) as session:
        assert await session.scalar(select(func.count()).select_from(Effect)) == 0
        assert await effects.once(session, key, make) == {"ok": True}


async def test_once_refuses_to_guess_about_an_effect_outside(database: Database, key: EffectKey):
    async def make() -> dict[str, Any]:
        return {}

    async with database.workspace(key.workspace_id) as session:
        await effects.reserve(session, key)
        with pytest.raises(effects.InDoubt):
            await effects.once(session, key, make)
