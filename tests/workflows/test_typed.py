"""What templates and rules name is followed as far as it is known: outputs, form, trigger, variables."""

from itertools import pairwise
from typing import Any

import pytest

from tests.workflows.documents import RULE, START, edge, found, node
from workflows import uses, validation
from workflows.questions import Field
from workflows.reactflow import Draft, DraftEdge, DraftNode

FIELDS = [
    Field(field_key=key, field_type=kind)
    for key, kind in (
        ("email", "EMAIL"),
        ("budget", "DROPDOWN"),
        ("seats", "NUMBER"),
        ("news", "CHECKBOX"),
        ("start", "DATE"),
    )
]
MAIL = node("mail", "ACTION_SEND_EMAIL", emailSubject="x", emailText="y")
HTTP = node("http", "ACTION_HTTP_REQUEST", url="https://example.com")
Told = list[tuple[str, str]]


def told(*drawn: dict[str, Any], edges: tuple[Any, ...]) -> Told:
    """Validate; give code and severity."""
    return [(p.code, p.severity) for p in found(*drawn, edges=edges, fields=FIELDS)]


def about(template: str, *before: dict[str, Any], start: dict[str, Any] = START) -> list[Any]:
    """Find what is wrong with a template behind a line of steps."""
    names = [start["id"], *(each["id"] for each in before), "me"]
    lines = tuple(f"{a}>{b}" for a, b in pairwise(names))
    return found(start, *before, node("me", message=template), edges=lines, fields=FIELDS)


@pytest.mark.parametrize(
    ("template", "code", "says"),
    [
        ("{{ steps.mail.message_id }} {{ steps.mail.to[0] }} {{ steps.mail.to.size }}", None, ""),
        ("{{ steps.http.body.any.thing }} {{ steps.http.headers.etag }}", None, ""),
        ("{{ steps.start.budget }} {{ steps.start.seats }}", None, ""),
        ("{{ steps.mail.mesage_id }}", "unknown_output_field", "Did you mean `message_id`?"),
        ("{{ steps.mail.nonsense | default: '' }}", "unknown_output_field", "`message_id`"),
        ("{{ steps.http.status.code }}", "not_an_object", "Use `steps.http.status` itself."),
        ("{{ steps.mail.to.first_one }}", "not_an_object", "Use `steps.mail.to` itself."),
        ("{{ steps.start.bugdet }}", "unknown_output_field", "Did you mean `budget`?"),
        ("{{ trigger.budget.amount }}", "not_an_object", "Use `trigger.budget` itself."),
        ("{{ lead.email.domain }}", "not_an_object", "Use `lead.email` itself."),
        ("{{ lead.fields.seats.x }}", "not_an_object", "Use `lead.fields.seats` itself."),
        ("{{ execution.version.x }}", "not_an_object", "Use `execution.version` itself."),
    ],
)
def test_a_path_is_followed_into_what_the_steps_before_output(template: str, code: str | None, says: str):
    problems = about(template, MAIL, HTTP)
    assert [p.code for p in problems] == ([code] if code else [])
    assert all(says in p.remedy and p.severity == "error" for p in problems)


def test_a_step_that_goes_on_after_its_failure_may_output_its_error():
    careful = node("http", "ACTION_HTTP_REQUEST", url="https://example.com", onError="continue")
    assert about("{{ steps.http.error.message }} {{ steps.http.body.x }}", careful) == []
    assert [p.code for p in about("{{ steps.http.error.message }}", HTTP)] == ["unknown_output_field"]


def test_a_merge_outputs_what_its_branches_do():
    def problems(template: str, **config: Any) -> Told:
        drawn = (START, MAIL, HTTP, node("meet", "LOGIC_MERGE", **config), node("me", message=template))
        lines = ("start>mail", "start>http", "mail>meet", "http>meet", "meet>me")
        return told(*drawn, edges=lines)

    assert problems("{{ steps.meet.mail.message_id }} {{ steps.meet.http.status }}") == []
    assert problems("{{ steps.meet.mial }}") == [("unknown_output_field", "error")]
    assert problems("{{ steps.meet.mail.status.x }}") == [("not_an_object", "error")]
    assert problems("{{ steps.meet[0].status }}", combine="list") == []
    assert problems("{{ steps.meet[0].nothing }}", combine="list") == [("unknown_output_field", "error")]
    assert problems("{{ steps.meet.body }} {{ steps.meet.subject }}", combine="first") == []


def test_awaited_events_are_known_by_their_ids():
    wait = node("wait", "LOGIC_WAIT_FOR_EVENT", events=[{"id": "won", "type": "WON"}], timeout="P1D")
    assert about("{{ steps.wait.events.won.data.any }} {{ steps.wait.timed_out }}", wait) == []
    assert [p.code for p in about("{{ steps.wait.events.lost.at }}", wait)] == ["unknown_output_field"]


def test_variables_are_known_by_who_sets_them():
    given = node("set", "UTILITY_SET_VARIABLES", assignments={"score": 10, "who": "{{ lead.name }}"})
    assert about("{{ vars.score }} {{ vars.who.anything }} {{ steps.set.score }}", given) == []
    assert [p.code for p in about("{{ vars.scroe }}", given)] == ["unknown_variable"]
    assert [p.code for p in about("{{ vars.score.x }}", given)] == ["not_an_object"]
    aside = (START, given, node("me", message="{{ vars.score | default: 0 }}"))
    assert told(*aside, edges=("start>set", "start>me")) == [("variable_not_upstream", "warning")]


# Triggers


SCHEMA = {
    "type": "object",
    "properties": {"order": {"$ref": "#/$defs/order"}, "note": {"type": ["string", "null"]}},
    "additionalProperties": False,
    "$defs": {
        "order": {"type": "object", "properties": {"lines": {"type": "array", "items": {"type": "object"}}}}
    },
}


@pytest.mark.parametrize(
    ("type_", "config", "template", "expected"),
    [
        ("TRIGGER_MANUAL", {}, "{{ trigger.any.thing }}", []),
        (
            "TRIGGER_MANUAL",
            {"inputSchema": SCHEMA},
            "{{ trigger.order.lines[0].x }} {{ trigger.order.own }}",
            [],
        ),
        (
            "TRIGGER_MANUAL",
            {"inputSchema": SCHEMA},
            "{{ trigger.ordre }}",
            [("unknown_trigger_field", "error")],
        ),
        ("TRIGGER_MANUAL", {"inputSchema": SCHEMA}, "{{ trigger.note.x }}", [("not_an_object", "error")]),
        ("TRIGGER_WEBHOOK", {}, "{{ trigger.any.thing }}", []),
        ("TRIGGER_SCHEDULE", {"intervalSeconds": 60}, "{{ trigger.scheduled_at | date: '%Y' }}", []),
        # A run by hand may bring it.
        (
            "TRIGGER_SCHEDULE",
            {"intervalSeconds": 60},
            "{{ trigger.budget }}",
            [("unknown_trigger_field", "warning")],
        ),
        ("TRIGGER_LEAD_CREATED", {}, "{{ trigger.lead_id }} {{ trigger.cause.kind }}", []),
        ("TRIGGER_LEAD_STATUS_CHANGED", {}, "{{ trigger.from }} {{ trigger.to }}", []),
        ("TRIGGER_LEAD_STATUS_CHANGED", {}, "{{ trigger.cause.who }}", [("unknown_reference", "error")]),
    ],
)
def test_what_starts_a_run_is_known_by_its_trigger(
    type_: str, config: dict[str, Any], template: str, expected: Told
):
    problems = about(template, start=node("start", type_, **config))
    assert [(p.code, p.severity) for p in problems] == expected


@pytest.mark.parametrize(
    ("type_", "config", "is_told"),
    [
        ("TRIGGER_SCHEDULE", {"intervalSeconds": 60}, True),
        ("TRIGGER_SCHEDULE", {"intervalSeconds": 60, "leadQuery": {"status": ["NEW"]}}, False),
        ("TRIGGER_WEBHOOK", {}, True),
        ("TRIGGER_WEBHOOK", {"emailPath": "email"}, False),
        ("TRIGGER_MANUAL", {}, False),
    ],
)
def test_who_needs_a_lead_is_told_where_none_comes(type_: str, config: dict[str, Any], is_told: bool):
    start, status = node("start", type_, **config), node("set", "ACTION_SET_LEAD_STATUS", status="WON")
    problems = about("{{ lead.name }} {{ lead.phone | default: '' }}", status, start=start)
    expected = [("no_lead", "/nodes/1/type"), ("no_lead", "/nodes/2/data/config/message")]
    assert [(p.code, p.pointer) for p in problems if p.severity == "warning"] == (expected if is_told else [])


# Steps that may not have run


IF = node("if", "LOGIC_CONDITION", condition={"field": "budget", "operator": "exists"})
HERE = node("me", message="{{ steps.mail.status }}")


@pytest.mark.parametrize(
    ("drawn", "lines", "is_told"),
    [
        pytest.param((IF, MAIL), ("start>if", "if.condition_true>mail", "if>me", "mail>me"), True, id="one"),
        pytest.param((IF, MAIL), ("start>if", "if.condition_true>mail", "mail>me"), False, id="only way"),
        pytest.param((MAIL,), ("start>mail", "start>me", "mail>me"), False, id="beside"),
        pytest.param(
            (MAIL, node("log")), ("start>mail", "start>log", "log>me", "mail>me"), False, id="both branches"
        ),
        pytest.param((MAIL,), ("start>mail", edge("start>me"), "mail.skipped>me"), False, id="by a handle"),
        pytest.param(
            (MAIL, node("log")), ("start>log", edge("log>mail", condition=RULE), "mail>me", "log>me"), True,
            id="behind a rule",
        ),
        pytest.param(
            (MAIL, IF, node("a"), node("b")),
            ("start>mail", "mail>if", "if.condition_true>a", "if.condition_false>b", "a>me", "b>me"),
            False,
            id="before the fork",
        ),
    ],
)  # fmt: skip
def test_a_step_that_may_be_skipped_is_told_where_it_is_printed(
    drawn: tuple[dict[str, Any], ...], lines: tuple[Any, ...], is_told: bool
):
    expected = [("step_may_be_skipped", "warning")] if is_told else []
    assert told(START, *drawn, HERE, edges=lines) == expected


def test_in_a_circle_every_step_may_have_run_before_and_only_those_on_the_way_in_have():
    """The circle itself is told elsewhere, where it is not allowed."""
    drawn = (
        START,
        node("a", message="{{ steps.c.level | default: '' }} {{ steps.d.level | default: '' }}"),
        node("b"),
        node("c", message="{{ steps.b.level }}"),
        node("d", message="{{ steps.c.level }} {{ steps.a.nothing }}"),
    )
    problems = found(*drawn, edges=("start>a", "a>b", "b>c", "c>a", "c>d"), fields=FIELDS)
    assert [(p.code, p.node_id) for p in problems if p.code != "cycle"] == [
        ("step_not_upstream", "a"),
        ("unknown_output_field", "d"),
    ]


def test_circles_without_number_are_gone_round_in_time():
    names = [f"n{number}" for number in range(2_000)]
    nodes = [DraftNode(id="start", type="TRIGGER_FORM")]
    nodes += [DraftNode(id=n, type="UTILITY_LOG", config={"message": "{{ steps.n7.x }}"}) for n in names]
    pairs = [("start", names[0]), *pairwise(names), *((b, a) for a, b in pairwise(names))]
    edges = tuple(DraftEdge(id=f"{a}>{b}", source=a, target=b) for a, b in pairs)
    problems = validation.problems(Draft(nodes=tuple(nodes), edges=edges), FIELDS, publishing=True)
    assert {p.code for p in problems} <= {"cycle", "unknown_output_field"}


@pytest.mark.parametrize(("mode", "is_told"), [("any_live", True), ("first", True), ("all", False)])
def test_what_a_join_waits_for_decides_what_has_run(mode: str, is_told: bool):
    last = node("me", message="{{ steps.mail.status }}", joinMode=mode)
    switch = {
        "cases": [{"id": "a", "condition": {"field": "budget", "operator": "exists"}}],
        "mode": "all_matches",
    }
    drawn = (START, node("if", "LOGIC_SWITCH", **switch), MAIL, node("log"), last)
    lines = ("start>if", "if.case_a>mail", "if.default>log", "mail>me", "log>me")
    assert told(*drawn, edges=lines) == ([("step_may_be_skipped", "warning")] if is_told else [])


@pytest.mark.parametrize(
    "template",
    [
        "{{ steps.mail.status | default: 'none' }}",
        "{% if steps.mail %}{{ steps.mail.status }}{% endif %}",
        "{% for one in steps.mail.to %}{{ one }}{% endfor %}",
    ],
)
def test_what_is_guarded_may_be_skipped(template: str):
    lines = ("start>if", "if.condition_true>mail", "if>me", "mail>me")
    assert told(START, IF, MAIL, node("me", message=template), edges=lines) == []


def test_a_disabled_step_outputs_nothing():
    off = node("mail", "ACTION_SEND_EMAIL", emailSubject="x", emailText="y", disabled=True)
    assert [(p.code, p.severity) for p in about("{{ steps.mail.status }}", off)] == [
        ("step_disabled", "warning")
    ]
    assert about("{{ steps.mail.status | default: '' }}", off) == []


# Kinds


@pytest.mark.parametrize(
    ("rule", "is_told"),
    [
        ({"field": "budget", "operator": ">=", "value": 5000}, False),
        ({"field": "seats", "operator": ">=", "value": 5}, False),
        ({"field": "news", "operator": ">=", "value": 5}, True),
        ({"field": "trigger.start", "operator": "<", "value": 5}, True),
        ({"field": "start", "operator": "before", "value": "2026-01-31"}, False),
        ({"field": "seats", "operator": "before", "value": "2026-01-31"}, True),
        ({"field": "news", "operator": "is_true"}, False),
        ({"field": "news", "operator": "equals", "value": True}, False),
        ({"field": "steps.mail.to", "operator": "is_true"}, True),
        ({"field": "steps.mail.to", "operator": "size_gt", "value": 1}, False),
        ({"field": "steps.mail.subject", "operator": "size_gt", "value": 1}, True),
        ({"field": "steps.mail.to", "operator": "contains", "value": "a@example.com"}, False),
        ({"field": "lead.events", "operator": "has_event", "value": "EMAIL_SENT"}, False),
        ({"operator": "has_event", "value": "EMAIL_SENT"}, False),
        ({"field": "lead.created_at", "operator": "within_last", "value": "P7D"}, False),
        ({"field": "lead.status", "operator": "status_in", "value": ["NEW"]}, False),
        ({"any": [{"field": "news", "operator": "between", "value": [1, 2]}]}, True),
        ({"field": "vars.free", "operator": ">", "value": 1}, False),
        ({"field": "vars.names", "operator": ">", "value": 1}, True),
    ],
)
def test_an_operator_fits_what_it_looks_at(rule: dict[str, Any], is_told: bool):
    given = node("set", "UTILITY_SET_VARIABLES", assignments={"names": ["a"], "free": "{{ lead.name }}"})
    drawn = (START, given, MAIL, node("if", "LOGIC_CONDITION", condition=rule))
    expected = [("operator_mismatch", "warning")] if is_told else []
    assert told(*drawn, edges=("start>set", "set>mail", "mail>if")) == expected


@pytest.mark.parametrize(
    ("path", "is_told"),
    [
        ("steps.mail.to", False),
        ("steps.http.headers", False),
        ("steps.http.body", False),
        ("lead.events", False),
        ("trigger.seats", True),
        ("steps.mail.subject", True),
    ],
)
def test_a_loop_goes_over_a_list(path: str, is_told: bool):
    template = f"{{% for one in {path} %}}{{{{ one }}}}{{% endfor %}}"
    problems = [(p.code, p.severity) for p in about(template, MAIL, HTTP)]
    assert problems == ([("loop_over_no_list", "warning")] if is_told else [])


def test_templates_are_read_for_what_they_print_and_loop_over():
    source = "{{ lead.name }}{{ steps.a.b[0].c | upcase }}{{ steps.d | default: 1 }}"
    source += "{% if x %}{{ vars.e }}{% endif %}"
    assert uses.of(source).printed == {"lead.name", "steps.a.b.0.c"}
    nested = "{% if x %}{% for one in steps.a %}{% for two in one.b %}{% endfor %}{% endfor %}{% endif %}"
    assert uses.of(nested).looped == {"steps.a", "one.b"}
    assert uses.of("{{ broken") == uses.of("plain") == uses.Uses()


def test_thousands_of_merges_of_merges_are_typed_in_time():
    """Each holds all before it twice: written out, the last one's output would have more keys than atoms."""
    names = [f"m{number}" for number in range(3_000)]
    nodes = [DraftNode(id="start", type="TRIGGER_FORM"), DraftNode(id="also", type="LOGIC_MERGE")]
    nodes += [
        DraftNode(id=name, type="LOGIC_MERGE", config={"combine": "first"} if n % 2 else {})
        for n, name in enumerate(names)
    ]
    nodes.append(
        DraftNode(id="end", type="UTILITY_LOG", config={"message": "{{ steps.m2999.x.y.z | default: 1 }}"})
    )
    pairs = [("start", "also"), ("start", "m0"), ("also", "m0"), ("m2999", "end")]
    pairs += [(a, b) for n, b in enumerate(names[2:]) for a in (names[n], names[n + 1])]
    pairs.append(("m0", "m1"))
    edges = tuple(DraftEdge(id=f"{a}>{b}", source=a, target=b) for a, b in pairs)
    codes = {
        p.code for p in validation.problems(Draft(nodes=tuple(nodes), edges=edges), FIELDS, publishing=True)
    }
    assert codes <= {"unknown_output_field", "not_an_object", "step_may_be_skipped"}
