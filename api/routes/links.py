"""Where the links of mails lead: deciding about an approval, and unsubscribing.

A GET never changes anything: mail scanners open every link. The link itself is the proof, so nobody signs in;
no other site can know one, and the pages send no referrer (api/requests.py) and let nobody frame them.
"""

from datetime import UTC, datetime

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError

from activities.clients import links
from activities.clients.links import Decision, Leaving
from api.deps import OurPlatform, Platform
from api.pages import link as page
from db import approvals, leads
from db.approvals import Standing
from workflows.graph import step_key
from workflows.messages import Command

router = APIRouter(include_in_schema=False)

UNKNOWN = "There is nothing behind this link. Please check that it was copied whole."
LATER = "Please try again in a minute."
ENDS = {
    "approved": ("This is approved", "It was approved"),
    "rejected": ("This is rejected", "It was rejected"),
    "timeout": ("This is over", "Nobody decided in time."),
}


@router.get("/a/{token}")
async def decision_ask(token: str, platform: OurPlatform) -> Response:
    """Ask whether somebody means to decide."""
    found = await _open(platform, token)
    if isinstance(found, Response):
        return found
    decision, standing = found
    verb = "Approve" if decision.approved else "Reject"
    about = f"In “{standing.workflow}” a decision is asked for."
    return _html(page.question(title=f"{verb}?", about=about, message=standing.message, button=verb))


@router.post("/a/{token}")
async def decision_take(token: str, platform: OurPlatform) -> Response:
    """Decide, in the name of whom the link was written for, once."""
    found = await _open(platform, token)
    if isinstance(found, Response):
        return found
    decision, _ = found
    command = Command(by=decision.by, step=step_key(decision.node_id, decision.visit), once=True)
    verb, done = ("approve", "approved") if decision.approved else ("reject", "rejected")
    try:
        known = await platform.starter.command(decision.execution_id, verb, command)
    except ApplicationError as refusal:
        return await _refused(platform, decision, refusal)
    except (RPCError, RuntimeError):
        return _answer("Not yet", f"This cannot be decided at the moment. {LATER}", 503)
    return _answer("Thank you", f"You have {done} this.", 200) if known else await _missed(platform, decision)


@router.get("/u/{token}")
async def unsubscribe_ask(token: str, platform: OurPlatform) -> Response:
    """Ask whether somebody means to unsubscribe."""
    leaving = links.read_leaving(platform.config.master_key, token)
    email = await _email(platform, leaving) if leaving else None
    if email is None:
        return _unknown()
    about = f"Shall {email} get no more news from us?"
    return _html(page.question(title="Unsubscribe?", about=about, message="", button="Unsubscribe"))


@router.post("/u/{token}")
async def unsubscribe_do(token: str, platform: OurPlatform) -> Response:
    """Unsubscribe, by the page's button or by a mail program's own (RFC 8058)."""
    leaving = links.read_leaving(platform.config.master_key, token)
    if leaving is None:
        return _unknown()
    async with platform.database.workspace(leaving.workspace_id) as session:
        email = await leads.unsubscribe(session, leaving.workspace_id, leaving.lead_id)
    if email is None:
        return _unknown()
    return _answer("You are unsubscribed", f"{email} gets no more news from us.", 200)


async def _open(platform: Platform, token: str) -> tuple[Decision, Standing] | Response:
    """Read a link that still decides something, or say what became of it."""
    decision = links.read_decision(platform.config.master_key, token)
    standing = await _standing(platform, decision) if decision else None
    if decision is None or standing is None:
        return _unknown()
    if standing.is_over:
        return _over(decision, standing)
    return _expired() if decision.expires_at < datetime.now(UTC) else (decision, standing)


async def _email(platform: Platform, leaving: Leaving) -> str | None:
    async with platform.database.workspace(leaving.workspace_id) as session:
        lead = await leads.get(session, leaving.workspace_id, leaving.lead_id, include_deleted=True)
    return lead.email if lead else None


async def _standing(platform: Platform, decision: Decision) -> Standing | None:
    async with platform.database.workspace(decision.workspace_id) as session:
        return await approvals.standing(
            session,
            decision.workspace_id,
            decision.execution_id,
            node_id=decision.node_id,
            visit=decision.visit,
        )


async def _refused(platform: Platform, decision: Decision, refusal: ApplicationError) -> Response:
    """Say why the run did not take the decision."""
    if refusal.type == "already_decided":
        word = refusal.details[0] if refusal.details else "decided"
        return _answer("You have decided already", f"You have {word} this before; that stands.", 409)
    return await _missed(platform, decision)


async def _missed(platform: Platform, decision: Decision) -> Response:
    """Tell an approval that is over from one that the run has not come to."""
    standing = await _standing(platform, decision)
    if standing is None:
        return _unknown()
    if standing.is_over or standing.step_status == "running":
        # Where the run says no and the rows still say that it asks, the rows are a moment behind.
        return _over(decision, standing)
    return _answer(
        "Not yet", "The run has not come to this decision, or has just gone past it. " + LATER, 409
    )


def _over(decision: Decision, standing: Standing) -> Response:
    how = standing.handle if standing.step_status == "completed" else None
    title, message = ENDS.get(how or "", ("This is over", "There is nothing left to decide."))
    people = _people(standing, how) if _is_address(decision.by) else []
    by = f" by {', '.join(people)}" if people else ""
    ending = "." if not message.endswith(".") else ""
    return _answer(title, f"{message}{by}{ending}", 410)


def _people(standing: Standing, how: str | None) -> list[str]:
    """Name those who decided it so: to other approvers, not to whoever holds a link of some mail."""
    said = {str(each.get("by")): each.get("approved") for each in standing.decisions}
    return [by for by, approved in said.items() if _is_address(by) and approved is (how == "approved")]


def _is_address(by: str) -> bool:
    return "@" in by


def _expired() -> Response:
    return _answer("This link has expired", "Please ask whom you have it from for a new one.", 410)


def _unknown() -> Response:
    return _answer("This link is not valid", UNKNOWN, 404)


def _answer(title: str, message: str, status: int) -> Response:
    return _html(page.answer(title=title, message=message), status)


def _html(content: str, status: int = 200) -> Response:
    return HTMLResponse(content, status, {"Content-Security-Policy": page.POLICY})
