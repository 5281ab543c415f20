"""`holdfast run`: one turn, in a new session or in one that exists."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from holdfast import TurnResult
from holdfast.cli.compose import Wanted, agent_options, session_for
from holdfast.cli.place import db_option, writing
from holdfast.cli.view import View, view_for
from holdfast.cli.watch import EXIT_CODES, Watcher


@click.command()
@click.argument("prompt", required=False)
@agent_options
@click.option(
    "--session", "name", metavar="SESSION", help="Continue this session; without PROMPT, do what it owes."
)
@click.option("--key", default="", help="With --session: accept this input once, however often it is sent.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object per event and signal; the last is the result."
)
@db_option
def run(prompt: str | None, name: str | None, key: str, as_json: bool, db: Path, wanted: Wanted) -> None:
    """Run one turn with PROMPT (- reads it from standard input).

    The model's words go to standard output, its activity to standard error. Exit code: 0 completed, 1 failed or
    cancelled, 2 wrong usage, 3 waiting for an answer (see `holdfast approve`). Ctrl-C cancels the turn.
    """
    if prompt is None and name is None:
        raise click.UsageError('say what to do: holdfast run "PROMPT"; or --session to go on with one')
    if key and not name:
        raise click.UsageError("--key needs --session: a new session has seen no key")
    text = _piped() if prompt == "-" else prompt
    view = view_for(as_json)
    if not db.exists():
        view.note(f"making the database {db}")
    result = asyncio.run(_run(text, name, key, view, db, wanted))
    sys.exit(EXIT_CODES[result.status] if result else 0)


def _piped() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"standard input is not UTF-8 text: {error}") from error


async def _run(
    text: str | None, name: str | None, key: str, view: View, db: Path, wanted: Wanted
) -> TurnResult | None:
    async with writing(db, make=True) as runtime:
        session = await session_for(runtime, name, wanted)
        watcher = Watcher(session, view)
        result = await watcher.rest_of_it()
        if text is not None and (result is None or result.status != "waiting"):
            result = await watcher.send(text, key)
        if result is None:
            view.note(f"{session.id} owes nothing; give it a PROMPT")
        else:
            view.end(session.id, result)
        return result
