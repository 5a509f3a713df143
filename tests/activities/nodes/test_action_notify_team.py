"""ACTION_NOTIFY_TEAM: one mail, once, to those whom it concerns now."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import update
from uuid_utils.compat import uuid7

from db import doors
from db.models import UsageQuota, WorkspaceMember
from local import ports
from local.mail import Catcher
from tests.activities.conftest import Stage, mail_client

pytestmark = pytest.mark.anyio

NOTIFY = "ACTION_NOTIFY_TEAM"
NEWS = {"subject": "New lead: {{ lead.name }}", "body": "{{ lead.email }} <b>has</b> {{ trigger.budget }}"}


async def join(stage: Stage, email: str, role: str, *, joined: bool = True) -> None:
    """Bring a person into the workspace."""
    async with stage.database.door() as session:
        user_id = await doors.save_user(session, email)
    async with stage.database.workspace(stage.place.workspace_id) as session:
        session.add(
            WorkspaceMember(
                workspace_id=stage.place.workspace_id,
                id=uuid7(),
                user_id=user_id,
                role=role,
                permissions={},
                joined_at=datetime.now(UTC) if joined else None,
            )
        )


async def test_the_owner_is_told_in_plain_text_and_once(stage: Stage, smtp_catcher: Catcher):
    first, second = await stage.run(NOTIFY, NEWS), await stage.run(NOTIFY, NEWS, attempt=2)
    assert first.output == second.output
    (message,) = smtp_catcher.messages()
    assert (message.to, message.subject) == (["here@example.com"], "New lead: Ada")
    assert message.html is None
    assert message.text is not None
    assert message.text.strip() == "ada@example.com <b>has</b> $5000"
    assert message.headers["Message-ID"] == first.output["message_id"]
    assert await stage.effects() == {"email": "confirmed"}
    assert await stage.uses() == ["email_sent"]
    assert await stage.events() == []


async def test_those_of_a_role_who_have_joined_are_told(stage: Stage, smtp_catcher: Catcher):
    await join(stage, "grace@example.com", "admin")
    await join(stage, "edsger@example.com", "admin")
    await join(stage, "later@example.com", "admin", joined=False)
    await join(stage, "viewer@example.com", "viewer")
    await stage.run(NOTIFY, {**NEWS, "recipients": "role", "role": "admin"})
    (message,) = smtp_catcher.messages()
    assert sorted(message.to) == ["edsger@example.com", "grace@example.com"]


async def test_addresses_are_rendered_and_told_once_each(stage: Stage, smtp_catcher: Catcher):
    stage.trigger["seller"] = "Sue <sue@example.com>"
    emails = [
        "{{ trigger.seller }}",
        "ops@example.com",
        "ops@example.com ",
        "{{ trigger.none | default: '' }}",
    ]
    await stage.run(NOTIFY, {**NEWS, "recipients": "emails", "emails": emails})
    (message,) = smtp_catcher.messages()
    assert sorted(message.to) == ["ops@example.com", "sue@example.com"]


@pytest.mark.parametrize(
    "config",
    [
        {"recipients": "role", "role": "viewer"},
        {"recipients": "emails", "emails": ["{{ trigger.none | default: '' }}"]},
    ],
)
async def test_where_there_is_nobody_the_run_goes_on(stage: Stage, smtp_catcher: Catcher, config: Any):
    outcome = await stage.run(NOTIFY, {**NEWS, **config})
    assert outcome.handles == ("default",)
    assert outcome.output == {"status": "skipped", "reason": "no_recipients"}
    assert smtp_catcher.messages() == []
    assert await stage.effects() == {}


@pytest.mark.parametrize(
    ("config", "type_"),
    [
        ({"subject": "a\r\nBcc: eve@example.com"}, "refused_message"),
        ({"recipients": "emails", "emails": ["a@example.com, b@example.com"]}, "refused_message"),
        ({"recipients": "emails", "emails": ["nobody"]}, "refused_message"),
        ({"body": "{{ lead.nickname }}"}, "template_error"),
        ({"recipients": "role"}, "bad_config"),
        ({"recipients": "emails"}, "bad_config"),
        ({"recipients": "everybody"}, "bad_config"),
    ],
)
async def test_what_cannot_be_sent_as_meant_is_not_sent(
    stage: Stage, smtp_catcher: Catcher, config: Any, type_: str
):
    failure = await stage.fail(NOTIFY, {**NEWS, **config})
    assert (failure.type, failure.non_retryable) == (type_, True)
    assert smtp_catcher.messages() == []


async def test_a_mail_server_that_is_away_defers_it_and_a_used_up_quota_stops_it(
    stage: Stage, smtp_catcher: Catcher
):
    world = replace(stage.world, smtp=mail_client(ports.free(), connect_deadline=1.0))
    failure = await stage.fail(NOTIFY, NEWS, world=world)
    assert (failure.type, failure.non_retryable) == ("mail_deferred", False)
    await stage.run(NOTIFY, NEWS, visit=2)
    async with stage.database.workspace(stage.place.workspace_id) as session:
        await session.execute(update(UsageQuota).values(quota_limit=0))
    failure = await stage.fail(NOTIFY, NEWS)
    assert (failure.type, failure.non_retryable) == ("quota_exceeded", True)
    assert len(smtp_catcher.messages()) == 1


async def test_another_workspaces_people_are_out_of_reach(stage: Stage, smtp_catcher: Catcher):
    async with stage.database.door() as session:
        await doors.create_workspace(
            session, email="stranger@example.com", name="There", slug="there", today=datetime.now(UTC).date()
        )
    await stage.run(NOTIFY, {**NEWS, "recipients": "role", "role": "owner"})
    assert smtp_catcher.messages()[0].to == ["here@example.com"]
