"""The imagined world's pure rules: times of a script, what becomes of a lead."""

from datetime import UTC, datetime, timedelta

import pytest

from workflows import simulation

START = datetime(2027, 1, 31, 9, tzinfo=UTC)
ADA = simulation.lead_scope(
    {"email": "ada@example.com", "fields": {"budget": "1"}}, id_="1", workflow_id="2", now=START
)


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("+2d", timedelta(days=2)),
        ("2d", timedelta(days=2)),
        ("+1w1d2h3m4s", timedelta(days=8, hours=2, minutes=3, seconds=4)),
        ("P2D", timedelta(days=2)),
        ("+PT90M", timedelta(minutes=90)),
        ("P1M", timedelta(days=28)),
        ("+0s", timedelta(0)),
    ],
)
def test_a_scripted_time_is_read(text: str, after: timedelta):
    assert simulation.offset_in(text, START) == after


@pytest.mark.parametrize("text", ["", "+", "soon", "2", "-2d", "P", "-P2D", "+2d2d", "2d 3h", "٢d"])
def test_what_is_no_time_is_refused(text: str):
    assert simulation.offset_in(text, START) is None


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(days=14, seconds=2.4), "P14D"),
        (timedelta(days=1, hours=2, minutes=3), "P1DT2H3M"),
        (timedelta(seconds=59), "PT1M"),
        (timedelta(seconds=1), "PT0S"),
    ],
)
def test_a_length_of_time_is_written_to_the_minute(length: timedelta, text: str):
    assert simulation.duration(length) == text


def test_a_changed_lead_has_its_new_name_and_keeps_its_other_answers():
    lead = simulation.changed(ADA, {"first_name": "Ada", "fields": {"city": "London"}})
    assert (lead["name"], lead["fields"]) == ("Ada", {"budget": "1", "city": "London"})
    assert ADA["name"] == "ada"


def test_two_branches_that_change_a_lead_keep_what_each_of_them_wrote():
    one = simulation.with_event(simulation.changed(ADA, {"company": "Engines"}), "LEAD_UPDATED")
    other = simulation.changed(ADA, {"status": "WON", "fields": {"budget": "2"}})
    both = simulation.meeting(one, ADA, simulation.with_event(other, "STATUS_CHANGED"))
    assert (both["company"], both["status"], both["fields"]) == ("Engines", "WON", {"budget": "2"})
    assert both["events"] == ["LEAD_UPDATED", "STATUS_CHANGED"]
