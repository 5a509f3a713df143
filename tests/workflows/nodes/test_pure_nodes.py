"""Triggers, merges and utilities: what they hand on."""

import pytest
from pydantic import ValidationError

from workflows import nodes
from workflows.nodes import logic_merge, trigger_form, utility_end, utility_fail, utility_set_variables
from workflows.nodetype import Refused

INPUTS = {"left": {"a": 1}, "right": None}


@pytest.mark.parametrize("name", ["TRIGGER_FORM", "TRIGGER_MANUAL"])
def test_a_trigger_hands_its_data_on(name):
    node_type = nodes.types()[name]
    outcome = node_type.pass_through(node_type.Config(), {"budget": 5}, {})
    assert outcome.output == {"budget": 5}


@pytest.mark.parametrize(
    ("combine", "output"), [("by_branch", INPUTS), ("list", [{"a": 1}, None]), ("first", {"a": 1})]
)
def test_a_merge_combines_what_arrived(combine, output):
    config = logic_merge.Config(combine=combine)
    assert logic_merge.Merge.pass_through(config, {}, INPUTS).output == output


@pytest.mark.parametrize("mode", ["any_live", "all", "first"])
def test_a_merge_joins_as_its_mode_says(mode):
    assert logic_merge.Merge.join(logic_merge.Config(mode=mode, join_mode="all")) == mode


def test_variables_keep_their_types(decide):
    assigned = {"score": 10, "tags": ["a"], "name": "Ada"}
    outcome = decide(utility_set_variables.SetVariables, {"assignments": assigned})
    assert outcome.vars == assigned
    assert outcome.output == assigned


@pytest.mark.parametrize("assignments", [{}, {"1st": 1}, {"a b": 1}, {"a.b": 1}, {"": 1}])
def test_a_variable_needs_a_name(assignments):
    with pytest.raises(ValidationError):
        utility_set_variables.Config(assignments=assignments)


def test_an_end_leaves_by_no_handle_and_says_how_the_run_ended(decide):
    outcome = decide(utility_end.End, {"outcome": "qualified", "output": {"budget": 5}})
    assert outcome.handles == ()
    assert outcome.ending is not None
    assert (outcome.ending.outcome, outcome.ending.output) == ("qualified", {"budget": 5})


@pytest.mark.parametrize("outcome", ["", "  ", "x" * 101])
def test_an_end_needs_an_outcome(decide, outcome):
    with pytest.raises(Refused):
        decide(utility_end.End, {"outcome": outcome})


def test_a_failure_carries_its_message_and_obeys_no_on_error(decide):
    with pytest.raises(Refused) as refused:
        decide(utility_fail.Fail, {"message": "No offer"})
    assert (refused.value.type, refused.value.message) == ("failed_by_node", "No offer")
    assert not utility_fail.Fail.recovers


def test_a_note_never_runs():
    assert nodes.types()["UTILITY_NOTE"].never_runs


@pytest.mark.parametrize(
    "config",
    [
        {"redirectUrl": "javascript:alert(1)"},
        {"redirectUrl": "//evil.example"},
        {"closesAt": "2026-01-01T00:00:00"},
        {"maxSubmissions": 0},
        {"allowedOrigins": ["https://example.com/path"]},
        {"duplicatePolicy": "whatever"},
        {"surprise": 1},
    ],
)
def test_a_form_refuses_what_it_could_not_honour(config):
    with pytest.raises(ValidationError):
        trigger_form.Config.model_validate(config)


@pytest.mark.parametrize(
    ("config", "type_"),
    [
        ({"provider": "GOOGLE_EMAIL"}, "provider_not_connected"),
        ({"provider": "OUTLOOK_EMAIL"}, "provider_not_connected"),
        ({"trackOpens": True}, "tracking_unavailable"),
        ({"trackClicks": True}, "tracking_unavailable"),
        ({"emailBody": None}, "no_content"),
    ],
)
def test_a_mail_refuses_what_cannot_be_done_yet(config, type_):
    send_email = nodes.types()["ACTION_SEND_EMAIL"]
    with pytest.raises(ValidationError) as refused:
        send_email.Config.model_validate({"emailSubject": "Hi", "emailBody": "<p>Hi</p>", **config})
    assert refused.value.errors()[0]["type"] == type_


@pytest.mark.parametrize(
    ("config", "guarantee"),
    [
        ({}, "at_most_once"),
        ({"messageClass": "transactional"}, "at_least_once"),
        ({"messageClass": "transactional", "deliveryGuarantee": "at_most_once"}, "at_most_once"),
        ({"deliveryGuarantee": "at_least_once"}, "at_least_once"),
    ],
)
def test_a_mails_guarantee_follows_its_class_unless_it_is_chosen(config, guarantee):
    send_email = nodes.types()["ACTION_SEND_EMAIL"]
    read = send_email.Config.model_validate({"emailSubject": "Hi", "emailText": "Hi", **config})
    assert read.guarantee == guarantee  # type: ignore[attr-defined]
