"""How every node's activity runs: render, act, weigh the edges, measure; one translation of errors."""

from dataclasses import replace
from typing import Any

import pytest
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.steps import Steps
from db.session import Database
from local import ports
from tests.activities.conftest import Stage
from workflows import nodes
from workflows.messages import EdgeRule
from workflows.run import UNTOUCHED

pytestmark = pytest.mark.anyio

RICH = {"field": "budget", "operator": ">=", "value": 5000}


def names(steps: Steps, queue: str | None) -> set[str | None]:
    """Name the activities that a queue's worker carries out."""
    return {activity._Definition.must_from_callable(run).name for run in steps.activities(queue)}


async def test_every_node_that_runs_has_its_activity(stage: Stage):
    steps = Steps(stage.world)
    local, mail, webhooks = names(steps, None), names(steps, "mail"), names(steps, "webhooks")
    runs = {t.name for t in nodes.types().values() if not (t.passes or t.never_runs)}
    assert local | mail | webhooks | names(steps, "http") == runs | {UNTOUCHED}
    assert mail == {"ACTION_SEND_EMAIL", "ACTION_NOTIFY_TEAM", "LOGIC_APPROVAL"}
    assert webhooks == {"ACTION_DELIVER_WEBHOOK"}
    assert "ACTION_SEND_EMAIL" in local


async def test_a_logic_node_is_rendered_decided_and_recorded(stage: Stage):
    outcome = await stage.run("UTILITY_LOG", {"message": "Budget is {{ trigger.budget }}", "data": [1]})
    assert outcome.input == {"level": "INFO", "message": "Budget is $5000", "data": [1]}
    assert outcome.log[0].message == "Budget is $5000"
    assert outcome.ms > 0


async def test_the_config_all_nodes_share_is_not_recorded(stage: Stage):
    config = {"message": "x", "notes": "secret", "retry": {"maxAttempts": 2}, "saveAs": "a"}
    assert (await stage.run("UTILITY_LOG", config)).input == {"level": "INFO", "message": "x", "data": None}


async def test_a_condition_reads_bare_fields_from_trigger_and_lead(stage: Stage):
    assert (await stage.run("LOGIC_CONDITION", {"condition": RICH})).handles == ("condition_true",)
    stage.trigger = {}
    assert (await stage.run("LOGIC_CONDITION", {"condition": RICH})).handles == ("condition_true",)
    rule = {"field": "first_name", "operator": "equals", "value": "Grace"}
    assert (await stage.run("LOGIC_CONDITION", {"condition": rule})).handles == ("condition_false",)


async def test_rules_on_edges_may_name_the_steps_own_output(stage: Stage):
    def on_edge(edge_id: str, value: int) -> EdgeRule:
        rule = {"field": "steps.n1.score", "operator": "=", "value": value}
        return EdgeRule(edge_id=edge_id, handle=None, rule=rule)

    config = {"assignments": {"score": 10}}
    edges = (on_edge("ten", 10), on_edge("eleven", 11))
    outcome = await stage.run("UTILITY_SET_VARIABLES", config, edges=edges)
    assert outcome.conditions == {"ten": True, "eleven": False}


async def test_a_malformed_rule_on_an_edge_fails_the_step(stage: Stage):
    edges = (EdgeRule(edge_id="e1", handle=None, rule={"field": "x", "operator": "resembles"}),)
    failure = await stage.fail("UTILITY_LOG", {"message": "x"}, edges=edges)
    assert (failure.type, failure.non_retryable) == ("bad_condition", True)
    assert "e1" in failure.message


async def test_a_passing_node_with_rules_on_its_edges_is_weighed(stage: Stage):
    edges = (EdgeRule(edge_id="e1", handle="default", rule=RICH),)
    given = await stage.given("TRIGGER_MANUAL", {}, edges=edges, trigger={"budget": 9000}, load_lead=True)
    given = given.model_copy(update={"scope": {"trigger": {"budget": 9000}}})
    weighing = next(
        run
        for run in Steps(stage.world).activities(None)
        if activity._Definition.must_from_callable(run).name == UNTOUCHED
    )
    outcome = await ActivityEnvironment().run(weighing, given)
    assert outcome.output == {"budget": 9000}
    assert outcome.conditions == {"e1": True}


async def test_a_missing_value_names_itself_and_its_field(stage: Stage):
    failure = await stage.fail("UTILITY_LOG", {"message": "{{ lead.nickname }}"})
    assert (failure.type, failure.non_retryable) == ("template_error", True)
    assert "message" in failure.message
    assert "lead.nickname" in failure.message


async def test_a_delay_until_a_missing_moment_may_be_passed_over(stage: Stage):
    config = {"mode": "until", "until": "{{ lead.fields.meeting }}"}
    assert (await stage.fail("LOGIC_DELAY", config)).type == "missing_moment"
    outcome = await stage.run("LOGIC_DELAY", {**config, "ifMissing": "skip"})
    assert outcome.wake_at is None
    assert outcome.handles == ("default",)


async def test_a_delay_counts_in_the_leads_zone_as_it_is_after_a_sleep(stage: Stage):
    config = {"mode": "until", "until": "2030-01-01T09:00:00 {{ lead.name | slice: 0, 0 }}"}
    await stage.change_lead(timezone="Asia/Tokyo")
    outcome = await stage.run("LOGIC_DELAY", config, load_lead=True)
    assert outcome.output["until"] == "2030-01-01T00:00:00Z"


async def test_utility_fail_is_final(stage: Stage):
    failure = await stage.fail("UTILITY_FAIL", {"message": "No offer for {{ lead.name }}"})
    assert (failure.type, failure.message, failure.non_retryable) == (
        "failed_by_node",
        "No offer for Ada",
        True,
    )


async def test_a_step_reads_the_lead_again_after_a_sleep(stage: Stage):
    given = await stage.given("UTILITY_LOG", {"message": "{{ lead.first_name }}"})
    await stage.change_lead(first_name="Grace")
    config, scope = dict(given.node.config), given.scope
    assert (await stage.run("UTILITY_LOG", config, scope=scope)).input["message"] == "Ada"
    fresh = await stage.run("UTILITY_LOG", config, scope=scope, load_lead=True)
    assert fresh.input["message"] == "Grace"
    assert fresh.lead["first_name"] == "Grace"


@pytest.mark.parametrize(
    ("data", "type_"), [(["y" * 20_000] * 8, "input_too_large"), (float("nan"), "output_not_json")]
)
async def test_what_history_must_not_hold_is_refused(stage: Stage, data: Any, type_: str):
    failure = await stage.fail("UTILITY_LOG", {"message": "x", "data": data})
    assert (failure.type, failure.non_retryable) == (type_, True)


async def test_a_payload_too_large_posts_nothing(stage: Stage):
    failure = await stage.fail("ACTION_DELIVER_WEBHOOK", {"eventType": "x", "payload": ["y" * 20_000] * 8})
    assert failure.type == "input_too_large"
    assert await stage.effects() == {}


@pytest.mark.parametrize(
    ("allowed", "first_attempt", "attempt", "is_final"),
    [(5, 1, 1, False), (5, 1, 5, True), (1, 1, 1, True), (3, 2, 1, False), (3, 2, 2, True)],
)
async def test_the_nodes_own_retry_decides_which_attempt_is_the_last(
    stage: Stage, allowed: int, first_attempt: int, attempt: int, is_final: bool
):
    failure = await stage.fail(
        "ACTION_ADD_LEAD_EVENT",
        {"eventType": "X", "retry": {"maxAttempts": allowed}},
        workspace_id=stage.place.user_id,
        first_attempt=first_attempt,
        attempt=attempt,
        load_lead=False,
    )
    assert failure.type in ("error", "lead_gone")
    if failure.type == "error":
        assert failure.non_retryable == is_final


async def test_an_outage_of_ours_uses_up_no_attempts(stage: Stage):
    away = Database(f"postgresql://nobody@127.0.0.1:{ports.free()}/nowhere")
    world = replace(stage.world, database=away)
    config = {"eventType": "X", "retry": {"maxAttempts": 1}}
    given = await stage.given("ACTION_ADD_LEAD_EVENT", config)
    with pytest.raises(ApplicationError) as failure:
        await stage.run("ACTION_ADD_LEAD_EVENT", config, world=world, scope=given.scope, attempt=50)
    assert (failure.value.type, failure.value.non_retryable) == ("database_unavailable", False)
    assert "127.0.0.1" not in failure.value.message
    await away.close()


async def test_templates_are_rendered_in_nested_parts_and_rules_are_left_to_the_node(stage: Stage):
    cases = [{"id": "a", "label": "{{ x }}", "condition": RICH}]
    outcome = await stage.run("LOGIC_SWITCH", {"cases": cases})
    assert outcome.input["cases"] == cases
    assert outcome.handles == ("case_a",)


async def test_a_template_that_fails_names_its_place(stage: Stage):
    config = {"url": "x", "headers": {"X-Name": "{{ lead.nickname }}"}}
    failure = await stage.fail("ACTION_HTTP_REQUEST", config)
    assert failure.type == "template_error"
    assert failure.message.startswith("headers: lead.nickname")


async def test_a_decision_knows_whom_it_is_made_for(stage: Stage):
    config = {"variants": [{"id": "a"}, {"id": "b"}]}
    first = await stage.run("LOGIC_SPLIT", config)
    assert first.output["sticky_by"] == "lead"
    again = await stage.run("LOGIC_SPLIT", config, execution_id=stage.place.user_id)
    assert again.handles == first.handles
    assert (await stage.run("LOGIC_SPLIT", config, lead_id=None)).output["sticky_by"] == "execution"
