"""The graph that the faults are done to: several nodes, two mails, two webhooks, naps where asked for."""

from typing import Any

from tests.e2e.graphs import chain, edge, graph, node
from workflows import nodes
from workflows.loops import EACH, EXHAUSTED

EVENT = "lead.told"
FRIEND = "friend-of-"
"""How the address of a lead begins that a run makes."""
FORM = node("form", "TRIGGER_FORM", "Form")
PAYLOAD = {"email": "{{ lead.email }}", "status": "{{ lead.status }}"}
STEPS = (
    node("qualify", "ACTION_SET_LEAD_STATUS", "Qualify", status="QUALIFIED"),
    node("greet", "ACTION_SEND_EMAIL", "Greet", emailSubject="Hello {{ lead.email }}", emailText="Hello"),
    node("tell", "ACTION_DELIVER_WEBHOOK", "Tell", eventType=EVENT, payload=PAYLOAD),
    node("event", "ACTION_ADD_LEAD_EVENT", "Note", eventType="TOLD", description="Told the CRM"),
    node("remind", "ACTION_SEND_EMAIL", "Remind", emailSubject="Still there?", emailText="Hello again"),
    node("close", "ACTION_DELIVER_WEBHOOK", "Close", eventType=EVENT, payload=PAYLOAD),
)
BETWEEN = len(STEPS) - 1
EVENTS = ["FORM_SUBMITTED", "STATUS_CHANGED", "EMAIL_SENT", "TOLD", "EMAIL_SENT"]


def nap(name: str, duration: str) -> dict[str, Any]:
    """Write a node that sleeps."""
    return node(name, "LOGIC_DELAY", "Nap", duration=duration)


def straight() -> dict[str, Any]:
    """Draw all steps in a row."""
    return chain(FORM, *STEPS)


def resting(after: int, duration: str) -> dict[str, Any]:
    """Draw the steps in a row, with one nap after so many of them."""
    return chain(FORM, *STEPS[:after], nap("nap", duration), *STEPS[after:])


def drowsy(duration: str) -> dict[str, Any]:
    """Draw the steps in a row, with a nap before each."""
    steps = [part for number, step in enumerate(STEPS) for part in (nap(f"nap{number}", duration), step)]
    return chain(FORM, *steps)


BUDGET = {"field_key": "budget", "label": "Budget", "field_type": "NUMBER"}
SOON = {"timeout": "PT1S"}
CONFIGS: dict[str, dict[str, Any]] = {
    "ACTION_ADD_LEAD_EVENT": {"eventType": "TOLD", "description": "Told the CRM"},
    "ACTION_CREATE_LEAD": {"email": FRIEND + "{{ lead.email }}"},
    "ACTION_DELIVER_WEBHOOK": {"eventType": EVENT, "payload": PAYLOAD},
    "ACTION_NOTIFY_TEAM": {
        "recipients": "emails",
        "emails": ["team@example.com"],
        "subject": "New: {{ lead.email }}",
        "body": "Look",
    },
    "ACTION_SEND_EMAIL": {"emailSubject": "Hello {{ lead.email }}", "emailText": "Hello"},
    "ACTION_SET_LEAD_STATUS": {"status": "QUALIFIED"},
    "ACTION_UPDATE_LEAD": {"set": {"budget": 1}, "mode": "increment"},
    "LOGIC_APPROVAL": {"message": "Shall we?", **SOON},
    "LOGIC_DELAY": {"duration": "PT1S"},
    "LOGIC_FOR_EACH": {"items": ["one", "two", "three"], "mode": "parallel", "concurrency": 2},
    "LOGIC_GOTO": {"targetNodeId": "again", "maxVisits": 3},
    "LOGIC_QUOTA_GATE": {"quotaKey": "workflows", "onExceeded": "fail"},
    "LOGIC_WAIT_FOR_EVENT": {"events": [{"id": "won", "type": "WON"}], **SOON},
}
"""What a node type does in the suites of faults; one that is not named here does what its example says."""


REPEATED = {
    "LOGIC_FOR_EACH": (
        node(
            "item", "ACTION_ADD_LEAD_EVENT", "Note the item", eventType="ITEM", description="{{ loop.item }}"
        ),
        node("letter", "ACTION_DELIVER_WEBHOOK", "Tell the item", eventType=EVENT, payload=PAYLOAD),
    ),
    "LOGIC_GOTO": (
        node("again", "ACTION_ADD_LEAD_EVENT", "Note again", eventType="AGAIN", description="Again"),
    ),
}
"""What a loop runs again and again."""
ONWARD = {"LOGIC_FOR_EACH": "done", "LOGIC_GOTO": EXHAUSTED}
"""How the run goes on from a loop."""


def every_type(api_url: str, called: str) -> dict[str, Any]:
    """Draw one node of every type that runs, in a row: what ends a run is last.

    UTILITY_FAIL is in the workflow that is `called`, as nothing could come after it here.
    """
    configs = {
        **CONFIGS,
        "ACTION_HTTP_REQUEST": {"url": f"{api_url}/healthz"},
        "ACTION_START_WORKFLOW": {"workflowId": called, "wait": True, "onChildFailure": "continue"},
    }
    end = "UTILITY_END"
    names = [n for n, each in nodes.types().items() if not each.never_runs and each.kind() != "trigger"]
    order = [name for name in names if name not in (end, "UTILITY_FAIL")] + [end]
    parts, last_id, way = [FORM], "form", None
    for name in order:
        drawn = node(name.lower(), name, name.title(), **configs.get(name, nodes.types()[name].example))
        row = rounds(drawn)
        parts += [*row["nodes"], *row["edges"], edge(last_id, row["nodes"][0]["id"], way)]
        last_id, way = drawn["id"], ONWARD.get(name)
    return graph(*parts)


def rounds(drawn: dict[str, Any]) -> dict[str, Any]:
    """Draw a node and, if it is a loop, what it repeats: behind the head of a list, before a jump."""
    name, body = drawn["type"], REPEATED.get(drawn["type"], ())
    if name != "LOGIC_FOR_EACH":
        return chain(*body, drawn)
    back = edge(body[-1]["id"], drawn["id"])
    return graph(drawn, *body, *chain(*body)["edges"], edge(drawn["id"], body[0]["id"], EACH), back)


def failing() -> dict[str, Any]:
    """Draw a workflow to be called that fails."""
    fail = node("fail", "UTILITY_FAIL", "Fail", **nodes.types()["UTILITY_FAIL"].example)
    return chain(node("hand", "TRIGGER_MANUAL", "By hand"), fail)
