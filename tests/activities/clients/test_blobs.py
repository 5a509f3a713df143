"""ADR 0023: a large payload lies in PostgreSQL before its claim goes to Temporal; nobody else opens it."""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import TimeoutError as PoolTimeout
from temporalio.api.common.v1 import Payload
from temporalio.converter import ActivitySerializationContext, DataConverter, WorkflowSerializationContext
from temporalio.exceptions import ApplicationError
from uuid_utils.compat import uuid7

from activities.clients import blobs, payloads
from activities.clients.blobs import Blobs, TooLarge, is_claim
from activities.clients.keyring import KeyGone, Keyring
from activities.clients.payloads import HandedOver, Missing, Unreadable
from db import payload_keys
from db.session import Database
from tests.budgets.counting import transactions
from tests.db.conftest import Place, Superuser, here, queued, superuser, there
from workflows.room import INSIDE

__all__ = ["here", "superuser", "there"]
pytestmark = pytest.mark.anyio

MASTER = bytes(range(32))


def large(size: int = 200_000) -> str:
    """Write a text that cannot be compressed to less than half."""
    return os.urandom(size // 2).hex()


@dataclass
class Side:
    """One process: its keyring and its converter."""

    keyring: Keyring
    converter: DataConverter

    def of(self, execution_id: UUID, *, handed_over: bool = False) -> DataConverter:
        context = HandedOver if handed_over else WorkflowSerializationContext
        return self.converter.with_context(context("default", f"execution-{execution_id}"))

    async def write(self, execution_id: UUID, *values: Any) -> list[Payload]:
        return await self.of(execution_id).encode(values)

    async def read(self, execution_id: UUID, *written: Payload) -> list[Any]:
        return await self.of(execution_id).decode(written)


@pytest.fixture
def open_side(database: Database) -> Callable[[], Side]:
    def build(master: bytes = MASTER) -> Side:
        keyring = Keyring(database, master)
        return Side(keyring, payloads.converter(keyring, Blobs(database)))

    return build


@pytest.fixture
def side(open_side: Callable[[], Side]) -> Side:
    return open_side()


@pytest.fixture
def begin(database: Database) -> Callable[[Place], Awaitable[UUID]]:
    async def begun(place: Place) -> UUID:
        execution_id = UUID(bytes=uuid7().bytes)
        async with database.workspace(place.workspace_id) as session:
            session.add(queued(place, id=execution_id))
        return execution_id

    return begun


@pytest.fixture
async def other_run(begin: Callable[[Place], Awaitable[UUID]], here: Place) -> UUID:
    return await begin(here)


@pytest.fixture
async def run(begin: Callable[[Place], Awaitable[UUID]], here: Place) -> UUID:
    return await begin(here)


@pytest.fixture
def lying(superuser: Superuser) -> Callable[[], list[tuple[bytes, bytes]]]:
    """Look at what lies in PostgreSQL, whoever's it is."""

    def look() -> list[tuple[bytes, bytes]]:
        with superuser() as connection:
            return connection.execute("SELECT address, content FROM payload_blobs").fetchall()

    return look


async def test_a_large_payload_leaves_a_short_claim_and_every_process_reads_it(side, open_side, run, lying):
    small, told, failure = "small", large(), {"message": large(150_000)}
    written = await side.write(run, small, told, failure)
    assert [is_claim(each) for each in written] == [False, True, True]
    assert all(each.ByteSize() < 200 for each in written)
    assert [len(address) for address, _ in lying()] == [32, 32]
    for process in (side, open_side()):
        assert await process.read(run, *written) == [small, told, failure]


async def test_what_lies_there_is_encrypted_and_says_nothing_of_whose_it_is(side, here, run, lying):
    (claim,) = await side.write(run, "canary" * 10 + large())
    ((_, content),) = lying()
    for each in (content, claim.SerializeToString()):
        assert b"canary" not in each
        assert here.workspace_id.bytes not in each
        assert here.workspace_id.hex.encode() not in each


async def test_the_same_again_is_the_same_blob_and_in_another_run_another(
    side, open_side, run, other_run, lying
):
    told = large()
    (first,), (again,) = await side.write(run, told), await open_side().write(run, told)
    (elsewhere,) = await side.write(other_run, told)
    assert first == again
    assert len(lying()) == 2
    # That two runs were told the same shows nowhere.
    contents = {content for _, content in lying()}
    assert (len(contents), first.data[16:] == elsewhere.data[16:]) == (2, False)
    assert await side.read(run, elsewhere) == [told]


async def test_up_to_64_kib_nothing_is_stored_and_nothing_asked(side, run, database, lying):
    await side.write(run, "warm")
    with transactions(database) as noted:
        for value in ("x", "x" * 1_000_000, os.urandom(32_000).hex()):
            (written,) = await side.write(run, value)
            assert written.ByteSize() <= INSIDE + 200
            assert await side.read(run, written) == [value]
    assert noted == []
    assert lying() == []


async def test_a_large_payload_costs_one_transaction_and_many_are_read_in_one(side, open_side, run, database):
    await side.write(run, "warm")
    values = [large(140_000) for _ in range(8)]
    with transactions(database) as noted:
        written = await side.write(run, *values)
        # What a process wrote it has at hand.
        assert await side.read(run, *written) == values
    assert len(noted) == 1
    other = open_side()
    await other.keyring.reading(payloads.key_name(written[0]))
    with transactions(database) as noted:
        assert await other.read(run, *written) == values
        assert await other.read(run, *written) == values
    assert len(noted) == 1


async def test_what_a_process_has_at_hand_stays_small(side, run, monkeypatch):
    monkeypatch.setattr(blobs, "KEPT", 300_000)
    values = [large(200_000) for _ in range(6)]
    written = [(await side.write(run, value))[0] for value in values]
    kept = side.converter.payload_codec._blobs
    assert kept._size == sum(len(content) for _, content in kept._kept.values()) <= 300_000
    assert kept._kept
    assert await side.read(run, *written) == values
    # Nor does it stay for long.
    monkeypatch.setattr(blobs, "SECONDS", 0.0)
    assert await side.read(run, *written) == values
    assert (kept._size, len(kept._kept)) == (0, 0)


@pytest.mark.parametrize("workflow_id", ["upkeep-tidy", "delivery-1", f"execution-{UUID(int=1)}x"])
async def test_what_is_no_execution_keeps_its_payloads_inside(side, workflow_id, here):
    side.keyring.tell(workflow_id, here.workspace_id)
    told = large()
    converter = side.converter.with_context(WorkflowSerializationContext("default", workflow_id))
    (written,) = await converter.encode([told])
    assert payloads.is_sealed(written)
    assert await converter.decode([written]) == [told]


async def test_a_run_without_a_row_keeps_its_payloads_inside(side, here, lying):
    gone = UUID(int=7)
    side.keyring.tell(f"execution-{gone}", here.workspace_id)
    told = large()
    (written,) = await side.write(gone, told)
    assert payloads.is_sealed(written)
    assert await side.read(gone, written) == [told]
    assert lying() == []


async def test_what_no_history_keeps_and_what_a_simulation_is_told_stays_inside(side, run, lying):
    told = large()
    simulated = payloads.inside(side.converter).with_context(
        WorkflowSerializationContext("simulations", f"execution-{run}")
    )
    for converter in (side.of(run, handed_over=True), simulated):
        (written,) = await converter.encode([told])
        assert payloads.is_sealed(written)
        assert await converter.decode([written]) == [told]
    assert lying() == []
    (claim,) = await side.write(run, told)
    assert await side.of(run, handed_over=True).decode([claim]) == [told]


async def test_a_claim_whose_content_is_gone_says_so(side, open_side, run, superuser):
    (claim,) = await side.write(run, large())
    with superuser() as connection:
        connection.execute("DELETE FROM payload_blobs")
    with pytest.raises(Missing, match=f"execution {run} is not in PostgreSQL's payload_blobs"):
        await open_side().read(run, claim)


async def test_what_was_changed_swapped_or_cut_stays_shut(side, open_side, run, superuser):
    one, other = [(await side.write(run, large()))[0] for _ in range(2)]
    addresses = [claim.data[16:] for claim in (one, other)]
    changes = {
        # Each is a blob of this very run under this very key, and still not that one.
        "swapped": "UPDATE payload_blobs b SET content = o.content FROM payload_blobs o"
        " WHERE b.address = %s AND o.address = %s",
        "changed": "UPDATE payload_blobs SET content = set_byte(content, 5000, 255 - get_byte(content, 5000))"
        " WHERE address = %s AND address <> %s",
    }
    for statement in changes.values():
        with superuser() as connection:
            connection.execute(statement, addresses)
        with pytest.raises(Unreadable, match="was changed"):
            await open_side().read(run, one)
        addresses.reverse()
        one, other = other, one
    for data in (b"", one.data[:-1], one.data + b"x"):
        with pytest.raises(Unreadable):
            await open_side().read(run, Payload(metadata=one.metadata, data=data))


async def test_another_workspaces_claim_is_out_of_reach_in_every_way(side, open_side, run, there, begin):
    (ours,) = await side.write(run, large())
    stranger = await begin(there)
    (theirs,) = await side.write(stranger, large())
    # In a run of another workspace: the key is not that run's.
    for process in (side, open_side()):
        await process.read(stranger, theirs)
        with pytest.raises(Unreadable, match="another workspace"):
            await process.read(stranger, ours)
    # Under the name of their own key: row-level security hides it, and what is at hand is the workspace's.
    renamed = Payload(metadata={**ours.metadata, "key": theirs.metadata["key"]}, data=ours.data)
    for process in (side, open_side()):
        with pytest.raises(Missing):
            await process.read(stranger, renamed)


async def test_after_a_rotation_old_and_new_are_read(side, open_side, database, here, run):
    told = large()
    (before,) = await side.write(run, told)
    async with database.workspace(here.workspace_id) as session:
        await payload_keys.rotate(session, here.workspace_id, key=MASTER)
    side.keyring.forget(here.workspace_id)
    (after,) = await side.write(run, told)
    assert after.metadata["key"] != before.metadata["key"]
    assert await open_side().read(run, before, after) == [told, told]


async def test_with_its_workspace_it_is_gone_and_nothing_opens_its_claims(
    side, open_side, here, run, superuser
):
    (claim,) = await side.write(run, large())
    with superuser() as connection:
        connection.execute("DELETE FROM workspaces WHERE id = %s", [here.workspace_id])
        assert connection.execute("SELECT count(*) FROM payload_blobs").fetchone() == (0,)
    with pytest.raises(KeyGone):
        await open_side().read(run, claim)


async def test_while_postgresql_is_away_no_claim_is_written(database_url, run, lying):
    database = Database(database_url, pool_size=1, pool_timeout=0.1)
    keyring = Keyring(database, MASTER)
    side = Side(keyring, payloads.converter(keyring, Blobs(database)))
    told = large()
    await side.write(run, "warm")
    async with database.door() as session:
        await session.execute(text("SELECT 1"))
        with pytest.raises(PoolTimeout):
            await side.write(run, told)
        # What a step made is tried again, and people read why.
        step = ActivitySerializationContext(
            namespace="default",
            workflow_id=f"execution-{run}",
            workflow_type="ExecutionWorkflow",
            activity_type="any",
            activity_id="any:1",
            activity_task_queue="any",
            is_local=True,
        )
        with pytest.raises(ApplicationError, match="database is out of reach") as failed:
            await side.converter.with_context(step).encode([told])
        assert (failed.value.type, failed.value.non_retryable) == ("database_unavailable", False)
    assert lying() == []
    assert await side.read(run, *await side.write(run, told)) == [told]
    await database.close()


async def test_a_payload_over_8_mib_is_refused_before_anything_is_stored(side, run, lying):
    with pytest.raises(TooLarge, match="more than 8,388,608"):
        await side.write(run, "x" * blobs.LARGEST)
    assert lying() == []


async def test_bytes_are_stored_as_they_are(side, run, lying, superuser):
    await side.write(run, large(1_000_000))
    ((_, content),) = lying()
    assert 500_000 < len(content) < 600_000
    with superuser() as connection:
        (how,) = connection.execute(
            "SELECT attstorage = 'e' FROM pg_attribute"
            " WHERE attrelid = 'payload_blobs'::regclass AND attname = 'content'"
        ).fetchone()
    assert how
