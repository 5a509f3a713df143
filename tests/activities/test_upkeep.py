"""The daily tidying up: what has outlived its purpose goes, in batches, and nothing else."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select
from temporalio.testing import ActivityEnvironment
from uuid_utils.compat import uuid7

from activities import upkeep
from activities.clients import temporal
from activities.upkeep import Upkeep
from activities.world import World
from db import doors
from db.models import Effect, IdempotencyKey, MirrorCursor
from db.session import Database
from tests.db.conftest import Place, queued, settle

pytestmark = pytest.mark.anyio
NOW, DAY = datetime.now(UTC), timedelta(days=1)


async def over(database: Database, place: Place, *, days: int) -> None:
    """Leave behind a run that ended so many days ago, with an effect and the mirror's place."""
    ended = NOW - days * DAY
    id_ = doors.uuid_at(ended - DAY)
    of = {"workspace_id": place.workspace_id, "execution_id": id_}
    async with database.workspace(place.workspace_id) as session:
        session.add(queued(place, id=id_, status="completed", finished_at=ended))
        await session.flush()
        session.add(MirrorCursor(**of, run_id="1", state={}, closed=True))
        session.add(Effect(**of, node_id="mail", visit=1, effect="mail", status="confirmed"))


async def left(database: Database, place: Place) -> list[int]:
    """Count what is left."""
    async with database.workspace(place.workspace_id) as session:
        counts = [await session.scalar(select(func.count()).select_from(t)) for t in (Effect, MirrorCursor)]
        return [count or 0 for count in counts]


async def test_the_guards_of_a_run_go_after_ninety_days_and_not_before_its_history(
    database: Database, world: World, temporal_address: str
):
    place = await settle(database, "here")
    for days in (1, 89, 91, 400):
        await over(database, place, days=days)
    there = replace(world, temporal=await temporal.connect(temporal_address))
    told = await ActivityEnvironment().run(Upkeep(there).tidy)
    assert told["runs"] == 2
    assert await left(database, place) == [2, 2]


async def test_nothing_is_forgotten_where_nobody_knows_how_long_temporal_remembers(
    database: Database, world: World, temporal_address: str
):
    place = await settle(database, "here")
    await over(database, place, days=400)
    nowhere = await temporal.connect(temporal_address, "nowhere")
    told = await ActivityEnvironment().run(Upkeep(replace(world, temporal=nowhere)).tidy)
    assert told["runs"] == 0
    assert await left(database, place) == [1, 1]


async def test_every_expired_key_goes_in_one_day_however_many_there_are(
    database: Database, world: World, temporal_address: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(upkeep, "BATCH", 2)
    place = await settle(database, "here")
    async with database.workspace(place.workspace_id) as session:
        for n in range(5):
            kept = {"request_hash": b"", "expires_at": NOW + (DAY if n == 4 else -DAY)}
            session.add(
                IdempotencyKey(
                    workspace_id=place.workspace_id, scope="s", idempotency_key=str(uuid7()), **kept
                )
            )
    there = replace(world, temporal=await temporal.connect(temporal_address))
    assert (await ActivityEnvironment().run(Upkeep(there).tidy))["idempotency_keys"] == 4
