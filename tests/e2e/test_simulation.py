"""A workflow played through in seconds by the interpreter of production, with nothing left behind."""

from typing import Any

import psycopg
import pytest
from psycopg import sql

from local import postgres
from tests.e2e.graphs import chain, edge, graph, node
from tests.e2e.house import EMAIL, House, ok

pytestmark = pytest.mark.anyio

BUDGET = {"field_key": "budget", "label": "Budget", "field_type": "NUMBER"}
FORM = node("form", "TRIGGER_FORM", "Form")
RICH = {"field": "budget", "operator": ">=", "value": 5000}
WON = {"id": "won", "type": "STATUS_CHANGED", "match": {"field": "to", "operator": "=", "value": "WON"}}
ADA = {"email": "ada@example.com", "budget": 7000}


def two_weeks() -> dict[str, Any]:
    """Draw what a sales team does in two weeks: qualify, write, wait, ask, write again."""
    return graph(
        FORM,
        node("check", "LOGIC_CONDITION", "Rich?", condition=RICH),
        node("qualify", "ACTION_SET_LEAD_STATUS", status="QUALIFIED"),
        node(
            "hello",
            "ACTION_SEND_EMAIL",
            emailSubject="Hello {{ lead.name }}",
            emailBody="<p>{{ lead.status }}: {{ trigger.budget }}</p>",
        ),
        node("rest", "LOGIC_DELAY", duration="P7D"),
        node("wait", "LOGIC_WAIT_FOR_EVENT", events=[WON], timeout="P7D"),
        node("call", "ACTION_HTTP_REQUEST", url="https://crm.example.com/won", method="POST"),
        node("tell", "ACTION_DELIVER_WEBHOOK", eventType="lead.won"),
        node("bye", "ACTION_SEND_EMAIL", emailSubject="Well, {{ lead.name }}", emailText="Bye."),
        node("end", "UTILITY_END", outcome="{{ lead.status }}", output={"crm": "{{ steps.call.body.id }}"}),
        edge("form", "check"),
        edge("check", "qualify", "condition_true"),
        edge("qualify", "hello"),
        edge("hello", "rest"),
        edge("rest", "wait"),
        edge("wait", "call", "event_won"),
        edge("call", "tell"),
        edge("tell", "end"),
        edge("wait", "bye", "timeout"),
    )


async def drafted(house: House, drawn: dict[str, Any]) -> str:
    """Save a draft, published or not; return its simulation's path."""
    made = await house.workflow(drawn, fields=(EMAIL, BUDGET))
    return f"/v1/workflows/{made['id']}/simulate"


async def played(house: House, path: str, **body: Any) -> dict[str, Any]:
    """Simulate."""
    answer: dict[str, Any] = (await ok(house.api.post(path, json=body, timeout=40))).json()
    return answer


def counts(admin_url: str) -> dict[str, Any]:
    """Count the rows of every table, and tell the newest transaction that wrote one."""
    counted = {}
    with psycopg.connect(postgres.plain(admin_url), autocommit=True) as session:
        tables = session.execute(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'public' AND c.relkind = 'r' ORDER BY 1"
        ).fetchall()
        for (name,) in tables:
            query = sql.SQL("SELECT count(*), max(xmin::text::bigint) FROM {}").format(sql.Identifier(name))
            counted[name] = session.execute(query).fetchone()
    return counted


async def test_two_weeks_pass_in_seconds_and_leave_nothing_behind(house: House, admin_url: str):
    path = await drafted(house, two_weeks())
    before = counts(admin_url)
    event = {"at": "+9d", "type": "STATUS_CHANGED", "data": {"to": "WON"}, "lead": {"status": "WON"}}
    won = await played(
        house, path, trigger_data=ADA, events=[event], stubs={"call": {"output": {"body": {"id": "c-7"}}}}
    )
    lost = await played(house, path, trigger_data=ADA)
    after = counts(admin_url)
    assert house.catcher.messages() == []
    assert house.target.requests == []
    # Proof of who asked is renewed by any request, and a workspace's first run of any kind makes its key; a
    # simulation itself writes nothing anywhere.
    assert {name for name in after if after[name] != before[name]} <= {"api_keys", "payload_keys"}

    assert won["path"] == [
        "form: completed",
        "check: completed → condition_true",
        "qualify: completed",
        "hello: completed",
        "rest: completed",
        "wait: completed → event_won",
        "bye: skipped (branch_not_taken)",
        "call: completed",
        "tell: completed",
        "end: completed",
    ]
    assert won["outcome"] == {
        "status": "completed",
        "reason": "WON",
        "output": {"crm": "c-7"},
        "error": None,
    }
    assert won["virtual_time"] == "P9D"
    assert won["events"] == [{"at": "+9d", "type": "STATUS_CHANGED", "fate": "delivered", "message": ""}]
    (mail,) = won["mails"]
    assert (mail["to"], mail["subject"]) == (["ada@example.com"], "Hello ada")
    assert mail["html"] == "<p>QUALIFIED: 7000</p>"
    (decision,) = [each for each in won["decisions"] if each["node_id"] == "check"]
    assert (decision["left"], decision["operator"], decision["right"]) == (7000, ">=", 5000)
    assert decision["result"] is True
    assert [(each["node_id"], round(each["virtual_seconds"] / 86_400, 2)) for each in won["waits"]] == [
        ("rest", 7),
        ("wait", 2),
    ]
    inputs = {step["node_id"]: step["input_data"] for step in won["steps"]}
    assert inputs["call"]["url"] == "https://crm.example.com/won"

    assert lost["virtual_time"] == "P14D"
    assert [mail["subject"] for mail in lost["mails"]] == ["Hello ada", "Well, ada"]
    assert "wait: completed → timeout" in lost["path"]
    # Three seconds are promised; a busy machine is given more.
    assert max(won["real_seconds"], lost["real_seconds"]) < 10


async def test_a_failure_goes_where_on_error_says_and_a_refusal_is_told(house: House):
    ask = node("ask", "LOGIC_APPROVAL", message="Really?", timeout="P3D")
    call = node("call", "ACTION_HTTP_REQUEST", url="https://crm.example.com", onError="branch")
    stop = node("stop", "UTILITY_FAIL", message="No offer for {{ lead.name }}")
    drawn = graph(
        FORM,
        call,
        ask,
        stop,
        node("go", "UTILITY_LOG", message="go"),
        edge("form", "call"),
        edge("call", "ask", "error"),
        edge("call", "go", "default"),
        edge("ask", "stop", "rejected"),
        edge("ask", "go", "approved"),
    )
    path = await drafted(house, drawn)
    told = await played(
        house,
        path,
        trigger_data=ADA,
        stubs={"call": {"error": {"type": "http_status", "message": "The service answered 500."}}},
        events=[
            {"at": "PT1H", "type": "approve", "step": "go"},
            {"at": "+1d", "type": "reject", "step": "ask", "by": "Grace", "comment": "No."},
            {"at": "+2d", "type": "PAID"},
        ],
    )
    assert told["outcome"]["status"] == "failed"
    assert told["outcome"]["error"]["message"] == "stop: No offer for ada"
    assert told["path"][1:3] == ["call: failed (http_status) → error", "ask: completed → rejected"]
    assert [event["fate"] for event in told["events"]] == ["refused", "delivered", "not_reached"]
    assert "does not wait for a decision" in told["events"][0]["message"]
    assert told["virtual_time"] == "P1D"


async def test_a_run_that_nobody_helps_on_is_shown_waiting(house: House):
    path = await drafted(house, chain(FORM, node("wait", "LOGIC_WAIT_FOR_EVENT", events=[WON])))
    told = await played(house, path, trigger_data=ADA)
    assert told["outcome"]["status"] == "waiting"
    assert told["stopped_by"] == "virtual_time_limit"
    assert told["path"] == ["form: completed", "wait: running → timeout"]
    assert told["waits"][0]["until"] is None


async def test_the_lead_changes_as_it_would_and_keeps_what_both_branches_wrote(house: House):
    drawn = graph(
        FORM,
        node("company", "ACTION_UPDATE_LEAD", set={"company": "Engines", "budget": "{{ 1 }}"}),
        node("name", "ACTION_UPDATE_LEAD", set={"first_name": "Countess"}),
        node("both", "LOGIC_MERGE", mode="all"),
        node("rest", "LOGIC_DELAY", duration="P2D"),
        node(
            "mail",
            "ACTION_SEND_EMAIL",
            emailSubject="{{ lead.name }} of {{ lead.company }}: {{ lead.fields.budget }}",
            emailText="Hello",
        ),
        edge("form", "company"),
        edge("form", "name"),
        edge("company", "both"),
        edge("name", "both"),
        edge("both", "rest"),
        edge("rest", "mail"),
    )
    path = await drafted(house, drawn)
    told = await played(
        house,
        path,
        trigger_data={"budget": 3},
        lead={"email": "ada@example.com", "first_name": "Ada"},
        events=[{"at": "+1d", "type": "LEAD_UPDATED", "lead": {"last_name": "Lovelace"}}],
    )
    assert [mail["subject"] for mail in told["mails"]] == ["Countess Lovelace of Engines: 1"], told["path"]


async def test_what_is_wrong_with_a_simulation_is_said_by_field(house: House):
    path = await drafted(house, two_weeks())
    answer = await house.api.post(
        path,
        json={
            "trigger_data": ADA,
            "stubs": {"nowhere": {}, "call": {"handle": "sideways"}, "form": {"output": 1}},
            "events": [{"at": "soon", "type": "PAID"}, {"at": "+1d", "type": "approve"}],
        },
    )
    assert answer.status_code == 422
    assert {(each["pointer"], each["code"]) for each in answer.json()["errors"]} == {
        ("/stubs/nowhere", "unknown_node"),
        ("/stubs/call/handle", "unknown_handle"),
        ("/stubs/form", "nothing_to_stub"),
        ("/events/0/at", "bad_time"),
        ("/events/1/step", "unknown_step"),
    }
    answer = await house.api.post(path, json={"trigger_data": {"email": "nobody"}})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/trigger_data/email"
    for body, code in (
        ({"version": 7}, "unknown_version"),
        ({"stubs": {"call": {"output": "x" * 600_000}}}, "too_large"),
    ):
        answer = await house.api.post(path, json=body)
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, code)
