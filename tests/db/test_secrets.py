"""K1: a sealed secret opens where it was put and nowhere else."""

import os
from typing import Any
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from db import secrets

KEY = bytes(range(32))
PLACE: dict[str, Any] = {
    "table": "oauth_credentials",
    "column": "access_token_sealed",
    "row_id": UUID(int=1),
    "workspace_id": UUID(int=2),
}


def test_what_is_sealed_can_be_opened_in_its_place():
    for plaintext in (b"", b"token", os.urandom(10_000)):
        assert secrets.open_(secrets.seal(plaintext, key=KEY, **PLACE), key=KEY, **PLACE) == plaintext


def test_the_same_secret_is_never_sealed_the_same_way():
    assert len({secrets.seal(b"token", key=KEY, **PLACE) for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "moved",
    [
        {"table": "webhook_endpoints"},
        {"column": "refresh_token_sealed"},
        {"row_id": uuid7()},
        {"workspace_id": uuid7()},
    ],
    ids=lambda moved: next(iter(moved)),
)
def test_a_moved_secret_stays_shut(moved: dict[str, Any]):
    sealed = secrets.seal(b"token", key=KEY, **PLACE)
    with pytest.raises(secrets.Unopenable):
        secrets.open_(sealed, key=KEY, **{**PLACE, **moved})


def test_a_changed_secret_stays_shut_whatever_byte_is_changed():
    sealed = secrets.seal(b"token", key=KEY, **PLACE)
    for place in range(len(sealed)):
        flipped = sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
        with pytest.raises(secrets.Unopenable):
            secrets.open_(flipped, key=KEY, **PLACE)


def test_a_cut_secret_stays_shut_at_any_length():
    sealed = secrets.seal(b"token", key=KEY, **PLACE)
    for length in range(len(sealed)):
        with pytest.raises(secrets.Unopenable):
            secrets.open_(sealed[:length], key=KEY, **PLACE)


def test_the_nonce_of_another_sealing_does_not_fit():
    first, second = (secrets.seal(b"token", key=KEY, **PLACE) for _ in range(2))
    start, end = secrets.HEADER_BYTES, secrets.HEADER_BYTES + secrets.NONCE_BYTES
    with pytest.raises(secrets.Unopenable):
        secrets.open_(first[:start] + second[start:end] + first[end:], key=KEY, **PLACE)


def test_an_unknown_key_or_format_opens_nothing():
    sealed = secrets.seal(b"token", key=KEY, **PLACE)
    with pytest.raises(secrets.Unopenable):
        secrets.open_(sealed, key=os.urandom(32), **PLACE)
    with pytest.raises(secrets.Unopenable):
        secrets.open_(b"\x02" + sealed[1:], key=KEY, **PLACE)


def test_after_a_rotation_old_secrets_open_and_new_ones_use_the_new_key():
    new = os.urandom(32)
    old_sealed = secrets.seal(b"token", key=KEY, **PLACE)
    assert secrets.open_(old_sealed, key=[new, KEY], **PLACE) == b"token"
    assert not secrets.is_current(old_sealed, key=[new, KEY])
    sealed = secrets.seal(b"token", key=[new, KEY], **PLACE)
    assert secrets.is_current(sealed, key=[new, KEY])
    assert secrets.open_(sealed, key=new, **PLACE) == b"token"


@pytest.mark.parametrize("key", [b"", b"short", bytes(31), []], ids=repr)
def test_a_key_that_is_no_key_is_refused(key: Any):
    with pytest.raises(ValueError, match="32 bytes"):
        secrets.seal(b"token", key=key, **PLACE)


def test_the_failure_does_not_tell_the_secret():
    sealed = secrets.seal(b"token-in-the-clear", key=KEY, **PLACE)
    with pytest.raises(secrets.Unopenable) as refused:
        secrets.open_(sealed[:-1], key=KEY, **PLACE)
    assert "token-in" not in str(refused.value)
