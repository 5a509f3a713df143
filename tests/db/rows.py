"""One row in every tenant table of a workspace."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from uuid_utils.compat import uuid7

from db import models as m
from db.models import Base
from db.session import Database
from tests.db.conftest import Place, queued

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
# The sign-up has filled these.
THERE_ALREADY = {"workspace_members", "subscriptions", "usage_quotas", "workflows", "workflow_versions"}


async def fill(database: Database, place: Place) -> None:
    """Put a row that points to its parents into every table the sign-up leaves empty."""
    key: dict[str, Any] = {"workspace_id": place.workspace_id}
    flow = {**key, "workflow_id": place.workflow_id}
    node = m.WorkflowNode(**flow, id=uuid7(), react_flow_node_id="n", node_type="TRIGGER_FORM")
    field = m.FormField(**flow, id=uuid7(), field_key="budget", label="Budget", field_type="NUMBER")
    lead = m.Lead(**flow, id=uuid7(), email="ann@example.com")
    execution = queued(place, id=uuid7(), lead_id=lead.id, idempotency_key="once")
    run = {**key, "execution_id": execution.id}
    step = m.ExecutionStep(
        **run,
        id=uuid7(),
        workflow_node_id=node.id,
        node_id="n",
        node_type="TRIGGER_FORM",
        step_number=1,
        status="completed",
    )
    endpoint = m.WebhookEndpoint(**key, id=uuid7(), url="https://a.example", secret_sealed=b"s")
    levels: list[list[Base]] = [
        [
            m.OAuthCredential(**key, provider_type="GOOGLE_EMAIL", access_token_sealed=b"t"),
            m.ApiKey(**key, name="k", key_id=uuid7().hex, secret_hash=b"h"),
            m.PayloadKey(**key, key_sealed=b"k"),
            m.IdempotencyKey(**key, scope="s", idempotency_key="k", request_hash=b"h", expires_at=NOW),
            m.WorkflowHook(**flow, token_hash=uuid7().bytes, token_sealed=b"t"),
            m.WorkflowEdge(**flow, react_flow_edge_id="e", source_node_id="n", target_node_id="x"),
            m.UsageEvent(**key, event_type="email_sent", event_category="communication"),
            m.WorkspaceDailyStat(**key, stat_date=date(2026, 1, 31)),
            *(node, field, lead, endpoint),
        ],
        [execution, m.LeadFieldData(**key, lead_id=lead.id, form_field_id=field.id, value="5000")],
        [
            *(step, m.Effect(**run, node_id="n", visit=1, effect="mail")),
            m.MirrorCursor(**run, run_id="r"),
            m.PayloadBlob(**run, address=bytes(32), content=b"c"),
            m.WebhookDelivery(
                **run,
                webhook_endpoint_id=endpoint.id,
                message_id="msg",
                event_type="lead.created",
                scheduled_at=NOW + timedelta(days=999),
            ),
            m.LeadEvent(
                **key,
                id=(event_id := uuid7()),
                lead_id=lead.id,
                event_type="FORM_SUBMITTED",
                triggered_by_user_id=place.user_id,
                triggered_by_workflow_execution_id=execution.id,
            ),
        ],
        [
            m.ExecutionLog(**run, execution_step_id=step.id, message="hello"),
            m.EventWake(**run, event_id=event_id),
        ],
    ]
    async with database.workspace(place.workspace_id) as session:
        for level in levels:
            session.add_all(level)
            await session.flush()
