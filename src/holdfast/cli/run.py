"""`holdfast run`: one turn, in a new session or in one that exists."""

from __future__ import annotations

import asyncio
import sys

import click

from holdfast import Runtime, TurnResult
from holdfast.cli.compose import Wanted, agent_options, begin, reopen
from holdfast.cli.given import missing_here
from holdfast.cli.place import Place, db_option, find, is_missing, writing
from holdfast.cli.view import View, view_for
from holdfast.cli.watch import EXIT_CODES, Watcher, at_work, from_afar
from holdfast.errors import SessionHeld


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
def run(prompt: str | None, name: str | None, key: str, as_json: bool, db: Place, wanted: Wanted) -> None:
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
    if is_missing(db):
        view.note(f"making the database {db}")
    result = asyncio.run(_run(text, name, key, view, db, wanted))
    sys.exit(EXIT_CODES[result.status] if result else 0)


def _piped() -> str:
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"standard input is not UTF-8 text: {error}") from error


async def _run(
    text: str | None, name: str | None, key: str, view: View, db: Place, wanted: Wanted
) -> TurnResult | None:
    async with writing(db, make=True) as runtime:
        session_id = await find(runtime, name) if name else ""
        if session_id and text is not None and (missing := await _missing(runtime, session_id, wanted)):
            return await _leave(runtime, session_id, missing, (text, key), view)
        session = await (reopen(runtime, session_id, wanted) if session_id else begin(runtime, wanted))
        watcher = Watcher(session, view)
        result = await _owed(watcher, text is not None)
        if text is not None and (result is None or result.status != "waiting"):
            result = await watcher.send(text, key)
        if result is None:
            view.note(f"{session.id} owes nothing; give it a PROMPT")
        else:
            view.end(session.id, result)
        return result


async def _owed(watcher: Watcher, more: bool) -> TurnResult | None:
    """Bring to rest what the session owes. What another process is at work on is an error, unless `more` is to be
    said: that waits in line there."""
    try:
        return await watcher.rest_of_it()
    except SessionHeld:
        if not more:
            raise
    watcher.view.note("another process is at work on this session; your input waits in line there")
    return None


async def _missing(runtime: Runtime, session_id: str, wanted: Wanted) -> tuple[str, ...]:
    if wanted.agent is not None:
        return ()
    return await missing_here(runtime, (await runtime.open(session_id, read_only=True)).state)


async def _leave(
    runtime: Runtime, session_id: str, missing: tuple[str, ...], said: tuple[str, str], view: View
) -> TurnResult | None:
    """Leave an input for the program that has the session's functions; when it is at work now, show its turn."""
    session = await runtime.open(session_id, drive=False)
    (text, key), before = said, session.state.sequence
    turn = await session.send(text, key=key)
    if not await at_work(session):
        view.note(
            f"accepted; it is answered when the program that has {', '.join(missing)} opens this session"
        )
        return None
    view.note(f"not known here: {', '.join(missing)}; the process that is at work on this session answers")
    result = await from_afar(runtime, session, turn, 0 if key else before, view)
    view.end(session_id, result)
    return result
