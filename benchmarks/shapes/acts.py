"""The hand-written activities, over the same clients as FlowTrack's, or over the ones that tutorials use."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.message import EmailMessage
from typing import Any

import aiosmtplib
import httpx
import psycopg
from temporalio import activity

from activities.clients import addresses, http, smtp
from local import ports
from shapes.flows import Form, Record

TABLES = """
    CREATE SCHEMA IF NOT EXISTS hand;
    CREATE TABLE IF NOT EXISTS hand.leads (id uuid PRIMARY KEY, email text, status text, data jsonb);
    CREATE TABLE IF NOT EXISTS hand.events (id uuid PRIMARY KEY, lead_id uuid, type text, data jsonb);
    CREATE TABLE IF NOT EXISTS hand.runs (id uuid PRIMARY KEY, lead_id uuid, status text);
    CREATE TABLE IF NOT EXISTS hand.steps (
        id uuid PRIMARY KEY, run_id uuid, node text, input jsonb, output jsonb)
"""
LEAD = "INSERT INTO hand.leads VALUES (%s, %s, 'NEW', %s)"
EVENT = "INSERT INTO hand.events VALUES (%s, %s, %s, '{}')"
RUN = "INSERT INTO hand.runs VALUES (%s, %s, 'queued')"
STEP = "INSERT INTO hand.steps VALUES (%s, %s, %s, %s, %s)"
STATUS = "UPDATE hand.leads SET status = 'QUALIFIED' WHERE id = %s"
DONE = "UPDATE hand.runs SET status = 'completed' WHERE id = %s"


class Pool:
    """A few connections, handed out in turn."""

    def __init__(self, url: str, size: int = 8) -> None:
        self._url, self._size = url, size
        self._free = asyncio.LifoQueue[psycopg.AsyncConnection[Any]]()

    async def open(self) -> None:
        """Connect."""
        for _ in range(self._size):
            self._free.put_nowait(await psycopg.AsyncConnection.connect(self._url))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """Hold a connection for one transaction."""
        connection = await self._free.get()
        try:
            yield connection
            await connection.commit()
        finally:
            self._free.put_nowait(connection)


class Acts:
    """Everything that the workflows do to the world."""

    def __init__(self, pool: Pool, *, smtp_port: int, hook_url: str) -> None:
        self._pool, self._smtp_port, self._hook_url = pool, smtp_port, hook_url
        self._mailer = smtp.SMTPClient(
            ports.HOST, smtp_port, tls=smtp.TLS.NONE, policy=addresses.MAIL_OPERATOR
        )
        self._caller = http.Client(addresses.DEVELOPMENT)

    def all(self) -> list[Callable[..., Any]]:
        """Return them for a worker."""
        lean = [self.decide, self.save_status, self.send_mail, self.call_webhook, self.record]
        return [*lean, self.save_lead, self.send_mail_simply, self.call_webhook_simply]

    @activity.defn
    async def decide(self, form: Form) -> dict[str, Any]:
        """Weigh the budget."""
        return {"big": form.budget >= 5000}

    @activity.defn
    async def save_status(self, form: Form) -> dict[str, Any]:
        """Move the lead and note it."""
        async with self._pool.transaction() as connection:
            await connection.execute(STATUS, (form.lead_id,))
            await connection.execute(EVENT, (uuid.uuid4(), form.lead_id, "STATUS_CHANGED"))
        return {"status": "QUALIFIED"}

    @activity.defn
    async def send_mail(self, form: Form) -> dict[str, Any]:
        """Send by a pooled connection."""
        async with self._mailer.connection() as line:
            await line.send(_mail(form).as_bytes(), "a@example.com", [form.email])
        return {"sent": form.email}

    @activity.defn
    async def call_webhook(self, form: Form) -> dict[str, Any]:
        """Post by a pooled connection."""
        headers = {"content-type": "application/json"}
        reply = await self._caller.send("POST", self._hook_url, headers, json.dumps(vars(form)).encode())
        return {"status": reply.status}

    @activity.defn
    async def record(self, record: Record) -> None:
        """Write the steps' rows and the run's end."""
        async with self._pool.transaction() as connection:
            rows = [
                (uuid.uuid4(), record.run_id, step["node"], *map(json.dumps, (step["input"], step["output"])))
                for step in record.steps
            ]
            await connection.cursor().executemany(STEP, rows)
            await connection.execute(DONE, (record.run_id,))

    @activity.defn
    async def save_lead(self, form: Form) -> None:
        """Write lead and event, on a connection of its own."""
        async with await psycopg.AsyncConnection.connect(self._pool._url) as connection:
            await connection.execute(LEAD, (form.lead_id, form.email, "{}"))
            await connection.execute(EVENT, (uuid.uuid4(), form.lead_id, "FORM_SUBMITTED"))

    @activity.defn
    async def send_mail_simply(self, form: Form) -> None:
        """Send as aiosmtplib's own example does."""
        await aiosmtplib.send(_mail(form), hostname=ports.HOST, port=self._smtp_port)

    @activity.defn
    async def call_webhook_simply(self, form: Form) -> None:
        """Post as httpx's own example does."""
        async with httpx.AsyncClient(trust_env=False) as client:
            (await client.post(self._hook_url, json=vars(form))).raise_for_status()


def _mail(form: Form) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@example.com", form.email, "Thank you"
    message.set_content("We will be in touch.")
    return message
