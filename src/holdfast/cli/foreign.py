"""What `holdfast export --format agent-sdk` writes: a session as packages, journal records and events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec

from holdfast import Event, Store
from holdfast.cli.place import log_of
from holdfast.errors import UnknownBlob
from holdfast.events import SessionCreated, TurnStarted
from holdfast.registry import load

FORMAT, VERSION = "agent-sdk", 1
"""What the header says."""

WRITER = "holdfast.compat:agent_sdk"
"""What knows that format. It is loaded when it is asked for: other commands need not wait for it."""


async def agent_sdk(store: Store, session_id: str, *, one: bool) -> AsyncIterator[bytes]:
    """The export, as lines: a header, then each package, record and event in an object of its own. With `one`, as one
    object in one line.

    Nothing that was said is in it. A manifest that is not in the store is named by its digest alone.
    """
    writer = load(WRITER)
    events = [event async for event in log_of(store, session_id)]
    packages = {
        digest: writer.export_package(body, agent) async for digest, agent, body in _ran(store, events)
    }
    trace = writer.export_session(events, packages)
    parts: dict[str, list[Any]] = {
        "packages": [_shown(writer, digest, package) for digest, package in packages.items()],
        "records": trace.records,
        "events": trace.events,
    }
    header = {"format": FORMAT, "version": VERSION, "session_id": session_id}
    for line in [{**header, **parts}] if one else _lines(header, parts):
        yield msgspec.json.encode(line) + b"\n"


def _shown(writer: Any, digest: str, package: Any) -> dict[str, Any]:
    snapshot = writer.canonical_snapshot(package)
    return {"manifest": digest, "fingerprint": writer.fingerprint(package), "package": snapshot}


def _lines(header: dict[str, Any], parts: dict[str, list[Any]]) -> Iterable[dict[str, Any]]:
    yield {**header, **{name: len(items) for name, items in parts.items()}}
    for name, items in parts.items():
        for item in items:
            yield item if name == "packages" else {name.removesuffix("s"): item}


async def _ran(store: Store, events: Iterable[Event]) -> AsyncIterator[tuple[str, str, bytes]]:
    """For each manifest that turns ran under: its digest, the agent's name, and its document."""
    agent, seen = "", set()
    for event in events:
        match event.data:
            case SessionCreated(agent=name):
                agent = name
            case TurnStarted(manifest=digest) if digest not in seen:
                seen.add(digest)
                try:
                    yield digest, agent, await store.get_blob(digest)
                except UnknownBlob:
                    continue
