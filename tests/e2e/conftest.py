"""The house, one for each test; after each test its rows must equal rows rebuilt from history."""

from collections.abc import AsyncIterator

import pytest

from local import mail
from tests.e2e import house as building
from tests.e2e.house import House
from tests.e2e.target import Target


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    """Listen for webhooks."""
    target = Target()
    await target.start()
    yield target
    await target.stop()


@pytest.fixture
async def house(
    database_url: str, temporal_address: str, task_queue: str, smtp_catcher: mail.Catcher, target: Target
) -> AsyncIterator[House]:
    """Build the house; every run of every test is mirrored a second time from zero and compared."""
    async with building.built(database_url, temporal_address, task_queue, smtp_catcher, target) as house:
        yield house
        await house.expect_rebuildable()
