"""Where the sessions are: the database, the runtime over it, and a session by its short name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from holdfast import Agent, Registry, Runtime, SQLiteStore, UnknownSession, UsageError

LOOKED_THROUGH = 100_000
"""Sessions that a short name is looked up among, the most recent first."""


db_option = click.option(
    "--db",
    type=click.Path(dir_okay=False, path_type=Path),
    envvar="HOLDFAST_DB",
    default="holdfast.db",
    show_default=True,
    show_envvar=True,
    help="The database.",
)
"""`--db`, for every command."""


def registry() -> Registry:
    """The built-in drivers and capabilities, with the simulated model and `confirm`."""
    return Registry(
        drivers={"sim": "holdfast.cli.echo:Echo"}, capabilities={"confirm": "holdfast.cli.confirm:confirm"}
    )


def reading(db: Path) -> Runtime:
    """A runtime that can only look; it works on a file that another process is writing."""
    return Runtime(SQLiteStore(_existing(db), read_only=True), registry=registry())


def writing(
    db: Path, *, make: bool = False, agents: Iterable[Agent] = (), drain: float = 30.0, lease: float = 30.0
) -> Runtime:
    """A runtime that can run turns; the file must be there, unless it is to be made.

    Agents that name no model take `$HOLDFAST_MODEL`.
    """
    return Runtime(
        db if make else _existing(db),
        model=os.environ.get("HOLDFAST_MODEL") or None,
        agents=agents,
        registry=registry(),
        drain=drain,
        lease=lease,
    )


def _existing(db: Path) -> Path:
    if not db.exists():
        raise UsageError(f"there is no database at {db}; `holdfast run` makes one, --db names another")
    return db


async def find(runtime: Runtime, name: str) -> str:
    """The session with this id, or this unique beginning or end of one; `last` is the one written last.

    Raises `UnknownSession`, or `UsageError` when there are several.
    """
    if name == "last":
        heads = await runtime.sessions(limit=1)
        if not heads:
            raise UnknownSession("this database has no session yet; `holdfast run` makes one")
        return heads[0].session_id
    if await runtime.store.head(name):
        return name
    ids = [head.session_id for head in await runtime.sessions(limit=LOOKED_THROUGH)]
    found = list(matches(name.removeprefix("session_"), ids))
    if len(found) == 1:
        return found[0]
    if not found:
        raise UnknownSession(
            f"no session is called {name!r}; `holdfast sessions` lists those there are, and `last` is the latest"
        )
    shown = ", ".join(found[:3])
    raise UsageError(
        f"{len(found)} sessions are called {name!r}: {shown}{' …' if found[3:] else ''}; give more of it"
    )


def matches(part: str, ids: list[str]) -> Iterator[str]:
    """The ids of which this is the beginning or the end, not counting their prefix."""
    for it in ids:
        digits = it.partition("_")[2]
        if part and (digits.startswith(part) or digits.endswith(part)):
            yield it
