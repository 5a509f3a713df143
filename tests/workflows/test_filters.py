"""FlowTrack's own filters, and those of Liquid's that it replaces."""

import contextlib
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflows import templates
from workflows.templates import TemplateError

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)  # a Friday


def render(source: str, html: bool = False, **trigger: Any) -> str:
    return templates.render(source, {"trigger": trigger}, html=html, now=NOW, zone="Europe/Berlin")


MADE = [
    ("{{ 5000 | currency }}", "$5,000.00"),
    ("{{ '$10000+' | currency: 'EUR' }}", "€10,000.00"),
    ("{{ 1234.5 | currency: 'EUR', 'de_DE' }}", "1.234,50\u00a0€"),
    ("{{ 1234567.891 | number }}", "1,234,567.891"),
    ("{{ 1234.565 | number: 2 }}", "1,234.57"),
    ("{{ '5 000' | number: 0, 'de-DE' }}", "5.000"),
    ("{{ 0.256 | percent }}", "26%"),
    ("{{ 0.256 | percent: 1 }}", "25.6%"),
    ("{{ '25%' | percent }}", "25%"),
    ("{{ '5551234567' | phone }}", "(555) 123-4567"),
    ("{{ '+1 555.123.4567' | phone }}", "+1 (555) 123-4567"),
    ("{{ '+49 (30) 123456' | phone }}", "+49 30 123456"),
    ("{{ 'call me' | phone }}", "call me"),
    ("{{ 'Ada Lovelace' | first_name }}", "Ada"),
    ("{{ 'Lovelace, Ada' | first_name }}", "Ada"),
    ("{{ 'ada.l@example.com' | first_name }}", "Ada"),
    ("{{ 'Ada@Example.com' | email_domain }}", "example.com"),
    ("{{ 'nobody' | email_domain }}", ""),
    ("{{ 'Ärger & Co. KG' | slugify }}", "arger-co-kg"),
    ("{{ now }}", "2026-11-20T13:00:00+01:00"),
    ("{{ today }}", "2026-11-20"),
    ("{{ 'now' | date: '%Y-%m-%d %H:%M' }}", "2026-11-20 13:00"),
    ("{{ now | date: '%-d %B %Y, %-I %p' }}", "20 November 2026, 1 PM"),
    ("{{ '2026-03-05' | date: '%A %_d %^b %% %Q' }}", "Thursday  5 MAR % %Q"),
    ("{{ 0 | date: '%s' }}", "0"),
    ("{{ 'soon' | date: '%Y' }}", "soon"),
    ("{{ '2026-01-31' | date_add: 1, 'month' }}", "2026-02-28"),
    ("{{ '2026-01-31' | date_add: 'P1W' }}", "2026-02-07"),
    ("{{ '2026-01-31' | date_add: -1 }}", "2026-01-30"),
    ("{{ now | date_add: 2, 'hours' }}", "2026-11-20T15:00:00+01:00"),
    ("{{ 'today' | business_days_add: 1 }}", "2026-11-23"),
    ("{{ 'today' | business_days_add: -5 }}", "2026-11-13"),
    ("{{ '2026-11-21' | business_days_add: 0 }}", "2026-11-21"),
    ("{{ trigger.list | json }}", '[1, "é", null, {"a": true}]'),
    ("{{ trigger.known | json }}", "null"),
    ("{{ trigger.list | first }}", "1"),
    ("{{ 'a,b,a' | split: ',' | uniq | join: '-' }}", "a-b"),
    ("{{ '$5,4' | split: ',' | sum }}", "9"),
    ("{{ trigger.rows | map: 'n' | join: '+' }}", "1+2"),
    ("{{ trigger.rows | sum: 'n' }}", "3"),
    ("{{ trigger.rows | where: 'n', 2 | size }}", "1"),
    ("{{ '<p>a<script>x</script><!-- c -->b</p>' | strip_html }}", "ab"),
    ("{{ '1 < 2' | strip_html }}", "1 < 2"),
    ("{{ 4 | times: 2.5 | plus: 1 }}", "11.0"),
    ("{{ trigger.nothing | default: 'none' | upcase }}", "NONE"),
]


@pytest.mark.parametrize(("source", "text"), MADE)
def test_a_filter_makes_its_text(source, text):
    data: dict[str, Any] = {"list": [1, "é", None, {"a": True}], "known": None, "rows": [{"n": 1}, {"n": 2}]}
    assert render(source, **data) == text


REFUSED = [
    "{{ 'abc' | currency }}",
    "{{ 5 | currency: 'euro' }}",
    "{{ 5 | currency: 'EUR', 'xx_YY_zz' }}",
    "{{ 5 | number: 11 }}",
    "{{ '1e99' | currency }}",
    "{{ 'soon' | date_add: 1 }}",
    "{{ now | date_add: 1, 'fortnight' }}",
    "{{ now | date_add: 'a while' }}",
    "{{ now | date_add: 9999, 'years' }}",
    "{{ now | business_days_add: 10001 }}",
    "{{ now | business_days_add: 'x' }}",
    "{{ '9999-12-31' | business_days_add: 5 }}",
    "{{ 5 | divided_by: 0 }}",
    "{{ 5 | currency: 'EUR', 'de', 1, 2 }}",
    "{{ 'a' | map: 'b' }}",
]


@pytest.mark.parametrize("source", REFUSED)
def test_what_a_filter_cannot_do_is_an_error_with_its_place(source):
    with pytest.raises(TemplateError) as caught:
        render(source)
    assert caught.value.line == 1
    assert caught.value.message


def test_markup_does_not_pass_through_filters_unescaped():
    answer = "<script>"
    assert "<script>" not in render("{{ trigger.a | json }}", html=True, a=answer)
    assert render("{{ trigger.a | append: '<br>' }}", html=True, a=answer) == "&lt;script&gt;<br>"
    assert render("{{ 'x' | replace: 'x', trigger.a }}", html=True, a=answer) == "&lt;script&gt;"
    assert "<script>" not in render("{{ trigger.a | url_encode | url_decode }}", html=True, a=answer)
    assert "<script>" not in render("{{ trigger.a | base64_encode | base64_decode }}", html=True, a=answer)
    assert "<script>" not in render("{{ trigger.l | join: '<br>' }}", html=True, l=[answer])
    assert "<script>" not in render("{{ trigger.l }}", html=True, l=[answer])


@given(start=st.dates(date(2000, 1, 1), date(2100, 1, 1)), count=st.integers(-60, 60))
def test_business_days_count_mondays_to_fridays(start, count):
    end = date.fromisoformat(render("{{ trigger.s | business_days_add: trigger.n }}", s=str(start), n=count))
    low, high = min(start, end), max(start, end)
    passed = [low + timedelta(days=day) for day in range((high - low).days + 1)]
    working = [day for day in passed if day.weekday() < 5 and day != start]
    assert len(working) == abs(count)
    assert count == 0 or end.weekday() < 5


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
NAMES = sorted(templates.filters())


@settings(max_examples=400, deadline=1500)
@given(name=st.sampled_from(NAMES), left=ANY, arguments=st.lists(ANY, max_size=2), html=st.booleans())
def test_any_filter_on_any_data_gives_text_or_a_template_error(name, left, arguments, html):
    given_names = [f"trigger.a[{place}]" for place in range(len(arguments))]
    source = f"{{{{ trigger.left | {name}{':' if arguments else ''} {', '.join(given_names)} }}}}"
    with contextlib.suppress(TemplateError):
        assert isinstance(render(source, html=html, left=left, a=arguments), str)
