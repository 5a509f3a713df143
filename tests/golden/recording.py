"""Plays scenes on the real house and keeps their histories; run by `make golden`, not by the suite."""

import pytest

from tests.e2e.house import House
from tests.golden import corpus
from tests.golden.scenes import SCENES

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("name", SCENES)
async def record(name: str, house: House):
    """Play a scene; it is kept only if it came out as it should."""
    handles = await SCENES[name].play(house)
    corpus.keep(name, [await handle.fetch_history() for handle in handles])
