"""The small pure parts: strict JSON, cursors, ETags, render tokens, and which answers are the lead's own."""

import json
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import errors, etags, strictjson, submissions, tokens
from api.auth import SCOPES, Caller
from api.cursors import Cursors, Window
from api.deps import Config
from workflows.fields import Field, FieldType

KEY = bytes(32)
ONE, TWO = UUID(int=1), UUID(int=2)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])), inner, max_size=4
        )
    ),
    max_leaves=20,
)


@given(values)
def test_what_can_be_stored_is_read_as_it_was_written(value: Any):
    for ascii_only in (True, False):
        written = json.dumps(value, ensure_ascii=ascii_only).encode()
        assert strictjson.loads(written, max_depth=64) == value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes):
    with suppress(errors.Malformed, errors.Invalid):
        strictjson.loads(body, max_depth=8)


def test_a_cursor_opens_only_where_it_was_made():
    def cursors(workspace: UUID = ONE, path: str = "/v1/leads", key: bytes = KEY, **window: Any) -> Cursors:
        config = Config(master_key=key)
        return Cursors(config, Caller(workspace, frozenset()), path, Window(**window))

    made = cursors().seal(ONE)
    assert cursors(cursor=made).position(UUID) == ONE
    assert cursors(cursor=made, limit=3).position(UUID) == ONE
    assert cursors().position(UUID) is None
    others: list[dict[str, Any]] = [{"workspace": TWO}, {"path": "/v1/workflows"}, {"key": bytes(31) + b"1"}]
    for other in others:
        with pytest.raises(errors.InvalidCursor):
            cursors(cursor=made, **other).position(UUID)
    with pytest.raises(errors.InvalidCursor):
        cursors(cursor=made).pair(int, UUID)


@given(st.text(max_size=80))
def test_any_other_text_is_no_cursor(text: str):
    with pytest.raises(errors.InvalidCursor):
        Cursors(Config(master_key=KEY), Caller(ONE, frozenset()), "/", Window(cursor=text)).position(UUID)


@pytest.mark.parametrize(("header", "version"), [('"7"', 7), ("*", None), (' "7" ', 7)])
def test_if_match_names_one_version(header: str, version: int | None):
    assert etags.required(header) == version


@pytest.mark.parametrize("header", ['W/"7"', "7", '"x"', '"1", "2"', '"٧"', '"-1"', '"' + "9" * 30 + '"'])
def test_any_other_if_match_is_stale(header: str):
    with pytest.raises(errors.StaleVersion):
        etags.required(header)


def test_if_none_match_compares_weakly():
    assert etags.is_known('"6", W/"7"', 7)
    assert etags.is_known("*", 7)
    assert not etags.is_known('"17"', 7)
    assert not etags.is_known(None, 7)


def test_a_render_token_lives_a_day_for_one_form():
    token = tokens.issue(KEY, ONE, now=1_000_000)
    assert tokens.read(KEY, ONE, token, now=1_000_000) == tokens.read(KEY, ONE, token, now=1_080_000)
    for key, form, now in (
        (KEY, TWO, 1_000_000),
        (bytes(31) + b"1", ONE, 1_000_000),
        (KEY, ONE, 1_086_401),
        (KEY, ONE, 999_000),
    ):
        with pytest.raises(errors.RenderTokenRefused):
            tokens.read(key, form, token, now=now)
    assert tokens.issue(KEY, ONE) != tokens.issue(KEY, ONE)


@given(st.text(max_size=60))
def test_any_other_text_is_no_render_token(text: str):
    with pytest.raises(errors.RenderTokenRefused):
        tokens.read(KEY, ONE, text)


def test_answers_named_like_the_lead_s_columns_are_its_own():
    email = Field(field_key="contact", field_type=FieldType.EMAIL)
    other = Field(field_key="email", field_type=FieldType.EMAIL)
    answers = {
        "contact": "a@x.org",
        "email": "b@x.org",
        "name": "Ada King Lovelace",
        "timezone": "Europe/Paris",
    }
    assert submissions.lead_columns([email, other], answers) == {
        "email": "b@x.org",
        "first_name": "Ada",
        "last_name": "King Lovelace",
        "timezone": "Europe/Paris",
    }
    assert submissions.lead_columns([email], {"contact": "a@x.org", "timezone": "../etc"}) == {
        "email": "a@x.org"
    }
    assert submissions.lead_columns([email], {"first_name": "Ada", "name": "A B"}) == {"first_name": "Ada"}


def test_a_write_scope_reads_and_a_star_does_everything():
    assert Caller(ONE, frozenset({"leads:write"})).may("leads:read")
    assert not Caller(ONE, frozenset({"leads:read"})).may("leads:write")
    assert not Caller(ONE, frozenset({"leads:*"})).may("workflows:read")
    assert all(Caller(ONE, frozenset({"*"})).may(scope) for scope in SCOPES)
    assert not any(Caller(ONE, frozenset()).may(scope) for scope in SCOPES)
