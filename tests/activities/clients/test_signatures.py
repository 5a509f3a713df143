"""Webhook signatures: byte-equal to the published ones, verified by the receivers' own libraries."""

import json
import random
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from typing import Any

import pytest
import standardwebhooks
import svix.webhooks
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from activities.clients import http, signatures
from activities.clients.signatures import InvalidSecret

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ED25519 = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
VECTORS = [
    (
        SECRET,
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
        "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    ),
    (
        "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD",
        "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        1649367553,
        b'{"email":"test@example.com","username":"test_user"}',
        "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
    ),
    (
        ED25519,
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
        "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
    ),
]


@pytest.mark.parametrize(("secret", "message_id", "timestamp", "body", "signature"), VECTORS)
def test_the_published_signatures_are_reproduced(secret, message_id, timestamp, body, signature):
    """W1: byte-equal."""
    assert signatures.sign([secret], message_id, timestamp, body) == signature


def payloads() -> Iterator[bytes]:
    chance = random.Random(20261123)
    alphabet = 'aé名🎉"\\\n\t\u2028 0'
    yield from (b"{}", b"[]", json.dumps({"a": "x" * 20_000}).encode(), json.dumps("y" * 1_048_574).encode())
    for number in range(996):
        text = "".join(chance.choices(alphabet, k=chance.randrange(200)))
        yield json.dumps({"n": number, "text": text}, ensure_ascii=number % 2 == 0).encode()


def test_a_thousand_payloads_verify_with_the_receivers_libraries():
    """W2: by the Standard Webhooks and the Svix library."""
    secret, now = signatures.generate(), int(time.time())
    oracles: list[Any] = [standardwebhooks.Webhook(secret), svix.webhooks.Webhook(secret)]
    verified = 0
    for number, body in enumerate(payloads()):
        headers = signatures.headers(f"msg_{number}", now, body, secrets=[secret])
        for oracle in oracles:
            oracle.verify(body, headers)
            verified += 1
    assert verified == 2000


def test_a_changed_body_id_or_time_does_not_verify():
    secret, now = signatures.generate(), int(time.time())
    headers = signatures.headers("msg_1", now, b"{}", secrets=[secret])
    for changed, body in [
        (headers, b"{ }"),
        ({**headers, "webhook-id": "msg_2"}, b"{}"),
        ({**headers, "webhook-timestamp": str(now + 1)}, b"{}"),
    ]:
        with pytest.raises(standardwebhooks.WebhookVerificationError):
            standardwebhooks.Webhook(secret).verify(body, changed)


def test_during_a_rotation_both_secrets_verify_and_afterwards_only_the_new():
    """W4: a receiver on the old or the new secret accepts the same message."""
    old, new, now = signatures.generate(), signatures.generate(), int(time.time())
    both = signatures.headers("msg_1", now, b"{}", secrets=[new, old])
    for secret in (old, new):
        standardwebhooks.Webhook(secret).verify(b"{}", both)
    alone = signatures.headers("msg_1", now, b"{}", secrets=[new])
    standardwebhooks.Webhook(new).verify(b"{}", alone)
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(old).verify(b"{}", alone)


def test_an_ed25519_signature_verifies_with_the_public_key():
    private = signatures.generate_private()
    public = signatures.public_key(private)
    assert public.startswith("whpk_")
    scheme, _, encoded = signatures.sign([private], "msg_1", 5, b"{}").partition(",")
    assert scheme == "v1a"
    key = Ed25519PublicKey.from_public_bytes(b64decode(public.removeprefix("whpk_")))
    key.verify(b64decode(encoded), b"msg_1.5.{}")


def test_both_schemes_stand_in_one_header_that_may_be_sent():
    secrets = [signatures.generate() for _ in range(10)] + [ED25519]
    signature = signatures.sign(secrets, "msg_1", 5, b"{}")
    assert [part.partition(",")[0] for part in signature.split(" ")] == ["v1"] * 10 + ["v1a"]
    http.check_headers({"x-test": signature})


def test_a_generated_secret_has_32_random_bytes():
    made = {signatures.generate() for _ in range(100)}
    assert len(made) == 100
    for secret in made:
        assert len(b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
        assert signatures.imported(secret) == secret


def encoded(length: int) -> str:
    return b64encode(b"k" * length).decode()


@pytest.mark.parametrize("length", [24, 25, 32, 64])
def test_an_imported_secret_has_24_to_64_bytes(length):
    assert signatures.imported(f"whsec_{encoded(length)}") == f"whsec_{encoded(length)}"
    assert signatures.imported(encoded(length)) == f"whsec_{encoded(length)}"


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        " ",
        f"whsec_{encoded(1)}",
        f"whsec_{encoded(23)}",
        f"whsec_{encoded(65)}",
        f"whsec_{encoded(32)[:-1]}",
        f"whsec_{encoded(32)}=",
        f"whsec_{encoded(32)}\n",
        f" whsec_{encoded(32)}",
        f"whsec_ {encoded(32)}",
        f"whsec_{encoded(32)[:10]}!{encoded(32)[10:]}",
        "whsec_" + b64encode(b"\xff" * 32).decode().replace("/", "_"),
        f"whsec_{encoded(25)[:-3]}h==",
        "whsec_ü" + encoded(32),
        f"whsk_{encoded(31)}",
        f"whsk_{encoded(64)}",
        f"whpk_{encoded(32)}",
        ED25519[:-4],
    ],
)
def test_a_weak_or_malformed_secret_is_refused(secret):
    """W3: strictly base64, of a sensible length, a key pair that belongs together."""
    with pytest.raises(InvalidSecret):
        signatures.imported(secret)
    with pytest.raises(InvalidSecret):
        signatures.sign([secret], "msg_1", 5, b"{}")


@pytest.mark.parametrize("message_id", ["", "a.b", "a b", "a\n", "a\r\nx: y", "a\x00", "ü", "a" * 257])
def test_an_id_that_could_forge_the_signed_text_is_refused(message_id):
    with pytest.raises(ValueError, match="message id"):
        signatures.sign([SECRET], message_id, 5, b"{}")


@pytest.mark.parametrize("secrets", [[], [SECRET] * 12])
def test_a_message_is_signed_by_one_to_eleven_secrets(secrets):
    with pytest.raises(InvalidSecret):
        signatures.sign(secrets, "msg_1", 5, b"{}")
