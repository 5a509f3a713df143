"""LOGIC_DELAY works out the moment at which the run goes on."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from tests.workflows.nodes.conftest import NOW
from workflows.nodes.logic_delay import Config, Delay
from workflows.nodetype import Refused, Situation


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("duration", "wake_at"),
    [
        ("PT90M", "2026-01-31T13:30"),
        ("P3D", "2026-02-03T12:00"),
        ("P1W", "2026-02-07T12:00"),
        ("P1M", "2026-02-28T12:00"),
        ("P1M1DT1H", "2026-03-01T13:00"),
        ("PT0S", "2026-01-31T12:00"),
    ],
)
def test_a_duration_follows_calendar_and_clock(decide, duration, wake_at):
    outcome = decide(Delay, {"duration": duration}, now=utc("2026-01-31T12:00"))
    assert outcome.wake_at == utc(wake_at)
    assert outcome.handles == ("default",)


@pytest.mark.parametrize(
    ("duration", "wake_at"),
    [("P1D", "2026-03-29T10:00"), ("PT24H", "2026-03-29T11:00")],
)
def test_days_keep_the_wall_clock_and_hours_do_not(decide, duration, wake_at):
    config = {"duration": duration, "timezone": "Europe/Berlin"}
    assert decide(Delay, config, now=utc("2026-03-28T11:00")).wake_at == utc(wake_at)


@pytest.mark.parametrize(
    ("now", "wake_at"),
    [("2026-03-07T17:00", "2026-03-08T16:00"), ("2026-10-31T16:00", "2026-11-01T17:00")],
)
@pytest.mark.parametrize("config", [{"duration": "P1D"}, {"mode": "local_time", "localTime": "12:00"}])
def test_noon_tomorrow_is_noon_where_the_lead_lives_whichever_way_its_clocks_change(
    decide, config, now, wake_at
):
    outcome = decide(Delay, config, now=utc(now), zone="America/New_York")
    assert outcome.wake_at == utc(wake_at)


@pytest.mark.parametrize(
    "duration", ["P-1D", "-P1D", "1 day", "-1", "P11Y", "P3653D", "PT999999999S", "P", ""]
)
def test_a_bad_duration_is_refused_when_saved(duration):
    with pytest.raises(ValidationError):
        Config.model_validate({"duration": duration})


@pytest.mark.parametrize(
    ("rendered", "type_"),
    [("-P1D", "negative_delay"), ("P4000D", "delay_too_long"), ("PxD", "bad_duration")],
)
def test_a_duration_that_a_template_gives_is_judged_by_the_step(rendered: str, type_: str):
    assert Config.model_validate({"duration": "P{{ trigger.days }}D"}).duration
    config = Config.model_construct(mode="duration", duration=rendered, timezone=None)
    with pytest.raises(Refused) as refused:
        Delay.decide(Situation(config, {}, NOW, "UTC"))
    assert refused.value.type == type_


@pytest.mark.parametrize("name", ["Mars/Olympus", "../etc", "/etc/passwd", ""])
def test_a_bad_time_zone_is_refused_when_saved(name):
    with pytest.raises(ValidationError) as refused:
        Config.model_validate({"duration": "P1D", "timezone": name})
    assert refused.value.errors()[0]["type"] == "unknown_timezone"


@pytest.mark.parametrize(
    "config",
    [
        {"mode": "duration"},
        {"mode": "local_time"},
        {"mode": "local_time", "localTime": "25:00"},
        {"mode": "local_time", "localTime": "9:00"},
        {"mode": "local_time", "localTime": "09:00", "weekdays": ["x"]},
    ],
)
def test_a_mode_needs_its_fields(config):
    with pytest.raises(ValidationError):
        Config.model_validate(config)


@pytest.mark.parametrize(
    ("until", "wake_at"),
    [
        ("2026-03-05T09:00:00Z", "2026-03-05T09:00"),
        ("2026-03-05T09:00:00+02:00", "2026-03-05T07:00"),
        ("2026-03-05T09:00:00", "2026-03-05T14:00"),
        ("2026-03-05", "2026-03-05T05:00"),
    ],
)
def test_until_reads_moments_and_days_in_the_zone(decide, until, wake_at):
    outcome = decide(Delay, {"mode": "until", "until": until}, zone="America/New_York")
    assert outcome.wake_at == utc(wake_at)


@pytest.mark.parametrize(("if_past", "handles"), [("continue", ("default",)), ("skip", ())])
def test_a_moment_that_is_past_is_not_waited_for(decide, if_past, handles):
    outcome = decide(Delay, {"mode": "until", "until": "2020-01-01", "ifPast": if_past})
    assert outcome.wake_at is None
    assert outcome.handles == handles
    assert outcome.output["reason"] == "past"


@pytest.mark.parametrize("until", [None, "", "  "])
def test_a_missing_moment_fails_or_is_passed_over(decide, until):
    with pytest.raises(Refused) as refused:
        decide(Delay, {"mode": "until", "until": until})
    assert refused.value.type == "missing_moment"
    outcome = decide(Delay, {"mode": "until", "until": until, "ifMissing": "skip"})
    assert outcome.wake_at is None
    assert outcome.handles == ("default",)


@pytest.mark.parametrize(("until", "type_"), [("soon", "bad_moment"), ("2099-01-01", "delay_too_long")])
def test_a_moment_out_of_reach_is_refused(decide, until, type_):
    with pytest.raises(Refused) as refused:
        decide(Delay, {"mode": "until", "until": until})
    assert refused.value.type == type_


@pytest.mark.parametrize(
    ("config", "wake_at"),
    [
        ({"localTime": "13:00"}, "2026-03-02T13:00"),
        ({"localTime": "12:00"}, "2026-03-03T12:00"),
        ({"localTime": "09:30"}, "2026-03-03T09:30"),
        ({"localTime": "09:30", "weekdays": ["mon"]}, "2026-03-09T09:30"),
        ({"localTime": "13:00", "weekdays": [1]}, "2026-03-02T13:00"),
        ({"localTime": "09:30", "weekdays": ["sat", "Sunday"]}, "2026-03-07T09:30"),
        ({"localTime": "09:30", "timezone": "Asia/Tokyo"}, "2026-03-03T00:30"),
    ],
)
def test_a_time_of_day_is_the_next_one_allowed(decide, config, wake_at):
    assert decide(Delay, {"mode": "local_time", **config}).wake_at == utc(wake_at)


def test_the_leads_zone_counts_where_the_node_names_none(decide):
    outcome = decide(Delay, {"mode": "local_time", "localTime": "09:00"}, zone="America/New_York")
    assert outcome.wake_at == utc("2026-03-02T14:00")


@pytest.mark.parametrize(
    ("now", "local_time", "wake_at"),
    [
        # 29 March 2026: 02:00 to 03:00 does not exist in Berlin.
        ("2026-03-28T12:00", "02:30", "2026-03-29T01:30"),
        ("2026-03-29T01:30", "02:30", "2026-03-30T00:30"),
        # 25 October 2026: 02:00 to 03:00 comes twice; the first counts, and once a day is enough.
        ("2026-10-24T12:00", "02:30", "2026-10-25T00:30"),
        ("2026-10-25T00:30", "02:30", "2026-10-26T01:30"),
        ("2026-10-25T01:00", "02:30", "2026-10-26T01:30"),
    ],
)
def test_a_change_of_clocks_neither_loses_nor_doubles_a_day(decide, now, local_time, wake_at):
    config = {"mode": "local_time", "localTime": local_time, "timezone": "Europe/Berlin"}
    assert decide(Delay, config, now=utc(now)).wake_at == utc(wake_at)
