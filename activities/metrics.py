"""The numbers of a worker process, beside those of the SDK: what nodes did to the world and were refused."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from sqlalchemy.ext.asyncio import AsyncEngine

from activities.containment import left_behind

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """What one worker counts; no label holds an id or anything of a tenant."""

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()
        self.deliveries = Counter(
            "flowtrack_webhook_deliveries",
            "Attempts to deliver a webhook: delivered, to_retry, failed for good",
            ["outcome"],
            registry=own,
        )
        self.delivery_seconds = Histogram(
            "flowtrack_webhook_delivery_seconds",
            "Time that endpoints took to answer",
            buckets=SECONDS,
            registry=own,
        )
        self.given_up = Counter(
            "flowtrack_webhook_endpoints_given_up", "Endpoints disabled after failures", registry=own
        )
        self.refusals = Counter(
            "flowtrack_quota_refusals",
            "What a quota did not let through, by activity",
            ["activity"],
            registry=own,
        )
        self.attempts_lost = Counter(
            "flowtrack_attempt_lines_refused", "Log lines of attempts that PostgreSQL refused", registry=own
        )
        behind = Gauge(
            "flowtrack_steps_left_behind", "Steps that ignore their cancellation and still run", registry=own
        )
        behind.set_function(lambda: float(left_behind()))
        self._pool = Gauge("flowtrack_database_connections", "Connections in use", ["pool"], registry=own)
        self._pool_size = Gauge("flowtrack_database_connections_max", "Most in use", ["pool"], registry=own)

    def watch(self, engine: AsyncEngine, *, size: int) -> None:
        """Show how many connections of the worker's pool are in use."""
        checked_out = getattr(engine.pool, "checkedout", lambda: 0)
        self._pool.labels("steps").set_function(lambda: float(checked_out()))
        self._pool_size.labels("steps").set(size)
