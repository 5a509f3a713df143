"""K8: an API key is shown once, stored hashed, and proves itself until it is revoked or expires."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from db import keys
from db.models import ApiKey
from db.session import Database
from tests.db.conftest import Place, Superuser

pytestmark = pytest.mark.anyio


async def make(database: Database, place: Place, **values: datetime | None) -> keys.Created:
    async with database.workspace(place.workspace_id) as session:
        return await keys.create(
            session,
            place.workspace_id,
            name="ci",
            scopes=["leads:read"],
            created_by_user_id=place.user_id,
            expires_at=values.get("expires_at"),
        )


async def proves(database: Database, token: str) -> bool:
    async with database.door() as session:
        return await keys.authenticate(session, token) is not None


async def test_a_new_token_names_its_workspace_and_scopes(database: Database, here: Place, there: Place):
    made = await make(database, here)
    async with database.door() as session:
        found = await keys.authenticate(session, made.token)
    assert found is not None
    assert (found.workspace_id, found.id, found.scopes) == (here.workspace_id, made.key.id, ["leads:read"])


async def test_the_secret_is_nowhere_in_the_database(database: Database, here: Place, superuser: Superuser):
    made = await make(database, here)
    parts = keys.split(made.token)
    assert parts is not None
    with superuser() as connection:
        row = connection.execute("SELECT k::text, length(secret_hash) FROM api_keys k").fetchone()
    assert row is not None
    assert parts[1] not in row[0]
    assert parts[1].encode().hex() not in row[0]
    assert row[1] == 32


async def test_a_changed_token_proves_nothing(database: Database, here: Place):
    made = await make(database, here)
    assert await proves(database, made.token)
    for place in range(len(made.token)):
        letter = "x" if made.token[place] != "x" else "y"
        assert not await proves(database, made.token[:place] + letter + made.token[place + 1 :])


@pytest.mark.parametrize(
    "token", ["", "ft_", "ft__", "ft_a_b", "ft_" + "é" * 12 + "_" + "a" * 49, "sk_" + "a" * 70]
)
def test_what_is_no_token_is_seen_without_a_query(token: str):
    assert keys.split(token) is None


async def test_a_forged_checksum_does_not_help(database: Database, here: Place):
    made = await make(database, here)
    key_id = made.key.key_id
    secret = "a" * keys.SECRET_LENGTH
    forged = f"ft_{key_id}_{secret}{keys._checksum(key_id, secret)}"
    assert keys.split(forged) == (key_id, secret)
    assert not await proves(database, forged)
    unknown = "b" * keys.ID_LENGTH
    assert not await proves(database, f"ft_{unknown}_{secret}{keys._checksum(unknown, secret)}")


async def test_a_revoked_key_is_dead_at_once(database: Database, here: Place, there: Place):
    made = await make(database, here)
    async with database.workspace(there.workspace_id) as session:
        assert not await keys.revoke(session, here.workspace_id, made.key.id)
    assert await proves(database, made.token)
    async with database.workspace(here.workspace_id) as session:
        assert await keys.revoke(session, here.workspace_id, made.key.id)
        assert not await keys.revoke(session, here.workspace_id, made.key.id)
    assert not await proves(database, made.token)


async def test_a_key_expires(database: Database, here: Place):
    now = datetime.now(UTC)
    assert not await proves(
        database, (await make(database, here, expires_at=now - timedelta(seconds=1))).token
    )
    assert await proves(database, (await make(database, here, expires_at=now + timedelta(hours=1))).token)


async def test_use_is_noted_at_most_once_a_minute(database: Database, here: Place):
    made = await make(database, here)
    noted = []
    for _ in range(2):
        async with database.workspace(here.workspace_id) as session:
            await keys.touch(session, here.workspace_id, made.key.id)
        async with database.workspace(here.workspace_id) as session:
            noted.append((await session.execute(select(ApiKey.last_used_at))).scalar_one())
    assert noted[0] is not None
    assert noted[0] == noted[1]


async def test_keys_are_listed_newest_first(database: Database, here: Place):
    made = [(await make(database, here)).key.id for _ in range(3)]
    async with database.workspace(here.workspace_id) as session:
        assert [key.id for key in await keys.page(session, here.workspace_id, limit=2)] == made[:0:-1]
        older = await keys.page(session, here.workspace_id, limit=2, before=made[1])
        assert [key.id for key in older] == made[:1]
