"""`holdfast approve` and `deny`: answer what a session waits for."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import click

from holdfast import TurnResult
from holdfast.cli.compose import reopen
from holdfast.cli.given import missing_here
from holdfast.cli.place import Place, db_option, find, the_one, writing
from holdfast.cli.record import Verdict, record, who
from holdfast.cli.view import View, view_for
from holdfast.cli.watch import EXIT_CODES, Watcher
from holdfast.errors import SessionHeld


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        db_option,
        click.option("--json", "as_json", is_flag=True, help="Show the rest of the turn as JSON lines."),
        click.option("--reason", default="", help="Kept with the answer; the model reads why it was denied."),
        click.argument("ask", required=False),
        click.argument("session"),
    ):
        command = option(command)
    return command


@click.command()
@_options
def approve(session: str, ask: str | None, reason: str, as_json: bool, db: Place) -> None:
    """Let a call run that a session waits with.

    The turn goes on here. ASK may be left out when there is one, or given by its last characters.
    """
    _settle(session, ask, "approved", reason, view_for(as_json), db)


@click.command()
@_options
def deny(session: str, ask: str | None, reason: str, as_json: bool, db: Place) -> None:
    """Refuse a call that a session waits with.

    The turn goes on here. ASK may be left out when there is one, or given by its last characters.
    """
    _settle(session, ask, "denied", reason, view_for(as_json), db)


def _settle(session: str, ask: str | None, verdict: Verdict, reason: str, view: View, db: Place) -> None:
    result = asyncio.run(_answer(session, ask, verdict, reason, view, db))
    sys.exit(EXIT_CODES[result.status] if result else 0)


async def _answer(
    name: str, part: str | None, verdict: Verdict, reason: str, view: View, db: Place
) -> TurnResult | None:
    async with writing(db) as runtime:
        state = (await runtime.open(await find(runtime, name), read_only=True)).state
        ask_id = the_one(part, state.asks, "open ask", state.session_id)
        if missing := await missing_here(runtime, state):
            await record(runtime, state.session_id, ask_id, verdict, reason)
            view.note(
                f"{verdict}; it goes on when the program that has {', '.join(missing)} opens this session"
            )
            return None
        session = await reopen(runtime, state.session_id)
        watcher = Watcher(session, view)
        settle = session.approve if verdict == "approved" else session.deny
        await settle(ask_id, by=who(), reason=reason)
        try:
            result = await watcher.rest_of_it()
        except SessionHeld:
            view.note(f"{verdict}; it goes on in the process that is at work on this session")
            return None
        if result is not None:
            view.end(session.id, result)
        return result
