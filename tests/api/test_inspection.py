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


async def test_a_workflow_s_overlay_is_of_a_bounded_time_and_of_what_was_published(
    publish: Publish, anonymous, acme: Tenant
):
    form = await publish()
    await anonymous.post(form.path, json={"email": "a@example.com"})
    path = f"/v1/workflows/{form.workflow_id}/overlay"
    drawn = (await acme.client.get(path)).json()
    assert (drawn["version"], drawn["runs"], drawn["is_partial"]) == (1, 1, False)
    assert drawn["nodes"].keys() == {"form", "log"}
    assert drawn["edges"] == {"e1": {"count": 0}}
    assert drawn["from"] < drawn["to"]

    early = {"from": "2020-01-01T00:00:00Z", "to": "2020-02-01T00:00:00Z"}
    assert (await acme.client.get(path, params=early)).json()["runs"] == 0
    wrong = (
        {"from": "2020-02-01T00:00:00Z", "to": "2020-01-01T00:00:00Z"},
        {"from": "2020-01-01T00:00:00Z", "to": "2021-01-01T00:00:00Z"},
    )
    for query, code in zip(wrong, ("empty_period", "long_period"), strict=True):
        refused = await acme.client.get(path, params=query)
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["code"] == code
        assert refused.json()["errors"][0]["remedy"]
    for query in (
        {"to": "0001-01-02T00:00:00Z"},
        {"from": "0001-01-01T00:00:00+14:00"},
        {"to": "9999-12-31T23:00:00-12:00"},
        {"to": "2200-01-01T00:00:00Z"},
    ):
        refused = await acme.client.get(path, params=query)
        assert refused.status_code == 422
        assert [each["parameter"] for each in refused.json()["errors"]] == list(query)
    assert (await acme.client.get(path, params={"version": 1})).json()["runs"] == 1
    assert (await acme.client.get(path, params={"version": 9})).status_code == 404

    unpublished = await acme.make("/v1/workflows", {"name": "New"})
    refused = await acme.client.get(f"/v1/workflows/{unpublished['id']}/overlay")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_published")
