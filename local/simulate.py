"""`flowtrack simulate`: a simulation from a file, told in lines, and held against what was expected of it."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import unified_diff
from pathlib import Path
from typing import Any
from uuid import UUID

from local import demo
from local.demo import API

Say = Callable[[str], None]
EXTRAS = ("expect", "workflow")
"""What a file holds besides the request's own body."""
BY_THE_CLOCK = ("until", "local_time")
"""Modes of a delay by which the length of a run depends on when it begins."""


class SimulateError(Exception):
    """The simulation cannot be made; the message says what to do."""


@dataclass(frozen=True)
class Options:
    """What was asked for."""

    file: Path
    card: Path
    workflow: str | None = None
    api_url: str | None = None
    api_key: str | None = None
    save: Path | None = None


def run(options: Options, say: Say) -> bool:
    """Simulate; False if something came out otherwise than the file expects."""
    document = _read(options.file, "a simulation")
    card = {} if options.api_url and options.api_key else _read_card(options.card)
    api = API(options.api_url or card["api_url"], options.api_key or card["api_key"])
    try:
        named = options.workflow or document.get("workflow") or card.get("workflow_id")
        workflow = _find(api, named)
        body = {key: value for key, value in document.items() if key not in EXTRAS}
        told = api.call("POST", f"/v1/workflows/{workflow['id']}/simulate", body)
    except (demo.DemoError, OSError) as error:
        raise SimulateError(str(error)) from error
    for line in lines(workflow["name"], told):
        say(line)
    if options.save is not None:
        saved = json.dumps({**document, "expect": expectation(told)}, indent=2, ensure_ascii=False)
        options.save.write_text(saved + "\n")
        say(f"\nSaved with what happened as what to expect: {options.save}")
        return True
    return _judge(document.get("expect"), told, say)


def _judge(expected: Any, told: Mapping[str, Any], say: Say) -> bool:
    if expected is None:
        return True
    found = list(differences(expected, told))
    say("\nAs expected." if not found else "\nNot as expected:")
    for difference in found:
        say(difference)
    return not found


def _read(path: Path, what: str) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text())
    except OSError as error:
        raise SimulateError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise SimulateError(f"{path} is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise SimulateError(f'{path} must hold {what}, an object such as {{"trigger_data": {{}}}}.')
    return document


def _read_card(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise SimulateError(
            f"There is no {path}: start `flowtrack up` here, or give --api-url and --api-key."
        )
    return _read(path, "what `flowtrack up` writes")


def _find(api: API, named: str | None) -> dict[str, Any]:
    """Find a workflow by its id, slug or name."""
    if named is None:
        raise SimulateError("Which workflow? Give --workflow, or `workflow` in the file.")
    if _is_id(named):
        found: dict[str, Any] = api.call("GET", f"/v1/workflows/{named}")
        return found
    cursor = ""
    while True:
        page = api.call("GET", f"/v1/workflows?limit=100{cursor}")
        for workflow in page["data"]:
            if named in (workflow["slug"], workflow["name"]):
                return dict(workflow)
        if page["next_cursor"] is None:
            raise SimulateError(f"There is no workflow with the id, slug or name {named}.")
        cursor = f"&cursor={page['next_cursor']}"


def _is_id(text: str) -> bool:
    try:
        return bool(UUID(text))
    except ValueError:
        return False


# What is told


def lines(name: str, told: Mapping[str, Any]) -> Iterator[str]:
    """Tell a simulation for people."""
    outcome = told["outcome"]
    why = f" ({outcome['reason']})" if outcome["reason"] else ""
    took = f"after {told['virtual_time']}, played in {told['real_seconds']:.1f} s"
    yield f"{name}: {outcome['status']}{why} {took}\n"
    begun = told["started_at"]
    for step in told["steps"]:
        yield f"{after(begun, step['finished_at'] or step['started_at']):>12} {demo.line(step)}"
    yield from _section("Decisions", [_decision(each) for each in told["decisions"]])
    yield from _section("Waits", [_wait(begun, each) for each in told["waits"]])
    yield from _section(
        "Mails",
        [f"{after(begun, m['at']):>12}   “{m['subject']}” to {', '.join(m['to'])}" for m in told["mails"]],
    )
    late = [event for event in told["events"] if event["fate"] != "delivered"]
    yield from _section(
        "Events that changed nothing",
        [f"{e['at']:>12}   {e['type']}: {e['fate']} {e['message']}".rstrip() for e in late],
    )
    if outcome["error"]:
        yield f"\nIt failed: {outcome['error'].get('message', '')}"
    if told["stopped_by"]:
        yield f"\nIt was stopped by its {told['stopped_by'].replace('_', ' ')}."


def _section(title: str, items: Sequence[str]) -> Iterator[str]:
    if items:
        yield f"\n{title}"
        yield from items


def _decision(told: Mapping[str, Any]) -> str:
    mark = "✓" if told["result"] else "✗"
    right = "" if told["right"] is None else f" {json.dumps(told['right'], ensure_ascii=False)}"
    left = json.dumps(told["left"], ensure_ascii=False)
    return f"  {mark} {told['node_id']}: {told['field']} ({left}) {told['operator']}{right}"


def _wait(begun: str, told: Mapping[str, Any]) -> str:
    until = after(begun, told["until"]) if told["until"] else "for ever"
    return f"    {told['node_id']}: from {after(begun, told['from'])} to {until}"


def after(begun: str, moment: str | None) -> str:
    """Write a moment as what has passed since the start."""
    if moment is None:
        return ""
    passed = _at(moment) - _at(begun)
    passed = max(timedelta(minutes=round(passed.total_seconds() / 60)), timedelta(0))
    hours, minutes = divmod(passed.seconds // 60, 60)
    return f"+{passed.days}d {hours:02}:{minutes:02}"


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


# What is expected


def expectation(told: Mapping[str, Any]) -> dict[str, Any]:
    """Write down what a simulation came to, as far as it comes to the same tomorrow."""
    expected: dict[str, Any] = {
        "outcome": {key: told["outcome"][key] for key in ("status", "reason", "output")},
        "path": told["path"],
        "mails": [{"to": mail["to"], "subject": mail["subject"]} for mail in told["mails"]],
    }
    modes = {
        (step["input_data"] or {}).get("mode") for step in told["steps"] if step["node_type"] == "LOGIC_DELAY"
    }
    if not modes & set(BY_THE_CLOCK):
        expected["virtual_time"] = told["virtual_time"]
    return expected


def differences(expected: Any, got: Any, where: str = "") -> Iterator[str]:
    """Say where something lacks what is expected of it; what is not named may be anything."""
    if isinstance(expected, dict) and isinstance(got, Mapping):
        for key, value in expected.items():
            place = f"{where}.{key}" if where else key
            if key in got:
                yield from differences(value, got[key], place)
            else:
                yield f"  {place}: {_shown(value)} was expected, there is none"
        return
    if isinstance(expected, list) and isinstance(got, list):
        yield from _list_differences(expected, got, where)
        return
    if expected != got or isinstance(expected, bool) is not isinstance(got, bool):
        yield f"  {where}: {_shown(expected)} was expected, it is {_shown(got)}"


def _list_differences(expected: list[Any], got: list[Any], where: str) -> Iterator[str]:
    if all(isinstance(item, str) for item in (*expected, *got)):
        if expected != got:
            yield f"  {where}: (- expected, + happened)"
            for line in list(unified_diff(expected, got, lineterm="", n=len(got)))[3:]:
                yield f"    {line}"
        return
    if len(expected) != len(got):
        yield f"  {where}: {len(expected)} were expected, there are {len(got)}"
    for number, (one, other) in enumerate(zip(expected, got, strict=False)):
        yield from differences(one, other, f"{where}[{number}]")


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
