"""What a simulation is asked with is held against what a run can bear: its worker would try for ever."""

from datetime import UTC, datetime
from typing import Any

import pytest

from api.simulation.given import SimulationGiven, wrong_events
from workflows.graph import Graph


@pytest.mark.parametrize(
    ("lead", "place"),
    [
        ({"first_name": 5}, "/first_name"),
        ({"email": None}, "/email"),
        ({"fields": [1]}, "/fields"),
        ({"colour": "red"}, "/colour"),
        ({"timezone": "Mars"}, ""),
        ({"last_name": None, "fields": {"budget": 5}}, None),
    ],
)
def test_what_an_event_makes_of_the_lead_is_a_lead(lead: dict[str, Any], place: str | None):
    event = {"at": "+1d", "type": "PAID", "lead": lead}
    wrong = wrong_events(
        SimulationGiven.model_validate({"events": [event]}), Graph(nodes=(), edges=()), datetime.now(UTC)
    )
    assert [each.pointer for each in wrong] == ([] if place is None else [f"/events/0/lead{place}"])
