"""`flowtrack doctor`: looks at what the configuration points to and says what to do about what is wrong.

What it asks of PostgreSQL stands in local/database.py; what of Temporal and of the rows it is handed.
"""

import shutil
import smtplib
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from datetime import timedelta
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from local.findings import Finding, bounded, fail, ok, warn

SECONDS = 5
OLDEST_PYTHON = (3, 11)
MEGABYTE = 2**20
MUCH = 10 * 1024 * MEGABYTE
"""Large payloads beside Temporal's histories, in PostgreSQL."""
LITTLE, NONE = 1024 * MEGABYTE, 100 * MEGABYTE
SHORT = timedelta(days=3)
"""A retention under which a mirror that was away for a long weekend finds histories gone."""
SKEW = 2.0
"""Seconds by which clocks may differ before times in rows and logs mislead."""
SLOW, STALLED = 60.0, 600.0
"""Seconds that the first row of an outbox may wait."""


def python() -> Finding:
    """Check the interpreter."""
    shown = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] >= OLDEST_PYTHON:
        return ok("Python", shown)
    return fail("Python", shown, "install Python 3.11 or newer")


def variables(environment: Mapping[str, str], known: Iterable[str]) -> Finding:
    """Look for FLOWTRACK_ variables that mean nothing, which are mostly misspelt ones."""
    unknown = sorted(name for name in environment if name.startswith("FLOWTRACK_") and name not in set(known))
    if not unknown:
        return ok("Configuration", "read")
    return fail("Configuration", f"unknown: {', '.join(unknown)}", "correct or unset them")


def master_key(is_set: bool) -> Finding:
    """Check that secrets can be sealed."""
    remedy = "set FLOWTRACK_MASTER_KEY; `flowtrack up` makes one in its data directory"
    return ok("Master key", "set") if is_set else fail("Master key", "not set", remedy)


def disk(directory: Path) -> Finding:
    """Check that there is room where `flowtrack up` keeps its data, or where it would."""
    place = next(each for each in (directory, *directory.absolute().parents) if each.exists())
    free = shutil.disk_usage(place).free
    what = f"{free // MEGABYTE:,} MB free at {place}"
    remedy = "make room: PostgreSQL and Temporal stop at a full disk"
    # Of what is left, the less the worse.
    return bounded("Disk", what, -free, warn_at=-LITTLE, fail_at=-NONE, remedy=remedy)


def mail(url: str) -> Finding:
    """Check that the mail server greets us and takes our login, over TLS if it can; nothing is sent."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (465 if parts.scheme == "smtps" else 25)
    server = smtplib.SMTP_SSL if parts.scheme == "smtps" else smtplib.SMTP
    try:
        with server(host, port, timeout=SECONDS) as smtp:
            smtp.ehlo_or_helo_if_needed()
            offers_tls = smtp.has_extn("starttls")
            if "tls=starttls" in parts.query:
                smtp.starttls()
            if parts.username:
                smtp.login(unquote(parts.username), unquote(parts.password or ""))
            smtp.noop()
    except (OSError, smtplib.SMTPException) as failure:
        return fail("Mail", f"{host}:{port}: {said(failure)}", "check FLOWTRACK_SMTP_URL")
    return _secrecy(parts, f"{host}:{port} answers", offers_tls=offers_tls)


def _secrecy(parts: SplitResult, what: str, *, offers_tls: bool) -> Finding:
    """Judge whether mails and the password travel in the clear where they need not."""
    is_sealed = parts.scheme == "smtps" or "tls=starttls" in parts.query
    if is_sealed or not (offers_tls or parts.username):
        return ok("Mail", f"{what}, over TLS" if is_sealed else what)
    remedy = "add ?tls=starttls to FLOWTRACK_SMTP_URL" if offers_tls else "use smtps:// or a server with TLS"
    return warn("Mail", f"{what}, in the clear", remedy)


def public_url(url: str, *, is_production: bool) -> Finding:
    """Check that the address in links and forms leads to an API that can work."""
    parts = urlsplit(url)
    if is_production and parts.scheme != "https":
        return fail("Public URL", f"{url} is not https", "put TLS in front, and set FLOWTRACK_PUBLIC_URL")
    remedy = "start `flowtrack api`, and check FLOWTRACK_PUBLIC_URL and the proxy in front of it"
    connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    try:
        with closing(connect(parts.hostname or "", parts.port, timeout=SECONDS)) as connection:
            connection.request("GET", f"{parts.path}/readyz")
            status = connection.getresponse().status
    except (OSError, HTTPException) as failure:
        return warn("Public URL", f"{url}: {said(failure)}", f"{remedy}; from here it may be out of reach")
    if status != 200:
        return fail("Public URL", f"{url}/readyz answers {status}", remedy)
    return ok("Public URL", f"{url} is ready")


def callbacks(url: str | None) -> Finding:
    """Say how the mirror hears of closed runs; whether Temporal reaches the address only Temporal knows."""
    if url:
        return ok("Callbacks", f"Temporal tells {url} of closed runs")
    remedy = "set FLOWTRACK_CALLBACK_URL; without it the sweep finds closed runs, within a minute"
    return warn("Callbacks", "Temporal tells nobody of closed runs", remedy)


# ── Temporal


def away(address: str) -> Finding:
    """Say that Temporal does not answer."""
    remedy = "check FLOWTRACK_TEMPORAL_ADDRESS, and that it is up"
    return fail("Temporal", f"{address} does not answer", remedy)


def temporal(address: str, version: str, *, namespace: str, exists: bool) -> Finding:
    """Check that there is our namespace."""
    if exists:
        return ok("Temporal", f"{version} at {address}, namespace {namespace}")
    remedy = f"temporal operator namespace create --namespace {namespace} --retention 30d"
    return fail("Temporal", f"{address} has no namespace {namespace}", remedy)


def retention(kept: timedelta) -> Finding:
    """Check that closed runs stay until the mirror has surely read them."""
    what = f"closed runs stay {kept.total_seconds() / 86400:g} days"
    remedy = "temporal operator namespace update --retention 30d: an API that is away for longer loses runs"
    return ok("Retention", what) if kept >= SHORT else warn("Retention", what, remedy)


def search_attributes(missing: Sequence[str]) -> Finding:
    """Check what runs are started with."""
    if not missing:
        return ok("Search attributes", "there")
    each = " ".join(f"--name {name} --type Keyword" for name in missing)
    remedy = f"temporal operator search-attribute create {each}"
    return fail("Search attributes", f"missing: {', '.join(missing)}; no run can start", remedy)


def simulations(namespace: str, *, exists: bool) -> Finding:
    """Check where simulations run; that the server skips time shows only in one."""
    if exists:
        return ok("Simulations", f"namespace {namespace}")
    remedy = (
        f"temporal operator namespace create --namespace {namespace} --retention 24h; restart the workers"
    )
    return warn("Simulations", f"no namespace {namespace}", remedy)


def pollers(silent: Sequence[str]) -> Finding:
    """Check that somebody works on every task queue."""
    if not silent:
        return ok("Pollers", "every task queue is polled")
    return fail("Pollers", f"no worker polls {', '.join(silent)}", "start `flowtrack worker`")


def builds(mine: str, current: str, others: Mapping[str, str]) -> Finding:
    """Check that the workers configured here get new runs, and tell which older builds may go."""
    still = [f"{name} {how}" for name, how in sorted(others.items()) if how != "inactive"]
    first = f"build {current} is current" if current else "unversioned"
    what = f"{first}; {', '.join(still)}" if still else first
    if mine == current:
        return ok("Workers", what)
    remedy = f"run `flowtrack deploy {mine}`" if mine else f"set FLOWTRACK_BUILD_ID={current}"
    return fail("Workers", what, remedy)


def upkeep(missing: Sequence[str], paused: Sequence[str]) -> Finding:
    """Check that the upkeep jobs are scheduled."""
    if missing:
        what = f"not scheduled: {', '.join(missing)}"
        return fail("Upkeep", what, "start `flowtrack worker`, which schedules it")
    if paused:
        return warn("Upkeep", f"paused: {', '.join(paused)}", "unpause it in the Temporal Web UI's schedules")
    return ok("Upkeep", "scheduled")


def clock(whose: str, seconds: float) -> Finding:
    """Check by how much another machine's clock is before or behind ours."""
    what = f"{whose} differs by {abs(seconds):.1f} s"
    remedy = "run NTP on both machines: delays, quotas' days and signatures go by their clocks"
    return bounded("Clocks", what, abs(seconds), warn_at=SKEW, fail_at=15 * SKEW, remedy=remedy)


# ── the rows


def outbox(name: str, rows: int, oldest: float, *, remedy: str) -> Finding:
    """Check that what waits to be carried to Temporal, or sent, does not wait for long."""
    what = f"{rows} {name} wait" + (f", the first for {oldest:.0f} s" if rows else "")
    return bounded("Backlog", what, oldest, warn_at=SLOW, fail_at=STALLED, remedy=remedy)


def doubts(count: int) -> Finding:
    """Check that of every effect it is known whether it happened."""
    remedy = "look at the failed steps (outcome_unknown), and whether the mail or the call arrived"
    return bounded("Effects", f"{count} in doubt", count, warn_at=1, remedy=remedy)


def mirror(silent: int) -> Finding:
    """Check that every open run was looked at lately."""
    remedy = "start `flowtrack api`, and look for lines of the mirror in its log"
    if silent:
        return fail("Mirror", f"{silent} or more open runs were not looked at for ten minutes", remedy)
    return ok("Mirror", "every open run was looked at lately")


def large_payloads(count: int, size: int) -> Finding:
    """Check that what lies beside Temporal's histories does not fill PostgreSQL."""
    what = f"{count:,} with {size / MEGABYTE:,.0f} MB lie beside the histories"
    remedy = (
        "look for nodes that give much (docs/operations.md); a day after Temporal's retention they go, "
        "by the schedule upkeep-tidy"
    )
    return bounded("Large payloads", what, size, warn_at=MUCH, remedy=remedy)


def stuck(found: Sequence[tuple[str, str, str]], *, unexamined: int = 0) -> Finding:
    """Check that open runs rest for a reason; each is (execution, reason, remedy)."""
    if not found and unexamined:
        remedy = "the API looks at them all in turn: see `run is stuck` in its log"
        return warn("Stuck runs", f"none of those looked at; {unexamined} more may be", remedy)
    if not found:
        return ok("Stuck runs", "none")
    shown = ", ".join(f"{execution} ({reason})" for execution, reason, _ in found[:5])
    rest = f" and {len(found) - 5} more" if len(found) > 5 else ""
    rest += f"; {unexamined} more may be" if unexamined else ""
    remedies = dict.fromkeys(f"{reason}: {remedy}" for _, reason, remedy in found)
    return warn("Stuck runs", f"{len(found)}: {shown}{rest}", "; ".join(remedies))


def said(failure: Exception) -> str:
    """Say what a driver said, in one line: they repeat themselves for each address they tried."""
    return (str(failure).splitlines() or [type(failure).__name__])[0]
