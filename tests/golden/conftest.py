"""The house that scenes are played in: a mail server with moods, a Temporal server with a short memory."""

import json
from collections.abc import AsyncIterator

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from temporalio.testing import WorkflowEnvironment

from local import mail, temporal
from tests import servers
from tests.e2e import house as building
from tests.e2e.house import House
from tests.e2e.target import Target
from tests.golden.scenes import SCENES, Scene


class Moody(mail.Catcher):
    """A mail catcher that puts the first mails off."""

    refusals = 0

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Answer 451 as often as told."""
        if self.refusals:
            self.refusals -= 1
            return "451 4.3.0 Come back later"
        return await super().handle_DATA(server, session, envelope)


@pytest.fixture
def scene(request: pytest.FixtureRequest) -> Scene:
    """Find the scene that is played."""
    return SCENES[request.node.callspec.params["name"]]


@pytest.fixture
async def catcher(tmp_path_factory: pytest.TempPathFactory, scene: Scene) -> AsyncIterator[Moody]:
    """Catch mail, in the mood that the scene asks for."""
    catcher = Moody(tmp_path_factory.mktemp("mail"))
    catcher.refusals = scene.refusals
    await catcher.start(smtp_port=0, http_port=0)
    yield catcher
    await catcher.stop()


@pytest.fixture
async def address(scene: Scene) -> AsyncIterator[str]:
    """Give the run's Temporal server, or one of the scene's own that soon asks for continue-as-new."""
    if scene.history_limit is None:
        yield servers.address("temporal")
        return
    settings = {
        **temporal.dynamic_config(["127.0.0.1:*"]),
        "limit.historyCount.suggestContinueAsNew": scene.history_limit,
    }
    flags = [("--dynamic-config-value", f"{name}={json.dumps(value)}") for name, value in settings.items()]
    flags += [("--search-attribute", f"{name}=Keyword") for name in temporal.SEARCH_ATTRIBUTES]
    async with await WorkflowEnvironment.start_local(
        dev_server_existing_path=temporal.executable(),
        dev_server_extra_args=[part for flag in flags for part in flag],
    ) as environment:
        yield environment.client.service_client.config.target_host


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    """Listen for webhooks."""
    target = Target()
    await target.start()
    yield target
    await target.stop()


@pytest.fixture
async def house(
    database_url: str, address: str, task_queue: str, catcher: Moody, target: Target
) -> AsyncIterator[House]:
    """Build the house for a scene."""
    async with building.built(database_url, address, task_queue, catcher, target, encrypts=False) as house:
        yield house
        await house.expect_rebuildable()
