"""Agents of a program, given by flags: functions cannot be read from a database."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from holdfast import Agent, ConfigError, Runtime
from holdfast.agent import read_layers
from holdfast.cli.agentfile import read_agent
from holdfast.registry import load
from holdfast.state import State

_MODULES = click.option(
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


def agents_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command `--agents` and `--agent`, as one argument `agents`: a list."""

    @functools.wraps(command)
    def gathered(modules: tuple[str, ...], files: tuple[Path, ...], **given: Any) -> Any:
        return command(agents=_loaded(modules, files), **given)

    return _MODULES(_FILES(gathered))


def _loaded(modules: Sequence[str], files: Iterable[Path]) -> list[Agent]:
    """The agents that the flags name."""
    if (
        modules and (here := str(Path.cwd())) not in sys.path
    ):  # else nothing of this directory is ever imported
        sys.path.insert(0, here)
    agents = [read_agent(file) for file in files]
    for name in modules:
        found = load(name)
        several = [found] if isinstance(found, Agent) else found
        if not isinstance(several, list | tuple) or not all(isinstance(it, Agent) for it in several):
            raise ConfigError(f"{name} is no Agent, and no list of agents")
        agents += several
    return agents


async def missing_here(runtime: Runtime, state: State, agents: Iterable[Agent] = ()) -> tuple[str, ...]:
    """What the session was made with that only its program can give back, unless its agent was given."""
    if not state.layers:
        return ()
    given = ("agent",) if any(agent.name == state.agent for agent in agents) else ()
    return read_layers(await runtime.store.get_blob(state.layers), given)[1]
