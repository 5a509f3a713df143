"""Takes the pictures of the Temporal Web UI that the documentation shows: `make screenshot`.

It brings FlowTrack up on free ports with data of its own, has one run wait for a decision and one complete,
and has a headless Chromium look at them by WebDriver. `CHROMEDRIVER` and `CHROMIUM` name those not found.
"""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local import demo, ports
from local.demo import API

HERE = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
CAP = 200 * 1024
"""Bytes that a picture in the repository may have."""
PATIENCE = 120.0


@dataclass(frozen=True)
class Picture:
    """A page of a run, its size in points, and what tells, in the page, that all of it is there."""

    page: str
    size: tuple[int, int]
    is_there: str


FRAMES = "[...document.querySelectorAll('iframe')].filter(frame => frame.contentDocument?.body?.innerText)"
DETAILS = Picture("user-metadata", (1440, 1130), f"return {FRAMES}.length == 3")
EVENTS = "[...document.querySelectorAll('h2')].find(title => title.innerText.includes('Event History'))"
HISTORY = Picture(
    "history",
    (1700, 760),
    f"{EVENTS}?.scrollIntoView(); return document.body.innerText.includes('condition_check_budget:1 | ')",
)


def asking() -> dict[str, Any]:
    """Draw the demo's graph with a question in it: whether the lead is to be invited."""
    ask = {"message": "Invite {{ lead.name }} to a call?", "timeout": "P2D"}
    node = {"id": "may_we_call", "type": "LOGIC_APPROVAL", "position": {"x": 600, "y": 80}}
    graph: dict[str, Any] = json.loads(json.dumps(demo.GRAPH))
    graph["nodes"].insert(3, {**node, "data": {"label": "May we call?", "config": ask}})
    way = next(edge for edge in graph["edges"] if edge["source"] == "qualify")
    onward = {**way, "id": "approved", "source": node["id"], "sourceHandle": "approved"}
    way["target"] = node["id"]
    graph["edges"].append(onward)
    return graph


def main() -> int:
    """Take all pictures."""
    driver = os.environ.get("CHROMEDRIVER") or shutil.which("chromedriver")
    browser = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if driver is None or browser is None:
        print("Chromium or its driver is missing; on Debian: apt install chromium chromium-driver.")
        return 1
    with (
        tempfile.TemporaryDirectory(prefix="flowtrack-screenshot-") as name,
        up(Path(name)) as card,
        looking(driver, browser, Path(name) / "profile") as page,
    ):
        complete, waiting = runs(API(card["api_url"], card["api_key"]), card)
        log_in(page, card)
        for run, picture, file in (
            (waiting, DETAILS, HERE / "run-details.png"),
            (complete, HISTORY, HERE / "run-history.png"),
        ):
            take(page, f"{run}/{picture.page}", picture, file)
            print(f"{file.relative_to(Path.cwd())}: {file.stat().st_size:,} bytes")
    return 0


@contextmanager
def up(directory: Path) -> Iterator[Mapping[str, Any]]:
    """Run `flowtrack up` and read where everything is."""
    ports = (f"--{name}-port=0" for name in ("api", "temporal", "temporal-ui", "mail", "smtp"))
    command = [sys.executable, "-m", "flowtrack", "up", f"--data-dir={directory / 'data'}", "--no-demo"]
    # The pictures are of FlowTrack as it comes, whatever this shell is configured for.
    plain = {name: value for name, value in os.environ.items() if not name.startswith("FLOWTRACK_")}
    machine = subprocess.Popen([*command, *ports], env=plain)
    try:
        card = directory / "data" / "up.json"
        until(lambda: card.exists() or machine.poll() is not None)
        yield json.loads(card.read_text())
    finally:
        machine.send_signal(signal.SIGTERM)
        machine.wait(60)


def runs(api: API, card: Mapping[str, Any]) -> tuple[str, str]:
    """Have one run complete and one wait; return their addresses in the Web UI."""
    first = submit(api, card["form_url"], "completed")
    workflow = f"/v1/workflows/{card['workflow_id']}"
    etag = api.send("GET", f"{workflow}/graph")[1]["ETag"]
    api.call("PUT", f"{workflow}/graph", asking(), If_Match=etag)
    api.call("POST", f"{workflow}/publish")
    return first, submit(api, card["form_url"], "waiting")


def submit(api: API, form_url: str, status: str) -> str:
    """Submit the demo's form and wait for the run's status."""
    # The same answers once more would be taken for a double click.
    answer = API(form_url).call("POST", "", {**demo.ANSWERS, "message": f"An engine that is {status}."})
    path = f"/v1/executions/{answer['execution_id']}"
    until(lambda: api.call("GET", path)["status"] == status)
    url: str = api.call("GET", path)["temporal"]["url"]
    return url.removesuffix("/history")


def until(holds: Callable[[], bool]) -> None:
    """Wait for something, but not for ever."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("FlowTrack did not get there in time.")
        time.sleep(0.2)


@contextmanager
def looking(driver: str, browser: str, profile: Path) -> Iterator[API]:
    """Open a browser of our own; its WebDriver session takes JSON over HTTP (W3C WebDriver)."""
    port = ports.free()
    running = subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL)
    try:
        driving = API(f"http://127.0.0.1:{port}")
        until(lambda: is_ready(driving))
        options = {"binary": browser, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        asked = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        session = driving.call("POST", "/session", asked)["value"]["sessionId"]
        page = API(f"{driving.url}/session/{session}")
        yield page
        page.call("DELETE", "")
    finally:
        running.terminate()
        running.wait(20)


def log_in(page: API, card: Mapping[str, Any]) -> None:
    """Have the Web UI read encrypted payloads: log in at the codec server, and tell the browser of it."""
    page.call("POST", "/url", {"url": f"{card['api_url']}/codec/login"})
    script(
        page,
        "const field = document.querySelector('[name=api_key]'); field.value = arguments[0];",
        card["api_key"],
    )
    script(page, "document.querySelector('[name=api_key]').form.submit();")
    until(lambda: bool(script(page, "return document.querySelector('[name=api_key]') === null;")))
    page.call("POST", "/url", {"url": str(card["temporal_ui_url"])})
    chosen = {
        "overrideRemoteCodecConfiguration": "true",
        "endpoint": json.dumps(f"{card['api_url']}/codec"),
        "includeCredentials": "true",
    }
    script(page, "Object.entries(arguments[0]).forEach(pair => localStorage.setItem(...pair));", chosen)


def script(page: API, text: str, *arguments: Any) -> Any:
    """Run a script in the page."""
    return page.call("POST", "/execute/sync", {"script": text, "args": list(arguments)})["value"]


def is_ready(driving: API) -> bool:
    """Tell whether the driver takes sessions."""
    try:
        return bool(driving.call("GET", "/status")["value"]["ready"])
    except OSError:
        return False


def take(page: API, url: str, picture: Picture, file: Path) -> None:
    """Open a page, wait until all of it is there, and keep what it looks like."""
    width, height = picture.size
    page.call("POST", "/window/rect", {"width": width, "height": height})
    page.call("POST", "/url", {"url": url})
    until(lambda: bool(script(page, picture.is_there)))
    # Frames and bars are still being moved about.
    time.sleep(2)
    file.write_bytes(base64.b64decode(page.call("GET", "/screenshot")["value"]))
    if file.stat().st_size > CAP:
        raise ValueError(f"{file} has {file.stat().st_size:,} bytes; the repository takes {CAP:,}.")


if __name__ == "__main__":
    sys.exit(main())
