"""Links that stand for a person's right to do one thing: signed, so that nobody can write one.

Such a link is a secret of whom it was sent to: it stands in mails only, never in a history, a row or a log.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hmac import compare_digest, digest
from typing import Any
from uuid import UUID

LIFETIME = timedelta(days=90)
"""How long a link to decide is good where nothing ends it before."""
SIGNATURE_BYTES = 32
LONGEST = 4096
APPROVAL, UNSUBSCRIBE = "approval", "unsubscribe"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One person's answer to one approval."""

    workspace_id: UUID
    execution_id: UUID
    node_id: str
    visit: int
    approved: bool
    by: str
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class Leaving:
    """A lead that wants no more marketing."""

    workspace_id: UUID
    lead_id: UUID


def decision_url(public_url: str, master_key: bytes, decision: Decision) -> str:
    """Write the link by which somebody decides."""
    token = _seal(
        master_key,
        APPROVAL,
        [
            decision.workspace_id.hex,
            decision.execution_id.hex,
            decision.node_id,
            decision.visit,
            decision.approved,
            decision.by,
            int(decision.expires_at.timestamp()),
        ],
    )
    return f"{public_url}/a/{token}"


def read_decision(master_key: bytes, token: str) -> Decision | None:
    """Read what a link decides, also when it has expired; None if it is not one of ours."""
    match _open(master_key, APPROVAL, token):
        case [str(workspace), str(execution), str(node_id), int(visit), bool(approved), str(by), int(until)]:
            return Decision(
                workspace_id=UUID(workspace),
                execution_id=UUID(execution),
                node_id=node_id,
                visit=visit,
                approved=approved,
                by=by,
                expires_at=datetime.fromtimestamp(until, UTC),
            )
    return None


def unsubscribe_url(public_url: str, master_key: bytes, leaving: Leaving) -> str:
    """Write the link by which a lead unsubscribes; it is good as long as the lead is there."""
    token = _seal(master_key, UNSUBSCRIBE, [leaving.workspace_id.hex, leaving.lead_id.hex])
    return f"{public_url}/u/{token}"


def read_leaving(master_key: bytes, token: str) -> Leaving | None:
    """Read who unsubscribes; None if the link is not one of ours."""
    match _open(master_key, UNSUBSCRIBE, token):
        case [str(workspace), str(lead)]:
            return Leaving(workspace_id=UUID(workspace), lead_id=UUID(lead))
    return None


def _seal(master_key: bytes, purpose: str, said: Sequence[Any]) -> str:
    body = json.dumps(said, ensure_ascii=False, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(body + _sign(master_key, purpose, body)).decode("ascii").rstrip("=")


def _open(master_key: bytes, purpose: str, token: str) -> Any:
    """Return what was signed; nothing is parsed before the signature is known to be ours."""
    if len(token) > LONGEST:
        return None
    try:
        raw = base64.b64decode(
            token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True
        )
    except (ValueError, binascii.Error):
        return None
    body, signature = raw[:-SIGNATURE_BYTES], raw[-SIGNATURE_BYTES:]
    if not compare_digest(signature, _sign(master_key, purpose, body)):
        return None
    return json.loads(body)


def _sign(master_key: bytes, purpose: str, body: bytes) -> bytes:
    """Sign with a key for this purpose alone, so that no link stands for another kind of right."""
    key = digest(master_key, f"flowtrack/link/{purpose}".encode(), "sha256")
    return digest(key, body, "sha256")
