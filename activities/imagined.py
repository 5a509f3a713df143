"""What a simulated step knows and changes: the lead that travels with its run instead of a stored one."""

from typing import Any
from uuid import uuid5

from activities.errors import StepFailed
from activities.step import Step
from db.leads import Contact
from db.models import Lead
from workflows import simulation
from workflows.fields import Field
from workflows.graph import step_key
from workflows.simulation import ImaginedStep

COLUMNS = ("email", "first_name", "last_name", "phone", "company", "source", "timezone", "status")


def given(step: Step) -> ImaginedStep:
    """Read what the run told its step beyond what a real one is told."""
    if not isinstance(step.given, ImaginedStep):
        raise TypeError("only a simulated run's step can be imagined")
    return step.given


def lead_of(step: Step) -> dict[str, Any]:
    """Return the lead as it stands; StepFailed says that the run has none."""
    lead = given(step).lead
    if lead is None:
        raise StepFailed("no_lead", "This node needs a lead and the run has none.")
    return dict(lead)


def row_of(step: Step) -> Lead | None:
    """Return the lead as the database would give it, for rules that look at its columns."""
    lead = given(step).lead
    return Lead(**{name: lead.get(name) for name in COLUMNS}) if lead is not None else None


def contact_of(step: Step) -> Contact | None:
    """Return how the lead is reached; an imagined one has neither unsubscribed nor been erased."""
    lead = given(step).lead
    if lead is None:
        return None
    return Contact(email=str(lead.get("email") or ""), has_unsubscribed=False, is_erased=False)


def questions(step: Step) -> dict[str, Field]:
    """Return the form's fields by their keys."""
    return {field.field_key: field for field in given(step).fields}


def after(step: Step, event_type: str, **changes: Any) -> dict[str, Any] | None:
    """Return the lead with what this step changes in it, and with the event that tells of it."""
    lead = given(step).lead
    if lead is None:
        return None
    return simulation.with_event(simulation.changed(lead, changes), event_type)


def id_of(step: Step, what: str) -> str:
    """Name what the step would have made."""
    key = step_key(step.given.node.id, step.given.visit)
    return str(uuid5(step.given.execution_id, f"{key}/{what}"))
