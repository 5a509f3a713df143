"""Days, moments, spans and weekdays."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows import moments

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2026-03-31T09:00:00Z", datetime(2026, 3, 31, 9, tzinfo=UTC)),
        ("2026-03-31 09:00", datetime(2026, 3, 31, 7, tzinfo=UTC)),
        ("2026-03-31T09:00:00.123456+02:00", datetime(2026, 3, 31, 7, tzinfo=UTC)),
        ("Tue, 31 Mar 2026 09:00:00 +0000", datetime(2026, 3, 31, 9, tzinfo=UTC)),
        (1774947600, datetime(2026, 3, 31, 9, tzinfo=UTC)),
        (1774947600000, datetime(2026, 3, 31, 9, tzinfo=UTC)),
        ("now", NOW),
    ],
)
def test_a_moment_is_read_in_its_zone(written, meant):
    found = moments.moment_in(written, now=NOW, zone=BERLIN)
    assert found is not None
    assert found.at == meant
    assert not found.whole_day


def test_a_day_is_a_whole_day_in_the_zone():
    found = moments.moment_in("2026-03-31", now=NOW, zone=BERLIN)
    assert found is not None
    assert (found.day, found.whole_day) == (date(2026, 3, 31), True)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "soon",
        "2026-02-30",
        "31.03.2026",
        "20260331",
        "0000-01-01",
        "2026-13-01",
        True,
        None,
        1e300,
        float("nan"),
    ],
)
def test_what_is_no_date_gives_none(written):
    assert moments.moment_in(written, now=NOW, zone=UTC) is None


@pytest.mark.parametrize(
    ("written", "span"),
    [
        ("P7D", moments.Span(days=7)),
        ("P1Y2M", moments.Span(months=14)),
        ("P2W", moments.Span(days=14)),
        ("PT1H30M", moments.Span(seconds=5400)),
        ("-P1D", moments.Span(days=-1)),
        ({"days": 7}, moments.Span(days=7)),
        ({"hours": 1, "minutes": 30}, moments.Span(seconds=5400)),
    ],
)
def test_a_duration_is_read(written, span):
    assert moments.span_in(written) == span


@pytest.mark.parametrize(
    "written", ["", "P", "PT", "7 days", "P1.5D", {}, {"days": "7"}, {"day": 1}, "P9999Y", 7, None]
)
def test_what_is_no_duration_gives_none(written):
    assert moments.span_in(written) is None


def test_a_day_later_keeps_the_wall_clock_over_a_clock_change_and_a_month_keeps_to_its_end():
    before_change = datetime(2026, 3, 28, 9, tzinfo=BERLIN)
    assert moments.Span(days=1).after(before_change).hour == 9
    assert moments.Span(seconds=86400).after(before_change).hour == 10
    assert moments.Span(months=1).after(datetime(2026, 1, 31, tzinfo=UTC)).date() == date(2026, 2, 28)


@pytest.mark.parametrize(("written", "day"), [("mon", 1), ("Sunday", 7), (3, 3), ("tu", 2), ("7", 7)])
def test_a_weekday_is_read(written, day):
    assert moments.weekday_in(written) == day


@pytest.mark.parametrize("written", ["", "someday", 0, 8, True, None, "t"])
def test_what_is_no_weekday_gives_none(written):
    assert moments.weekday_in(written) is None


@pytest.mark.parametrize(
    "name", ["../etc/passwd", "/etc/localtime", "Europe", "Nowhere/City", "", "a" * 300, "a\x00b"]
)
def test_a_name_that_is_no_zone_gives_utc(name):
    assert moments.zone_named(name) is None
    assert moments.zone_or_utc(name) is UTC


@given(st.text() | st.floats() | st.integers() | st.text(alphabet="0123456789-:TZ+. PDMYW", max_size=40))
def test_reading_anything_never_raises(value):
    moments.moment_in(value, now=NOW, zone=BERLIN)
    moments.span_in(value)
    moments.weekday_in(value)
