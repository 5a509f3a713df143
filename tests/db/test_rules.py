"""The ERD's rules, section by section: what is unique, what is refused, what goes with what."""

from datetime import timedelta
from typing import Any

import pytest
from psycopg.errors import (
    CheckViolation,
    ForeignKeyViolation,
    NotNullViolation,
    RestrictViolation,
    UniqueViolation,
)
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from uuid_utils.compat import uuid7

from db import models as m
from db.models import Base
from db.session import Database
from tests.db.conftest import Place, Superuser, queued
from tests.db.rows import NOW, fill

pytestmark = pytest.mark.anyio
OF_A_WORKFLOW = """workflows workflow_nodes workflow_edges workflow_versions form_fields leads lead_field_data
    lead_events workflow_executions execution_steps execution_logs effects mirror_cursors"""


@pytest.fixture
async def filled(database: Database, here: Place) -> None:
    await fill(database, here)


async def refused(database: Database, place: Place, *rows: Base) -> type:
    """Add rows and name the database's objection."""
    with pytest.raises(IntegrityError) as objection:
        async with database.workspace(place.workspace_id) as session:
            session.add_all(rows)
    return type(objection.value.orig)


def count(superuser: Superuser, *tables: str) -> list[int]:
    with superuser() as connection:
        rows = [connection.execute(f"SELECT count(*) FROM {table}").fetchone() for table in tables]
    return [row[0] for row in rows if row]


async def run(database: Database, place: Place, statement: str, **values: Any) -> None:
    async with database.workspace(place.workspace_id) as session:
        await session.execute(text(statement), values)


async def test_erd_1_a_user_owns_one_workspace_at_most(here: Place, superuser: Superuser):
    with superuser() as connection, pytest.raises(UniqueViolation):
        connection.execute(
            "INSERT INTO workspaces (id, name, slug, owner_user_id) VALUES (gen_random_uuid(), 'x', 'x', %s)",
            [here.user_id],
        )


async def test_erd_1_an_owner_who_handed_over_may_be_deleted(here: Place, there: Place, superuser: Superuser):
    with superuser() as connection:
        connection.execute("INSERT INTO users (id, email) VALUES (%s, 'heir@example.com')", [heir := uuid7()])
        with pytest.raises(RestrictViolation), connection.transaction():
            connection.execute("DELETE FROM users WHERE id = %s", [here.user_id])
        connection.execute(
            "UPDATE workspaces SET owner_user_id = %s WHERE id = %s", [heir, here.workspace_id]
        )
        connection.execute("DELETE FROM users WHERE id = %s", [here.user_id])


async def test_erd_2_a_user_is_a_member_once_with_a_known_role(database: Database, here: Place, there: Place):
    def member(**values: Any) -> m.WorkspaceMember:
        return m.WorkspaceMember(workspace_id=here.workspace_id, **values)

    async with database.workspace(here.workspace_id) as session:
        session.add(member(user_id=there.user_id, role="viewer"))
    assert await refused(database, here, member(user_id=there.user_id, role="admin")) is UniqueViolation
    assert await refused(database, here, member(user_id=uuid7(), role="boss")) is CheckViolation
    assert await refused(database, here, member(user_id=uuid7(), role="viewer")) is ForeignKeyViolation


async def test_erd_2_deleting_a_user_deletes_their_memberships(
    database: Database, here: Place, superuser: Superuser
):
    with superuser() as connection:
        connection.execute(
            "INSERT INTO users (id, email) VALUES (%s, 'guest@example.com')", [guest := uuid7()]
        )
    member = m.WorkspaceMember(workspace_id=here.workspace_id, user_id=guest, role="member")
    async with database.workspace(here.workspace_id) as session:
        session.add(member)
    with superuser() as connection:
        connection.execute("DELETE FROM users WHERE id = %s", [guest])
    assert count(superuser, "workspace_members") == [1]


async def test_erd_3_a_provider_is_connected_once_and_known(database: Database, here: Place):
    def credential(provider: str) -> m.OAuthCredential:
        key = here.workspace_id
        return m.OAuthCredential(workspace_id=key, provider_type=provider, access_token_sealed=b"t")

    async with database.workspace(here.workspace_id) as session:
        session.add_all(map(credential, ("GOOGLE_EMAIL", "OUTLOOK_EMAIL", "CALENDLY")))
    assert await refused(database, here, credential("CALENDLY")) is UniqueViolation
    assert await refused(database, here, credential("YAHOO")) is CheckViolation


@pytest.mark.parametrize("status", ["draft", "active", "paused", "archived", "broken"])
async def test_erd_4_a_workflow_has_one_of_four_statuses(database: Database, here: Place, status: str):
    workflow = m.Workflow(workspace_id=here.workspace_id, name="w", status=status)
    if status == "broken":
        assert await refused(database, here, workflow) is CheckViolation
        return
    async with database.workspace(here.workspace_id) as session:
        session.add(workflow)


async def test_erd_4_a_clone_forgets_a_deleted_template(database: Database, here: Place):
    clone = m.Workflow(workspace_id=here.workspace_id, name="clone", template_id=here.workflow_id)
    async with database.workspace(here.workspace_id) as session:
        session.add(clone)
    await run(database, here, "DELETE FROM workflows WHERE template_id IS NULL")
    async with database.workspace(here.workspace_id) as session:
        kept = await session.get(m.Workflow, clone.id)
    assert kept is not None
    assert (kept.template_id, kept.workspace_id) == (None, here.workspace_id)


async def test_erd_4_a_form_slug_is_taken_until_its_workflow_is_deleted(database: Database, here: Place):
    def second() -> m.Workflow:
        return m.Workflow(workspace_id=here.workspace_id, name="second", slug="intake")

    assert await refused(database, here, second()) is UniqueViolation
    await run(database, here, "UPDATE workflows SET deleted_at = now()")
    async with database.workspace(here.workspace_id) as session:
        session.add(second())


async def test_a_published_version_is_one_of_the_same_workflow(database: Database, here: Place):
    other = m.Workflow(workspace_id=here.workspace_id, name="w", published_version_id=here.version_id)
    assert await refused(database, here, other) is ForeignKeyViolation


@pytest.mark.usefixtures("filled")
async def test_erd_5_6_8_names_are_unique_within_their_workflow_only(database: Database, here: Place):
    def parts(workflow_id: Any) -> list[Base]:
        key = {"workspace_id": here.workspace_id, "workflow_id": workflow_id}
        return [
            m.WorkflowNode(**key, react_flow_node_id="n", node_type="TRIGGER_FORM"),
            m.WorkflowEdge(**key, react_flow_edge_id="e", source_node_id="a", target_node_id="b"),
            m.FormField(**key, field_key="budget", label="B", field_type="TEXT"),
        ]

    for part in parts(here.workflow_id):
        assert await refused(database, here, part) is UniqueViolation
    twin = m.Workflow(workspace_id=here.workspace_id, id=uuid7(), name="twin")
    async with database.workspace(here.workspace_id) as session:
        session.add(twin)
        await session.flush()
        session.add_all(parts(twin.id))


async def test_erd_6_an_edge_never_leads_back_to_its_own_node(database: Database, here: Place):
    loop = m.WorkflowEdge(
        workspace_id=here.workspace_id,
        workflow_id=here.workflow_id,
        react_flow_edge_id="e",
        source_node_id="n",
        target_node_id="n",
    )
    assert await refused(database, here, loop) is CheckViolation


@pytest.mark.parametrize("kind", ["TEXT", "EMAIL", "DROPDOWN", "NUMBER", "DATE", "CHECKBOX", "PHONE"])
async def test_erd_8_a_form_field_has_one_of_six_types(database: Database, here: Place, kind: str):
    key = {"workspace_id": here.workspace_id, "workflow_id": here.workflow_id}
    field = m.FormField(**key, field_key="k", label="l", field_type=kind)
    if kind == "PHONE":
        assert await refused(database, here, field) is CheckViolation
        return
    async with database.workspace(here.workspace_id) as session:
        session.add(field)


@pytest.mark.usefixtures("filled")
async def test_erd_8_a_field_with_answers_is_not_deleted_before_them(database: Database, here: Place):
    with pytest.raises(IntegrityError) as objection:
        await run(database, here, "DELETE FROM form_fields")
    assert isinstance(objection.value.orig, ForeignKeyViolation)
    async with database.workspace(here.workspace_id) as session:
        await session.execute(text("DELETE FROM lead_field_data"))
        await session.execute(text("DELETE FROM form_fields"))


@pytest.mark.usefixtures("filled")
async def test_erd_4_deleting_a_workflow_takes_everything_of_it_along_answers_too(
    database: Database, here: Place, superuser: Superuser
):
    of_it = OF_A_WORKFLOW.split()
    assert min(count(superuser, *of_it)) == 1
    await run(database, here, "DELETE FROM workflows")
    assert count(superuser, *of_it) == [0] * len(of_it)
    assert count(superuser, "webhook_endpoints", "webhook_deliveries", "usage_events") == [1, 1, 1]


@pytest.mark.usefixtures("filled")
async def test_erd_9_a_lead_has_a_workspace_and_an_address_in_small_letters(database: Database, here: Place):
    key = {"workspace_id": here.workspace_id, "workflow_id": here.workflow_id}
    assert await refused(database, here, m.Lead(**key, email="ann@example.com")) is UniqueViolation
    assert await refused(database, here, m.Lead(**key, email="Ann@example.com")) is CheckViolation
    assert await refused(database, here, m.Lead(**key, email="b@example.com", status="")) is CheckViolation


async def test_erd_9_without_a_workspace_there_is_no_lead(superuser: Superuser, here: Place):
    with superuser() as connection, pytest.raises(NotNullViolation):
        connection.execute(
            "INSERT INTO leads (id, workflow_id, email) VALUES (gen_random_uuid(), %s, 'a')",
            [here.workflow_id],
        )


@pytest.mark.usefixtures("filled")
async def test_erd_10_the_same_address_may_be_a_lead_of_another_workflow(database: Database, here: Place):
    twin = m.Workflow(workspace_id=here.workspace_id, id=uuid7(), name="twin")
    async with database.workspace(here.workspace_id) as session:
        session.add(twin)
        await session.flush()
        session.add(m.Lead(workspace_id=here.workspace_id, workflow_id=twin.id, email="ann@example.com"))


@pytest.mark.usefixtures("filled")
async def test_erd_11_deleting_a_lead_without_history_deletes_its_answers(here: Place, superuser: Superuser):
    with superuser() as connection:
        connection.execute("ALTER TABLE lead_events DISABLE TRIGGER USER")
        connection.execute("DELETE FROM lead_events")
        connection.execute("DELETE FROM leads")
    assert count(superuser, "lead_field_data", "workflow_executions") == [0, 1]


async def test_erd_13_an_idempotency_key_makes_one_execution_of_a_workflow(database: Database, here: Place):
    async with database.workspace(here.workspace_id) as session:
        session.add_all([queued(here, idempotency_key="k"), queued(here), queued(here)])
    assert await refused(database, here, queued(here, idempotency_key="k")) is UniqueViolation


@pytest.mark.parametrize("values", [{"status": "paused"}, {"trigger_type": "MAIL"}])
async def test_erd_13_an_execution_has_a_known_status_and_trigger(
    database: Database, here: Place, values: dict[str, str]
):
    assert await refused(database, here, queued(here, **values)) is CheckViolation


@pytest.mark.usefixtures("filled")
async def test_erd_14_15_deleting_an_execution_takes_steps_logs_and_effects_along(superuser: Superuser):
    with superuser() as connection:
        connection.execute("DELETE FROM workflow_executions")
    of_it = ("execution_steps", "execution_logs", "effects", "mirror_cursors")
    assert count(superuser, *of_it) == [0, 0, 0, 0]
    assert count(superuser, "leads", "webhook_deliveries", "lead_events") == [1, 1, 1]


@pytest.mark.usefixtures("filled")
async def test_erd_14_a_rebuilt_step_leaves_its_log_lines(
    database: Database, here: Place, superuser: Superuser
):
    await run(database, here, "DELETE FROM execution_steps")
    with superuser() as connection:
        line = connection.execute("SELECT execution_step_id, workspace_id FROM execution_logs").fetchone()
    assert line == (None, here.workspace_id)


@pytest.mark.parametrize("status", ["trial", "active", "past_due"])
async def test_erd_16_a_workspace_has_one_current_subscription_and_a_history(
    database: Database, here: Place, status: str
):
    period = "now(), now() + interval '1 month'"
    add = (
        "INSERT INTO subscriptions (workspace_id, id, subscription_plan_id, status, current_period_start,"
        f" current_period_end) SELECT :ws, gen_random_uuid(), id, :status, {period}"
        " FROM subscription_plans LIMIT 1"
    )
    for past in ("cancelled", "expired", "expired"):
        await run(database, here, add, ws=here.workspace_id, status=past)
    with pytest.raises(IntegrityError):
        await run(database, here, add, ws=here.workspace_id, status=status)
    await run(database, here, "UPDATE subscriptions SET status = 'cancelled' WHERE status = 'active'")
    await run(database, here, add, ws=here.workspace_id, status=status)
    with pytest.raises(IntegrityError):
        await run(database, here, add, ws=here.workspace_id, status="ended")


async def test_erd_17_a_plan_in_use_cannot_be_deleted(here: Place, superuser: Superuser):
    with superuser() as connection:
        connection.execute("DELETE FROM subscription_plans WHERE slug = 'starter'")
        with pytest.raises(RestrictViolation):
            connection.execute("DELETE FROM subscription_plans WHERE slug = 'free'")


@pytest.mark.parametrize(
    ("change", "objection"),
    [
        ("quota_key = 'mails'", CheckViolation),
        ("quota_used = -1", CheckViolation),
        ("quota_limit = -1", CheckViolation),
        ("period_end = period_start - 1", CheckViolation),
        ("quota_key = 'leads'", UniqueViolation),
    ],
)
async def test_erd_18_a_quota_is_one_row_per_key_and_period(
    database: Database, here: Place, change: str, objection: type[BaseException]
):
    with pytest.raises(IntegrityError) as raised:
        await run(database, here, f"UPDATE usage_quotas SET {change} WHERE quota_key = 'executions'")
    assert isinstance(raised.value.orig, objection)


@pytest.mark.usefixtures("filled")
async def test_erd_21_deleting_an_endpoint_deletes_its_deliveries(
    database: Database, here: Place, superuser: Superuser
):
    await run(database, here, "DELETE FROM webhook_endpoints")
    assert count(superuser, "webhook_deliveries") == [0]


@pytest.mark.usefixtures("filled")
async def test_erd_21_an_attempt_of_a_message_is_recorded_once_in_a_known_status(
    database: Database, here: Place
):
    async with database.workspace(here.workspace_id) as session:
        endpoint_id = (await session.execute(text("SELECT id FROM webhook_endpoints"))).scalar_one()

    def attempt(number: int, status: str = "pending") -> m.WebhookDelivery:
        return m.WebhookDelivery(
            workspace_id=here.workspace_id,
            webhook_endpoint_id=endpoint_id,
            message_id="msg",
            event_type="lead.created",
            attempt_number=number,
            status=status,
            scheduled_at=NOW + timedelta(days=1),
        )

    async with database.workspace(here.workspace_id) as session:
        session.add(attempt(2))
    assert await refused(database, here, attempt(2)) is UniqueViolation
    assert await refused(database, here, attempt(3, "lost")) is CheckViolation


@pytest.mark.usefixtures("filled")
async def test_erd_22_a_workspace_has_one_row_of_numbers_a_day(database: Database, here: Place):
    again = m.WorkspaceDailyStat(workspace_id=here.workspace_id, stat_date=NOW.date())
    assert await refused(database, here, again) is UniqueViolation


@pytest.mark.parametrize("value", ["\x00", {"a": "\x00"}], ids=["text", "jsonb"])
async def test_what_postgresql_cannot_hold_is_refused_and_not_coerced(
    database: Database, here: Place, value: Any
):
    values: dict[str, Any] = {"description": value} if isinstance(value, str) else {"settings": value}
    with pytest.raises(DBAPIError):
        async with database.workspace(here.workspace_id) as session:
            session.add(m.Workflow(workspace_id=here.workspace_id, name="w", **values))
