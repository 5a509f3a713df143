"""A mirror in a process of its own, so that what it costs can be told from what the API costs."""

import asyncio

from activities.clients import payloads, temporal
from activities.clients.blobs import Blobs
from activities.clients.keyring import Keyring
from api.mirror.mirror import Mirror
from db.session import Database
from settings import load


async def main() -> None:
    """Mirror until killed, with what the environment points to."""
    settings = load()
    database = Database(settings.database_url, pool_size=settings.database_pool_size)
    converter = payloads.converter(Keyring(database, settings.master_key_bytes), Blobs(database))
    client = await temporal.connect(
        settings.temporal_address, settings.temporal_namespace, data_converter=converter
    )
    await Mirror(client, database, database_url=settings.database_url).run()


if __name__ == "__main__":
    asyncio.run(main())
