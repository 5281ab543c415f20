"""`holdfast agents`: which there are, and putting one out of use or back into it."""

from __future__ import annotations

import asyncio
from datetime import datetime

import click
import msgspec
from msgspec import Struct

from holdfast import Agent, Harness, Runtime
from holdfast.cli.place import Place, db_option, reading, writing
from holdfast.cli.record import who
from holdfast.cli.text import clean, count, day, joined
from holdfast.events import SessionCreated

MOST = 10_000
"""Sessions that are looked through, the most recently written first."""


class Known(Struct, kw_only=True):
    """An agent or a harness, as this database knows it."""

    kind: str
    name: str
    status: str = "active"
    sessions: int = 0
    latest: datetime | None = None
    at: datetime | None = None
    """When it was put out of use, or back into it."""
    by: str = ""
    reason: str = ""


@click.command()
@click.option("--archive", metavar="NAME", help="Put this agent out of use.")
@click.option("--restore", metavar="NAME", help="Put this agent back into use.")
@click.option("--delete", metavar="NAME", help="Put this agent out of use for good.")
@click.option("--harness", is_flag=True, help="NAME is that of a harness.")
@click.option("--reason", default="", help="Why; whoever is refused reads it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@db_option
def agents(
    archive: str | None,
    restore: str | None,
    delete: str | None,
    harness: bool,
    reason: str,
    as_json: bool,
    db: Place,
) -> None:
    """List agents and harnesses, or put one out of use.

    One that was archived takes no new session and no input, and its turns end before their next step, in every process
    within a second.
    """
    asked = [
        (what, name)
        for what, name in (("archive", archive), ("restore", restore), ("delete", delete))
        if name
    ]
    if len(asked) > 1:
        raise click.UsageError("give one of --archive, --restore and --delete")
    for what, name in asked:
        asyncio.run(_change(db, what, Harness(name=name) if harness else Agent(name=name), reason))
    found = asyncio.run(_known(db))
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    for it in found:
        click.echo(_line(it))
    if not found:
        click.echo("no agents", err=True)


async def _change(db: Place, what: str, it: Agent | Harness, reason: str) -> None:
    async with writing(db) as runtime:
        if what == "restore":
            await runtime.restore(it, by=who(), reason=reason)
        else:
            await runtime.archive(it, by=who(), reason=reason, deleted=what == "delete")


async def _known(db: Place) -> list[Known]:
    """Those in the roster, and those of sessions."""
    found: dict[tuple[str, str], Known] = {}
    async with reading(db) as runtime:
        for head in await runtime.sessions(limit=MOST):
            for kind, name in await _stands_on(runtime, head.session_id):
                known = found.setdefault((kind, name), Known(kind=kind, name=name, latest=head.updated_at))
                known.sessions += 1
        for it in await runtime.roster():
            known = found.setdefault((it.kind, it.name), Known(kind=it.kind, name=it.name))
            known.status, known.at, known.by, known.reason = it.status, it.at, it.by, it.reason
    return [found[key] for key in sorted(found)]


async def _stands_on(runtime: Runtime, session_id: str) -> list[tuple[str, str]]:
    first = await runtime.store.read(session_id, limit=1)
    if not first or not isinstance(first[0].data, SessionCreated):
        return []
    made = first[0].data
    return [(kind, name) for kind, name in (("agent", made.agent), ("harness", made.harness)) if name]


def _line(it: Known) -> str:
    when = f"{it.status} {day(it.at)}" if it.at is not None else it.status
    said = joined(when, f"by {clean(it.by)}" if it.by else "", clean(it.reason))
    return f"{it.kind:<7}  {clean(it.name):<24}  {count(it.sessions, 'session'):>12}  {said}"
