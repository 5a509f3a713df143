"""Standard Webhooks: signing what FlowTrack sends, and the secrets to sign with.

A secret is text with a prefix: `whsec_` for HMAC-SHA256 (v1), `whsk_` for an ed25519 key (v1a)
whose public half, `whpk_`, the receiver gets.
"""

import binascii
import hmac
import re
import secrets as chance
from base64 import b64decode, b64encode
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SHARED, PRIVATE, PUBLIC = "whsec_", "whsk_", "whpk_"
MIN_BYTES, MAX_BYTES = 24, 64
SEED_BYTES = 32
# The current secret and the old ones that a rotation may keep alive.
MAX_SECRETS = 11
# A dot would let id and timestamp trade places in the signed text.
MESSAGE_ID = re.compile(r"[A-Za-z0-9_-]{1,256}")


class InvalidSecret(ValueError):
    """This is not a usable signing secret."""

    code = "invalid_secret"


def generate() -> str:
    """Make a new shared secret."""
    return SHARED + b64encode(chance.token_bytes(SEED_BYTES)).decode("ascii")


def generate_private() -> str:
    """Make a new ed25519 key: seed and public key, as svix writes them."""
    seed = chance.token_bytes(SEED_BYTES)
    return PRIVATE + b64encode(seed + _public(Ed25519PrivateKey.from_private_bytes(seed))).decode("ascii")


def public_key(secret: str) -> str:
    """Name the public key that verifies what a private one signs."""
    return PUBLIC + b64encode(_public(_private(secret))).decode("ascii")


def imported(secret: str) -> str:
    """Check a secret that a tenant brings and return its normal form."""
    if secret.startswith(PRIVATE):
        _private(secret)
        return secret
    _shared(secret)
    return SHARED + secret.removeprefix(SHARED)


def sign(secrets: Sequence[str], message_id: str, timestamp: int, body: bytes) -> str:
    """Sign with every secret in turn: the value of the webhook-signature header."""
    if not MESSAGE_ID.fullmatch(message_id):
        raise ValueError("not a message id that can be signed")
    if not 1 <= len(secrets) <= MAX_SECRETS:
        raise InvalidSecret(f"1 to {MAX_SECRETS} secrets sign a message")
    signed = b"%s.%d.%s" % (message_id.encode("ascii"), timestamp, body)
    return " ".join(_signature(secret, signed) for secret in secrets)


def headers(message_id: str, timestamp: int, body: bytes, *, secrets: Sequence[str]) -> dict[str, str]:
    """Write the three headers that a signed webhook carries."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(secrets, message_id, timestamp, body),
    }


def _signature(secret: str, signed: bytes) -> str:
    if secret.startswith(PRIVATE):
        return f"v1a,{b64encode(_private(secret).sign(signed)).decode('ascii')}"
    digest = hmac.digest(_shared(secret), signed, "sha256")
    return f"v1,{b64encode(digest).decode('ascii')}"


def _shared(secret: str) -> bytes:
    key = _decoded(secret.removeprefix(SHARED))
    if not MIN_BYTES <= len(key) <= MAX_BYTES:
        raise InvalidSecret(f"a secret has {MIN_BYTES} to {MAX_BYTES} bytes")
    return key


def _private(secret: str) -> Ed25519PrivateKey:
    material = _decoded(secret.removeprefix(PRIVATE))
    if len(material) not in (SEED_BYTES, 2 * SEED_BYTES):
        raise InvalidSecret("an ed25519 key is a seed, or a seed and its public key")
    private = Ed25519PrivateKey.from_private_bytes(material[:SEED_BYTES])
    if material[SEED_BYTES:] not in (b"", _public(private)):
        raise InvalidSecret("this public key does not belong to the seed")
    return private


def _public(private: Ed25519PrivateKey) -> bytes:
    return private.public_key().public_bytes_raw()


def _decoded(text: str) -> bytes:
    # Strictly: validate=True alone still takes trailing bits and what several encoders would write
    # differently, so that two texts could mean one key.
    try:
        decoded = b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidSecret("not base64") from error
    if b64encode(decoded).decode("ascii") != text:
        raise InvalidSecret("not base64 in its normal form")
    return decoded
