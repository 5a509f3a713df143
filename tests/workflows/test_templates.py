"""Rendering: strict, plain, escaped, bounded, and never twice."""

import contextlib
import json
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from workflows import conditions, templates
from workflows.templates import TemplateError

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SCOPE = {
    "lead": {
        "name": "Ada <b>",
        "first_name": "Ada",
        "phone": None,
        "fields": {"budget": "$5000"},
        "tags": ["x"],
    },
    "trigger": {"a": "{{ secrets.key }}", "b": "${7*7}", "n": 5, "f": 1.5, "t": True},
    "steps": {"ask": {"rows": [{"p": 1}, {"p": 2}], "object": {"k": 1}, "nobody": []}},
}


def render(source: str, scope: Any = SCOPE, html: bool = False) -> str:
    return templates.render(source, scope, html=html, now=NOW, zone="UTC")


def render_value(value: Any, scope: Any = SCOPE, html: bool = False) -> Any:
    return templates.render_value(value, scope, html=html, now=NOW, zone="UTC")


def failure(source: str, scope: Any = SCOPE, html: bool = False) -> TemplateError:
    with pytest.raises(TemplateError) as caught:
        render(source, scope, html)
    return caught.value


RENDERED = [
    ("", ""),
    ("no template { here }", "no template { here }"),
    ("Hi {{ lead.first_name }}!", "Hi Ada!"),
    ("{{ lead.fields.budget }}", "$5000"),
    ("{{ lead['fields']['budget'] }}", "$5000"),
    ("{{ steps.ask.rows[1].p }}", "2"),
    ("{{ steps.ask.rows.size }}", "2"),
    ("{{ trigger.t }}", "true"),
    ("{{ steps.ask.object }}", '{"k": 1}'),
    ("{% for row in steps.ask.rows %}{{ forloop.index }}:{{ row.p }} {% endfor %}", "1:1 2:2 "),
    ("{% for x in steps.ask.nobody %}a{% else %}none{% endfor %}", "none"),
    ("{% if lead.phone %}a{% else %}b{% endif %}", "b"),
    ("{% if lead.nowhere.at.all %}a{% else %}b{% endif %}", "b"),
    ("{% if lead.phone == nil %}a{% endif %}", "a"),
    ("{% if lead.nowhere > 3 or lead.nowhere contains 'x' %}a{% else %}b{% endif %}", "b"),
    ("{% for x in lead.nowhere %}a{% endfor %}b", "b"),
    ("{{ lead.phone | default: 'none' }}", "none"),
    ("{% assign x = lead.nowhere | default: 'd' %}{{ x }}", "d"),
    ("{% raw %}{{ lead.name }}{% endraw %}", "{{ lead.name }}"),
    ("{% liquid\n assign x = 1\n echo x\n%}", "1"),
    ("{% case trigger.n %}{% when 5 %}five{% endcase %}", "five"),
    (
        "{% tablerow r in steps.ask.rows %}{{ r.p }}{% endtablerow %}",
        '<tr class="row1">\n<td class="col1">1</td><td class="col2">2</td></tr>\n',
    ),
]


@pytest.mark.parametrize(("source", "text"), RENDERED)
def test_a_template_renders(source, text):
    assert render(source) == text


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("{{ lead.nowhere }}", "lead.nowhere"),
        ("{{ lead.phone }}", "lead.phone"),
        ("{{ lead.name.__class__ }}", "lead.name.__class__"),
        ("{{ a.__class__ }}", "a.__class__"),
        ("{{ lead.__class__.__mro__ }}", "lead.__class__.__mro__"),
        ("{{ steps.ask.rows[9].p }}", "steps.ask.rows.9.p"),
        ("{{ lead.phone | upcase }}", "lead.phone"),
        ("{{ 'a' | append: lead.phone }}", "lead.phone"),
        ("{{ trigger.n | plus: lead.phone }}", "lead.phone"),
        ("{{ lead.phone | default: lead.mobile }}", "lead.mobile"),
        ("{% echo lead.phone %}", "lead.phone"),
        ("{% assign x = lead.phone %}{{ x }}", "lead.phone"),
        ("{{ lead[lead.phone] }}", "lead.phone"),
        ("{{ lead.nowhere | json }}", "lead.nowhere"),
        ("{{ secrets.key }}", "secrets.key"),
    ],
)
def test_printing_what_is_missing_is_an_error_that_names_it(source, missing):
    error = failure(source)
    assert (error.code, error.missing) == ("template_missing_value", missing)
    assert missing in error.message


def test_an_error_has_its_line_and_column():
    error = failure("Dear\n  {{ lead.nowhere }}")
    assert (error.line, error.column) == (2, 6)
    error = failure("a\n{{ lead.name | nofilter }}")
    assert (error.code, error.line, error.column) == ("template_unknown_filter", 2, 16)


@pytest.mark.parametrize(
    "value", [object(), Decimal(1), NOW, b"x", {1, 2}, [object()], {"a": {"b": object()}}, print]
)
def test_what_is_no_plain_data_is_refused(value):
    for source in (
        "{{ lead.x }}",
        "{{ lead.x | json }}",
        "{{ lead.x.a }}x",
        "{% assign y = lead.x %}{{ y }}",
    ):
        assert failure(source, {"lead": {"x": value}}).code in {
            "template_not_plain",
            "template_missing_value",
        }
    with pytest.raises(TemplateError):
        render_value("{{ lead.x }}", {"lead": {"x": value}})


def test_a_key_that_is_a_word_of_the_language_is_reached_by_brackets():
    assert "['limit']" in failure("{{ trigger.limit }}").message
    assert render("{{ trigger['limit'] }}", {"trigger": {"limit": 5}}) == "5"


def test_a_value_is_never_rendered_again():
    assert render("{{ trigger.a }} {{ trigger.b }}") == "{{ secrets.key }} ${7*7}"
    assert render_value(["{{ trigger.a }}", "x{{ trigger.a }}"]) == [
        "{{ secrets.key }}",
        "x{{ secrets.key }}",
    ]


def test_html_escapes_values_and_keeps_the_authors_markup():
    assert render("<i>{{ lead.name }}</i>", html=True) == "<i>Ada &lt;b&gt;</i>"
    assert (
        render("{% capture x %}<i>{{ lead.name }}</i>{% endcapture %}{{ x }}", html=True)
        == "<i>Ada &lt;b&gt;</i>"
    )
    assert render("<i>{{ lead.name }}</i>") == "<i>Ada <b></i>"
    assert failure("{{ lead.name | safe }}", html=True).code == "template_unknown_filter"


@pytest.mark.parametrize(
    "tag", ["include 'x'", "render 'x'", "extends 'x'", "layout 'x'", "macro 'x'", "import 'x'"]
)
def test_nothing_loads_another_template(tag):
    assert failure(f"{{% {tag} %}}").code == "template_syntax"


def test_render_value_renders_every_string_and_keeps_lone_values_typed():
    config = {
        "to": "{{ lead.first_name }}",
        "n": "{{ trigger.n }}",
        "o": ["{{ steps.ask.object }}", 5, None, True],
    }
    assert render_value(config) == {"to": "Ada", "n": 5, "o": [{"k": 1}, 5, None, True]}
    assert render_value(" {{ trigger.n }}") == " 5"
    assert render_value("{{ trigger.f | plus: 1 }}") == "2.5"
    assert render_value("{{ trigger.t }}") is True


def test_render_value_escapes_lone_text_that_goes_into_html():
    assert render_value("{{ lead.name }}", html=True) == "Ada &lt;b&gt;"
    assert render_value("{{ trigger.n }}", html=True) == 5


def test_render_value_names_what_is_missing_too():
    with pytest.raises(TemplateError) as caught:
        render_value({"a": ["{{ lead.phone }}"]})
    assert caught.value.missing == "lead.phone"


def test_render_value_bounds_depth_and_size():
    deep: Any = "x"
    for _ in range(40):
        deep = [deep]
    for value in (deep, ["{{ trigger.big }}"] * 20):
        with pytest.raises(TemplateError) as caught:
            render_value(value, {"trigger": {"big": "x" * 60_000}})
        assert caught.value.code == "template_limit"


def test_a_template_names_the_paths_it_reads():
    value = {
        "a": "{{ lead.fields['budget'] }}{{ steps[trigger.key].out }}{{ lead.fields.size }}",
        "b": ["{% for i in steps.a.rows %}{{ i.name }}{{ forloop.index }}{% endfor %}", 5],
        "c": "{% assign z = vars.q %}{{ z.r }}{{ now | date: '%Y' }}{{ trigger['a.b'] }}",
        "d": "{{ steps.x.rows[0].p }}",
        "e": "{% if",
    }
    assert templates.reads(value) == {
        "lead.fields",
        "lead.fields.budget",
        "steps",
        "trigger.key",
        "steps.a.rows",
        "vars.q",
        "trigger",
        "steps.x.rows.0.p",
    }


def test_a_scope_that_one_branch_assigns_over_is_still_read():
    assert templates.reads("{% if vars.x %}{% assign lead = vars.x %}{% endif %}{{ lead.name }}") == {
        "vars.x",
        "lead.name",
    }


@pytest.mark.parametrize(
    ("source", "code", "place"),
    [
        ("{{ lead.name", "template_syntax", (1, 1)),
        ("{% if lead.name %}", "template_syntax", None),
        ("a\n{{ lead.name | upcas }}", "template_unknown_filter", (2, 16)),
        ("{{ leed.name }}", "template_unknown_variable", (1, 4)),
        ("x" * 40_000, "template_too_large", None),
        ("{% render 'a' %}", "template_syntax", (1, 4)),
    ],
)
def test_problems_are_found_before_anything_runs(source, code, place):
    (problem,) = templates.problems(source)
    assert problem.code == code
    assert place is None or (problem.line, problem.column) == place


def test_a_sound_template_has_no_problems():
    assert (
        templates.problems(
            "{% for i in steps.a.b %}{{ i.c | currency }}{{ now }}{{ links.unsubscribe }}{% endfor %}"
        )
        == []
    )


LOOP, END = "{% for i in (1..10000) %}", "{% endfor %}"
HOSTILE = {
    "chained replace": "{{ trigger.x | replace: 'x', trigger.x | replace: 'x', trigger.x }}",
    "nested loops": LOOP * 5 + "a" + END * 5,
    "loops in a row": (LOOP + "a" + END) * 700,
    "empty nested loops": LOOP * 2 + END * 2,
    "range of 10^9": "{% for i in (1..1000000000) %}a{% endfor %}",
    "range of 10^9 reversed": "{% for i in (1..1000000000) reversed %}a{% endfor %}",
    "range of 10^9 from its end": "{% for i in (1..1000000000) offset: 999999999 %}a{% endfor %}",
    "range by data": "{% for i in (1..trigger.n) %}a{% endfor %}",
    "joined range": "{{ (1..1000000000) | join: ',' }}",
    "assigned range": "{% assign r = (1..1000000000) %}{{ r | reverse | first }}",
    "table of 10^9": "{% tablerow i in (1..1000000000) %}a{% endtablerow %}",
    "doubling append": "{% assign a = trigger.x %}" + "{% assign a = a | append: a %}" * 40,
    "doubling concat": "{% assign a = trigger.list %}" + "{% assign a = a | concat: a %}" * 40,
    "doubling capture": "{% assign a = trigger.x %}" + "{% capture a %}{{ a }}{{ a }}{% endcapture %}" * 40,
    "600 deep if": "{% if true %}" * 600 + "x" + "{% endif %}" * 600,
    "squares": "{{ 9999999999" + " | times: 9999999999" * 1000 + " }}",
    "assigned squares": "{% assign a = 99 %}" + "{% assign a = a | times: a %}" * 200,
    "integer of 5000 digits": "{{ " + "9" * 5000 + " }}",
    "text of 5000 digits": "{{ '" + "9" * 5000 + "' | plus: 1 }}",
    "spaces, never closed": "{{" + " " * 32_000 + "x",
    "spaces, closed": "{{" + " " * 32_000 + "}}",
    "spaces in a tag": "{% if" + " " * 32_000 + "%}",
    "raw, never closed": "{% raw %}" * 3_500,
    "doc, never closed": "{% doc %}" * 3_500,
    "comments, never closed": "{% comment %}" * 2_500,
    "braces": "{{" * 16_000,
    "brackets": "{{ a" + "['b" * 8_000 + " }}",
    "parentheses": "{{ " + "(" * 32_000 + " }}",
    "brackets in brackets": "{{ " + "a[" * 10_000 + "]" * 10_000 + " }}",
    "quotes": "{{ '" + "'\"'" * 8_000 + " }}",
    "long path": "{{ a" + ".b" * 15_000 + " }}",
    "long or": "{% if " + " or ".join(["1 == 2"] * 2_500) + " %}{% endif %}",
    "long or in a loop": LOOP + "{% if " + " or ".join(["1 == 2"] * 200) + " %}{% endif %}" + END,
    "filters in a loop": LOOP + "{{ trigger.text | upcase | downcase | size }}" + END,
    "contains in a loop": LOOP + "{% if trigger.text contains 'zzz' %}{% endif %}" + END,
    "deep equality in a loop": LOOP + "{% if trigger.rows == trigger.others %}{% endif %}" + END,
    "unique": "{{ trigger.list | uniq | size }}" * 500,
    "sort in a loop": LOOP + "{% assign a = trigger.rows | sort: 'a' | size %}" + END,
    "where in a loop": LOOP + "{% assign a = trigger.rows | where: 'a', 'zz' %}" + END,
    "sums": "{{ trigger.rows | sum: 'a' }}" * 800,
    "split to characters": "{{ trigger.text | split: '' | size }}",
    "join by a long text": "{{ trigger.list | join: trigger.x }}",
    "tags to strip in a loop": LOOP + "{{ trigger.html | strip_html | size }}" + END,
    "deep data": "{{ trigger.deep | json }}",
    "deep data in a loop": "{% for a in trigger.deep %}{{ a }}{% endfor %}",
    "assigns in a loop": LOOP + "".join(f"{{% assign v{i} = 1 %}}" for i in range(1200)) + END,
    "captures in a loop": LOOP + "{% capture x %}" + "z" * 20_000 + "{% endcapture %}" + END,
    "flood of output": LOOP + "z" * 1000 + END,
    "flood of values": "{{ trigger.x }}" * 2000,
    "liquid in liquid": "{% liquid " + "liquid " * 4000 + "%}",
    "cycle in a loop": LOOP + "{% cycle " + ",".join(["'a'"] * 3000) + " %}" + END,
    "dates in a loop": LOOP + "{{ 'now' | date: '%Y%m%d%H%M%S%j%A%B' }}" + END,
    "business days in a loop": LOOP + "{{ 'now' | business_days_add: 10000 }}" + END,
    "decimals": "{{ 1 | number: 100000000 }}",
    "base64 of base64": "{{ trigger.x" + " | base64_encode" * 1500 + " }}",
    "json of json": "{{ trigger.x" + " | json" * 1000 + " }}",
    "escape of escape": "{{ trigger.html | escape | escape | escape }}",
    "prepend": "{{ trigger.x" + " | prepend: trigger.x" * 1400 + " }}",
    "no class": "{{ trigger.x.__class__.__base__.__subclasses__ }}",
}


def heavy_scope() -> dict[str, Any]:
    deep: list[Any] = []
    inner = deep
    for _ in range(5_000):
        inner.append([])
        inner = inner[0]
    rows = [{"a": str(number)} for number in range(8_000)]
    return {
        "trigger": {
            "x": "x" * 1_000,
            "text": "a" * 200_000,
            "html": "<" * 60_000,
            "list": list(range(9_000)),
            "rows": rows,
            "others": json.loads(json.dumps(rows)),
            "n": 10**9,
            "deep": deep,
        }
    }


@pytest.fixture(scope="module")
def hostile_scope():
    return heavy_scope()


@pytest.mark.parametrize("html", [False, True], ids=["text", "html"])
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_ends_soon_as_an_error(name, html, hostile_scope, within):
    with within(1.5):
        error = failure(HOSTILE[name], hostile_scope, html)
    assert error.message


@pytest.mark.parametrize("name", HOSTILE)
def test_checking_a_hostile_template_ends_soon(name, within):
    with within(1.5):
        templates.problems(HOSTILE[name])
        templates.reads(HOSTILE[name])


def test_there_are_more_than_40_hostile_templates():
    assert len(HOSTILE) >= 40


def test_hostile_templates_stay_under_64_megabytes():
    program = (
        "import resource, sys\n"
        "from tests.workflows import test_templates as t\n"
        "scope = t.heavy_scope()\n"
        "t.render('{{ trigger.n }}', scope)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for source in t.HOSTILE.values():\n"
        "    with t.contextlib.suppress(t.TemplateError): t.render(source, scope)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    grown = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert int(grown) < 64 * 1024


def test_rendering_needs_no_clock():
    assert (
        render("{{ now | date: '%Y' }} {{ 'today' | date: '%F' }} {{ today }}")
        == "2026 2026-11-23 2026-11-23"
    )


def test_the_scopes_of_templates_and_conditions_are_one_list():
    assert {"lead", "trigger", "steps", "vars", "workspace", "loop"} <= conditions.SCOPES


PIECES = [
    "{{",
    "}}",
    "{%",
    "%}",
    "lead",
    ".",
    "name",
    "|",
    "if",
    "endif",
    "for",
    "in",
    "endfor",
    "assign",
    "=",
    "[",
    "]",
]
PIECES += [
    "(1..3)",
    "'",
    '"',
    " ",
    "x",
    "1",
    ":",
    ",",
    "default",
    "upcase",
    "raw",
    "endraw",
    "liquid",
    "\n",
    "-",
    "case",
]
SOURCES = st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=25).map(" ".join)


@settings(max_examples=500, deadline=1500)
@example("{{ lead.name | default: }}")
@example("{%- for a in lead -%}{{ a }}{%- endfor -%}")
@given(SOURCES)
def test_any_source_renders_or_is_a_template_error(source):
    for html in (False, True):
        with contextlib.suppress(TemplateError):
            assert isinstance(render(source, html=html), str)
    templates.reads(source)
    templates.problems(source)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=1500)
@given(JSON)
def test_a_lone_path_gives_back_what_the_scope_holds(value):
    if value is None or (isinstance(value, int) and value.bit_length() > 1024):
        with pytest.raises(TemplateError):
            render_value("{{ trigger.x }}", {"trigger": {"x": value}})
        return
    assert render_value("{{ trigger.x }}", {"trigger": {"x": value}}) is value


@given(st.text(max_size=200))
def test_text_in_html_never_opens_a_tag(text):
    made = render("{{ trigger.x }}{{ trigger.x | upcase }}", {"trigger": {"x": text}}, html=True)
    assert not set(made) & set("<>\"'")
