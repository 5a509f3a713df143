"""A link stands for one right of one person, and nobody else can write one."""

from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from activities.clients import links
from activities.clients.links import Decision, Leaving

KEY = bytes(range(32))
HOME = "https://flowtrack.example"
DECISION = Decision(
    workspace_id=UUID(int=1),
    execution_id=UUID(int=2),
    node_id="ask “me”: now",
    visit=3,
    approved=True,
    by="boss@example.com",
    expires_at=datetime(2026, 12, 1, tzinfo=UTC),
)
LEAVING = Leaving(workspace_id=UUID(int=1), lead_id=UUID(int=2))


def token(url: str) -> str:
    return url.rpartition("/")[2]


def test_a_link_is_read_as_it_was_written():
    for decision in (DECISION, replace(DECISION, approved=False, by="link in mail:1")):
        url = links.decision_url(HOME, KEY, decision)
        assert url.startswith(f"{HOME}/a/")
        assert links.read_decision(KEY, token(url)) == decision
    assert links.read_leaving(KEY, token(links.unsubscribe_url(HOME, KEY, LEAVING))) == LEAVING


def test_no_character_of_a_link_can_be_changed():
    written = token(links.decision_url(HOME, KEY, DECISION))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for place, character in enumerate(written):
        other = alphabet[alphabet.index(character) ^ 32]
        assert links.read_decision(KEY, f"{written[:place]}{other}{written[place + 1 :]}") is None


def test_a_link_opens_under_its_own_key_and_for_its_own_purpose_only():
    written = token(links.decision_url(HOME, KEY, DECISION))
    assert links.read_decision(bytes(32), written) is None
    assert links.read_leaving(KEY, written) is None
    assert links.read_decision(KEY, token(links.unsubscribe_url(HOME, KEY, LEAVING))) is None


@given(st.text(max_size=300) | st.binary(max_size=200).map(lambda raw: raw.hex()))
def test_any_other_text_is_no_link(text: str):
    assert links.read_decision(KEY, text) is None
    assert links.read_leaving(KEY, text) is None


@pytest.mark.parametrize("text", ["", "=", "A", "A" * 5000, "é", "\x00"])
def test_nor_is_what_is_no_base64(text: str):
    assert links.read_decision(KEY, text) is None
