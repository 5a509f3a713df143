"""docker-compose.yml and the Dockerfile: the many-machines shape, checked without an engine."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from settings import REQUIRED_IN_PRODUCTION

ROOT = Path(__file__).parents[2]


def parse(compose: dict[str, Any]) -> Any:
    """Read a Compose file by the Compose specification, as Compose does: merged and interpolated first."""
    text = yaml.safe_dump(compose, width=10_000)
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    return PyCompose.from_yaml(re.sub(r"\$\{\w+:\?\}", "given", text))


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_the_compose_file_follows_the_compose_specification(compose):
    assert set(parse(compose).service_names()) == set(compose["services"])


def test_a_compose_file_with_a_misspelt_key_is_refused(compose):
    api = {**compose["services"]["api"], "depends_onn": ["postgres"]}
    with pytest.raises(ValueError, match="depends_onn"):
        parse({**compose, "services": {**compose["services"], "api": api}})


def test_it_has_the_parts_of_the_many_machines_shape(compose):
    assert {"postgres", "temporal", "temporal-ui", "migrate", "api", "worker"} <= set(compose["services"])


def test_every_image_is_pinned_to_a_version(compose):
    for name, service in compose["services"].items():
        assert re.fullmatch(r"[a-z/-]+:\d+\.\d+(\.\d+)?", service["image"]), name


@pytest.mark.parametrize("name", ["postgres", "temporal", "api"])
def test_what_others_wait_for_has_a_health_check(compose, name):
    assert compose["services"][name]["healthcheck"]["test"]


@pytest.mark.parametrize("name", ["migrate", "api", "worker"])
def test_production_gets_every_variable_it_refuses_to_start_without(compose, name):
    given = compose["services"][name]["environment"]
    assert {f"FLOWTRACK_{field.upper()}" for field in REQUIRED_IN_PRODUCTION} <= set(given)


@pytest.mark.parametrize("name", ["api", "worker"])
def test_temporal_may_tell_the_api_of_closes(compose, name):
    url = compose["services"][name]["environment"]["FLOWTRACK_CALLBACK_URL"]
    allowed = yaml.safe_load(compose["configs"]["temporal-dynamic-config"]["content"])
    rules = [rule["Pattern"] for value in allowed["callback.allowedAddresses"] for rule in value["value"]]
    assert rules == [url.removeprefix("http://")]


def test_no_secret_has_a_default(compose):
    text = (ROOT / "docker-compose.yml").read_text()
    for name in ("POSTGRES_PASSWORD", "FLOWTRACK_APP_PASSWORD", "FLOWTRACK_MASTER_KEY"):
        assert set(re.findall(rf"\$\{{{name}[^}}]*\}}", text)) == {f"${{{name}:?}}"}


def test_every_file_that_the_image_copies_exists():
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source


def test_the_image_holds_every_package_of_the_wheel():
    wheel = re.search(r"only-include = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL)
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert wheel is not None
    for name in re.findall(r'"([^"]+)"', wheel.group(1)):
        assert re.search(rf"COPY .*\b{re.escape(name)}\b", dockerfile), name
