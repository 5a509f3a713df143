"""Whether the process lives and whether it can work."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from api import errors
from api.deps import OurPlatform, Platform
from db import migrate

router = APIRouter(tags=["health"])


class Alive(BaseModel):
    """The process answers."""

    model_config = ConfigDict(title="Alive")

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """What the API depends on."""

    model_config = ConfigDict(title="Ready")

    status: Literal["ready", "degraded"]
    database: Literal["reachable"] = "reachable"
    schema_revision: str
    temporal: Literal["reachable", "unreachable"]


@router.get("/healthz", summary="Tell whether the process lives")
async def health_live() -> Alive:
    """Answers as long as the process does; asks nobody."""
    return Alive()


@router.get("/readyz", summary="Tell whether the API can work")
async def health_ready(platform: OurPlatform) -> Ready:
    """503 without a migrated database. Without Temporal the API is `degraded` and still takes submissions,
    so a load balancer must not take it away."""
    revision = await _revision(platform)
    reachable = await platform.starter.is_reachable()
    return Ready(
        status="ready" if reachable else "degraded",
        schema_revision=revision,
        temporal="reachable" if reachable else "unreachable",
    )


async def _revision(platform: Platform) -> str:
    try:
        async with platform.database.engine.connect() as connection:
            revision = await connection.run_sync(_applied)
    except SQLAlchemyError as error:
        raise errors.Unavailable("The database cannot be reached.") from error
    if revision is None or revision != migrate.newest():
        raise errors.Unavailable("The database is not migrated to this version of FlowTrack.", retry_after=5)
    return revision


def _applied(connection: Connection) -> str | None:
    return migrate.applied(connection)
