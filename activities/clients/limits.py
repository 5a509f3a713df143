"""How fast the vendors' task queues are worked off: Temporal keeps these limits, the same for all workers.

A queue's limit holds for all of it, the other one for each workspace, whose id is the tasks' fairness key.
"""

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal

import structlog
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import RateLimit, RateLimitConfig, TaskQueue, TaskQueueConfig
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, UpdateTaskQueueConfigRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

log = structlog.get_logger()

QUEUES = ("mail", "http", "webhooks")
"""One queue for each class of vendor, so that each has its own limits (design §5)."""
RPC_TIMEOUT = timedelta(seconds=5)
FASTEST = 100_000.0
"""A second; what a worker takes at most."""
LONGEST_REASON = 500
EVERY = 5.0
"""Seconds between a worker's looks: so long an old limit still holds for first attempts."""
SAME: Literal["same"] = "same"
ACTIVITY = TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
RateLimitUpdate = UpdateTaskQueueConfigRequest.RateLimitUpdate


class Unsupported(Exception):
    """This Temporal server keeps no limits of task queues; a newer version does."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


@dataclass(frozen=True)
class Limit:
    """How many tasks begin a second at most; 0 holds them all. Who said so, when and why."""

    per_second: float
    reason: str
    by: str
    at: datetime | None


@dataclass(frozen=True)
class Standing:
    """A queue's limits, and what waits in it."""

    queue: str
    whole: Limit | None
    each_workspace: Limit | None
    backlog: int
    oldest: timedelta

    @property
    def is_limited(self) -> bool:
        """Tell whether anything limits it."""
        return self.whole is not None or self.each_workspace is not None


@dataclass(frozen=True)
class Change:
    """New limits; one that is None is taken away, one that is not named stays."""

    per_second: float | Literal["same"] | None = SAME
    per_workspace: float | Literal["same"] | None = SAME
    reason: str = ""
    by: str = ""


async def standing(client: Client, queue: str, *, task_queue: str) -> Standing:
    """Read a queue's limits and its backlog; raise RPCError or RuntimeError in an outage."""
    request = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=f"{task_queue}-{queue}"),
        task_queue_type=ACTIVITY,
        report_config=True,
        report_stats=True,
    )
    found = await client.workflow_service.describe_task_queue(request, timeout=RPC_TIMEOUT)
    stats = found.stats
    waiting = stats.approximate_backlog_count, stats.approximate_backlog_age.ToTimedelta()
    return limited(Standing(queue, None, None, *waiting), found.config)


def limited(standing: Standing, config: TaskQueueConfig) -> Standing:
    """Give a queue the limits that a configuration has."""
    return replace(
        standing,
        whole=_read(config.queue_rate_limit),
        each_workspace=_read(config.fairness_keys_rate_limit_default),
    )


async def change(client: Client, queue: str, wanted: Change, *, task_queue: str) -> TaskQueueConfig:
    """Set a queue's limits for all workers, at once. Raises as `standing`; Unsupported by an old server.

    What is read in the moment after may still be the old ones: the answer has the new ones.
    """
    request = UpdateTaskQueueConfigRequest(
        namespace=client.namespace,
        identity=wanted.by,
        task_queue=f"{task_queue}-{queue}",
        task_queue_type=ACTIVITY,
        update_queue_rate_limit=_update(wanted.per_second, wanted.reason),
        update_fairness_key_rate_limit_default=_update(wanted.per_workspace, wanted.reason),
    )
    try:
        answer = await client.workflow_service.update_task_queue_config(request, timeout=RPC_TIMEOUT)
    except RPCError as error:
        if error.status == RPCStatusCode.UNIMPLEMENTED:
            raise Unsupported from error
        raise
    return answer.config


class Throttle:
    """The operator's hand on the queues of one installation."""

    def __init__(self, client: Client, *, task_queue: str) -> None:
        self._client = client
        self._task_queue = task_queue

    async def standings(self) -> list[Standing]:
        """Read every queue's limits and backlog. Raises as `standing`."""
        asked = (standing(self._client, queue, task_queue=self._task_queue) for queue in QUEUES)
        return await asyncio.gather(*asked)

    async def change(self, queue: str, wanted: Change) -> Standing:
        """Set a queue's limits and tell how it stands. Raises as `change`."""
        config = await change(self._client, queue, wanted, task_queue=self._task_queue)
        return limited(await standing(self._client, queue, task_queue=self._task_queue), config)


class Watch:
    """Knows in a worker which queues are limited now: their steps take no fast path around the queue."""

    def __init__(self) -> None:
        self._limited: frozenset[str] = frozenset()

    def is_limited(self, queue: str | None) -> bool:
        """Tell whether a queue was limited at the last look."""
        return queue in self._limited

    async def look(self, client: Client, *, task_queue: str) -> None:
        """Look at all of them; what an outage hides stays as it was."""
        try:
            found = await Throttle(client, task_queue=task_queue).standings()
        except (RPCError, RuntimeError) as error:
            log.warning("limits not read", reason=str(error)[:200])
            return
        self._limited = frozenset(each.queue for each in found if each.is_limited)

    async def keep_looking(self, client: Client, *, task_queue: str) -> None:
        """Look again and again until cancelled."""
        while True:
            await asyncio.sleep(EVERY)
            await self.look(client, task_queue=task_queue)


def _update(per_second: float | Literal["same"] | None, reason: str) -> RateLimitUpdate | None:
    if per_second == SAME:
        return None
    if per_second is None:
        return RateLimitUpdate(reason=reason)
    return RateLimitUpdate(rate_limit=RateLimit(requests_per_second=per_second), reason=reason)


def _read(config: RateLimitConfig) -> Limit | None:
    if not config.HasField("rate_limit"):
        return None
    told = config.metadata
    at = told.update_time.ToDatetime(tzinfo=UTC) if told.HasField("update_time") else None
    return Limit(round(config.rate_limit.requests_per_second, 6), told.reason, told.update_identity, at)
