"""The graph that the faults are done to: several nodes, two mails, two webhooks, naps where asked for."""

from typing import Any

from tests.e2e.graphs import chain, node
from tests.faults.machine import EVENT

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
