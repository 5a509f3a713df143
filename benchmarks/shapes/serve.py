"""One process of the hand-written shapes: `python -m shapes.serve api|worker <card>`."""

import asyncio
import json
import sys
import uuid
from pathlib import Path
from typing import Any

import psycopg
import uvicorn
from fastapi import FastAPI, Request
from temporalio.client import Client
from temporalio.worker import Worker

from shapes.acts import EVENT, LEAD, RUN, Acts, Pool
from shapes.flows import Form, Lean, Tutorial


async def api(card: dict[str, Any]) -> None:
    """Take forms in and start their runs; the lean one commits the lead before it answers.

    The bare one does all there is to do before it answers, and starts nothing.
    """
    application, pool = FastAPI(), Pool(card["database_url"])
    await pool.open()
    acts = Acts(pool, smtp_port=card["smtp_port"], hook_url=card["hook_url"])
    lean, tutorial = await Client.connect(card["lean"]), await Client.connect(card["tutorial"])

    @application.post("/lean")
    async def post_lean(request: Request) -> dict[str, str]:
        form = _form(await request.json())
        async with pool.transaction() as connection:
            await _save(connection, form)
            await connection.execute(RUN, (form.run_id, form.lead_id))
        await lean.start_workflow(Lean.run, form, id=f"lean-{form.run_id}", task_queue="hand")
        return {"run_id": form.run_id}

    @application.post("/tutorial")
    async def post_tutorial(request: Request) -> dict[str, str]:
        form = _form(await request.json())
        await tutorial.start_workflow(Tutorial.run, form, id=f"tutorial-{form.run_id}", task_queue="hand")
        return {"run_id": form.run_id}

    @application.post("/bare")
    async def post_bare(request: Request) -> dict[str, str]:
        form = _form(await request.json())
        async with pool.transaction() as connection:
            await _save(connection, form)
        await acts.save_status(form)
        await acts.send_mail(form)
        await acts.call_webhook(form)
        return {"run_id": form.run_id}

    config = uvicorn.Config(application, port=card["api_port"], log_level="warning", access_log=False)
    await uvicorn.Server(config).serve()


async def _save(connection: psycopg.AsyncConnection[Any], form: Form) -> None:
    """Write the lead and what it did."""
    await connection.execute(LEAD, (form.lead_id, form.email, "{}"))
    await connection.execute(EVENT, (uuid.uuid4(), form.lead_id, "FORM_SUBMITTED"))


def _form(answers: dict[str, Any]) -> Form:
    budget = int(str(answers["budget"]).strip("$+"))
    return Form(str(uuid.uuid4()), str(uuid.uuid4()), str(answers["email"]).lower(), budget)


async def worker(card: dict[str, Any]) -> None:
    """Work on both servers."""
    pool = Pool(card["database_url"])
    await pool.open()
    acts = Acts(pool, smtp_port=card["smtp_port"], hook_url=card["hook_url"])
    async with (
        Worker(
            await Client.connect(card["lean"]), task_queue="hand", workflows=[Lean], activities=acts.all()
        ),
        Worker(
            await Client.connect(card["tutorial"]),
            task_queue="hand",
            workflows=[Tutorial],
            activities=acts.all(),
        ),
    ):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run({"api": api, "worker": worker}[sys.argv[1]](json.loads(Path(sys.argv[2]).read_text())))
