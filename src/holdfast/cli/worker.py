"""`holdfast worker` and `recover`: go on with what is owed, for as long as it runs or once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import click

from holdfast import Agent, HoldfastError, Runtime
from holdfast.cli.compose import reopen
from holdfast.cli.given import agents_options
from holdfast.cli.place import Place, db_option, shown, writing
from holdfast.cli.text import clean, count
from holdfast.cli.watch import KILLED

RECENT = 100
"""Sessions, the most recent first, that `recover` looks into although somebody holds them: he may be dead."""


@click.command()
@agents_options
@click.option(
    "--sessions",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    metavar="N",
    help="How many are at work at a time.",
)
@click.option(
    "--drain",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long turns may go on when the worker is told to stop.",
)
@click.option(
    "--lease",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a session stays held when this worker dies.",
)
@db_option
def worker(agents: list[Agent], sessions: int, drain: float, lease: float, db: Place) -> None:
    """Run whatever is due in the database, until told to stop.

    Any number of workers may share a database. Agents with tools of their own must be given, since only their program
    has them; sessions of others are left, and said so once. SIGTERM or Ctrl-C: takes up nothing more and lets running
    turns rest; once more: leaves at once, and others go on.
    """
    asyncio.run(_work(db, agents, sessions, drain=drain, lease=lease))


async def _work(db: Place, agents: list[Agent], sessions: int, *, drain: float, lease: float) -> None:
    stop = asyncio.Event()

    def stopping() -> None:
        if stop.is_set():
            _say("left; what was recorded is kept, and another worker goes on")
            os._exit(KILLED)
        _say(f"stopping: turns under way have {drain:g} seconds; once more leaves at once")
        stop.set()

    def report(session_id: str, why: Exception) -> None:
        _say(f"left {session_id or 'the database'}: {why}")

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping)
    async with writing(db, agents=agents, drain=drain, lease=lease) as runtime:
        _say(f"at work on {shown(db)}, {count(sessions, 'session')} at a time")
        await runtime.work(sessions=sessions, stop=stop, take=_take(runtime), report=report)
        await runtime.close()
    _say("stopped")


def _take(runtime: Runtime) -> Callable[[str], Any]:
    async def take(session_id: str) -> str | None:
        status = await _drive(runtime, session_id)
        if status is not None:
            click.echo(f"{session_id}  {status}")
        return status

    return take


async def _drive(runtime: Runtime, session_id: str) -> str | None:
    """Go on with a session in the directory it was made for."""
    head = await runtime.store.head(session_id)
    session = await reopen(runtime, session_id)
    status = await runtime.drive(session.id)
    state = session.state
    if status is None and state.outcome is not None and head is not None and state.sequence > head.sequence:
        return (
            state.outcome.status
        )  # it was over as soon as the session was opened: somebody had cancelled it
    return status


@click.command()
@agents_options
@db_option
def recover(agents: list[Agent], db: Place) -> None:
    """Go on once with all that is owed, and say what became of it.

    Exit code 1 when something had to be left: it is held by a living process, or needs an agent that was not given.
    """
    sys.exit(asyncio.run(_recover(db, agents)))


async def _recover(db: Place, agents: list[Agent]) -> int:
    resumed = left = 0
    async with writing(db, agents=agents) as runtime:
        async for session_id in _owing(runtime):
            try:
                status = await _drive(runtime, session_id)
            except HoldfastError as error:
                left += 1
                click.echo(f"{session_id}  left: {clean(' '.join(str(error).split()))}")
            else:
                resumed += status is not None
                click.echo(f"{session_id}  {status or 'nothing is owed'}")
    _say(f"{count(resumed, 'session')} resumed, {left} left")
    return 1 if left else 0


async def _owing(runtime: Runtime) -> AsyncIterator[str]:
    """What is due; then what somebody holds, should he be dead."""
    now = datetime.now(UTC)
    due = await runtime.store.due(now, limit=1_000_000)
    due += [it for it in await runtime.accounts.unblocked() if it not in due]
    for session_id in due:
        yield session_id
    heads = await runtime.sessions(limit=RECENT)
    for session_id in (head.session_id for head in heads if head.session_id not in due):
        owed = (await runtime.open(session_id, read_only=True)).state.due()
        if owed is not None and owed <= now:
            yield session_id


def _say(text: str) -> None:
    click.echo(clean(text), err=True)
