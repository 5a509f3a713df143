"""What must hold after every fault, once it is quiet: nothing lost, nothing doubled (security.md §13)."""

import asyncio
import base64
from collections import Counter
from typing import Any
from uuid import UUID

from activities.clients import payloads, temporal
from activities.clients.blobs import Blobs
from activities.clients.keyring import Keyring
from api.mirror.mirror import Mirror
from db.session import Database
from tests.e2e.house import ENDED
from tests.faults import graphs
from tests.faults.machine import Machine, until

QUIET = 120.0
OURS = ("updated_at", "mirrored_at")
"""Columns that tell when a row was written, which a rebuild does again."""
MIRRORED = (
    ("workflow_executions", "id = %s", "id"),
    ("execution_steps", "execution_id = %s", "step_number"),
    ("execution_logs", "execution_id = %s AND source <> 'attempt'", "created_at, id"),
)


def check(machine: Machine) -> None:
    """Check everything, once no run is on its way."""
    quiet(machine)
    nothing_accepted_is_lost(machine)
    every_effect_is_made_once(machine)
    every_completed_step_has_its_effect(machine)
    quotas_count_what_ran(machine)
    asyncio.run(rows_equal_history(machine))


def quiet(machine: Machine) -> None:
    """Wait until every run has ended or sleeps, and every delivery is settled."""
    busy = (
        "SELECT id, status FROM workflow_executions "
        "WHERE status NOT IN ('completed', 'failed', 'cancelled', 'waiting')"
    )
    until(lambda: not machine.rows(busy), "no run is on its way", seconds=QUIET)
    pending = "SELECT message_id FROM webhook_deliveries WHERE status = 'pending'"
    until(lambda: not machine.rows(pending), "no delivery is pending", seconds=QUIET)


def nothing_accepted_is_lost(machine: Machine) -> None:
    """Compare what the clients were told with leads, events and executions: each exactly once."""
    posted = machine.posted
    stored = machine.rows(
        "SELECT l.email, e.id::text AS execution_id "
        "FROM workflow_executions e JOIN leads l ON l.id = e.lead_id "
        "WHERE e.rerun_of IS NULL AND e.cause_execution_id IS NULL"
    )
    by_email = {row["email"]: row["execution_id"] for row in stored}
    assert len(by_email) == len(stored), Counter(row["email"] for row in stored).most_common(3)
    assert posted.accepted.items() <= by_email.items()
    # A post that got no answer may have been kept all the same; nobody else's may appear.
    assert by_email.keys() <= posted.tried
    events = machine.rows(
        "SELECT l.email, count(*) FROM lead_events v JOIN leads l ON l.id = v.lead_id "
        "WHERE v.event_type = 'FORM_SUBMITTED' GROUP BY l.email"
    )
    assert {row["email"]: row["count"] for row in events} == dict.fromkeys(by_email, 1)
    # Runs may make leads, too (graphs.FRIEND).
    theirs = "SELECT count(*) FROM leads WHERE email NOT LIKE %s"
    assert machine.rows(theirs, f"{graphs.FRIEND}%") == [{"count": len(by_email)}]


def every_effect_is_made_once(machine: Machine) -> None:
    """Compare the recorded effects with what arrived, by key; what nobody can know is told as that."""
    effects = machine.rows(
        "SELECT f.effect, f.status, f.output ->> 'message_id' AS message_id, s.status AS step, "
        "s.error ->> 'type' AS error, s.node_type, e.workflow_id::text FROM effects f "
        "JOIN workflow_executions e ON e.id = f.execution_id "
        "LEFT JOIN execution_steps s "
        "ON (s.execution_id, s.node_id, s.visit) = (f.execution_id, f.node_id, f.visit) "
        "WHERE f.effect IN ('email', 'webhook')"
    )
    sent = Counter(mail["headers"]["Message-ID"] for mail in machine.mails())
    mails = [effect for effect in effects if effect["effect"] == "email"]
    # News for the team are sent at least once: after a kill in the middle, a second time under the same id.
    may_repeat = {
        mail["message_id"]
        for mail in mails
        if mail["node_type"] == "ACTION_NOTIFY_TEAM" and mail["workflow_id"] in machine.rough
    }
    repeated = {message_id for message_id, count in sent.items() if count > 1}
    assert repeated <= may_repeat, sent.most_common(3)
    confirmed = {mail["message_id"] for mail in mails if mail["status"] == "confirmed"}
    assert confirmed <= set(sent)
    unknown = [mail for mail in mails if mail["status"] == "unknown"]
    assert all((mail["step"], mail["error"]) == ("failed", "outcome_unknown") for mail in unknown)
    assert {mail["workflow_id"] for mail in unknown} <= machine.rough
    assert len(set(sent) - confirmed) <= len(unknown)
    hooks = {hook["message_id"]: hook["workflow_id"] for hook in effects if hook["effect"] == "webhook"}
    arrived = Counter(hook["headers"]["webhook-id"] for hook in machine.webhooks())
    assert set(arrived) == set(hooks)
    twice = {message_id for message_id, count in arrived.items() if count > 1}
    assert {hooks[message_id] for message_id in twice} <= machine.rough, twice


def every_completed_step_has_its_effect(machine: Machine) -> None:
    """Look for a mail or webhook step that says completed and has no confirmed effect."""
    missing = machine.rows(
        "SELECT s.execution_id, s.node_id FROM execution_steps s LEFT JOIN effects e "
        "ON (e.execution_id, e.node_id, e.visit) = (s.execution_id, s.node_id, s.visit) "
        "AND e.status = 'confirmed' AND e.effect IN ('email', 'webhook') "
        "WHERE s.status = 'completed' AND s.handle = 'default' AND s.skip_reason IS DISTINCT FROM 'kept' "
        "AND s.node_type IN ('ACTION_SEND_EMAIL', 'ACTION_DELIVER_WEBHOOK') AND e.effect IS NULL"
    )
    assert missing == []
    unsettled = "SELECT message_id, status FROM webhook_deliveries WHERE status <> 'delivered'"
    assert machine.rows(unsettled) == []


def quotas_count_what_ran(machine: Machine) -> None:
    """Compare the counted executions and mails with those that were admitted."""
    used = {
        row["quota_key"]: row["quota_used"]
        for row in machine.rows("SELECT quota_key, quota_used FROM usage_quotas")
    }
    begun = "SELECT count(*) FROM workflow_executions WHERE started_at IS NOT NULL"
    assert used["executions"] == machine.rows(begun)[0]["count"]
    mails = "SELECT count(*) FROM effects WHERE effect = 'email'"
    assert used["email_sends"] == machine.rows(mails)[0]["count"]


async def rows_equal_history(machine: Machine) -> None:
    """Mirror every ended run a second time, from zero, and compare field by field (design §7)."""
    url = machine.environment()["FLOWTRACK_DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://")
    database = Database(url, pool_size=2)
    try:
        key = base64.b64decode(machine.environment()["FLOWTRACK_MASTER_KEY"])
        converter = payloads.converter(Keyring(database, key), Blobs(database))
        client = await temporal.connect(machine.card["temporal_address"], data_converter=converter)
        mirror = Mirror(client, database, database_url=url)
        ended = "SELECT id, temporal_run_id FROM workflow_executions WHERE status = ANY(%s) ORDER BY id"
        for row in machine.rows(ended, list(ENDED)):
            if tuple(row.values()) not in machine.rebuilt:
                stored = _mirrored(machine, row["id"])
                assert await mirror.rebuild(row["id"])
                assert _mirrored(machine, row["id"]) == stored
                machine.rebuilt.add(tuple(row.values()))
    finally:
        await database.close()


def _mirrored(machine: Machine, execution_id: UUID) -> dict[str, list[dict[str, Any]]]:
    found = {}
    for table, where, order in MIRRORED:
        rows = machine.rows(f"SELECT * FROM {table} WHERE {where} ORDER BY {order}", execution_id)
        found[table] = [{key: value for key, value in row.items() if key not in OURS} for row in rows]
    return found
