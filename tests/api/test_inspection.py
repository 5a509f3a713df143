"""Looking at a run through the API while Temporal is away: the rows still say where it stands."""

import pytest

from tests.api.conftest import Publish, Tenant

pytestmark = pytest.mark.anyio


async def test_without_temporal_a_run_is_shown_with_the_reason_why_nothing_is_known_of_its_waits(
    publish: Publish, anonymous, acme: Tenant
):
    form = await publish()
    run_id = (await anonymous.post(form.path, json={"email": "a@example.com"})).json()["execution_id"]
    run = (await acme.client.get(f"/v1/executions/{run_id}")).json()
    assert (run["status"], run["live"], run["live_missing"]) == ("queued", None, "temporal_unreachable")
    told = (await acme.client.get(f"/v1/executions/{run_id}/why")).json()
    assert (told["code"], told["facts"]["temporal"]) == ("temporal_unreachable", "unreachable")
    assert told["sentence"] == "Queued because Temporal cannot be reached; the run starts once it is back."

    await acme.client.post(f"/v1/workflows/{form.workflow_id}/pause")
    told = (await acme.client.get(f"/v1/executions/{run_id}/why")).json()
    assert told["code"] == "workflow_paused"
    assert told["sentence"] == "Queued because the workflow “Contact” is paused."
    assert told["facts"]["workflow_id"] == form.workflow_id

    await acme.client.post(f"/v1/executions/{run_id}/cancel")
    run = (await acme.client.get(f"/v1/executions/{run_id}")).json()
    assert (run["status"], run["live_missing"]) == ("cancelled", "run_over")
