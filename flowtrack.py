"""The `flowtrack` command: up · api · worker · deploy · limits · migrate · seed · doctor · simulate · …"""

import argparse
import asyncio
import gc
import json
import os
import socket
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from uuid import UUID

if TYPE_CHECKING:
    from temporalio.client import Client

    from activities.clients.limits import Standing
    from settings import Settings

Verb = Callable[[argparse.Namespace], int]
INTERRUPTED = 130
COLLECT = (20_000, 20, 20)
"""Python's own 700 has the collector take a twentieth of a process's time (docs/decisions/0010)."""
DEMO = {"email": "demo@flowtrack.localhost", "name": "Demo", "slug": "demo"}


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one verb and leave with its exit code."""
    chosen = parser().parse_args(arguments)
    code = run(chosen.verb, chosen)
    sys.stdout.flush()
    sys.stderr.flush()
    if "temporalio" in sys.modules:
        # About one process in ten that used the Temporal SDK aborts while the interpreter is taken down.
        os._exit(code)
    sys.exit(code)


def run(verb: Verb, chosen: argparse.Namespace) -> int:
    """Run the verb; what a person can put right is said in a sentence, not in a traceback."""
    from settings import ConfigurationError

    try:
        return verb(chosen)
    except ConfigurationError as failure:
        print(failure, file=sys.stderr)
        return 2
    except Exception as failure:
        if not is_away(failure):
            raise
        print(f"The database cannot be reached: {getattr(failure, 'orig', failure)}", file=sys.stderr)
        print("Check FLOWTRACK_DATABASE_URL and FLOWTRACK_MIGRATION_DATABASE_URL.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


def is_away(failure: Exception) -> bool:
    """Tell a database that does not answer from any other failure."""
    if "psycopg" not in sys.modules:
        return False
    from psycopg import OperationalError

    return isinstance(getattr(failure, "orig", failure), OperationalError)


def parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    top = argparse.ArgumentParser(prog="flowtrack", description="Lead intake and workflow automation.")
    top.add_argument("--version", action=Version, nargs=0, help="show the version and exit")
    verbs = top.add_subparsers(title="verbs", metavar="VERB", required=True)
    _add_up(verbs.add_parser("up", help="run everything on this machine, its servers included"))
    for name, verb, help_ in (
        ("api", api, "serve the HTTP API, the dispatcher and the mirror"),
        ("worker", worker, "run the Temporal worker"),
        ("migrate", migrate, "bring the database to this version's schema"),
    ):
        verbs.add_parser(name, help=help_, description=help_).set_defaults(verb=verb)
    _add_doctor(verbs.add_parser("doctor", help="check the configuration and what it points to"))
    deploying = verbs.add_parser("deploy", help="send new runs to a build of the workers")
    deploying.add_argument("build", metavar="BUILD", help="its FLOWTRACK_BUILD_ID, or ''")
    deploying.add_argument(
        "--patience", type=float, default=60, metavar="SECONDS", help="how long to wait for its workers"
    )
    deploying.set_defaults(verb=deploy)
    _add_limits(verbs.add_parser("limits", help="show or set how fast vendors' task queues are worked off"))
    seeding = verbs.add_parser("seed", help="make the demo workspace and its workflow, or find them again")
    seeding.add_argument(
        "--card", type=Path, default=Path("demo.json"), help="the file that keeps the demo's API key"
    )
    seeding.add_argument("--api-url", help="where the API answers (default: FLOWTRACK_PUBLIC_URL)")
    seeding.add_argument(
        "--webhook-url", default="http://127.0.0.1:8025/webhooks", help="where the demo's webhooks go"
    )
    seeding.set_defaults(verb=seed)
    _add_simulate(verbs.add_parser("simulate", help="play a workflow through in seconds, without effects"))
    _add_decode(verbs.add_parser("decode", help="make a history's encrypted payloads readable"))
    rotating = verbs.add_parser("rotate", help="have a workspace's payloads written with a new key")
    rotating.add_argument("slug", nargs="+", metavar="WORKSPACE", help="its slug")
    _add_installation(rotating)
    rotating.set_defaults(verb=rotate)
    return top


class Version(argparse.Action):
    """Print the version and leave; looking it up takes longer than `--help` may."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """Answer the option."""
        print(f"flowtrack {version()}")
        parser.exit()


def version() -> str:
    """Name the installed version."""
    from importlib import metadata

    return metadata.version("flowtrack")


def _add_up(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--data-dir", type=Path, default=Path(".flowtrack"), help="where all data lives")
    for flag, port, what in (
        ("--api-port", 8000, "the API and the forms"),
        ("--temporal-port", 7233, "Temporal"),
        ("--temporal-ui-port", 8233, "the Temporal Web UI"),
        ("--mail-port", 8025, "the mail catcher's page"),
        ("--smtp-port", 2525, "the mail catcher's SMTP"),
    ):
        verb.add_argument(
            flag, type=_port, default=port, metavar="N", help=f"{what} (default {port}; 0 = any free)"
        )
    verb.add_argument("--no-demo", action="store_true", help="do not submit the demo form")
    verb.set_defaults(verb=up)


def _add_doctor(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--json", action="store_true", help="print the findings as JSON")
    verb.add_argument(
        "--data-dir", type=Path, default=Path(".flowtrack"), help="where `flowtrack up` keeps data"
    )
    verb.set_defaults(verb=doctor)


def _add_simulate(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("file", type=Path, metavar="FILE", help="the simulation, as JSON (docs/simulate.md)")
    verb.add_argument("--workflow", help="its id, slug or name (default: the file's `workflow`)")
    verb.add_argument("--api-url", help="where the API answers (default: what `flowtrack up` runs)")
    verb.add_argument("--api-key", help="a key that may read workflows (default: the demo's)")
    verb.add_argument("--data-dir", type=Path, default=Path(".flowtrack"), help="where `flowtrack up` runs")
    verb.add_argument("--save", type=Path, metavar="FILE", help="save it with what happened as `expect`")
    verb.set_defaults(verb=simulate)


def _add_decode(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "history",
        metavar="FILE|-|EXECUTION_ID",
        help="JSON as the Temporal CLI and its Web UI write it, standard input, or the execution to fetch",
    )
    verb.add_argument("--run-id", default=None, help="which run of the execution (default: the current one)")
    verb.add_argument(
        "--payloads",
        action="store_true",
        help="keep the form of payloads, so that the history can be replayed",
    )
    _add_installation(verb)
    verb.set_defaults(verb=decode)


def _add_installation(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="that of `flowtrack up` (default: FLOWTRACK_ variables)"
    )


def _add_limits(verb: argparse.ArgumentParser) -> None:
    from local import limits as told

    told.add_arguments(verb)
    _add_installation(verb)
    verb.set_defaults(verb=limits)


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give 0 to 65535")
    return int(text)


def up(chosen: argparse.Namespace) -> int:
    """Run everything on this machine until Ctrl-C or SIGTERM."""
    from local import up as local_up

    flags = {flag: getattr(chosen, flag.strip("-").replace("-", "_")) for flag in local_up.PORT_FLAGS}
    options = local_up.Options(chosen.data_dir.resolve(), flags, plays_demo=not chosen.no_demo)
    try:
        asyncio.run(local_up.run(options))
    except local_up.FAILURES as failure:
        print(f"flowtrack up: {failure}", file=sys.stderr)
        return 1
    return 0


def api(chosen: argparse.Namespace) -> int:
    """Serve the HTTP API, and run the dispatcher and the mirror beside it."""
    from settings import load

    settings = load()
    _log(settings)
    from telemetry import numbers, traces

    core = numbers.core(counts=settings.metrics_port is not None)
    import serving

    _settle()
    with traces.tracing(settings.otlp_endpoint, service="flowtrack-api") as traced:
        asyncio.run(serving.serve(settings, core, traced))
    return 0


async def _temporal(settings: "Settings", namespace: str | None = None) -> "Client":
    """Name Temporal; the client connects when it is first needed, and reads no payload."""
    from activities.clients import temporal

    return await temporal.connect(
        settings.temporal_address,
        namespace or settings.temporal_namespace,
        tls=settings.temporal_tls,
        api_key=settings.temporal_token,
        lazy=True,
    )


def _settle() -> None:
    """Have the garbage collector leave alone what was loaded, and look less often at what comes and goes."""
    gc.freeze()
    gc.set_threshold(*COLLECT)


def worker(chosen: argparse.Namespace) -> int:
    """Run the Temporal worker."""
    from settings import load

    settings = load()
    _log(settings)
    import worker as room

    _settle()
    room.main(settings)
    return 0


def deploy(chosen: argparse.Namespace) -> int:
    """Send new runs to a build; runs under way stay where they are."""
    from temporalio.service import RPCError

    from settings import load

    settings = load()
    try:
        asyncio.run(_deploy(settings, chosen.build, chosen.patience))
    except RuntimeError as failure:
        print(f"Temporal cannot be reached: {failure}", file=sys.stderr)
        print("Check FLOWTRACK_TEMPORAL_ADDRESS, and that it is up.", file=sys.stderr)
        return 1
    except RPCError as failure:
        print(f"Build {chosen.build!r} is not current: {failure}", file=sys.stderr)
        print(f"Start its workers first, with FLOWTRACK_BUILD_ID={chosen.build}.", file=sys.stderr)
        return 1
    print(f"New runs go to {f'build {chosen.build}' if chosen.build else 'workers without a build'}.")
    return 0


async def _deploy(settings: "Settings", build: str, patience: float) -> None:
    from activities.clients import temporal

    await temporal.make_current(await _temporal(settings), build, patience=patience)


def limits(chosen: argparse.Namespace) -> int:
    """Show the limits of the vendors' task queues, after setting one if asked to."""
    from temporalio.service import RPCError

    from activities.clients.limits import Unsupported
    from local import limits as told

    try:
        wanted = told.wanted(chosen)
    except ValueError as wrong:
        print(f"flowtrack limits: {wrong}", file=sys.stderr)
        return 2
    settings = _installation(chosen.data_dir)
    try:
        found = asyncio.run(_limit(settings, chosen.queue, wanted, chosen.reason))
    except Unsupported as old:
        print(old, file=sys.stderr)
        return 1
    except (RPCError, RuntimeError) as failure:
        print(f"Temporal cannot be reached: {failure}", file=sys.stderr)
        print("Check FLOWTRACK_TEMPORAL_ADDRESS, and that it is up.", file=sys.stderr)
        return 1
    print("\n".join(told.told(found)))
    return 0


async def _limit(
    settings: "Settings", queue: str | None, wanted: dict[str, float | None], reason: str
) -> list["Standing"]:
    import getpass

    from activities.clients.limits import Change, Throttle
    from local.up import TASK_QUEUE

    throttle = Throttle(await _temporal(settings), task_queue=TASK_QUEUE)
    if queue is not None and wanted:
        by = f"{getpass.getuser()}@{socket.gethostname()}"
        return [await throttle.change(queue, Change(**wanted, reason=reason, by=by))]
    return [each for each in await throttle.standings() if queue in (None, each.queue)]


def migrate(chosen: argparse.Namespace) -> int:
    """Bring the database to this version's schema."""
    from settings import load

    settings = load()
    from db import migrate as migrations

    revision = migrations.upgrade(settings.admin_database_url, settings.database_url)
    print(f"The database is at revision {revision}.")
    return 0


def seed(chosen: argparse.Namespace) -> int:
    """Make the demo, or find it again, and print how to reach it as JSON."""
    from settings import load

    settings = load()
    from local import demo

    card: Path = chosen.card
    known = json.loads(card.read_text()) if card.exists() else {}
    access = {**known, **asyncio.run(_demo_access(settings, known))}
    demo.keep(card, access)
    print(
        json.dumps(demo.furnish(chosen.api_url or settings.public_url, card, webhook_url=chosen.webhook_url))
    )
    return 0


async def _demo_access(settings: "Settings", known: dict[str, str]) -> dict[str, str]:
    """Find the demo workspace and a key that opens it; make what is missing."""
    from db import doors, keys
    from db.session import Database

    database = Database(settings.database_url, pool_size=1)
    try:
        async with database.door() as session:
            if known and await keys.authenticate(session, known["api_key"]):
                return known
            workspace_id = await doors.workspace_by_slug(session, DEMO["slug"])
            if workspace_id is None:
                today = datetime.now(UTC).date()
                workspace_id = (await doors.create_workspace(session, **DEMO, today=today)).workspace_id
        async with database.workspace(workspace_id) as session:
            created = await keys.create(session, workspace_id, name="Demo", scopes=["*"])
    finally:
        await database.close()
    return {"workspace_slug": DEMO["slug"], "api_key": created.token}


def doctor(chosen: argparse.Namespace) -> int:
    """Check the configuration and what it points to; 1 when something does not work."""
    import examination
    from local import datadir
    from local.findings import report
    from settings import load

    # Beside a running `flowtrack up` it is that installation which is meant.
    os.environ.update(datadir.variables(chosen.data_dir, os.environ))
    settings = load()

    findings = asyncio.run(
        examination.examine(settings, partial(_temporal, settings), data_dir=chosen.data_dir)
    )
    return 0 if report(findings, as_json=chosen.json) else 1


def simulate(chosen: argparse.Namespace) -> int:
    """Play a workflow through; 1 when it went otherwise than the file expects, 2 when it could not be."""
    from local import simulate as simulation

    options = simulation.Options(
        file=chosen.file,
        card=chosen.data_dir / "up.json",
        workflow=chosen.workflow,
        api_url=chosen.api_url,
        api_key=chosen.api_key,
        save=chosen.save,
    )
    try:
        return 0 if simulation.run(options, print) else 1
    except simulation.SimulateError as failure:
        print(f"flowtrack simulate: {failure}", file=sys.stderr)
        return 2


def _installation(data_dir: Path | None) -> "Settings":
    """Read the settings, or those of what `flowtrack up` runs from a directory."""
    from settings import ConfigurationError, load

    if data_dir is not None:
        try:
            card = json.loads((data_dir / "up.json").read_text())
            key = (data_dir / "master.key").read_text().strip()
        except OSError as failure:
            raise ConfigurationError(f"`flowtrack up` does not run from {data_dir}: {failure}") from None
        found = {**card, "master_key": key}
        for name in ("database_url", "temporal_address", "master_key"):
            os.environ[f"FLOWTRACK_{name.upper()}"] = found[name]
    return load()


def decode(chosen: argparse.Namespace) -> int:
    """Print a history with its payloads readable; for the operator, who holds the master key."""
    from temporalio.service import RPCError

    settings = _installation(chosen.data_dir)
    try:
        given = _given(chosen.history)
        print(asyncio.run(_decode(settings, given, chosen)))
    except (RPCError, RuntimeError) as failure:
        print(f"Temporal does not give this history: {failure}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as failure:
        print(f"{chosen.history} cannot be read: {failure}", file=sys.stderr)
        return 2
    return 0


def _given(named: str) -> "UUID | str":
    """Read a history from where it is, or the id of the execution that has it."""
    if named == "-":
        return sys.stdin.read()
    try:
        return UUID(named.removeprefix("execution-"))
    except ValueError:
        return Path(named).read_text(encoding="utf-8")


async def _decode(settings: "Settings", given: "UUID | str", chosen: argparse.Namespace) -> str:
    from activities.clients import histories
    from activities.clients.blobs import Blobs
    from activities.clients.keyring import Keyring
    from db.session import Database

    if isinstance(given, UUID):
        handle = (await _temporal(settings)).get_workflow_handle(f"execution-{given}", run_id=chosen.run_id)
        given = (await handle.fetch_history()).to_json()
    history = json.loads(given)
    database = Database(settings.database_url, pool_size=1)
    try:
        open_ = histories.opener(Keyring(database, settings.master_key_bytes), Blobs(database))
        read = await histories.decoded(history, open_, as_payloads=chosen.payloads)
    finally:
        await database.close()
    return json.dumps(read, indent=2, ensure_ascii=False)


def rotate(chosen: argparse.Namespace) -> int:
    """Make a new key current; every process writes with it a minute later, and the old ones still read."""
    settings = _installation(chosen.data_dir)
    unknown = asyncio.run(_rotate(settings, chosen.slug))
    for slug in unknown:
        print(f"There is no workspace {slug!r}.", file=sys.stderr)
    return 1 if unknown else 0


async def _rotate(settings: "Settings", slugs: Sequence[str]) -> list[str]:
    from db import doors, payload_keys
    from db.session import Database

    database = Database(settings.database_url, pool_size=1)
    unknown = []
    try:
        for slug in slugs:
            async with database.door() as session:
                workspace_id = await doors.workspace_by_slug(session, slug)
            if workspace_id is None:
                unknown.append(slug)
                continue
            async with database.workspace(workspace_id) as session:
                made = await payload_keys.rotate(session, workspace_id, key=settings.master_key_bytes)
            print(f"{slug}: payloads are written with key {made.id.hex} within a minute.")
    finally:
        await database.close()
    return unknown


def _log(settings: "Settings") -> None:
    """Write JSON lines, ours and the libraries', to standard error."""
    from telemetry import lines

    lines.configure(settings.log_level)


if __name__ == "__main__":
    main()
