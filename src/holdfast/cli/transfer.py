"""`holdfast export`, `import` and `backup`: sessions and databases, out and in."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

import click

from holdfast import SQLiteStore, UsageError
from holdfast.archive import export_session, import_session
from holdfast.cli.foreign import agent_sdk
from holdfast.cli.place import Place, PlaceType, db_option, find, reading, shown, store_of, writing


@click.command("export")
@click.argument("session")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The file to make. Default: standard output.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["holdfast", "agent-sdk"]),
    default="holdfast",
    show_default=True,
    help="agent-sdk: packages, journal records and events for programs that read those; no word that was said.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object. For agent-sdk.")
@db_option
def export_command(session: str, output: Path | None, form: str, as_json: bool, db: Place) -> None:
    """Write a session to one file of JSON lines.

    It has the events, and the large values that they refer to. That is everything that was said: the file is made
    readable for its owner only.
    """
    if as_json and form == "holdfast":
        raise UsageError(
            "an archive is lines of JSON, so that it can be imported; --json goes with --format agent-sdk"
        )
    write = partial(_export, session, db=db, form=form, one=as_json)
    if output is None:
        asyncio.run(write(sys.stdout.buffer))
        return
    with _made(output) as file:
        session_id = asyncio.run(write(file))
    click.echo(f"{session_id} is in {output}", err=True)


async def _export(name: str, file: BinaryIO, *, db: Place, form: str, one: bool) -> str:
    async with reading(db) as runtime:
        session_id = await find(runtime, name)
        theirs = form == "agent-sdk"
        lines = (
            agent_sdk(runtime.store, session_id, one=one)
            if theirs
            else export_session(runtime.store, session_id)
        )
        async for line in lines:
            file.write(line)
        return session_id


@contextmanager
def _made(output: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name when it is whole, and on the disk."""
    if output.exists():
        raise UsageError(f"there is a file {output} already; choose another name, or remove it")
    partial = output.with_name(f"{output.name}.{os.getpid()}.partial")
    try:
        with open(partial, "xb", opener=_private) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.rename(output)
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@click.command("import")
@click.argument("file", type=click.File("rb"))
@db_option
def import_command(file: BinaryIO, db: Place) -> None:
    """Bring an exported session into the database, as it was.

    FILE may be - for standard input. Refused, and nothing is written, when the file is not whole or the session is
    there already. What the session owes goes on when it is opened, as by `holdfast run --session`.
    """
    click.echo(asyncio.run(_import(file, db)))


async def _import(file: BinaryIO, db: Place) -> str:
    async with writing(db, make=True) as runtime:
        return await import_session(runtime.store, file)


@click.command()
@click.argument("file", type=PlaceType())
@click.argument("target", type=click.Path(path_type=Path))
def backup(file: Place, target: Path) -> None:
    """Copy the database FILE to TARGET, while others go on writing.

    The copy is FILE as it was at one moment, and appears under its name when it is whole. A Postgres database is copied
    with its own tools, such as pg_dump.
    """
    if not isinstance(file, Path):
        raise UsageError(
            f"backup copies a SQLite file; {shown(file)} is copied with pg_dump, which takes one moment of it as well "
            "(--schema=holdfast), and one session of it with `holdfast export`"
        )
    asyncio.run(_backup(file, target))
    click.echo(f"{target}: {target.stat().st_size:,} bytes", err=True)


async def _backup(file: Path, target: Path) -> None:
    store = store_of(file)
    assert isinstance(store, SQLiteStore)
    await store.open()
    try:
        await store.backup(target)
    finally:
        await store.close()
