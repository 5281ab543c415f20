"""`holdfast sessions` and `files`: what is in the database, and in a session's workspace."""

from __future__ import annotations

import asyncio
from datetime import datetime
from decimal import Decimal

import click
import msgspec
from msgspec import Struct

from holdfast import WorkspaceError
from holdfast.cli.compose import look
from holdfast.cli.place import Place, db_option, find, reading
from holdfast.cli.text import clean, count, day, dollars, joined, one_line, to_resolve
from holdfast.state import State


class Listed(Struct, frozen=True, kw_only=True):
    """One session, shortly."""

    id: str
    title: str
    agent: str
    status: str
    """Of the last turn: completed, failed, cancelled, waiting, unfinished, or empty without one."""
    events: int
    updated: datetime
    cost: Decimal | None
    """Of all replies, in US dollars; None where that of any is not known."""
    in_doubt: dict[str, str]
    """The names of calls in doubt by their ids."""


@click.command()
@click.option(
    "-n", "--limit", type=click.IntRange(min=1), default=20, show_default=True, help="Sessions at most."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@db_option
def sessions(limit: int, as_json: bool, db: Place) -> None:
    """List the sessions, the most recently written first."""
    found = asyncio.run(_listed(db, limit))
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    for it in found:
        about = f"{day(it.updated)}  {it.status or 'new':<10}  {count(it.events, 'event'):>12}"
        click.echo(f"{it.id}  {about}  {joined(one_line(it.title, 60), dollars(it.cost))}")
        for call_id, name in it.in_doubt.items():
            click.echo(f"  {one_line(name)} is in doubt: {to_resolve(it.id, call_id)}")
    if not found:
        click.echo("no sessions", err=True)


async def _listed(db: Place, limit: int) -> list[Listed]:
    listed = []
    async with reading(db) as runtime:
        for head in await runtime.sessions(limit=limit):
            state = (await runtime.open(head.session_id, read_only=True)).state
            listed.append(
                Listed(
                    id=state.session_id,
                    title=title_of(state),
                    agent=state.agent,
                    status=standing(state),
                    events=state.sequence,
                    updated=head.updated_at,
                    cost=state.cost,
                    in_doubt={call_id: doubt.call.name for call_id, doubt in state.doubts.items()},
                )
            )
    return listed


def title_of(state: State) -> str:
    """The session's title, or the first thing that was said in it."""
    return state.title or one_line(state.opening, 60)


def standing(state: State) -> str:
    """Where the last turn stands. `unfinished`: a process is at work on it, or was cut off; the log cannot tell."""
    if state.turn is not None:
        return "waiting" if state.asks else "unfinished"
    if state.queue or state.reruns:
        return "unfinished"
    return state.outcome.status if state.outcome else ""


@click.command()
@click.argument("session", default="last")
@click.argument("path", default="/")
@db_option
def files(session: str, path: str, db: Place) -> None:
    """List a session's files, or write the one at PATH.

    SESSION is the latest when not given. PATH goes to standard output as it is.
    """
    click.echo(asyncio.run(_read(db, session, path)), nl=False)


async def _read(db: Place, name: str, path: str) -> bytes:
    async with reading(db) as runtime:
        workspace = (await look(runtime, await find(runtime, name))).files
        try:
            infos = await workspace.list(path, recursive=True)
        except WorkspaceError as error:
            if error.code != "not-directory":
                raise
            return await workspace.read(path)
        lines = [f"{info.size:>12,}  {clean(info.path)}\n" for info in infos if not info.is_directory]
        return "".join(lines).encode()
