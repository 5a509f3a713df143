"""K3: payloads in Temporal open with their workspace's key, in their workspace's runs, and nowhere else."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from uuid import UUID

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from sqlalchemy import text
from sqlalchemy.exc import TimeoutError as PoolTimeout
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.converter import DataConverter, WorkflowSerializationContext
from temporalio.exceptions import ApplicationError

from activities.clients import payloads
from activities.clients.keyring import KeyGone, Keyring
from activities.clients.payloads import Unreadable
from api.mirror.state import State
from db import payload_keys
from db.session import Database
from tests.budgets.counting import transactions
from tests.db.conftest import Place, Superuser, here, superuser, there
from workflows import messages
from workflows.fields import Answers

__all__ = ["here", "superuser", "there"]
pytestmark = pytest.mark.anyio

MASTER = bytes(range(32))
CANARY = "canary-ada@example.com"


def models_of(module: ModuleType) -> list[type[BaseModel]]:
    """List the models that a module defines."""
    found = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, BaseModel)]
    return [each for each in found if each.__module__ == module.__name__]


@dataclass
class Side:
    """One process: its keyring and its converter."""

    keyring: Keyring
    converter: DataConverter

    def of(self, workflow_id: str) -> DataConverter:
        return self.converter.with_context(WorkflowSerializationContext("default", workflow_id))


@pytest.fixture
def open_side(database: Database) -> Callable[..., Side]:
    def build(master: bytes = MASTER, **limits: float) -> Side:
        keyring = Keyring(database, master, **limits)
        return Side(keyring, payloads.converter(keyring))

    return build


@pytest.fixture
def side(open_side: Callable[..., Side]) -> Side:
    return open_side()


async def written(side: Side, place: Place, value: object = CANARY, run: str = "run-1") -> Payload:
    side.keyring.tell(run, place.workspace_id)
    return (await side.of(run).encode([value]))[0]


async def test_a_payload_says_nothing_in_the_clear_and_is_read_by_another_process(side, open_side, here):
    sealed = await written(side, here, {"email": CANARY, "text": CANARY * 100})
    assert CANARY.encode() not in sealed.SerializeToString()
    assert here.workspace_id.hex.encode() not in sealed.SerializeToString().lower()
    assert here.workspace_id.bytes not in sealed.SerializeToString()
    assert set(sealed.metadata) == {"encoding", "key"}
    assert len({(await written(side, here)).data for _ in range(50)}) == 50
    assert await open_side().of("run-1").decode([sealed]) == [{"email": CANARY, "text": CANARY * 100}]


async def test_every_size_and_what_was_written_before_is_read(side, here):
    for size in (0, 1, 500, 520, 100_000, 2_000_000):
        sealed = await written(side, here, "ä" * size)
        assert sealed.ByteSize() < 2 * size + 200
        assert await side.of("run-1").decode([sealed]) == ["ä" * size]
    plain = side.converter.payload_converter.to_payloads([{"a": 1}])
    assert await side.of("run-1").decode(plain) == [{"a": 1}]


async def test_a_changed_payload_stays_shut_whatever_byte_is_changed(side, here):
    sealed = await written(side, here)
    for number in range(len(sealed.data)):
        data = sealed.data[:number] + bytes([sealed.data[number] ^ 1]) + sealed.data[number + 1 :]
        with pytest.raises(Unreadable):
            await side.of("run-1").decode([Payload(metadata=sealed.metadata, data=data)])
    for data in (b"", sealed.data[:5], sealed.data[:-1]):
        with pytest.raises(Unreadable):
            await side.of("run-1").decode([Payload(metadata=sealed.metadata, data=data)])


async def test_a_payload_moved_into_another_workspaces_run_stays_shut(side, open_side, here, there):
    ours, theirs = await written(side, here), await written(side, there, run="run-2")
    for process in (side, open_side()):
        assert await process.of("run-1").decode([ours]) == [CANARY]
        with pytest.raises(Unreadable):
            await process.of("run-1").decode([theirs])
    # Between its own runs, a reset, a rerun or a run that continues as new moves it.
    side.keyring.tell("run-3", here.workspace_id)
    assert await side.of("run-3").decode([ours]) == [CANARY]
    renamed = Payload(metadata={**theirs.metadata, "key": ours.metadata["key"]}, data=theirs.data)
    with pytest.raises(Unreadable):
        await side.of("run-1").decode([renamed])


async def test_what_belongs_to_no_workspace_has_the_installations_key(side, open_side, here):
    [sealed] = await side.of("upkeep-tidy").encode(["tidy"])
    assert sealed.metadata["key"].startswith(b"installation-")
    assert await open_side().of("upkeep-tidy").decode([sealed]) == ["tidy"]
    with pytest.raises(KeyGone):
        await open_side(bytes(32)).of("upkeep-tidy").decode([sealed])


async def test_an_unknown_key_is_an_error_that_names_no_workspace(side, here):
    sealed = await written(side, here)
    for name in (b"", b"\xff", b"x" * 500, UUID(int=7).hex.encode(), b"installation-00000000"):
        with pytest.raises(KeyGone):
            await side.of("run-1").decode([Payload(metadata={**sealed.metadata, "key": name})])


async def test_a_keys_name_is_read_in_the_one_form_in_which_it_is_written(side, here, database):
    sealed = await written(side, here)
    name = sealed.metadata["key"].decode()
    odd = [
        name.upper(),
        f"{{{name}}}",
        f"urn:uuid:{name}",
        str(UUID(name)),
        f"{name}\n",
        "７" * 32,
        "no name",
    ]
    with transactions(database) as begun:
        for other in [spelt for spelt in odd if spelt != name]:
            with pytest.raises(KeyGone):
                await side.keyring.reading(other)
    assert begun == []
    assert side.keyring.held == 1
    assert not side.keyring._missing
    assert (await side.keyring.reading(name)).name == name


@pytest.mark.parametrize("model", [*models_of(messages), State, Answers], ids=lambda model: model.__name__)
def test_an_error_about_what_was_read_does_not_show_it(model: type[BaseModel]):
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(model).validate_json(f'["{CANARY}"]')
    assert CANARY not in str(refused.value)


async def test_failures_keep_their_type_in_the_clear_and_nothing_else(side, here):
    side.keyring.tell("run-1", here.workspace_id)
    raised = ApplicationError(CANARY, {"about": CANARY}, type="node_failed", non_retryable=True)
    raised.__cause__ = ValueError(CANARY)
    failure = Failure()
    await side.of("run-1").encode_failure(raised, failure)
    assert CANARY not in str(failure)
    assert failure.application_failure_info.type == "node_failed"
    # The mirror reads without knowing the run, and may read twice.
    for _ in range(2):
        read = await side.converter.decode_failure(failure)
        assert isinstance(read, ApplicationError)
        assert (read.message, read.type, read.details) == (CANARY, "node_failed", ({"about": CANARY},))
        assert CANARY in str(read.__cause__)


async def test_after_a_rotation_the_new_key_writes_and_the_old_one_reads(side, open_side, database, here):
    before = await written(side, here)
    async with database.workspace(here.workspace_id) as session:
        made = await payload_keys.rotate(session, here.workspace_id, key=MASTER)
    assert (await written(side, here)).metadata["key"] == before.metadata["key"]
    side.keyring.forget(here.workspace_id)
    after = await written(side, here)
    assert after.metadata["key"] == made.id.hex.encode() != before.metadata["key"]
    assert await open_side().of("run-1").decode([before, after]) == [CANARY, CANARY]


async def test_processes_that_need_a_first_key_at_once_come_to_the_same(open_side, here):
    sides = [open_side() for _ in range(8)]
    made = await asyncio.gather(*(written(side, here) for side in sides))
    assert len({sealed.metadata["key"] for sealed in made}) == 1


async def test_with_its_workspace_a_key_goes_from_every_process(
    open_side, here: Place, there: Place, superuser: Superuser
):
    side, late = open_side(fresh=0.05), open_side(fresh=0.05)
    sealed = await written(side, here)
    assert await late.of("run-1").decode([sealed]) == [CANARY]
    with superuser() as connection:
        connection.execute("DELETE FROM workspaces WHERE id = %s", [here.workspace_id])
    await asyncio.sleep(0.06)
    for process in (side, late, open_side()):
        with pytest.raises(KeyGone):
            await process.of("run-1").decode([sealed])
    with pytest.raises(KeyGone):
        await written(side, here)
    # The neighbour's stay readable.
    assert await side.of("run-2").decode([await written(side, there, run="run-2")]) == [CANARY]


async def test_a_key_that_nobody_asks_for_leaves_memory_by_itself(open_side, here):
    side = open_side(fresh=0.01, stale=0.05)
    await written(side, here)
    assert side.keyring.held
    async with asyncio.timeout(5):
        while side.keyring.held:
            await asyncio.sleep(0.01)


async def test_while_the_database_is_away_the_keys_at_hand_go_on(database_url: str, here, admin_url):
    database = Database(database_url, pool_timeout=0.1)
    keyring = Keyring(database, MASTER, fresh=0.01)
    side = Side(keyring, payloads.converter(keyring))
    sealed = await written(side, here)
    async with database.door(), database.door() as session:
        await session.execute(text("SELECT 1"))
        held = [database.door() for _ in range(8)]
        for each in held:
            await each.__aenter__()
        await asyncio.sleep(0.02)
        # No connection is left, as when PostgreSQL does not answer.
        assert await side.of("run-1").decode([sealed]) == [CANARY]
        assert await side.of("run-1").decode([await written(side, here)]) == [CANARY]
        with pytest.raises(PoolTimeout):
            await Side(other := Keyring(database, MASTER), payloads.converter(other)).of("x").decode([sealed])
        for each in held:
            await each.__aexit__(None, None, None)
    await database.close()


async def test_in_a_warm_process_no_payload_asks_the_database(side, database, here):
    await written(side, here)
    with transactions(database) as noted:
        for number in range(50):
            sealed = await written(side, here, run=f"run-{number}")
            assert await side.of(f"run-{number}").decode([sealed]) == [CANARY]
            # Whoever never heard of a run learns whose it is from what it reads.
            assert await side.of(f"learnt-{number}").decode([sealed]) == [CANARY]
            [answer] = await side.of(f"learnt-{number}").encode([CANARY])
            assert answer.metadata["key"] == sealed.metadata["key"]
    assert noted == []
