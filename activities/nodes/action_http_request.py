"""Sends an HTTP request: reserve, send, keep what was answered (security.md §3)."""

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

from activities import deliveries
from activities.clients import http
from activities.clients.addresses import DeadlineExceeded, OutwardError, Unreachable
from activities.clients.http import Reply
from activities.errors import StepDeferred, StepFailed
from activities.step import Step
from activities.world import World
from db import effects
from workflows import storable
from workflows.messages import Outcome
from workflows.nodes.action_http_request import Auth, Config

EFFECT = "http"
BUSY = frozenset({429, 502, 503, 504})
"""Answers after which trying again may help."""
VAGUE = frozenset({502, 504})
"""Of those, the ones of a gateway that lost sight of the request: it may have been carried out."""
LONGEST_PAUSE = 3600.0
"""Seconds; a service that asks for more patience is asked again all the same."""
KEPT_HEADERS = (
    *("content-type", "content-language", "etag", "last-modified", "link", "location"),
    *("retry-after", "x-request-id", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"),
)
LONGEST_HEADER = 1000
QUOTED = 300
"""Characters of a bad answer that the error tells."""
ROOM = 240 * 1024
"""Bytes that input and answer may take together; the rest of an outcome is for the lead and the edges."""
MASK = "**********"


async def run(step: Step, world: World) -> Outcome:
    """Send the request unless it has been answered before."""
    config: Config = step.config
    key = step.effect(EFFECT)
    url, headers, body = target(config), headers_of(step), body_of(config)
    async with world.database.workspace(step.workspace_id) as session:
        known = await effects.reserve(session, key)
    if known.state == "confirmed":
        return Outcome(output=known.output)
    is_new = known.state == "new"
    try:
        http.check_headers(headers)
        reply = await world.http.send(
            config.method, url, headers, body, deadline=config.deadline, max_bytes=config.max_response_bytes
        )
    except OutwardError as error:
        await _forget(step, world, in_doubt=error.ambiguous or not is_new)
        raise _unanswered(error) from error
    if not config.succeeds(reply.status):
        await _forget(step, world, in_doubt=reply.status in VAGUE or not is_new)
        raise _unwelcome(config, reply)
    output = told(step, reply)
    async with world.database.workspace(step.workspace_id) as session:
        await effects.confirm(session, key, output)
    return Outcome(output=output)


def simulate(step: Step) -> Outcome:
    """Write the request, which may fail, and imagine that the service takes it and has nothing to say."""
    config: Config = step.config
    target(config)
    body_of(config)
    try:
        http.check_headers(headers_of(step))
    except OutwardError as error:
        raise _unanswered(error) from error
    status = next(filter(config.succeeds, range(200, 600)), 200)
    return Outcome(output={"status": status, "headers": {}, "body": None, "truncated": False})


async def _forget(step: Step, world: World, *, in_doubt: bool) -> None:
    """Give the effect back, or say that nobody knows: this attempt proves nothing about an earlier one."""
    async with world.database.workspace(step.workspace_id) as session:
        if in_doubt:
            await effects.doubt(session, step.effect(EFFECT))
        else:
            await effects.release(session, step.effect(EFFECT))


def _unanswered(error: OutwardError) -> StepFailed:
    kind = StepDeferred if isinstance(error, Unreachable | DeadlineExceeded) else StepFailed
    return kind(error.code, str(error))


def _unwelcome(config: Config, reply: Reply) -> StepFailed:
    quoted = masked(config.auth, _text(reply))[:QUOTED].strip()
    message = f"The service answered {reply.status}{': ' + quoted if quoted else ''}."
    if reply.status not in BUSY:
        return StepFailed("http_status", message)
    wanted = deliveries.retry_after(reply.headers.get("retry-after"), now=datetime.now(UTC))
    seconds = None if wanted is None else min(max(wanted.total_seconds(), 1), LONGEST_PAUSE)
    return StepDeferred("http_status", message, seconds=seconds)


# What is sent


def target(config: Config) -> str:
    """Write the URL with its query; what is null is left out."""
    pairs = [pair for name, value in config.query.items() for pair in _pairs(name, value)]
    if not pairs:
        return config.url.strip()
    url = config.url.strip()
    return f"{url}{'&' if '?' in url else '?'}{urlencode(pairs)}"


def _pairs(name: str, value: Any) -> Iterator[tuple[str, str]]:
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, Mapping | list):
            raise StepFailed("bad_query", f"query.{name}: a text, a number, yes/no or a list is needed.")
        if isinstance(one, bool):
            yield name, "true" if one else "false"
        elif one is not None:
            yield name, str(one)


def headers_of(step: Step) -> dict[str, str]:
    """Put the headers together; a name that comes twice is refused when they are sent."""
    config: Config = step.config
    headers = {**config.headers, **credentials(config.auth)}
    given = {name.lower() for name in headers}
    if config.body is not None and "content-type" not in given:
        is_text = isinstance(config.body, str)
        headers["Content-Type"] = "text/plain; charset=utf-8" if is_text else "application/json"
    if config.method not in ("GET", "HEAD"):
        headers["Idempotency-Key"] = idempotency_key(step)
    return headers


def idempotency_key(step: Step) -> str:
    """Derive the key from the effect's: a repeat is recognisable as one, whoever makes it."""
    key = "\x1f".join(map(str, step.effect(EFFECT).values.values()))
    return f"ft-{sha256(key.encode()).hexdigest()[:40]}"


def credentials(auth: Auth) -> dict[str, str]:
    """Write the header that proves who asks."""
    if auth.token is not None:
        return {"Authorization": f"Bearer {auth.token.get_secret_value()}"}
    if auth.username is not None and auth.password is not None:
        pair = f"{auth.username.get_secret_value()}:{auth.password.get_secret_value()}"
        return {"Authorization": f"Basic {b64encode(pair.encode()).decode()}"}
    if auth.name is not None and auth.value is not None:
        return {auth.name: auth.value.get_secret_value()}
    return {}


def body_of(config: Config) -> bytes:
    """Write the body: a text as it is, anything else as JSON."""
    if config.body is None:
        return b""
    if isinstance(config.body, str):
        return config.body.encode()
    return json.dumps(config.body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


# What is kept


def told(step: Step, reply: Reply) -> dict[str, Any]:
    """Keep of an answer what history and rows can hold."""
    config: Config = step.config
    text = masked(config.auth, _text(reply))
    headers = {name: reply.headers[name] for name in KEPT_HEADERS if name in reply.headers}
    output = {
        "status": reply.status,
        "headers": {name: masked(config.auth, value)[:LONGEST_HEADER] for name, value in headers.items()},
        "body": _parsed(reply, text),
        "truncated": reply.truncated,
    }
    room = ROOM - _size(step.shown)
    if _size(output) <= room:
        return output
    # Written as JSON a text may be six times its size, so it is cut by what it weighs.
    while text and _size({**output, "body": text}) > room:
        text = text[: len(text) * 9 // 10]
    return {**output, "body": text, "truncated": True}


def _text(reply: Reply) -> str:
    return reply.body.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")


def _parsed(reply: Reply, text: str) -> Any:
    """Read JSON that is whole, says that it is, and can be stored; everything else stays text."""
    media = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
    if reply.truncated or not (media == "application/json" or media.endswith("+json")):
        return text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return text if next(storable.complaints(value), None) else value


def masked(auth: Auth, text: str) -> str:
    """Hide the credentials where a service echoes them."""
    given = (auth.token, auth.password, auth.value)
    hidden = [secret.get_secret_value() for secret in given if secret is not None]
    hidden += [value.removeprefix("Basic ") for value in credentials(auth).values()]
    for secret in sorted(filter(None, hidden), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def _size(value: Any) -> int:
    return len(json.dumps(value))
