"""The numbers of an API process: what it counts as it works, and what it reads of the rows when asked.

No label holds an id or anything of a tenant; each has a handful of values, routes being the most.
"""

from datetime import UTC, datetime, timedelta
from time import monotonic

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

from db import measures
from db.session import Database

log = structlog.get_logger()

METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
LAGS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
DOUBTFUL_AFTER = timedelta(minutes=5)
"""An effect that is reserved for longer is in doubt: no attempt has so much time."""
FRESH = 10.0
"""Seconds for which what was read of the rows is shown again, however often somebody asks."""


class Metrics:
    """What one API process counts; a registry of its own, so that an app can be built twice."""

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()
        self.seconds = Histogram(
            "flowtrack_http_request_seconds",
            "Time to answer, by route",
            ["method", "route", "status"],
            registry=own,
        )
        self.submissions = Counter(
            "flowtrack_form_submissions", "Accepted form submissions", ["replayed"], registry=own
        )
        self.starts = Counter(
            "flowtrack_starts",
            "Starts of runs in Temporal: started, postponed, refused",
            ["outcome"],
            registry=own,
        )
        self.wakes = Counter(
            "flowtrack_wakes",
            "Events told to runs by the dispatcher: told, postponed",
            ["outcome"],
            registry=own,
        )
        self.cancels = Counter(
            "flowtrack_cancels", "Cancels asked of Temporal: asked, postponed", ["outcome"], registry=own
        )
        self.rounds = Counter(
            "flowtrack_dispatcher_rounds",
            "Rounds of the dispatcher: done, away (Temporal), postponed (PostgreSQL), failed",
            ["outcome"],
            registry=own,
        )
        self.claims = Counter(
            "flowtrack_dispatcher_claims",
            "What the dispatcher took on: start, wake, cancel",
            ["kind"],
            registry=own,
        )
        self.looks = Counter(
            "flowtrack_mirror_looks",
            "Looks of the mirror at a run: advanced, nothing, closed, missing, failed",
            ["found"],
            registry=own,
        )
        self.lag = Histogram(
            "flowtrack_mirror_lag_seconds",
            "From an event in Temporal to its rows, for the oldest event of each write",
            buckets=LAGS,
            registry=own,
        )
        self.stuck = Gauge(
            "flowtrack_executions_stuck",
            "Open runs that are stuck, as of the last look",
            ["reason"],
            registry=own,
        )
        self.unexamined = Gauge(
            "flowtrack_executions_unexamined",
            "Open runs that may be stuck and have their turn in the next looks",
            registry=own,
        )
        self._pool = Gauge("flowtrack_database_connections", "Connections in use", ["pool"], registry=own)
        self._pool_size = Gauge("flowtrack_database_connections_max", "Most in use", ["pool"], registry=own)

    def watch(self, pool: str, engine: AsyncEngine, *, size: int) -> None:
        """Show how many connections of a pool are in use."""
        self._pool.labels(pool).set_function(lambda: _in_use(engine))
        self._pool_size.labels(pool).set(size)

    def mirrored(self, moment: datetime) -> None:
        """Note that the rows now tell of an event of that moment."""
        self.lag.observe(max((datetime.now(UTC) - moment).total_seconds(), 0))

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Note a request; clients may think of any method, which must not make a series each."""
        known = method if method in METHODS else "other"
        self.seconds.labels(known, route, str(status)).observe(seconds)


def _in_use(engine: AsyncEngine) -> float:
    checked_out = getattr(engine.pool, "checkedout", None)
    return float(checked_out()) if checked_out else 0.0


class Rows:
    """Numbers that only the rows hold: counted when somebody asks, and not more often than every ten seconds.

    Every API process shows the same ones: take the maximum over processes, not the sum.
    """

    def __init__(self, database: Database, registry: CollectorRegistry) -> None:
        self._database = database
        self._read_at = -FRESH
        self._up = Gauge(
            "flowtrack_rows_readable",
            "Whether the numbers of the rows are fresh (1) or old (0)",
            registry=registry,
        )
        self._open = Gauge("flowtrack_executions_open", "Open executions", ["status"], registry=registry)
        self._outbox = Gauge(
            "flowtrack_outbox_rows",
            "Rows that wait to be carried to Temporal or sent",
            ["outbox"],
            registry=registry,
        )
        self._oldest = Gauge(
            "flowtrack_outbox_oldest_seconds",
            "How long the first of them waits",
            ["outbox"],
            registry=registry,
        )
        self._doubt = Gauge(
            "flowtrack_effects_in_doubt",
            "Effects whose end nobody knows, and those reserved for too long",
            ["status"],
            registry=registry,
        )
        self._endpoints = Gauge(
            "flowtrack_webhook_endpoints",
            "Webhook endpoints: enabled, disabled by hand, given up after failures",
            ["state"],
            registry=registry,
        )
        self._homeless = Gauge(
            "flowtrack_log_lines_without_month",
            "Log lines in the default partition, 1000 meaning at least so many",
            registry=registry,
        )

    async def refresh(self) -> None:
        """Read anew if it is time; without the database the numbers stay, and `rows_readable` says so."""
        if monotonic() - self._read_at < FRESH:
            return
        self._read_at = monotonic()
        try:
            async with self._database.door() as session:
                found = await measures.read(session, doubtful_after=DOUBTFUL_AFTER)
        except (OSError, DBAPIError, PoolTimeout) as error:
            self._up.set(0)
            log.warning("numbers not read", error=type(error).__name__)
            return
        for each in found:
            self._show(each)
        self._up.set(1)

    def _show(self, each: measures.Measure) -> None:
        match each.measure:
            case "open":
                self._open.labels(each.label).set(each.rows)
            case "outbox":
                self._outbox.labels(each.label).set(each.rows)
                self._oldest.labels(each.label).set(each.oldest_seconds or 0)
            case "doubt":
                self._doubt.labels(each.label).set(each.rows)
            case "endpoints":
                self._endpoints.labels(each.label).set(each.rows)
            case "homeless":
                self._homeless.set(each.rows)
