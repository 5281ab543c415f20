"""`holdfast fsck`: reads a whole database, and changes nothing."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import click
import msgspec
from msgspec import Struct

from holdfast import Event, HoldfastError, SQLiteStore
from holdfast.cli.text import clean, count
from holdfast.errors import StoreCorrupt
from holdfast.fold import fold
from holdfast.testing import problems_in

PAGE = 1_000


class Finding(Struct, frozen=True, kw_only=True):
    """Something that was found."""

    kind: str
    """`damage`, `gap`, `event`, `blob`, `snapshot`; `log`: events that contradict each other; `lease`: a dead one,
    which harms nobody."""
    where: str
    message: str


class Report(Struct, frozen=True, kw_only=True):
    """What was looked at, and what was found."""

    file: str
    sessions: int
    events: int
    problems: list[Finding]
    notes: list[Finding]


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def fsck(file: Path, as_json: bool) -> None:
    """Read everything in a database, and tell what is wrong with it.

    Pages, missing and unreadable events, blobs whose bytes changed; then every session's log: each turn ends once, and
    each call has one outcome. Changes nothing, and works while others write. Exit code 1 when there are problems.
    """
    report = asyncio.run(_look_through(file))
    if as_json:
        click.echo(msgspec.json.encode(report))
    else:
        for sign, colour, found in (("BAD", "red", report.problems), ("--", "yellow", report.notes)):
            for it in found:
                click.echo(f"{click.style(f'{sign:<4}', fg=colour)} {clean(f'{it.where}: {it.message}')}")
        wrong = count(len(report.problems), "problem")
        click.echo(f"{file}: {count(report.sessions, 'session')}, {count(report.events, 'event')}, {wrong}")
    sys.exit(1 if report.problems else 0)


async def _look_through(file: Path) -> Report:
    store = SQLiteStore(file, read_only=True)
    try:
        await store.open()
    except StoreCorrupt as error:
        damage = Finding(kind="damage", where=str(file), message=str(error))
        return Report(file=str(file), sessions=0, events=0, problems=[damage], notes=[])
    try:
        return await _report(store, file)
    finally:
        await store.close()


async def _report(store: SQLiteStore, file: Path) -> Report:
    found = [Finding(kind=it.kind, where=it.where, message=it.message) for it in await store.check()]
    problems = [it for it in found if it.kind != "lease"]
    known = {it.where.partition(":")[0] for it in problems}
    sessions = events = 0
    try:
        async for session_id, last in _sessions(store):
            sessions, events = sessions + 1, events + last
            if session_id not in known:
                problems += await _log(store, session_id)
    except HoldfastError as error:
        problems.append(Finding(kind="damage", where=str(file), message=str(error)))
    return Report(
        file=str(file),
        sessions=sessions,
        events=events,
        problems=problems,
        notes=[it for it in found if it.kind == "lease"],
    )


async def _sessions(store: SQLiteStore) -> AsyncIterator[tuple[str, int]]:
    """Every session and its last event's number, a page at a time. One that moves meanwhile may come twice."""
    seen: set[str] = set()
    offset = 0
    while heads := await store.sessions(limit=PAGE, offset=offset):
        for head in heads:
            if head.session_id not in seen:
                yield head.session_id, head.sequence
        seen.update(head.session_id for head in heads)
        offset += len(heads)


async def _log(store: SQLiteStore, session_id: str) -> list[Finding]:
    """What is wrong with one session's events, each of which can be read."""
    events: list[Event] = []
    try:
        while page := await store.read(session_id, after=len(events), limit=PAGE):
            events += page
        state = fold(session_id, events)
        rests = state.turn is None and state.due() is None
        said = problems_in(events, at_rest=rests, transcript=False)
    except Exception as error:  # whatever the rules stumble over, this session cannot be opened
        said = [f"its events do not make a session ({error!r})"]
    return [Finding(kind="log", where=session_id, message=message) for message in said]
