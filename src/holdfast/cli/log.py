"""`holdfast show` and `events`: what happened, as a timeline and as the log itself."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable
from functools import partial

import click
import msgspec

from holdfast import Event, UnknownSession, reviewed
from holdfast.cli.page import Page
from holdfast.cli.place import Place, db_option, find, log_of, reading
from holdfast.cli.text import clock, one_line
from holdfast.cli.timeline import Timeline, tell
from holdfast.events import UnknownFact, encode_event


@click.command()
@click.argument("session", default="last")
@click.option("--full", is_flag=True, help="Whole arguments and results.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@db_option
def show(session: str, full: bool, as_json: bool, db: Place) -> None:
    """Show what happened in a session.

    Messages, calls with arguments and durations, tokens, retries and outcomes. SESSION is the latest when not given.
    """
    line = asyncio.run(_read(db, session))
    if as_json:
        click.echo(msgspec.json.encode(line))
        return
    Page(full).show(line)


async def _read(db: Place, name: str) -> Timeline:
    async with reading(db) as runtime:
        session_id = await find(runtime, name)
        head = await runtime.store.head(session_id)
        if head is None:
            raise UnknownSession(f"session {session_id} is gone")
        events = [event async for event in log_of(runtime.store, session_id)]
        return tell(session_id, events, epoch=head.epoch)


@click.command()
@click.argument("session", default="last")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is recorded from now on, by any process.")
@click.option(
    "--after", type=click.IntRange(min=0), default=0, metavar="N", help="Only events numbered above N."
)
@click.option("-n", "--last", type=click.IntRange(min=1), metavar="N", help="Only the last N events.")
@click.option("--json", "as_json", is_flag=True, help="Whole events, one JSON object per line.")
@click.option("--reviewed", is_flag=True, help="Without what was said: safe to forward.")
@db_option
def events(
    session: str, follow: bool, after: int, last: int | None, as_json: bool, reviewed: bool, db: Place
) -> None:
    """Show the events of a session, oldest first.

    SESSION is the latest when not given. Ctrl-C ends -f.
    """
    try:
        asyncio.run(_show(db, session, follow, (after, last), partial(_print, as_json, reviewed)))
    except KeyboardInterrupt:
        sys.exit(0)


async def _show(
    db: Place, name: str, follow: bool, start: tuple[int, int | None], say: Callable[[Event], None]
) -> None:
    async with reading(db) as runtime:
        session = await runtime.open(await find(runtime, name), read_only=True)
        after, last = start
        if last is not None:
            after = max(after, session.state.sequence - last)
        if follow:
            async for event in session.follow(after):
                say(event)
        while page := await session.events(after):
            for event in page:
                say(event)
            after = page[-1].sequence


def _print(as_json: bool, safe: bool, event: Event) -> None:
    event = reviewed(event) if safe else event
    if as_json:
        click.echo(encode_event(event))
        return
    data = event.data.data if isinstance(event.data, UnknownFact) else event.data
    room = max(20, shutil.get_terminal_size((160, 24)).columns - 46)
    about = one_line(msgspec.json.encode(data).decode(), room)
    click.echo(f"{event.sequence:>5}  {clock(event.ts)}  {event.type:<26}  {about}")
