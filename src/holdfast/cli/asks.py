"""`holdfast asks`: everything that waits for somebody, in all sessions; and how one of them is found by its id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
from msgspec import Struct

from holdfast import AskOpened, Runtime, UnknownSession, UsageError
from holdfast.cli.place import Place, db_option, find, matches, reading, the_one
from holdfast.cli.sessions import title_of
from holdfast.cli.text import between, clean, day, joined, one_line
from holdfast.errors import UnknownAsk
from holdfast.state import State

PAGE = 1_000
VERBS = {"approval": "approve|deny", "result": "answer", "answer": "answer"}
"""What answers an ask, by what it wants."""


class Pending(Struct, frozen=True, kw_only=True):
    """An open ask, and where it was raised."""

    session_id: str
    title: str
    agent: str
    ask: AskOpened


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@db_option
def asks(as_json: bool, db: Place) -> None:
    """List what waits for an answer, the oldest first."""
    found = asyncio.run(_listed(db))
    if as_json:
        click.echo(msgspec.json.encode(found))
        return
    for it in found:
        click.echo("\n".join(_described(it)))
    if not found:
        click.echo("nothing waits for an answer", err=True)


async def _listed(db: Place) -> list[Pending]:
    async with reading(db) as runtime:
        found = [
            Pending(session_id=state.session_id, title=title_of(state), agent=state.agent, ask=ask)
            async for state in _states(runtime)
            for ask in state.asks.values()
        ]
    return sorted(found, key=lambda it: it.ask.ask_id)  # ids sort by when they were made


async def _states(runtime: Runtime) -> AsyncIterator[State]:
    """What is known of each session; one that moves meanwhile comes once."""
    seen: set[str] = set()
    while heads := await runtime.sessions(limit=PAGE, offset=len(seen)):
        fresh = [head.session_id for head in heads if head.session_id not in seen]
        for session_id in fresh:
            yield (await runtime.open(session_id, read_only=True)).state
        seen.update(fresh)
        if not fresh:
            return


def _described(it: Pending) -> list[str]:
    ask = it.ask
    lines = [
        joined(clean(ask.ask_id), f"holdfast {VERBS[ask.wants]}", _expiry(ask)),
        f"  {clean(ask.tool)} {clean(ask.arguments)}",  # nobody should agree to what they have not seen
        f"  {joined(one_line(ask.reason, 200), _who(ask))}",
        f"  {joined(clean(it.session_id), one_line(it.agent, 40), one_line(it.title, 60))}",
    ]
    if ask.options:
        offered = " | ".join(one_line(option, 200) for option in ask.options)
        lines.insert(3, f"  {offered}{' | …' if ask.free_text else ''}")
    return lines


def _who(ask: AskOpened) -> str:
    asked = f"asked by {one_line(ask.raised_by, 60)}" if ask.raised_by else ""
    may = f"for {one_line(', '.join(ask.who) or ask.owner, 80)}" if ask.who or ask.owner else ""
    return joined(asked, may)


def _expiry(ask: AskOpened) -> str:
    if ask.expires_at is None:
        return ""
    now = datetime.now(UTC)
    then = {"deny": "denied", "fail": "the turn fails", "default": "the default counts"}[ask.on_expiry]
    if ask.expires_at <= now:
        return f"expired {day(ask.expires_at)}"
    return f"expires {day(ask.expires_at)} (in {between(now, ask.expires_at)}), then {then}"


async def find_ask(runtime: Runtime, names: tuple[str, ...]) -> tuple[State, str]:
    """The ask that is meant, by (the end of) its id, or by its session and, where that has several, by its id too.

    Raises `UnknownAsk`, `UnknownSession`, or `UsageError` when it could be several.
    """
    if len(names) == 1 and names[0] != "last":
        found: list[tuple[State, str]] = []
        async for state in _states(runtime):
            found += [(state, ask_id) for ask_id in _called(names[0], state.asks)]
            found += [(state, ask_id) for ask_id in state.closed if ask_id == names[0]]
        if len(found) > 1:
            listed = ", ".join(ask_id for _, ask_id in found)
            raise UsageError(f"{len(found)} asks are called {names[0]!r}: {listed}; give more of it")
        if found:
            return found[0]
    try:
        session_id = await find(runtime, names[0])
    except UnknownSession as error:
        if len(names) > 1:
            raise
        raise UnknownAsk(
            f"no ask (and no session) is called {names[0]!r}; `holdfast asks` lists those that are open"
        ) from error
    state = (await runtime.open(session_id, read_only=True)).state
    return state, the_one(names[1] if len(names) > 1 else None, state.asks, "open ask", session_id)


def _called(name: str, known: dict[str, Any]) -> list[str]:
    return [name] if name in known else list(matches(name.removeprefix("ask_"), known))
