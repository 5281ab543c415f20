"""`holdfast worker` and `recover`: go on with what is owed, for as long as it runs or once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from holdfast import Agent, ConfigError, HoldfastError, Runtime
from holdfast.cli.agentfile import read_agent
from holdfast.cli.compose import reopen
from holdfast.cli.place import db_option, writing
from holdfast.cli.text import clean, count
from holdfast.cli.watch import KILLED
from holdfast.registry import load

RECENT = 100
"""Sessions, the most recent first, that `recover` looks into although somebody holds them: he may be dead."""

_AGENTS = click.option(
    "--agents",
    "modules",
    multiple=True,
    metavar="MODULE:NAME",
    help="An Agent, or a list of them, in a module that can be imported from here; may be repeated.",
)
_FILES = click.option(
    "--agent",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE.md",
    help="An agent file; may be repeated.",
)


@click.command()
@_AGENTS
@_FILES
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
def worker(
    modules: tuple[str, ...], files: tuple[Path, ...], sessions: int, drain: float, lease: float, db: Path
) -> None:
    """Run whatever is due in the database, until told to stop.

    Any number of workers may share a database. Agents with tools of their own must be given, since only their program
    has them; sessions of others are left, and said so once. SIGTERM or Ctrl-C: takes up nothing more and lets running
    turns rest; once more: leaves at once, and others go on.
    """
    asyncio.run(_work(db, _given(modules, files), sessions, drain=drain, lease=lease))


async def _work(db: Path, agents: list[Agent], sessions: int, *, drain: float, lease: float) -> None:
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
        _say(f"at work on {db}, {count(sessions, 'session')} at a time")
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
    session = await reopen(runtime, session_id)
    return await runtime.drive(session.id)


@click.command()
@_AGENTS
@_FILES
@db_option
def recover(modules: tuple[str, ...], files: tuple[Path, ...], db: Path) -> None:
    """Go on once with all that is owed, and say what became of it.

    Exit code 1 when something had to be left: it is held by a living process, or needs an agent that was not given.
    """
    sys.exit(asyncio.run(_recover(db, _given(modules, files))))


async def _recover(db: Path, agents: list[Agent]) -> int:
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
    for session_id in due:
        yield session_id
    heads = await runtime.sessions(limit=RECENT)
    for session_id in (head.session_id for head in heads if head.session_id not in due):
        owed = (await runtime.open(session_id, read_only=True)).state.due()
        if owed is not None and owed <= now:
            yield session_id


def _given(modules: Iterable[str], files: Iterable[Path]) -> list[Agent]:
    """The agents that the flags name."""
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    agents = [read_agent(file) for file in files]
    for name in modules:
        found = load(name)
        several = [found] if isinstance(found, Agent) else found
        if not isinstance(several, list | tuple) or not all(isinstance(it, Agent) for it in several):
            raise ConfigError(f"{name} is no Agent, and no list of agents")
        agents += several
    return agents


def _say(text: str) -> None:
    click.echo(clean(text), err=True)
