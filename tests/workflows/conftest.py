"""What the tests of the pure room share."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from hypothesis import settings

# A failure found by chance must be found again: hypothesis prints what repeats it.
settings.register_profile("repeatable", print_blob=True)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def within() -> Callable[[float], AbstractContextManager[None]]:
    """Fail when a block takes more seconds of this process's own work than given."""

    @contextmanager
    def measured(seconds: float) -> Iterator[None]:
        start = time.process_time()
        yield
        took = time.process_time() - start
        assert took <= seconds, f"took {took:.2f} s, at most {seconds} s allowed"

    return measured
