"""The demo of `flowtrack up`: its workspace, and the tour that is printed once everything runs."""

import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path


async def seed(verb: Callable[..., Awaitable[str]], *, api_url: str, card: Path) -> dict[str, object]:
    """Have `flowtrack seed` make the demo, or find it again; say how to reach it."""
    printed = await verb("seed", "--card", str(card), "--api-url", api_url)
    seeded: dict[str, object] = json.loads(printed)
    return seeded


async def play(up: Mapping[str, object], *, say: Callable[[str], None]) -> None:
    """Print where to look."""
    for title, key in (
        ("Form", "form_url"),
        ("API", "api_url"),
        ("Temporal Web UI", "temporal_ui_url"),
        ("Mail", "mail_url"),
    ):
        say(f"  {title:16} {up[key]}")


def build(api_url: str, api_key: str) -> dict[str, str]:
    """Make the demo workflow through the API, or find it again."""
    raise NotImplementedError
