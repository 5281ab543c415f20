"""From flags to a session: its agent, its directory, and how both are found again when it is continued."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from msgspec import Struct

from holdfast import (
    FILES,
    CapabilityRef,
    Config,
    DiskFiles,
    Key,
    Runtime,
    Session,
    UnknownModel,
    UsageError,
)
from holdfast.cli.agentfile import read_agent
from holdfast.cli.place import find
from holdfast.cli.trust import brought_by
from holdfast.config import merge
from holdfast.events import SessionCreated

DIRECTORY, WRITABLE = "holdfast.dir", "holdfast.write"
"""Keys of a session's metadata: the real directory it works on, and whether it may change it."""

NO_MODEL = (
    "no model is set: pass --model vendor/name or set HOLDFAST_MODEL, such as openai-chat/gpt-5-mini (with its key in "
    "OPENAI_API_KEY). To look around without a key: --model sim/echo, a SIMULATED model that repeats you"
)


class Wanted(Struct, frozen=True, kw_only=True):
    """What the flags ask for."""

    agent: Path | None
    model: str | None
    instructions: str | None
    capabilities: tuple[str, ...]
    directory: Path | None
    write: bool
    ask: bool

    def config(self) -> Config | None:
        """The flags as a layer on top of the agent; None when they say nothing."""
        refs = [CapabilityRef(name=name) for name in self.capabilities]
        if self.directory is not None:
            refs.append(CapabilityRef(name="files", config={} if self.write else {"read_only": True}))
        if self.ask:
            refs.append(CapabilityRef(name="confirm"))
        if not (refs or self.model or self.instructions):
            return None
        return Config(model=self.model, instructions=self.instructions, capabilities=tuple(refs))

    def metadata(self) -> dict[str, str]:
        """What must be remembered to continue the session in the same place."""
        if self.directory is None:
            return {}
        return {DIRECTORY: str(self.directory.resolve()), WRITABLE: "yes" if self.write else "no"}


_OPTIONS = (
    click.option(
        "--agent",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE.md",
        help="An agent file: Markdown with front matter.",
    ),
    click.option(
        "--model", metavar="VENDOR/NAME", help="The model. Default: the agent's, else $HOLDFAST_MODEL."
    ),
    click.option("-i", "--instructions", help="Instructions, below those of the agent file."),
    click.option(
        "--capability", "capabilities", multiple=True, metavar="NAME", help="A capability; may be repeated."
    ),
    click.option(
        "--dir",
        "directory",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="A real directory to work on; only to be read, unless --write is given.",
    ),
    click.option("--write", is_flag=True, help="Let the agent change files in --dir."),
    click.option("--ask", is_flag=True, help="Ask before each call that may change something."),
)


def agent_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the flags of an agent, as one argument `wanted`."""

    @functools.wraps(command)
    def gathered(**given: Any) -> Any:
        wanted = Wanted(**{name: given.pop(name) for name in Wanted.__struct_fields__})
        if wanted.write and wanted.directory is None:
            raise click.UsageError("--write needs --dir: it lets the agent change that directory")
        return command(wanted=wanted, **given)

    for option in reversed(_OPTIONS):
        gathered = option(gathered)
    return gathered


async def session_for(runtime: Runtime, name: str | None, wanted: Wanted) -> Session:
    """The session of this name, or a new one."""
    return await reopen(runtime, await find(runtime, name), wanted) if name else await begin(runtime, wanted)


async def begin(runtime: Runtime, wanted: Wanted) -> Session:
    """A new session. Raises `ConfigError` when the flags do not make an agent."""
    agent = read_agent(wanted.agent) if wanted.agent else None
    try:
        return await runtime.session(
            agent,
            config=_with_hooks(wanted),
            metadata=wanted.metadata(),
            services=_services(wanted.metadata()),
        )
    except UnknownModel as error:
        named = wanted.model or os.environ.get("HOLDFAST_MODEL") or (agent and agent.layers[0].config.model)
        raise UnknownModel(str(error) if named else NO_MODEL) from error


def _with_hooks(wanted: Wanted) -> Config | None:
    """The flags as a layer, with the hooks that the directory, or that of the agent file, brings with it."""
    config, here = wanted.config(), wanted.directory or Path()
    found = brought_by([here, *([wanted.agent.parent] if wanted.agent else [])])
    return merge(config or Config(), Config(capabilities=found)) if found else config


async def reopen(runtime: Runtime, session_id: str, wanted: Wanted | None = None) -> Session:
    """A session that exists, in the directory it was made for; whatever it owes goes on. Flags add to what it has.

    Raises `ConfigError`, among others when it was made by a program whose functions it needs.
    """
    metadata = (wanted.metadata() if wanted else {}) or await recorded(runtime, session_id)
    return await runtime.open(
        session_id,
        read_agent(wanted.agent) if wanted and wanted.agent else None,
        config=wanted.config() if wanted else None,
        services=_services(metadata),
    )


async def look(runtime: Runtime, session_id: str) -> Session:
    """A session with its directory, to be looked at only."""
    lent = _services(await recorded(runtime, session_id))
    return await runtime.open(session_id, services=lent, read_only=True)


async def recorded(runtime: Runtime, session_id: str) -> dict[str, str]:
    """The metadata that the session was made with."""
    first = await runtime.store.read(session_id, limit=1)
    return first[0].data.metadata if first and isinstance(first[0].data, SessionCreated) else {}


def _services(metadata: dict[str, str]) -> dict[Key[Any], Any]:
    place = metadata.get(DIRECTORY)
    if place is None:
        return {}
    if not Path(place).is_dir():
        raise UsageError(f"this session works on {place}, which is not there; name another with --dir")
    return {FILES: DiskFiles(place, writable=metadata.get(WRITABLE) == "yes")}
