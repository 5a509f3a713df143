"""Serving an app on a port of its own, for whoever calls it over the network."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from api.server import DeadlineProtocol
from local import ports


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[str]:
    """Serve an app as `flowtrack api` does, beside the test; yield its URL. Its lifespan is the test's."""
    config = uvicorn.Config(
        app, host=ports.HOST, port=0, http=DeadlineProtocol, lifespan="off", ws="none", log_config=None
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield f"http://{ports.HOST}:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        await server.shutdown()
