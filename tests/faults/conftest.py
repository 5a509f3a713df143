"""One real machine for the tests of a process; after each of them the invariants must hold."""

from collections.abc import Iterator

import pytest

from tests.faults import invariants
from tests.faults.machine import Machine

failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """Note a failed test: what it left behind half-done proves nothing more."""
    report = yield
    if report.when == "call":
        item.stash[failed] = report.failed
    return report


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Start `flowtrack up`; it must stop cleanly whatever was done to it."""
    machine = Machine(tmp_path_factory.mktemp("faults") / "data", arguments=("--no-demo",))
    try:
        machine.wait_until_up()
        machine.subscribe()
        # The demo's plan is small; quotas are other tests' matter.
        machine.rows("UPDATE usage_quotas SET quota_limit = NULL")
        yield machine
    finally:
        code = machine.stop()
    assert code == 0, machine.said


@pytest.fixture
def machine(house: Machine, request: pytest.FixtureRequest) -> Iterator[Machine]:
    """Give the machine, and check afterwards that nothing was lost or doubled."""
    yield house
    if not request.node.stash.get(failed, False):
        invariants.check(house)


@pytest.fixture
def rough(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Start a machine for one test alone: what is done to it leaves doubts."""
    machine = Machine(tmp_path_factory.mktemp("rough") / "data", arguments=("--no-demo",))
    try:
        machine.wait_until_up()
        machine.subscribe()
        machine.rows("UPDATE usage_quotas SET quota_limit = NULL")
        yield machine
    finally:
        code = machine.stop()
    assert code == 0, machine.said
