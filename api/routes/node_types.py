"""The palette: every node type, from the registry."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from api import errors
from api.auth import Caller, requires
from api.schemas import JsonObject
from workflows import nodes
from workflows.nodetype import NodeType

router = APIRouter(tags=["workflows"])


class NodeTypeShown(BaseModel):
    """A node type, with all that an editor needs to offer it."""

    model_config = ConfigDict(title="NodeType")

    name: str = Field(examples=["UTILITY_LOG"])
    title: str = Field(examples=["Write to the log"])
    summary: str
    kind: str = Field(description="trigger, action, logic or utility", examples=["utility"])
    handles: list[str] = Field(
        description="The ways out; some types add more by their config.", examples=[["default"]]
    )
    config_schema: JsonObject = Field(description="JSON Schema of `data.config`.")
    output_schema: JsonObject = Field(
        description="JSON Schema of what its steps output, under `steps.`; empty where the config decides."
    )
    example: JsonObject = Field(description="A config that is valid.")


class NodeTypes(BaseModel):
    """All node types."""

    model_config = ConfigDict(title="NodeTypes")

    data: list[NodeTypeShown]


@router.get("/v1/node-types", summary="List node types")
async def node_types_list(caller: Annotated[Caller, requires("workflows:read")]) -> NodeTypes:
    """Everything that can stand in a graph, by name."""
    return NodeTypes(data=[_shown(node_type) for node_type in nodes.types().values()])


@router.get("/v1/node-types/{name}", summary="Read a node type")
async def node_type_show(name: str, caller: Annotated[Caller, requires("workflows:read")]) -> NodeTypeShown:
    """One node type by its name."""
    known: Mapping[str, type[NodeType]] = nodes.types()
    if name not in known:
        raise errors.NotFound()
    return _shown(known[name])


def _shown(node_type: type[NodeType]) -> NodeTypeShown:
    schema: dict[str, Any] = node_type.Config.model_json_schema(by_alias=True)
    handles = (*node_type.handles, "error") if node_type.kind() == "action" else node_type.handles
    return NodeTypeShown(
        name=node_type.name,
        title=node_type.title,
        summary=node_type.summary,
        kind=node_type.kind(),
        handles=list(handles),
        config_schema=schema,
        output_schema=node_type.output_schema(),
        example=node_type.example,
    )
