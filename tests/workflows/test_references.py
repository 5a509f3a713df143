"""Templates and rules name only what can be there."""

from typing import Any

import pytest

from tests.workflows.documents import START, edge, errors, found, node


@pytest.mark.parametrize(
    ("template", "code"),
    [
        (
            "{{ trigger.budget }} {{ lead.fields.budget }} {{ lead.name | first_name }}"
            " {{ steps.before.data.x }}",
            None,
        ),
        (
            "{{ steps.before }} {{ workspace.id }} {{ execution.id }} {{ now | date: '%Y' }}",
            None,
        ),
        ("{% for x in trigger.budget %}{{ x }}{% endfor %}{% assign y = 1 %}{{ y }}", None),
        ("{{ trigger.bugdet }}", "unknown_form_field"),
        ("{{ lead.fields.bugdet | default: 'x' }}", "unknown_form_field"),
        ("{{ lead.nmae }}", "unknown_reference"),
        ("{{ workspace.owner }}", "unknown_reference"),
        ("{{ steps.nobody.x }}", "unknown_step"),
        ("{{ steps.after.x }}", "step_not_upstream"),
        ("{{ steps.beside.x }}", "step_not_upstream"),
        ("{{ steps.me.x }}", "step_not_upstream"),
        ("{{ user.name }}", "template_unknown_variable"),
        ("{{ lead.name | shout }}", "template_unknown_filter"),
        ("{{ lead.name ", "template_syntax"),
        ("{% if %}", "template_syntax"),
    ],
)
def test_a_template_names_only_what_can_be_there(template: str, code: str | None):
    drawn = (START, node("before"), node("me", message=template), node("after"), node("beside"))
    lines = ("start>before", "before>me", "me>after", "start>beside")
    expected = [] if code is None else [(code, "/nodes/2/data/config/message", "me")]
    assert errors(*drawn, edges=lines) == expected


def test_templates_are_read_wherever_they_stand_in_a_config():
    data = {"list": ["ok", {"deep": "{{ trigger.nothing }}"}]}
    bad = node("a", data=data)
    assert errors(START, bad, edges=("start>a",)) == [
        ("unknown_form_field", "/nodes/1/data/config/data/list/1/deep", "a")
    ]


def test_a_problem_in_a_template_says_line_and_column():
    [problem] = found(START, node("a", message="one\ntwo {{ lead.name | shout }}"), edges=("start>a",))
    assert (problem.line, problem.field) == (2, "message")


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ({"field": "budget", "operator": "exists"}, None),
        ({"field": "email", "operator": "exists"}, None),
        ({"field": "company", "operator": "exists"}, None),
        ({"field": "now", "operator": "exists"}, None),
        ({"operator": "status_in", "value": ["NEW"]}, None),
        ({"field": "steps.if.result", "operator": "is_true"}, None),
        ({"field": "bugdet", "operator": "exists"}, "unknown_field"),
        ({"any": [{"none": [{"field": "trigger.bugdet", "operator": "exists"}]}]}, "unknown_form_field"),
        ({"field": "lead.fields.x", "operator": "exists"}, "unknown_form_field"),
        ({"field": "steps.a.x", "operator": "exists"}, "step_not_upstream"),
    ],
)
def test_a_rule_names_only_what_can_be_there(rule: dict[str, Any], code: str | None):
    drawn = (START, node("if", "LOGIC_CONDITION"), node("a"))
    line = edge("if.condition_true>a", condition=rule)
    expected = [] if code is None else [(code, "/edges/1/data/condition", "if")]
    assert errors(*drawn, edges=("start>if", line)) == expected


def test_what_comes_by_hand_may_be_called_anything():
    drawn = (
        node("start", "TRIGGER_MANUAL"),
        node("a", message="{{ trigger.any.thing }} {{ lead.fields.x }}"),
    )
    assert found(*drawn, edges=("start>a",), fields=()) == []


@pytest.mark.parametrize(
    ("edges", "code"),
    [
        (("start>me", "me>ask"), None),
        (("start>me", "me>between", "between>ask"), None),
        (("start>me", "me>ask", "ask>next"), None),
        (("start>ask", "ask>me"), "no_approval_ahead"),
        (("start>me", "me>between"), "no_approval_ahead"),
        (("start>me", "me>ask", "me>next"), "several_approvals_ahead"),
    ],
)
def test_a_link_to_decide_leads_to_the_one_approval_that_comes_next(edges: tuple[str, ...], code: str | None):
    told = errors(
        START,
        node("me", "ACTION_NOTIFY_TEAM", subject="x", body="{{ links.approve }}"),
        *(node(name) for name in ("between",) if any(name in one for one in edges)),
        *(node(name, "LOGIC_APPROVAL") for name in ("ask", "next") if any(name in one for one in edges)),
        edges=edges,
    )
    assert [one for one in told if "approval" in one[0]] == (
        [(code, "/nodes/1/data/config/body", "me")] if code else []
    )


@pytest.mark.parametrize(
    ("template", "code"),
    [
        ("{{ links.unsubscribe }}", "link_not_sent"),
        ("{{ links.approve }}", "link_not_sent"),
        ("{{ links.aprove }}", "unknown_reference"),
    ],
)
def test_a_link_stands_only_in_what_is_sent(template: str, code: str):
    assert errors(START, node("me", message=template), edges=("start>me",)) == [
        (code, "/nodes/1/data/config/message", "me")
    ]


LOOP = ("start>loop", "loop.each>me", "loop.done>ask")


@pytest.mark.parametrize(
    ("edges", "code"),
    [
        (LOOP, "no_approval_ahead"),
        (("start>me", "me>loop", "loop.each>ask"), "no_approval_ahead"),
        (("start>loop", "loop.each>me", "me>ask"), None),
        ((*LOOP, "me>next"), None),
        (("start>me", "me>loop", "loop.each>next", "loop.done>ask"), None),
    ],
)
def test_a_link_to_decide_stays_in_its_loop(edges: tuple[str, ...], code: str | None):
    told = errors(
        node("start", "TRIGGER_MANUAL"),
        node("me", "ACTION_NOTIFY_TEAM", subject="x", body="{{ links.approve }}"),
        node("loop", "LOGIC_FOR_EACH", items="{{ trigger.items }}"),
        node("ask", "LOGIC_APPROVAL"),
        *(node(name, "LOGIC_APPROVAL") for name in ("next",) if any(name in one for one in edges)),
        edges=edges,
    )
    assert [one[0] for one in told if "approval" in one[0]] == ([code] if code else [])
