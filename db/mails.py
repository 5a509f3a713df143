"""Mails that were sent: confirmed, counted and told to the lead in one message."""

from collections.abc import Mapping
from typing import Any, LiteralString

from db import effects, leads, usage
from db.effects import EffectKey
from db.session import Database, fetch

# Of what was confirmed before, nothing is written a second time.
SENT: LiteralString = f"""
    WITH confirmed AS ({effects.CONFIRM}),
    used AS ({usage.INTO} SELECT {usage.VALUES} FROM confirmed)"""
CONFIRM = f"{SENT} SELECT 1 FROM confirmed"
CONFIRM_AND_TELL = f"""{SENT}, told AS ({leads.INTO_EVENTS} SELECT {leads.EVENT} FROM confirmed)
    SELECT 1 FROM confirmed
"""


async def confirm(
    database: Database, key: EffectKey, output: dict[str, Any], event: Mapping[str, Any] | None
) -> bool:
    """Record a mail, its use and the event that it is to a lead; False if it was recorded before."""
    use = usage.of_run(key.workspace_id, key.execution_id, "email_sent", category="communication")
    given = {**key.values, **use, **(event or {}), "output": output}
    statement = CONFIRM if event is None else CONFIRM_AND_TELL
    return bool(await fetch(database.single(key.workspace_id), statement, given))
