"""`holdfast steer` and `cancel`: speak into the turn under way, or end it, whoever is at work on it."""

from __future__ import annotations

import asyncio
import sys

import click

from holdfast import Agent, Runtime, Session, TurnResult
from holdfast.cli.compose import reopen
from holdfast.cli.given import agents_options, missing_here
from holdfast.cli.place import Place, db_option, find, the_one, writing
from holdfast.cli.view import View, view_for
from holdfast.cli.watch import EXIT_CODES, Watcher, at_work, from_afar
from holdfast.state import State


@click.command()
@click.argument("session")
@click.argument("text")
@click.option(
    "--json", "as_json", is_flag=True, help="Show the rest of the turn, if it goes on here, as JSON lines."
)
@agents_options
@db_option
def steer(session: str, text: str, as_json: bool, agents: list[Agent], db: Place) -> None:
    """Say TEXT to the turn under way, before its next model call.

    While another process is at work on the turn, it is heard there. Else the turn goes on here. With no turn under way
    TEXT is an ordinary input.
    """
    result = asyncio.run(_steer(session, text, view_for(as_json), agents, db))
    sys.exit(EXIT_CODES[result.status] if result else 0)


async def _steer(name: str, text: str, view: View, agents: list[Agent], db: Place) -> TurnResult | None:
    async with writing(db, agents=agents) as runtime:
        state = (await runtime.open(await find(runtime, name), read_only=True)).state
        missing = await missing_here(runtime, state, agents)
        session = await (
            runtime.open(state.session_id, drive=False) if missing else reopen(runtime, state.session_id)
        )
        watcher, before = Watcher(session, view), session.state.sequence
        turn = await session.steer(text)
        if await at_work(session):
            view.note("said; the process that is at work on this session hears it")
            return None
        if missing:
            view.note(f"said; it is heard when the program that has {', '.join(missing)} opens this session")
            return None
        result = await watcher.rest_of(turn, before)
        view.end(session.id, result)
        return result


@click.command()
@click.argument("session")
@click.argument("turn", required=False)
@click.option("--reason", default="", help="Why; kept in the log.")
@click.option("--no-wait", is_flag=True, help="Do not wait for another process to end it.")
@click.option("--json", "as_json", is_flag=True, help="How it ended, as one JSON object.")
@agents_options
@db_option
def cancel(
    session: str, turn: str | None, reason: str, no_wait: bool, as_json: bool, agents: list[Agent], db: Place
) -> None:
    """End the turn under way, whoever is at work on it.

    TURN names another one, which waits in line. What waits behind it goes on. Exit code 1 when the turn ended in
    another way before.
    """
    result = asyncio.run(_cancel((session, turn), reason, not no_wait, view_for(as_json), agents, db))
    sys.exit(0 if result is None or result.status == "cancelled" else 1)


async def _cancel(
    names: tuple[str, str | None], reason: str, wait: bool, view: View, agents: list[Agent], db: Place
) -> TurnResult | None:
    async with writing(db, agents=agents) as runtime:
        state = (await runtime.open(await find(runtime, names[0]), read_only=True)).state
        turn_id = _turn_of(state, names[1])
        missing = await missing_here(runtime, state, agents)
        session = await runtime.open(state.session_id, drive=False)
        held = await at_work(session)
        if missing or (held and not wait):
            await session.handle(turn_id).cancel(reason)
            result = await _told(runtime, session, turn_id, view if held and wait else None)
        else:
            result = await (await reopen(runtime, state.session_id)).handle(turn_id).cancel(reason)
        if result is None:
            lacks = f"when the program that has {', '.join(missing)} opens this session"
            view.note(f"asked for; it ends {'in the process that is at work on it' if held else lacks}")
        else:
            view.end(state.session_id, result)
        return result


async def _told(runtime: Runtime, session: Session, turn_id: str, view: View | None) -> TurnResult | None:
    """How the turn ended, if it has; with a view, after watching it end in another process."""
    if view is not None:
        return await from_afar(runtime, session, session.handle(turn_id), session.state.sequence, view)
    result = await (await runtime.open(session.id, read_only=True)).handle(turn_id)
    return result if result.stop else None


def _turn_of(state: State, part: str | None) -> str:
    """The turn that is meant: the one under way, or else the only one in line, unless it is named."""
    line = [entry.turn_id for entry in state.queue] + [rerun.turn_id for rerun in state.reruns]
    if state.turn is not None:
        if part is None:
            return state.turn.id
        line.insert(0, state.turn.id)
    return the_one(part, line, "turn to cancel", state.session_id)
