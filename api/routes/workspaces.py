"""The workspace that the key belongs to."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from api import errors
from api.auth import Caller, requires
from api.deps import Session
from api.schemas import JsonObject, Shown
from db.models import Workspace

router = APIRouter(tags=["workspace"])


class WorkspaceShown(Shown):
    """A workspace."""

    model_config = ConfigDict(title="Workspace", from_attributes=True)

    id: UUID
    name: str = Field(examples=["Acme"])
    slug: str = Field(examples=["acme"])
    timezone: str = Field(examples=["Europe/Berlin"])
    intake_email: str | None
    settings: JsonObject
    created_at: datetime
    updated_at: datetime


@router.get("/v1/workspace", summary="Read the workspace")
async def workspace_show(
    caller: Annotated[Caller, requires("workspace:read")], session: Session
) -> WorkspaceShown:
    """The workspace that the API key speaks for."""
    found = await session.get(Workspace, caller.workspace_id)
    if found is None:
        raise errors.NotFound()
    return WorkspaceShown.model_validate(found)
