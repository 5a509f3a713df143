"""What effects may touch: built once in worker.py, handed to every node."""

from dataclasses import dataclass, field

from temporalio.client import Client as TemporalClient

from activities.clients.http import Client as HTTPClient
from activities.clients.limits import Watch
from activities.clients.smtp import SMTPClient
from activities.metrics import Metrics
from db.session import Database


@dataclass(frozen=True)
class World:
    """The outside, by its doors."""

    database: Database
    temporal: TemporalClient
    http: HTTPClient
    smtp: SMTPClient
    mail_from: str
    public_url: str
    master_key: bytes
    task_queue: str
    metrics: Metrics = field(default_factory=Metrics)
    limits: Watch = field(default_factory=Watch)
    """Which vendors' queues are limited now."""
