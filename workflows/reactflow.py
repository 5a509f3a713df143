"""React Flow's JSON `{nodes, edges, viewport}`, read into a draft and written back untouched (design §9)."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple
from unicodedata import category

from pydantic import Field

from workflows import storable
from workflows.graph import Frozen
from workflows.problems import Problem, pointer
from workflows.storable import Path

NODES_CAP = 10_000
EDGES_CAP = 20_000
CONFIG_CAP = 1024 * 1024
"""Bytes of all configs and conditions together, as JSON."""
EXTRA_CAP = 4 * 1024 * 1024
"""Bytes of what we do not know but keep: what an editor notes beside every node adds up."""
NAME_CAP = 200
LABEL_CAP = 500
PROBLEMS_CAP = 100
"""A document that is wrong in a thousand places is not read to the end."""


class DraftNode(Frozen):
    """One node as drawn; `extra` holds the unknown keys, those inside `data` under `data`."""

    id: str
    type: str
    label: str | None = None
    position: dict[str, Any] = Field(default_factory=lambda: {"x": 0, "y": 0})
    config: dict[str, Any] = Field(default_factory=dict)
    extra: dict[str, Any] = Field(default_factory=dict)


class DraftEdge(Frozen):
    """One edge as drawn; `extra` as with nodes."""

    id: str
    source: str
    target: str
    source_handle: str | None = None
    target_handle: str | None = None
    condition: dict[str, Any] | None = None
    is_enabled: bool = True
    extra: dict[str, Any] = Field(default_factory=dict)


class Draft(Frozen):
    """The graph being edited, in the order it was drawn."""

    nodes: tuple[DraftNode, ...] = ()
    edges: tuple[DraftEdge, ...] = ()
    viewport: dict[str, Any] | None = None


class Reading(NamedTuple):
    """What came of reading a document: a draft, or why there is none."""

    draft: Draft | None
    problems: list[Problem]


def read(document: object) -> Reading:
    """Read a document; every problem is told with its place, and none is raised."""
    reader = _Reader()
    try:
        draft = reader.draft(document)
    except _Enough:
        draft = None
    return Reading(None if reader.found else draft, reader.found)


def write(draft: Draft) -> dict[str, Any]:
    """Write a draft as React Flow's JSON."""
    return {
        "nodes": [_node_json(node) for node in draft.nodes],
        "edges": [_edge_json(edge) for edge in draft.edges],
        "viewport": draft.viewport or {"x": 0, "y": 0, "zoom": 1},
    }


def _node_json(node: DraftNode) -> dict[str, Any]:
    label = {} if node.label is None else {"label": node.label}
    data = {**node.extra.get("data", {}), **label, "config": node.config}
    return {**node.extra, "id": node.id, "type": node.type, "position": node.position, "data": data}


def _edge_json(edge: DraftEdge) -> dict[str, Any]:
    condition = {} if edge.condition is None else {"condition": edge.condition}
    data = {**edge.extra.get("data", {}), **condition, "isEnabled": edge.is_enabled}
    ends = {"id": edge.id, "source": edge.source, "target": edge.target}
    handles = {"sourceHandle": edge.source_handle, "targetHandle": edge.target_handle}
    return {**edge.extra, **ends, **handles, "data": data}


class _Enough(Exception):
    """There is no use in reading on."""


NODE_KEYS, NODE_DATA = ("id", "type", "position"), ("label", "config")
EDGE_KEYS = ("id", "source", "target", "sourceHandle", "targetHandle")
EDGE_DATA = ("condition", "isEnabled")


class _Reader:
    """Reads one document and notes what is wrong with it."""

    def __init__(self) -> None:
        self.found: list[Problem] = []
        self._node_id: str | None = None

    def draft(self, document: object) -> Draft:
        if not isinstance(document, Mapping):
            self._note("invalid_graph", (), "A graph must be an object.", "Send {nodes, edges, viewport}.")
            raise _Enough
        raw_nodes = self._list(document, "nodes", NODES_CAP)
        raw_edges = self._list(document, "edges", EDGES_CAP)
        self._refuse_unstorable(document)
        nodes = tuple(node for n, raw in enumerate(raw_nodes) if (node := self._node(raw, ("nodes", n))))
        edges = tuple(edge for n, raw in enumerate(raw_edges) if (edge := self._edge(raw, ("edges", n))))
        self._node_id = None
        viewport = self._object(document, "viewport", ())
        self._refuse_repeated(raw_nodes, "nodes", "node")
        self._refuse_repeated(raw_edges, "edges", "edge")
        self._weigh(nodes, edges)
        return Draft(nodes=nodes, edges=edges, viewport=viewport)

    def _list(self, document: Mapping[str, Any], key: str, cap: int) -> list[Any]:
        value = document.get(key)
        if not isinstance(value, list):
            code = "missing" if value is None else "wrong_type"
            self._note(code, (key,), f"`{key}` must be a list.", f"Send `{key}`, if only an empty list.")
            raise _Enough
        if len(value) > cap:
            message = f"A graph has at most {cap:,} {key}, and this one has {len(value):,}."
            self._note(f"too_many_{key}", (key,), message, "Split the workflow.")
            raise _Enough
        return value

    def _node(self, raw: object, path: Path) -> DraftNode | None:
        if not isinstance(raw, Mapping):
            self._refuse_type(path, "an object")
            return None
        before, self._node_id = len(self.found), _name_in(raw, "id")
        data = self._object(raw, "data", path) or {}
        node_id, node_type = self._name(raw, "id", path), self._name(raw, "type", path)
        label = self._text(data, "label", (*path, "data"), cap=LABEL_CAP)
        config = self._object(data, "config", (*path, "data")) or {}
        position = self._position(raw, path)
        if len(self.found) > before:
            return None
        extra = _rest(raw, data, NODE_KEYS, NODE_DATA)
        return DraftNode(
            id=node_id, type=node_type, label=label, position=position, config=config, extra=extra
        )

    def _edge(self, raw: object, path: Path) -> DraftEdge | None:
        if not isinstance(raw, Mapping):
            self._refuse_type(path, "an object")
            return None
        before, self._node_id = len(self.found), _name_in(raw, "source")
        data = self._object(raw, "data", path) or {}
        edge = {
            "id": self._name(raw, "id", path),
            "source": self._name(raw, "source", path),
            "target": self._name(raw, "target", path),
            # React Flow may write an empty handle where there is none.
            "source_handle": self._text(raw, "sourceHandle", path, cap=NAME_CAP) or None,
            "target_handle": self._text(raw, "targetHandle", path, cap=NAME_CAP) or None,
            "condition": self._object(data, "condition", (*path, "data")),
            "is_enabled": self._flag(data, "isEnabled", (*path, "data")),
        }
        if len(self.found) == before and edge["source"] == edge["target"]:
            message = f"The edge leads from `{edge['source']}` back to itself."
            self._note("self_loop", (*path, "target"), message, "Connect two different nodes.")
        if len(self.found) > before:
            return None
        return DraftEdge.model_validate({**edge, "extra": _rest(raw, data, EDGE_KEYS, EDGE_DATA)})

    def _name(self, raw: Mapping[str, Any], key: str, path: Path) -> str:
        """Read a text that names something: there, short, and on one line."""
        value = self._text(raw, key, path, cap=NAME_CAP)
        if value is not None and any(category(char) in ("Cc", "Zl", "Zp") for char in value):
            self._note("bad_characters", (*path, key), f"`{key}` has control characters.", "Remove them.")
        elif raw.get(key) is None or (value is not None and not value.strip()):
            self._note("missing", (*path, key), f"`{key}` is missing or empty.", f"Give it a `{key}`.")
        return value or ""

    def _text(self, raw: Mapping[str, Any], key: str, path: Path, *, cap: int) -> str | None:
        value = raw.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            self._refuse_type((*path, key), "a text")
            return None
        if len(value) > cap:
            message = f"`{key}` has at most {cap} characters, and this one has {len(value):,}."
            self._note("too_long", (*path, key), message, "Shorten it.")
        return value

    def _object(self, raw: Mapping[str, Any], key: str, path: Path) -> dict[str, Any] | None:
        value = raw.get(key)
        if value is not None and not isinstance(value, dict):
            self._refuse_type((*path, key), "an object")
            return None
        return value

    def _flag(self, raw: Mapping[str, Any], key: str, path: Path) -> bool:
        value = raw.get(key, True)
        if not isinstance(value, bool):
            self._refuse_type((*path, key), "true or false")
        return value is True

    def _position(self, raw: Mapping[str, Any], path: Path) -> dict[str, Any]:
        position = self._object(raw, "position", path) or {}
        for key in ("x", "y"):
            value = position.get(key, 0)
            if isinstance(value, bool) or not isinstance(value, int | float):
                self._refuse_type((*path, "position", key), "a number")
        return {"x": 0, "y": 0, **position}

    def _refuse_repeated(self, raws: list[Any], key: str, noun: str) -> None:
        seen: dict[str, int] = {}
        for number, raw in enumerate(raws):
            name = _name_in(raw, "id")
            if not name:
                continue
            if name in seen:
                self._node_id = name if noun == "node" else _name_in(raw, "source")
                message = f"The id `{name}` is also that of {noun} {seen[name]} (counted from 0)."
                remedy = f"Give each {noun} an id of its own."
                self._note(f"duplicate_{noun}_id", (key, number, "id"), message, remedy)
            seen.setdefault(name, number)

    def _refuse_unstorable(self, document: Mapping[str, Any]) -> None:
        """Refuse what cannot be kept, wherever it stands, in known and unknown keys alike."""
        kept = {key: document.get(key) for key in ("nodes", "edges", "viewport")}
        for path, complaint in storable.complaints(kept):
            self._node_id = _owner(kept, path)
            self._note("bad_value", path, f"The value {complaint}.", "Remove it.")
        if self.found:
            raise _Enough

    def _weigh(self, nodes: tuple[DraftNode, ...], edges: tuple[DraftEdge, ...]) -> None:
        if self.found:
            return
        configs = _size([*(n.config for n in nodes), *(e.condition for e in edges if e.condition)])
        if configs > CONFIG_CAP:
            largest = max(range(len(nodes)), key=lambda n: _size(nodes[n].config), default=0)
            self._node_id = nodes[largest].id if nodes else None
            message = f"All configs together have {configs:,} bytes; {CONFIG_CAP:,} are allowed."
            path: Path = ("nodes", largest, "data", "config") if nodes else ("edges",)
            self._note("config_too_large", path, message, "Shorten texts, or split the workflow.")
        extra = _size([*(node.extra for node in nodes), *(edge.extra for edge in edges)])
        if extra > EXTRA_CAP:
            message = f"Unknown keys hold {extra:,} bytes; {EXTRA_CAP:,} are kept."
            self._note("extra_too_large", ("nodes",), message, "Leave out what FlowTrack does not know.")

    def _refuse_type(self, path: Path, wanted: str) -> None:
        message = f"`{path[-1]}` must be {wanted}."
        self._note("wrong_type", path, message, f"Send {wanted}, or leave it out.")

    def _note(self, code: str, path: Path, message: str, remedy: str) -> None:
        self.found.append(
            Problem(
                code=code,
                message=message,
                remedy=remedy,
                pointer=pointer(*path),
                node_id=self._node_id,
                field=str(path[-1]) if path else None,
            )
        )
        if len(self.found) >= PROBLEMS_CAP:
            raise _Enough


def _name_in(raw: object, key: str) -> str | None:
    """Return a name as far as it can be shown, for what is said about it."""
    value = raw.get(key) if isinstance(raw, Mapping) else None
    return value[:NAME_CAP] if isinstance(value, str) else None


def _owner(kept: Mapping[str, Any], path: Path) -> str | None:
    """Name the node to which a place in the document belongs, if its name can be told."""
    items = kept[str(path[0])] if len(path) > 1 else None
    if not isinstance(items, list):
        return None
    name = _name_in(items[int(path[1])], "id" if path[0] == "nodes" else "source")
    return name if name is not None and storable.is_plain(name) else None


def _rest(
    raw: Mapping[str, Any], data: Mapping[str, Any], known: tuple[str, ...], known_data: tuple[str, ...]
) -> dict[str, Any]:
    """Keep what we do not know, in the shape in which it came."""
    rest = {key: value for key, value in raw.items() if key not in (*known, "data")}
    inner = {key: value for key, value in data.items() if key not in known_data}
    return {**rest, "data": inner} if inner else rest


def _size(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
