"""ERD §19: usage is one line per thing used."""

import pytest
from sqlalchemy.exc import DBAPIError, IntegrityError

from db import usage
from db.session import Database
from tests.db.conftest import Place

pytestmark = pytest.mark.anyio


async def test_erd_19_an_event_keeps_what_billing_needs(database: Database, here: Place):
    async with database.workspace(here.workspace_id) as session:
        first = await usage.record(
            session,
            here.workspace_id,
            "email_sent",
            category="communication",
            quantity=3,
            related_type="workflow_execution",
            related_id=here.workflow_id,
            is_billable=True,
            metadata={"provider": "smtp"},
        )
        second = await usage.record(session, here.workspace_id, "form_submitted", category="api")
        found = await usage.page(session, here.workspace_id, limit=5)
        assert [event.id for event in found] == [second, first]
        event = found[1]
        assert (event.quantity, event.is_billable, event.related_resource_type) == (
            3,
            True,
            "workflow_execution",
        )
        assert (event.related_resource_id, event.event_metadata) == (
            str(here.workflow_id),
            {"provider": "smtp"},
        )
        assert (found[0].quantity, found[0].is_billable) == (1, False)
        older = await usage.page(session, here.workspace_id, limit=5, before=second)
        assert [event.id for event in older] == [first]
        mails = await usage.page(session, here.workspace_id, limit=5, event_type="email_sent")
        assert [event.id for event in mails] == [first]


async def test_erd_19_an_unknown_category_is_refused(database: Database, here: Place):
    with pytest.raises(IntegrityError, match="event_category"):
        async with database.workspace(here.workspace_id) as session:
            await usage.record(session, here.workspace_id, "x", category="other")


async def test_what_json_cannot_say_is_refused_and_not_coerced(database: Database, here: Place):
    for value in (float("nan"), float("inf"), object(), {1, 2}):
        with pytest.raises((DBAPIError, ValueError, TypeError)):
            async with database.workspace(here.workspace_id) as session:
                await usage.record(session, here.workspace_id, "x", category="api", metadata={"v": value})
