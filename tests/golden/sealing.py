"""Records a history as production has it, encrypted and with claims, and what belongs to it in PostgreSQL.

    python -m pytest -p no:cacheprovider -o python_functions=record tests/golden/sealing.py

What is recorded stays: it stands for the runs of installations that are older than the code.
"""

import base64
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from activities.clients import payloads
from local import mail
from local.postgres import plain
from tests.e2e import house as building
from tests.e2e.graphs import chain, node
from tests.e2e.house import House
from tests.e2e.target import Target
from tests.golden import corpus

pytestmark = pytest.mark.anyio

FILE = Path(__file__).parent / "sealed" / "large_payloads.json"
SMALL = 1024
"""Bytes from which payloads were put beside the history that is recorded, so that it stays a small file."""
ROWS = {
    "payload_keys": "SELECT workspace_id, id, key_sealed FROM payload_keys",
    "payload_blobs": "SELECT workspace_id, execution_id, address, content FROM payload_blobs ORDER BY 3",
}


@pytest.fixture
async def house(
    database_url: str, temporal_address: str, task_queue: str, smtp_catcher: mail.Catcher
) -> AsyncIterator[House]:
    """Build the house as production has it."""
    target = Target()
    async with building.built(database_url, temporal_address, task_queue, smtp_catcher, target) as house:
        yield house


async def record(house: House, admin_url: str, monkeypatch: pytest.MonkeyPatch):
    """Play a run whose trigger's data and steps are large, as far as this is concerned."""
    monkeypatch.setattr(payloads, "INSIDE", SMALL)
    keep = node("keep", "UTILITY_SET_VARIABLES", assignments={"kept": "{{ trigger.text }}"})
    tell = node(
        "tell", "ACTION_HTTP_REQUEST", method="POST", url="http://127.0.0.1:1/", body="{{ vars.kept }}"
    )
    tell["data"]["config"] |= {"onError": "continue", "retry": {"maxAttempts": 1}}
    drawn = chain(node("start", "TRIGGER_MANUAL"), keep, tell, node("end", "UTILITY_LOG", message="on"))
    text = random.Random(0).randbytes(1_500).hex()
    run = await house.start(await house.workflow(drawn, fields=()), text=text)
    assert (await house.ended(run))["status"] == "completed"
    handle = house.temporal.get_workflow_handle(f"execution-{run}")
    history = corpus.scrubbed(json.loads((await handle.fetch_history()).to_json()))
    with psycopg.connect(plain(admin_url), row_factory=dict_row) as connection:
        rows = {name: connection.execute(statement).fetchall() for name, statement in ROWS.items()}
    kept = {"workspace_id": str(house.workspace_id), "execution_id": str(run), "text": text, **rows}
    FILE.write_text(json.dumps({**kept, "history": history}, indent=1, default=_shown) + "\n")


def _shown(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
