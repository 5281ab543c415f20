"""`holdfast explain` and `diff`: which layer set what, and what has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import click
import msgspec

from holdfast import Change, diff
from holdfast.cli.inspect import upcoming
from holdfast.cli.place import Place, db_option, find, reading
from holdfast.cli.text import clean, one_line
from holdfast.cli.under import Under, fields_of, file_at, side, under_file, under_turn
from holdfast.manifest import Origin


@click.command()
@click.argument("what", default="last", metavar="[AGENTFILE | SESSION]")
@click.argument("turn", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@db_option
def explain(what: str, turn: str | None, as_json: bool, db: Place) -> None:
    """Show what set each setting of a turn or an agent file.

    Each line is a setting, its value, and the layers and capabilities that set it, lowest first.

    SESSION is the latest when not given, TURN its last; before its first turn, what that would run under.
    """
    found = asyncio.run(_explained(db, what, turn))
    if as_json:
        told = {"digest": found.digest, "session": found.session_id, "turn": found.turn_id}
        click.echo(msgspec.json.encode({**told, "fields": fields_of(found)}))
        return
    click.echo("\n".join([*_head(found), *_table(fields_of(found))]))


async def _explained(db: Place, what: str, turn: str | None) -> Under:
    if (path := file_at(what)) is not None:
        if turn is not None:
            raise click.UsageError(f"{what} is an agent file, and has no turns")
        return await under_file(path)
    async with reading(db) as runtime:
        session_id = await find(runtime, what)
        found = await under_turn(runtime, session_id, turn)
    if found is not None:
        return found
    manifest = (await upcoming(db, session_id, None)).manifest
    return Under(
        digest=manifest.digest,
        document=manifest.document,
        origins=manifest.explain(),
        session_id=session_id,
    )


def _head(found: Under) -> Iterator[str]:
    yield f"{clean(found.about)}"
    yield f"manifest  {found.digest}"
    if found.drifted:
        yield f"          begun under {found.drifted}; `holdfast diff` shows what changed"
    yield ""


def _table(origins: list[Origin]) -> list[str]:
    width = max((len(it.field) for it in origins), default=0)
    return [
        f"{clean(it.field):<{width}}  {one_line(it.value, 60):<60}  {clean(' + '.join(it.layers))}".rstrip()
        for it in origins
    ]


@click.command("diff")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
@db_option
def diff_command(ctx: click.Context, before: str, after: str, as_json: bool, db: Place) -> None:
    """Show what differs between two manifests, field by field.

    A and B are agent files, sessions (their last turns), turns, SESSION/TURN, or digests. The exit code is 0 when they
    are the same and 1 when they differ.
    """
    old, new = asyncio.run(_sides(db, before, after))
    changes = diff(old.document, new.document)
    if as_json:
        click.echo(msgspec.json.encode({"before": old.digest, "after": new.digest, "changes": changes}))
    else:
        click.echo(
            "\n".join([f"--- {clean(old.about)}  {old.digest}", f"+++ {clean(new.about)}  {new.digest}"])
        )
        click.echo("\n".join(map(_shown, changes)) if changes else "no difference")
    ctx.exit(1 if changes else 0)


async def _sides(db: Place, before: str, after: str) -> tuple[Under, Under]:
    return await side(db, before), await side(db, after)


_MARKS = {"added": "+", "removed": "-", "changed": "~", "moved": "~"}


def _shown(change: Change) -> str:
    if change.words and "\n" in f"{change.before}{change.after}":
        lines = (f"    {clean(line)}" for line in change.words.splitlines())
        return "\n".join([f"~ {clean(change.field)}:", *lines])
    return f"{_MARKS[change.kind]} {clean(str(change))}"
