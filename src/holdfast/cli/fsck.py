"""`holdfast fsck`: reads a whole database, and changes nothing."""

from __future__ import annotations

import asyncio
import sys

import click
import msgspec
from msgspec import Struct

from holdfast import HoldfastError, SQLiteStore, Store
from holdfast.cli.place import Place, PlaceType, shown, store_of
from holdfast.cli.survey import Finding, Survey, sessions_of
from holdfast.cli.text import clean, count
from holdfast.errors import StoreCorrupt


class Report(Struct, frozen=True, kw_only=True):
    """What was looked at, and what was found."""

    file: str
    sessions: int
    events: int
    problems: list[Finding]
    notes: list[Finding]


@click.command()
@click.argument("file", type=PlaceType(), envvar="HOLDFAST_DB")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def fsck(file: Place, as_json: bool) -> None:
    """Read everything in a database, and tell what is wrong with it.

    Pages; events that are missing, changed or unreadable; blobs whose bytes changed; then every session's log: each
    turn ends once, each call has one outcome, and its snapshot says what its events say. Changes nothing, and works
    while others write. Exit code 1 when there are problems.

    FILE may be the URL of a Postgres database ($HOLDFAST_DB keeps it out of the list of processes). Its pages are the
    server's to check; everything else is looked at, session by session.
    """
    report = asyncio.run(_look_through(file))
    if as_json:
        click.echo(msgspec.json.encode(report))
    else:
        for sign, colour, found in (("BAD", "red", report.problems), ("--", "yellow", report.notes)):
            for it in found:
                click.echo(f"{click.style(f'{sign:<4}', fg=colour)} {clean(f'{it.where}: {it.message}')}")
        wrong = count(len(report.problems), "problem")
        click.echo(
            f"{report.file}: {count(report.sessions, 'session')}, {count(report.events, 'event')}, {wrong}"
        )
    sys.exit(1 if report.problems else 0)


async def _look_through(file: Place) -> Report:
    store, name = store_of(file), shown(file)
    try:
        await store.open()
    except StoreCorrupt as error:
        damage = Finding(kind="damage", where=name, message=str(error))
        return Report(file=name, sessions=0, events=0, problems=[damage], notes=[])
    try:
        return await _report(store, name)
    finally:
        await store.close()


async def _report(store: Store, name: str) -> Report:
    found = await _checked(store)
    known = {it.where.partition(":")[0] for it in found if it.kind != "lease"}
    survey = Survey(store, [it.where for it in found])
    sessions = events = 0
    try:
        async for session_id, last in sessions_of(store):
            sessions, events = sessions + 1, events + last
            if session_id not in known:
                found += await survey.session(session_id, last)
        if not isinstance(store, SQLiteStore):
            found += await survey.leases()
    except HoldfastError as error:
        found.append(Finding(kind="damage", where=name, message=str(error)))
    return Report(
        file=name,
        sessions=sessions,
        events=events,
        problems=[it for it in found if it.kind != "lease"],
        notes=[it for it in found if it.kind == "lease"],
    )


async def _checked(store: Store) -> list[Finding]:
    """What a file says of itself."""
    if not isinstance(store, SQLiteStore):
        return []
    return [Finding(kind=it.kind, where=it.where, message=it.message) for it in await store.check()]
