"""How often somebody may ask in one process: a burst, and a rate after it."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from time import monotonic


class Allowance:
    """Counts by caller; who has not asked for long is forgotten, and starts with a full burst."""

    def __init__(
        self, *, burst: int, per_second: float, callers: int = 10_000, clock: Callable[[], float] = monotonic
    ) -> None:
        self._burst, self._rate, self._callers, self._clock = burst, per_second, callers, clock
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, caller: Hashable, *, count: int = 1) -> float:
        """Take so many, never more than a burst; return 0, or the seconds until there are so many to take."""
        now = self._clock()
        left, then = self._left.pop(caller, (float(self._burst), now))
        left = min(left + (now - then) * self._rate, float(self._burst))
        wait = 0.0 if left >= count else (count - left) / self._rate
        self._left[caller] = (left if wait else left - count, now)
        if len(self._left) > self._callers:
            self._left.popitem(last=False)
        return wait
