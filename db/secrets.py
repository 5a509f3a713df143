"""Secrets at rest: AES-256-GCM under a key of each workspace, bound to the very place they are stored in."""

import hashlib
import json
import os
from collections.abc import Sequence
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FORMAT = b"\x01"
KEY_BYTES = 32
NONCE_BYTES = 12
FINGERPRINT_BYTES = 4
HEADER_BYTES = len(FORMAT) + FINGERPRINT_BYTES


class Unopenable(Exception):
    """A stored secret was moved, changed or sealed with a key that is not at hand."""


def seal(
    plaintext: bytes,
    *,
    key: bytes | Sequence[bytes],
    table: str,
    column: str,
    row_id: UUID,
    workspace_id: UUID,
) -> bytes:
    """Seal a secret for one column of one row; of several master keys the first one is used."""
    master = _keys(key)[0]
    header = FORMAT + _fingerprint(master)
    nonce = os.urandom(NONCE_BYTES)
    place = _place(header, table, column, row_id, workspace_id)
    return header + nonce + AESGCM(_workspace_key(master, workspace_id)).encrypt(nonce, plaintext, place)


def open_(
    sealed: bytes, *, key: bytes | Sequence[bytes], table: str, column: str, row_id: UUID, workspace_id: UUID
) -> bytes:
    """Open a sealed secret where it stands; anywhere else it stays shut.

    Raises Unopenable.
    """
    header, rest = sealed[:HEADER_BYTES], sealed[HEADER_BYTES:]
    nonce, ciphertext = rest[:NONCE_BYTES], rest[NONCE_BYTES:]
    master = next((k for k in _keys(key) if FORMAT + _fingerprint(k) == header), None)
    if master is None or len(nonce) < NONCE_BYTES:
        raise Unopenable(f"{table}.{column}: no key opens this secret")
    place = _place(header, table, column, row_id, workspace_id)
    try:
        return AESGCM(_workspace_key(master, workspace_id)).decrypt(nonce, ciphertext, place)
    except InvalidTag as error:
        raise Unopenable(f"{table}.{column}: the secret was moved or changed") from error


def installation_key(*, key: bytes | Sequence[bytes]) -> tuple[str, bytes]:
    """Derive the key of what belongs to no workspace from the first master key; return its name, too."""
    master = _keys(key)[0]
    derivation = HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=b"flowtrack installation key")
    return f"installation-{_fingerprint(master).hex()}", derivation.derive(master)


def is_current(sealed: bytes, *, key: bytes | Sequence[bytes]) -> bool:
    """Tell whether a secret is sealed with the newest master key; if not, a rotation seals it again."""
    return sealed[:HEADER_BYTES] == FORMAT + _fingerprint(_keys(key)[0])


def _keys(key: bytes | Sequence[bytes]) -> Sequence[bytes]:
    keys = [key] if isinstance(key, bytes) else key
    if not keys or any(len(k) != KEY_BYTES for k in keys):
        raise ValueError(f"a master key has {KEY_BYTES} bytes")
    return keys


def _fingerprint(master: bytes) -> bytes:
    return hashlib.sha256(b"flowtrack master key" + master).digest()[:FINGERPRINT_BYTES]


def _workspace_key(master: bytes, workspace_id: UUID) -> bytes:
    derivation = HKDF(hashes.SHA256(), KEY_BYTES, salt=workspace_id.bytes, info=b"flowtrack workspace key")
    return derivation.derive(master)


def _place(header: bytes, table: str, column: str, row_id: UUID, workspace_id: UUID) -> bytes:
    return json.dumps([header.hex(), table, column, str(row_id), str(workspace_id)]).encode()
