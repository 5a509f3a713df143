"""The public form: one transaction, once, for whoever sends it however often."""

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from api import deps
from api.app import Config, create_app
from api.desk import Desk
from db.starts import Start
from tests.api.conftest import Publish, Recorder, Tenant, count, speaking
from tests.budgets.counting import Wire

pytestmark = pytest.mark.anyio
ANSWERS = {"email": "Ada@Example.com", "first_name": "Ada", "budget": "$5000", "seats": 3}


async def test_json_submission_leaves_lead_answers_event_run_and_usage(
    publish: Publish, anonymous, acme, database, starter
):
    form = await publish()
    answer = await anonymous.post(form.path, json=ANSWERS)
    assert answer.status_code == 202, answer.text
    receipt = answer.json()
    assert receipt["status"] == "accepted"
    assert "lead_id" not in receipt
    leads = (await acme.client.get("/v1/leads")).json()["data"]
    assert [lead["email"] for lead in leads] == ["ada@example.com"]
    lead = (await acme.client.get(f"/v1/leads/{leads[0]['id']}")).json()
    assert lead["fields"] == {
        "email": "ada@example.com",
        "first_name": "Ada",
        "budget": "$5000",
        "seats": "3",
        "news": "false",
    }
    assert lead["first_name"] == "Ada"
    events = (await acme.client.get(f"/v1/leads/{lead['id']}/events")).json()["data"]
    assert [e["event_type"] for e in events] == ["FORM_SUBMITTED"]
    assert events[0]["triggered_by_workflow_execution_id"] == receipt["execution_id"]
    run = (await acme.client.get(f"/v1/executions/{receipt['execution_id']}")).json()
    assert run["status"] == "queued"
    assert run["lead_id"] == lead["id"]
    assert run["trigger_type"] == "FORM"
    assert run["trigger_data"]["seats"] == 3
    assert [str(one) for one in starter.started] == [receipt["execution_id"]]
    assert await count(database, acme.workspace_id, "usage_events") == 1


async def test_a_submission_of_a_form_that_is_known_waits_for_the_database_once(
    publish: Publish, anonymous, database
):
    form = await publish()
    await anonymous.post(form.path, json={"email": "first@example.com"})
    with Wire().traced(database) as wire:
        answer = await anonymous.post(form.path, json=ANSWERS)
    assert answer.status_code == 202
    assert wire.trips == 1


async def test_submissions_that_come_together_are_written_together(
    publish: Publish, anonymous, acme, database, starter
):
    form = await publish()
    await anonymous.post(form.path, json={"email": "first@example.com"})
    with Wire().traced(database) as wire:
        answers = await asyncio.gather(
            *(anonymous.post(form.path, json={"email": f"a{n}@example.com"}) for n in range(40))
        )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["execution_id"] for answer in answers}) == 40
    assert await count(database, acme.workspace_id, "leads") == 41
    assert len(starter.started) == 41
    assert wire.trips <= 20


async def test_one_that_fails_spoils_nothing_for_those_that_came_with_it(
    publish: Publish, anonymous, acme, database
):
    form = await publish()
    old = await anonymous.post(form.path, json=ANSWERS, headers={"Idempotency-Key": "old"})
    async with database.workspace(acme.workspace_id) as session:
        await session.execute(text("UPDATE idempotency_keys SET expires_at = now() - interval '1 hour'"))
    others = (anonymous.post(form.path, json={"email": f"a{n}@example.com"}) for n in range(12))
    again = anonymous.post(form.path, json=ANSWERS, headers={"Idempotency-Key": "old"})
    *accepted, repeated = await asyncio.gather(*others, again)
    assert {answer.status_code for answer in accepted} == {202}
    assert repeated.json()["execution_id"] == old.json()["execution_id"]
    assert await count(database, acme.workspace_id, "workflow_executions") == 13


async def test_a_form_that_another_process_changed_is_read_again(publish: Publish, anonymous, acme, database):
    form = await publish()
    assert (await anonymous.post(form.path, json=ANSWERS)).status_code == 202
    change = "UPDATE form_fields SET is_required = {} WHERE field_key = 'seats'"
    async with database.workspace(acme.workspace_id) as session:
        await session.execute(text(change.format("true")))
    refused = await anonymous.post(form.path, json={"email": "b@example.com"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "seats")
    async with database.workspace(acme.workspace_id) as session:
        await session.execute(text(change.format("false")))
    assert (await anonymous.post(form.path, json={"email": "b@example.com"})).status_code == 202
    assert await count(database, acme.workspace_id, "leads") == 2


@pytest.mark.parametrize(("reachable", "by"), [(True, "api-1"), (False, None)])
async def test_runs_that_are_started_from_here_are_left_alone_by_dispatchers(
    reachable: bool, by: str | None, *, publish: Publish, acme, database, config: Config
):
    form = await publish()
    starter = Recorder(reachable=reachable)
    app = create_app(database, starter, config=replace(config, name="api-1"))
    async with speaking(app) as client:
        assert (await client.post(form.path, json=ANSWERS)).status_code == 202
    await app.state.platform.background.drain(1)
    assert len(starter.started) == int(reachable)
    async with database.workspace(acme.workspace_id) as session:
        found = await session.execute(text("SELECT locked_by, lock_acquired_at FROM workflow_executions"))
        row = found.one()
    assert row.locked_by == by
    assert (row.lock_acquired_at is None) == (by is None)


class Slow(Recorder):
    """A starter that is busy for as long as anybody submits."""

    async def launch(self, start: Start) -> bool:
        """Note it, and never come to an end."""
        await super().launch(start)
        return await asyncio.Future()


async def test_a_run_that_nobody_else_may_start_is_started_also_when_the_room_is_gone(
    monkeypatch: pytest.MonkeyPatch, publish: Publish, acme, database, config: Config
):
    monkeypatch.setattr(deps, "MAX_BACKGROUND", 50)
    form, starter = await publish(), Slow()
    app = create_app(database, starter, config=replace(config, name="api-1"))
    async with speaking(app) as client:
        posts = (client.post(form.path, json={"email": f"a{n}@example.com"}) for n in range(80))
        assert {answer.status_code for answer in await asyncio.gather(*posts)} == {202}
    await app.state.platform.background.drain(0)
    async with database.workspace(acme.workspace_id) as session:
        promised = await session.scalars(text("SELECT id FROM workflow_executions WHERE locked_by = 'api-1'"))
        assert set(promised) == set(starter.started)
    assert len(starter.started) > deps.MAX_BACKGROUND


async def test_the_desk_knows_only_as_many_forms_as_its_memory_holds(publish: Publish, acme, database):
    one, other = [(await publish()).path.split("/")[-2:] for _ in range(2)]
    desk, small = Desk(database), Desk(database, most_bytes=1)
    for each in (desk, small):
        found = [await each.read(*path) for path in (one, other)]
        assert all(form is not None and form.size > 500 for form in found)
    assert desk.known(*one) is not None
    assert small.known(*one) is None
    assert small.known(*other) is not None


@pytest.mark.parametrize("how", ["same key", "same answers", "same page"])
async def test_parallel_repeats_are_one_submission(
    how: str, *, publish: Publish, anonymous, acme, database, starter
):
    form = await publish()
    headers = {"Idempotency-Key": "abc"} if how == "same key" else {}
    if how == "same page":
        data = {"email": "ada@example.com", "_token": token_in((await anonymous.get(form.path)).text)}
        answers = await asyncio.gather(*(anonymous.post(form.path, data=data) for _ in range(20)))
    else:
        answers = await asyncio.gather(
            *(anonymous.post(form.path, json=ANSWERS, headers=headers) for _ in range(20))
        )
    assert {a.status_code for a in answers} == {200 if how == "same page" else 202}
    assert len({a.text for a in answers}) == 1
    assert sum("idempotent-replayed" not in a.headers for a in answers) == 1
    for table in ("leads", "workflow_executions", "lead_events", "usage_events"):
        assert await count(database, acme.workspace_id, table) == 1
    assert len(starter.started) == 1


async def test_a_key_used_for_other_answers_is_a_conflict(publish: Publish, anonymous):
    form = await publish()
    headers = {"Idempotency-Key": "abc"}
    first = await anonymous.post(form.path, json=ANSWERS, headers=headers)
    other = await anonymous.post(form.path, json={**ANSWERS, "seats": 4}, headers=headers)
    assert (first.status_code, other.status_code) == (202, 409)
    assert other.json()["code"] == "idempotency_key_reused"


async def test_an_expired_key_still_starts_no_second_run(publish: Publish, anonymous, acme, database):
    form = await publish()
    headers = {"Idempotency-Key": "abc"}
    first = await anonymous.post(form.path, json=ANSWERS, headers=headers)
    async with database.workspace(acme.workspace_id) as session:
        await session.execute(text("UPDATE idempotency_keys SET expires_at = now() - interval '1 hour'"))
    again = await anonymous.post(form.path, json=ANSWERS, headers=headers)
    assert again.status_code == 202
    assert again.json()["execution_id"] == first.json()["execution_id"]
    assert await count(database, acme.workspace_id, "workflow_executions") == 1


async def test_two_keys_are_two_runs_of_one_lead(publish: Publish, anonymous, acme, database):
    form = await publish()
    for key, email in (("a", "A@EXAMPLE.com"), ("b", "a@example.com"), ("c", "Ａ@example.com")):
        answer = await anonymous.post(form.path, json={"email": email}, headers={"Idempotency-Key": key})
        assert answer.status_code == 202, answer.text
    assert await count(database, acme.workspace_id, "leads") == 1
    assert await count(database, acme.workspace_id, "workflow_executions") == 3


@pytest.mark.parametrize(
    ("policy", "status", "runs", "events", "name"),
    [
        ("update_and_run", 202, 2, 2, "Grace"),
        ("update_only", 202, 1, 2, "Grace"),
        ("reject", 409, 1, 1, "Ada"),
        ("ignore", 202, 1, 1, "Ada"),
    ],
)
async def test_a_known_address_follows_the_duplicate_policy(
    *,
    policy: str,
    status: int,
    runs: int,
    events: int,
    name: str,
    publish: Publish,
    anonymous,
    acme,
    database,
):
    form = await publish(duplicatePolicy=policy)
    first = await anonymous.post(form.path, json=ANSWERS)
    again = await anonymous.post(form.path, json={**ANSWERS, "first_name": "Grace"})
    assert (first.status_code, again.status_code) == (202, status)
    if status == 202:
        assert first.json().keys() == again.json().keys()
        assert (first.json()["execution_id"] is None) == (again.json()["execution_id"] is None)
    assert await count(database, acme.workspace_id, "workflow_executions") == runs
    assert await count(database, acme.workspace_id, "lead_events") == events
    assert (await acme.client.get("/v1/leads")).json()["data"][0]["first_name"] == name


async def test_a_closed_form_takes_nothing(publish: Publish, anonymous, acme, database):
    past = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    form = await publish(closesAt=past)
    answer = await anonymous.post(form.path, json=ANSWERS)
    assert (answer.status_code, answer.json()["code"]) == (410, "form_closed")
    page = await anonymous.post(form.path, data={"email": "a@example.com"})
    assert page.status_code == 410
    assert "text/html" in page.headers["content-type"]
    assert await count(database, acme.workspace_id, "leads") == 0


async def test_a_limit_of_submissions_holds_under_parallel_posts(publish: Publish, anonymous, acme, database):
    form = await publish(maxSubmissions=3)
    answers = await asyncio.gather(
        *(anonymous.post(form.path, json={"email": f"a{n}@example.com"}) for n in range(10))
    )
    assert sorted(a.status_code for a in answers) == [202] * 3 + [410] * 7
    assert await count(database, acme.workspace_id, "leads") == 3


async def test_drafts_and_archives_have_no_form_and_a_pause_keeps_it(
    publish: Publish, anonymous, acme: Tenant
):
    draft = await acme.make("/v1/workflows", {"name": "Draft"})
    assert (await anonymous.get(f"/f/acme/{draft['slug']}")).status_code == 404
    form = await publish()
    await acme.client.post(f"/v1/workflows/{form.workflow_id}/pause")
    assert (await anonymous.post(form.path, json=ANSWERS)).status_code == 202
    await acme.client.post(f"/v1/workflows/{form.workflow_id}/archive")
    assert (await anonymous.post(form.path, json=ANSWERS)).status_code == 404
    assert (await anonymous.get("/f/acme/unknown")).status_code == 404
    assert (await anonymous.get("/f/nobody/unknown")).status_code == 404


async def test_mistakes_name_their_fields_and_nothing_is_written(publish: Publish, anonymous, acme, database):
    form = await publish()
    bad = {"email": "not an address", "budget": "$1", "seats": "１２", "__proto__": 1, "news": 5}
    answer = await anonymous.post(form.path, json=bad)
    assert answer.status_code == 422
    problem = answer.json()
    assert {detail["field"] for detail in problem["errors"]} == {
        "email",
        "budget",
        "seats",
        "__proto__",
        "news",
    }
    assert {detail["pointer"] for detail in problem["errors"]} >= {"/email", "/budget"}
    for table in ("leads", "workflow_executions", "idempotency_keys", "usage_events"):
        assert await count(database, acme.workspace_id, table) == 0


async def test_a_message_to_the_person_and_a_redirect_follow_the_form(publish: Publish, anonymous):
    form = await publish(successMessage="See you <b>soon</b>", redirectUrl="https://example.com/thanks?x=1")
    said = await anonymous.post(form.path, json=ANSWERS)
    assert said.json()["message"] == "See you <b>soon</b>"
    sent = await anonymous.post(form.path, data={"email": "b@example.com"})
    assert sent.status_code == 303
    assert sent.headers["location"] == "https://example.com/thanks?x=1"


@pytest.mark.parametrize(
    ("allowed", "origin", "status", "echoed"),
    [
        ([], "https://any.example", 202, "*"),
        (["https://ours.example"], "https://ours.example", 202, "https://ours.example"),
        (["https://ours.example"], "https://theirs.example", 403, None),
        (["https://ours.example"], None, 202, None),
        (["*"], "https://any.example", 202, "*"),
    ],
)
async def test_other_sites_may_submit_as_the_form_allows(
    *, allowed, origin, status, echoed, publish: Publish, anonymous
):
    form = await publish(allowedOrigins=allowed)
    headers = {"Origin": origin} if origin else {}
    answer = await anonymous.post(form.path, json=ANSWERS, headers=headers)
    assert answer.status_code == status
    assert answer.headers.get("access-control-allow-origin") == echoed
    assert "access-control-allow-credentials" not in answer.headers


async def test_a_preflight_is_answered(publish: Publish, anonymous):
    form = await publish()
    headers = {"Origin": "https://any.example", "Access-Control-Request-Method": "POST"}
    answer = await anonymous.request("OPTIONS", form.path, headers=headers)
    assert answer.status_code == 204
    assert "Idempotency-Key" in answer.headers["access-control-allow-headers"]


async def test_a_form_without_an_address_runs_without_a_lead(publish: Publish, anonymous, acme, database):
    form = await publish(questions=[{"field_key": "note", "label": "Note", "field_type": "TEXT"}])
    answer = await anonymous.post(form.path, json={"note": "hello"})
    assert answer.status_code == 202, answer.text
    run = (await acme.client.get(f"/v1/executions/{answer.json()['execution_id']}")).json()
    assert run["lead_id"] is None
    assert run["trigger_data"] == {"note": "hello"}


def token_in(page: str) -> str:
    """Find the render token of a page."""
    match = re.search(r'name="_token" value="([^"]+)"', page)
    assert match
    return match[1]


async def test_forged_and_expired_tokens_are_refused(publish: Publish, anonymous, acme, database):
    form = await publish()
    token = token_in((await anonymous.get(form.path)).text)
    flipped = token[:-3] + ("A" if token[-3] != "A" else "B") + token[-2:]
    for forged in (flipped, "x", "", "é"):
        answer = await anonymous.post(form.path, data={"email": "a@example.com", "_token": forged})
        assert answer.status_code == 403, forged
    assert await count(database, acme.workspace_id, "leads") == 0
