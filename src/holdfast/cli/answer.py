"""`holdfast approve` and `deny`: answer what a session waits for."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from holdfast import TurnResult, UsageError
from holdfast.cli.compose import reopen
from holdfast.cli.place import db_option, find, matches, writing
from holdfast.cli.record import Verdict, functions, record, who
from holdfast.cli.view import View, view_for
from holdfast.cli.watch import EXIT_CODES, Watcher


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
def approve(session: str, ask: str | None, reason: str, as_json: bool, db: Path) -> None:
    """Let a call run that a session waits with.

    The turn goes on here. ASK may be left out when there is one, or given by its last characters.
    """
    _settle(session, ask, "approved", reason, view_for(as_json), db)


@click.command()
@_options
def deny(session: str, ask: str | None, reason: str, as_json: bool, db: Path) -> None:
    """Refuse a call that a session waits with.

    The turn goes on here. ASK may be left out when there is one, or given by its last characters.
    """
    _settle(session, ask, "denied", reason, view_for(as_json), db)


def _settle(session: str, ask: str | None, verdict: Verdict, reason: str, view: View, db: Path) -> None:
    result = asyncio.run(_answer(session, ask, verdict, reason, view, db))
    sys.exit(EXIT_CODES[result.status] if result else 0)


async def _answer(
    name: str, part: str | None, verdict: Verdict, reason: str, view: View, db: Path
) -> TurnResult | None:
    async with writing(db) as runtime:
        state = (await runtime.open(await find(runtime, name), read_only=True)).state
        ask_id = _one(list(state.asks), part, state.session_id)
        if missing := await functions(runtime, state):
            await record(runtime, state.session_id, ask_id, verdict, reason)
            view.note(
                f"{verdict}; it goes on when the program that has {', '.join(missing)} opens this session"
            )
            return None
        session = await reopen(runtime, state.session_id)
        watcher = Watcher(session, view)
        settle = session.approve if verdict == "approved" else session.deny
        await settle(ask_id, by=who(), reason=reason)
        result = await watcher.rest_of_it()
        if result is not None:
            view.end(session.id, result)
        return result


def _one(asks: list[str], part: str | None, session_id: str) -> str:
    """The ask that is meant."""
    listed = ", ".join(asks) or "none"
    if part is None and len(asks) != 1:
        raise UsageError(f"session {session_id} has {len(asks)} open asks; name one of: {listed}")
    found = [it for it in asks if part in (None, it)] or list(
        matches((part or "").removeprefix("ask_"), asks)
    )
    if len(found) != 1:
        raise UsageError(f"session {session_id} has no open ask {part!r}; open: {listed}")
    return found[0]
