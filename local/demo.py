"""The demo of `flowtrack up`: a workflow built through the API, and one real form taken through it."""

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

Say = Callable[[str], None]
NAME = "Project inquiry"
EVENT = "lead.qualified"
PATIENCE = 60.0
ENDED = ("completed", "failed", "cancelled")
MARKS = {"completed": "✓", "failed": "✗", "skipped": "–", "cancelled": "✗", "running": "…"}

FIELDS: list[dict[str, Any]] = [
    {"field_key": "first_name", "label": "First name", "field_type": "TEXT", "is_required": True},
    {"field_key": "last_name", "label": "Last name", "field_type": "TEXT"},
    {"field_key": "email", "label": "E-mail", "field_type": "EMAIL", "is_required": True},
    {
        "field_key": "budget",
        "label": "Project budget",
        "field_type": "DROPDOWN",
        "options": ["$500", "$5000", "$10000+"],
        "is_required": True,
    },
    {"field_key": "message", "label": "What are you planning?", "field_type": "TEXT"},
]
ANSWERS = {
    "first_name": "Ada",
    "last_name": "Lovelace",
    "email": "ada@example.com",
    "budget": "$10000+",
    "message": "An engine that weaves algebra.",
}
BIG = {"field": "budget", "operator": ">=", "value": 5000}


def _node(node_id: str, type_: str, label: str, x: int, y: int, **config: Any) -> dict[str, Any]:
    return {
        "id": node_id,
        "type": type_,
        "position": {"x": x, "y": y},
        "data": {"label": label, "config": config},
    }


def _edge(
    source: str, target: str, handle: str | None = None, rule: dict[str, Any] | None = None
) -> dict[str, Any]:
    data = {"condition": rule} if rule else {}
    return {
        "id": f"{source}-{target}",
        "source": source,
        "target": target,
        "sourceHandle": handle,
        "data": data,
    }


GRAPH: dict[str, Any] = {
    "nodes": [
        _node(
            "form", "TRIGGER_FORM", "Inquiry form", 0, 200, successMessage="Thank you! We will write soon."
        ),
        _node("condition_check_budget", "LOGIC_CONDITION", "Budget of $5,000 or more?", 240, 200),
        _node("qualify", "ACTION_SET_LEAD_STATUS", "Mark as qualified", 480, 80, status="QUALIFIED"),
        _node(
            "send_high_value_email",
            "ACTION_SEND_EMAIL",
            "Invite to a call",
            720,
            80,
            emailSubject="Let us talk about your project, {{ lead.first_name }}",
            emailBody="<p>Hi {{ lead.name }},</p><p>{{ trigger.budget }} goes far. When may we call?</p>",
        ),
        _node(
            "send_thank_you_email",
            "ACTION_SEND_EMAIL",
            "Say thank you",
            720,
            320,
            emailSubject="Thank you, {{ lead.first_name }}",
            emailBody="<p>Hi {{ lead.name }},</p><p>here is what others did with {{ trigger.budget }}.</p>",
        ),
        _node("meet", "LOGIC_MERGE", "Either way", 960, 200),
        _node(
            "tell_crm",
            "ACTION_DELIVER_WEBHOOK",
            "Tell the CRM",
            1200,
            200,
            eventType=EVENT,
            payload={
                "email": "{{ lead.email }}",
                "budget": "{{ trigger.budget }}",
                "status": "{{ lead.status }}",
            },
        ),
        _node("end", "UTILITY_END", "Done", 1440, 200, outcome="answered"),
    ],
    "edges": [
        _edge("form", "condition_check_budget"),
        _edge("condition_check_budget", "qualify", "condition_true", BIG),
        _edge("qualify", "send_high_value_email"),
        _edge("condition_check_budget", "send_thank_you_email", "condition_false"),
        _edge("send_high_value_email", "meet"),
        _edge("send_thank_you_email", "meet"),
        _edge("meet", "tell_crm"),
        _edge("tell_crm", "end"),
    ],
    "viewport": {"x": 0, "y": 0, "zoom": 1},
}


# A proxy that the environment names leads away from this machine.
DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class DemoError(Exception):
    """The API refused a part of the demo; the message holds its answer."""


class API:
    """The few calls that the demo makes, over plain HTTP."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = url.rstrip("/")
        self._headers = {"Content-Type": "application/json"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """Make one call; return the answer's JSON."""
        return self.send(method, path, body, **headers)[0]

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[Any, Mapping[str, str]]:
        """Make one call; return the answer's JSON and its headers."""
        data = None if body is None else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(  # noqa: S310 - our own API's URL
            self.url + path, data=data, method=method, headers={**self._headers, **named}
        )
        try:
            with DIRECTLY.open(request, timeout=30) as answer:
                text = answer.read()
                return (json.loads(text) if text else None), answer.headers
        except urllib.error.HTTPError as refusal:
            told = refusal.read().decode(errors="replace")
            raise DemoError(f"{method} {path} answered {refusal.code}: {told}") from refusal


async def seed(
    verb: Callable[..., Awaitable[str]], *, api_url: str, webhook_url: str, card: Path
) -> dict[str, object]:
    """Find the demo again, or have `flowtrack seed` make it; say how to reach it."""
    # A card that is missing, or whose key opens nothing any more, is made anew below.
    with suppress(DemoError, OSError, ValueError):
        found: dict[str, object] = await asyncio.to_thread(furnish, api_url, card, webhook_url=webhook_url)
        return found
    arguments = ("--card", str(card), "--api-url", api_url, "--webhook-url", webhook_url)
    seeded: dict[str, object] = json.loads(await verb("seed", *arguments))
    return seeded


def furnish(api_url: str, card: Path, *, webhook_url: str) -> dict[str, Any]:
    """Build what is missing with the card's key; keep the endpoint's secret on the card."""
    known = json.loads(card.read_text())
    built = build(api_url, known, webhook_url=webhook_url)
    keep(card, {**known, "webhook_secret": built.pop("webhook_secret")})
    return {"api_key": known["api_key"], "workspace_slug": known["workspace_slug"], **built}


def keep(card: Path, content: Mapping[str, str]) -> None:
    """Write the card so that only its owner reads it: whoever has the key administers the demo."""
    draft = card.with_suffix(".part")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(content))
    draft.rename(card)


def build(api_url: str, known: Mapping[str, str], *, webhook_url: str) -> dict[str, str]:
    """Make the demo's workflow and endpoint through the API, or find them again."""
    api = API(api_url, known["api_key"])
    workflow = _workflow(api)
    secret = _endpoint(api, webhook_url, known.get("webhook_secret"))
    form_url = f"{api.url}/f/{known['workspace_slug']}/{workflow['slug']}"
    return {"workflow_id": workflow["id"], "form_url": form_url, "webhook_secret": secret}


def _workflow(api: API) -> dict[str, Any]:
    listed = api.call("GET", "/v1/workflows?limit=100")["data"]
    found: dict[str, Any] | None = next((one for one in listed if one["name"] == NAME), None)
    workflow = found or api.call("POST", "/v1/workflows", {"name": NAME})
    if workflow["published_version"] is None:
        path = f"/v1/workflows/{workflow['id']}"
        present = {field["field_key"] for field in api.call("GET", f"{path}/form-fields")["data"]}
        for field in FIELDS:
            if field["field_key"] not in present:
                api.call("POST", f"{path}/form-fields", field)
        etag = api.send("GET", f"{path}/graph")[1]["ETag"]
        api.call("PUT", f"{path}/graph", GRAPH, If_Match=etag)
        api.call("POST", f"{path}/publish")
    return workflow


def _endpoint(api: API, url: str, secret: str | None) -> str:
    """Point the demo's endpoint at this start's inbox; a secret is told once, so a lost one is replaced."""
    listed = api.call("GET", "/v1/webhook-endpoints?limit=100")["data"]
    found = next((one for one in listed if EVENT in one["subscribed_events"]), None)
    if found is not None and secret is not None:
        if found["url"] != url:
            api.call("PATCH", f"/v1/webhook-endpoints/{found['id']}", {"url": url})
        return secret
    if found is not None:
        api.call("DELETE", f"/v1/webhook-endpoints/{found['id']}")
    made = api.call("POST", "/v1/webhook-endpoints", {"url": url, "subscribed_events": [EVENT]})
    return str(made["secret"])


async def play(up: Mapping[str, Any], *, card: Path, say: Say) -> None:
    """Submit the form once and tell what becomes of it, then where to look."""
    await asyncio.to_thread(_play, up, card, say)


def _play(up: Mapping[str, Any], card: Path, say: Say) -> None:
    secret = json.loads(card.read_text())["webhook_secret"]
    api = API(up["api_url"], up["api_key"])
    mails, hooks = (len(API(up["mail_url"]).call("GET", path)) for path in ("/messages", "/webhooks"))
    say(f"\nSubmitting the form {up['form_url']} as {ANSWERS['first_name']} {ANSWERS['last_name']} …")
    begun = time.monotonic()
    answer = API(up["form_url"]).call("POST", "", ANSWERS)
    say(f"  accepted in {(time.monotonic() - begun) * 1000:.0f} ms, before the run began\n")
    run = _follow(api, str(answer["execution_id"]), say)
    say(f"\nThe run {run['status']} after {time.monotonic() - begun:.1f} s.")
    for mail in API(up["mail_url"]).call("GET", "/messages")[mails:]:
        say(f"  e-mail    “{mail['subject']}” to {', '.join(mail['to'])}")
    for hook in API(up["mail_url"]).call("GET", "/webhooks")[hooks:]:
        say(f"  webhook   {hook['body'][:100]}{_verdict(hook, secret)}")
    _say_urls(up, run, say)


def _follow(api: API, execution_id: str, say: Say) -> dict[str, Any]:
    """Print each step once, when it has ended, until the run has."""
    told: set[tuple[str, int]] = set()
    deadline = time.monotonic() + PATIENCE
    while True:
        run: dict[str, Any] = api.call("GET", f"/v1/executions/{execution_id}")
        for step in api.call("GET", f"/v1/executions/{execution_id}/steps?limit=100")["data"]:
            name = (step["node_id"], step["visit"])
            if step["status"] != "running" and name not in told:
                told.add(name)
                say(line(step))
        if run["status"] in ENDED or time.monotonic() > deadline:
            return run
        time.sleep(0.1)


def line(step: Mapping[str, Any]) -> str:
    """Tell a step in one line."""
    what = f"→ {step['handle']}" if step["handle"] not in (None, "default") else ""
    if step["status"] != "completed":
        what = step["skip_reason"] or (step["error"] or {}).get("message", "")
    mark, label = MARKS.get(step["status"], " "), step["label"] or step["node_id"]
    return f"  {mark} {step['step_number']:>2}  {label:<26} {step['node_type']:<24} {what}".rstrip()


def _verdict(hook: Mapping[str, Any], secret: str) -> str:
    try:
        Webhook(secret).verify(hook["body"], hook["headers"])
    except WebhookVerificationError as failure:
        return f"   (signature refused: {failure})"
    return "   (signature verified)"


def _say_urls(up: Mapping[str, Any], run: Mapping[str, Any], say: Say) -> None:
    say("\nLook at")
    for title, url in (
        ("the form", up["form_url"]),
        ("the API docs", f"{up['api_url']}/docs"),
        ("this run in Temporal", run["temporal"]["url"]),
        ("what it holds, there", f"{up['api_url']}/codec/login"),
        ("mails and webhooks", up["mail_url"]),
    ):
        say(f"  {title:<22} {url}")
    say("")
