"""A stage for one node: a workspace with a lead and a run, real servers, and the node's real activity."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment
from uuid_utils.compat import uuid7

from activities.clients import addresses, temporal
from activities.clients.http import Client as HTTPClient
from activities.clients.smtp import TLS, SMTPClient
from activities.steps import Steps
from activities.world import World
from db import leads
from db.models import Effect, FormField, Lead, LeadEvent, UsageEvent
from db.session import Database
from local.mail import Catcher
from tests.db.conftest import Place, queued, settle
from workflows import conditions, nodes, templates
from workflows.graph import Node
from workflows.messages import EdgeRule, StepInput
from workflows.nodetype import marked_values

MASTER_KEY = bytes(range(32))
Shape = Callable[[StepInput], StepInput]


@dataclass
class Stage:
    """Runs nodes for one lead and looks at what they left behind."""

    place: Place
    world: World
    execution_id: UUID
    lead_id: UUID | None
    trigger: dict[str, Any] = field(default_factory=dict)

    @property
    def database(self) -> Database:
        """The test's database."""
        return self.world.database

    async def scope(self) -> dict[str, Any]:
        """Build what the run knows, the lead as it stands."""
        async with self.database.workspace(self.place.workspace_id) as session:
            lead = await leads.scope(session, self.place.workspace_id, self.lead_id) if self.lead_id else {}
        return {"trigger": self.trigger, "lead": lead or {}, "execution": {"id": str(self.execution_id)}}

    async def given(self, node_type: str, config: dict[str, Any], **changes: Any) -> StepInput:
        """Build a step's input as a published graph and a run would."""
        reads = set(_reads(node_type, config))
        node = Node(id="n1", type=node_type, config=config, save_as="n1", reads=tuple(sorted(reads)))
        return StepInput(
            workspace_id=self.place.workspace_id,
            workflow_id=self.place.workflow_id,
            execution_id=self.execution_id,
            lead_id=self.lead_id,
            node=node,
            scope=await self.scope(),
        ).model_copy(update=changes)

    async def run(
        self,
        node_type: str,
        config: dict[str, Any],
        *,
        attempt: int = 1,
        local: bool = False,
        world: World | None = None,
        **changes: Any,
    ) -> Any:
        """Carry a step out by its activity, and return its Outcome; tests look deep into it."""
        given = await self.given(node_type, config, **changes)
        environment = ActivityEnvironment()
        environment.info = replace(environment.info, attempt=attempt, is_local=local)
        run = activity_of(node_type, world or self.world)
        return await environment.run(run, given)

    async def fail(self, node_type: str, config: dict[str, Any], **options: Any) -> ApplicationError:
        """Carry a step out that must fail, and return its failure."""
        with pytest.raises(ApplicationError) as failure:
            await self.run(node_type, config, **options)
        return failure.value

    async def rows(self, model: type[Any]) -> list[Any]:
        """Read the workspace's rows of a table in the order they were made."""
        async with self.database.workspace(self.place.workspace_id) as session:
            found = await session.execute(select(model).order_by(*model.__table__.primary_key))
            return list(found.scalars())

    async def events(self) -> list[tuple[str, dict[str, Any]]]:
        """Read the lead's timeline."""
        return [(row.event_type, row.event_metadata) for row in await self.rows(LeadEvent)]

    async def effects(self) -> dict[str, str]:
        """Read how each effect stands."""
        return {row.effect: row.status for row in await self.rows(Effect)}

    async def uses(self) -> list[str]:
        """Read the usage events."""
        return [row.event_type for row in await self.rows(UsageEvent)]

    async def lead(self) -> Lead:
        """Read the lead's row."""
        (lead,) = [row for row in await self.rows(Lead) if row.id == self.lead_id]
        assert isinstance(lead, Lead)
        return lead

    async def change_lead(self, **values: Any) -> None:
        """Change the lead behind the run's back."""
        async with self.database.workspace(self.place.workspace_id) as session:
            lead = await session.get(Lead, self.lead_id)
            for name, value in values.items():
                setattr(lead, name, value)


def _reads(node_type: str, config: dict[str, Any]) -> set[str]:
    found: set[str] = set()
    for _, marker, value in marked_values(nodes.types()[node_type].Config, config):
        found |= conditions.reads(value) if marker.kind == "rule" else templates.reads(value)
    return found


def activity_of(node_type: str, world: World) -> Callable[..., Awaitable[Any]]:
    """Find a node type's activity as a worker registers it."""
    steps = Steps(world)
    queue = nodes.types()[node_type].queue
    for run in steps.activities(queue):
        definition = activity._Definition.must_from_callable(run)
        if definition.name == node_type:
            return run
    raise LookupError(node_type)


@pytest.fixture
async def world(database: Database, smtp_catcher: Catcher, task_queue: str) -> AsyncIterator[World]:
    """Build the outside; Temporal is not there unless a test brings it."""
    http = HTTPClient(addresses.DEVELOPMENT)
    smtp = mail_client(smtp_catcher.smtp_port)
    yield World(
        database=database,
        temporal=await temporal.connect("127.0.0.1:1", lazy=True),
        http=http,
        smtp=smtp,
        mail_from="FlowTrack <hello@flowtrack.example>",
        public_url="http://127.0.0.1:8000",
        master_key=MASTER_KEY,
        task_queue=task_queue,
    )
    await http.aclose()
    await smtp.aclose()


def mail_client(port: int, **options: Any) -> SMTPClient:
    """Build a client of a mail server on this machine."""
    return SMTPClient("127.0.0.1", port, tls=TLS.NONE, policy=addresses.MAIL_OPERATOR, **options)


@pytest.fixture
async def stage(database: Database, world: World) -> Stage:
    """Set the stage: a lead, Ada, who filled in a form with a budget, and her run."""
    place = await settle(database, "here")
    lead_id, execution_id = uuid7(), uuid7()
    key = {"workspace_id": place.workspace_id, "workflow_id": place.workflow_id}
    async with database.workspace(place.workspace_id) as session:
        session.add(FormField(**key, id=uuid7(), field_key="budget", label="Budget", field_type="NUMBER"))
        session.add(FormField(**key, id=uuid7(), field_key="notes", label="Notes", field_type="TEXT"))
        session.add(Lead(**key, id=lead_id, email="ada@example.com", first_name="Ada", status="NEW"))
        await session.flush()
        session.add(queued(place, id=execution_id, lead_id=lead_id))
        await leads.set_fields(session, place.workspace_id, lead_id, {"budget": "5000"})
    return Stage(place, world, execution_id, lead_id, trigger={"budget": "$5000"})


def rule_on_edge(edge_id: str, rule: dict[str, Any]) -> EdgeRule:
    """Put a rule on an outgoing edge."""
    return EdgeRule(edge_id=edge_id, handle=None, rule=rule)
