"""`holdfast resolve`: say what became of a call in doubt, or have it run again."""

from __future__ import annotations

import asyncio
import sys

import click
import msgspec

from holdfast import Agent, Runtime, TurnResult
from holdfast.cli.compose import reopen
from holdfast.cli.given import agents_options, missing_here
from holdfast.cli.place import Place, db_option, find, the_one, writing
from holdfast.cli.record import who
from holdfast.cli.view import view_for
from holdfast.cli.watch import EXIT_CODES, Watcher
from holdfast.state import State


@click.command()
@click.argument("session")
@click.argument("call", required=False)
@click.option("--result", metavar="TEXT", help="What became of it; the model reads this from now on.")
@click.option("--rerun", is_flag=True, help="Run it again, with the same key.")
@click.option("--reason", default="", help="How you know; kept in the log.")
@click.option(
    "--json", "as_json", is_flag=True, help="JSON lines: what was recorded, or the turn that reruns."
)
@agents_options
@db_option
def resolve(
    session: str,
    call: str | None,
    result: str | None,
    rerun: bool,
    reason: str,
    as_json: bool,
    agents: list[Agent],
    db: Place,
) -> None:
    """Say what became of a call in doubt, or run it again.

    That is a call that was cut off and may have had its effect. With --result nothing is run. With --rerun it is run
    again, here if its tool is known here (see --agents). CALL may be left out when there is one, or given by its last
    characters.
    """
    if rerun is (result is not None):
        raise click.UsageError("say what became of the call with --result TEXT, or run it again with --rerun")
    doing = _rerun if result is None else _settle

    async def resolving() -> TurnResult | None:
        async with writing(db, agents=agents) as runtime:
            state = (await runtime.open(await find(runtime, session), read_only=True)).state
            call_id = the_one(call, state.doubts, "call in doubt", state.session_id)
            word = Word(call_id=call_id, result=result, reason=reason, as_json=as_json)
            return await doing(runtime, state, word, agents)

    at_rest = asyncio.run(resolving())
    sys.exit(EXIT_CODES[at_rest.status] if at_rest else 0)


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody says of a call."""

    call_id: str
    result: str | None
    """None: run it again."""
    reason: str
    as_json: bool


async def _settle(runtime: Runtime, state: State, word: Word, agents: list[Agent]) -> None:
    """Record what became of the call. Nothing is run, so nobody's functions are needed."""
    session = await runtime.open(state.session_id, drive=False)
    await session.resolve(word.call_id, result=word.result, by=who(), reason=word.reason)
    left = any(result.call_id == word.call_id for result in session.in_doubt)
    if word.as_json:
        status = "left" if left else "recorded"
        line = {"type": "resolved", "session_id": session.id, "call_id": word.call_id, "status": status}
        click.echo(msgspec.json.encode(line))
    elif left:
        click.echo("left for the process that is at work on this session, which records it", err=True)
    else:
        click.echo("recorded; the model reads it from its next call on", err=True)


async def _rerun(runtime: Runtime, state: State, word: Word, agents: list[Agent]) -> TurnResult | None:
    """Run the call again, or leave that to the program that can."""
    view = view_for(word.as_json)
    missing = await missing_here(runtime, state, agents)
    session = await (
        runtime.open(state.session_id, drive=False) if missing else reopen(runtime, state.session_id)
    )
    watcher, before = Watcher(session, view), session.state.sequence
    turn = await session.resolve(word.call_id, rerun=True, by=who(), reason=word.reason)
    if missing or turn is None:
        view.note(f"it is run again when the program that has {', '.join(missing)} opens this session")
        return None
    result = await watcher.rest_of(turn, before)
    view.end(session.id, result)
    return result
