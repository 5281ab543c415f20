"""Where the sessions are: the database, the runtime over it, and a session by its short name."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import click

from holdfast import Agent, Event, Registry, Runtime, SQLiteStore, Store, UnknownSession, UsageError
from holdfast.registry import POSTGRES, load

LOOKED_THROUGH = 100_000
"""Sessions that a short name is looked up among, the most recent first."""

PATIENCE = 5.0
"""Seconds for which somebody who only wants to look waits for a server that cannot be reached."""

Place = Path | str
"""A database: the path of a SQLite file, or the URL of a Postgres database."""


class PlaceType(click.ParamType[Place]):
    """Reads a path or a URL. What looks like a URL is never repeated in an error: it may hold a password."""

    name = "PATH|URL"

    def convert(self, value: Place, param: click.Parameter | None, ctx: click.Context | None) -> Place:
        """The database that is named."""
        if isinstance(value, Path) or is_url(value):
            return value
        if "://" in value:
            self.fail("it is a path, or begins with postgresql:// or postgres://", param, ctx)
        path = Path(value)
        if path.is_dir():
            self.fail(f"{path} is a directory", param, ctx)
        return path


db_option = click.option(
    "--db",
    type=PlaceType(),
    envvar="HOLDFAST_DB",
    default="holdfast.db",
    show_default=True,
    show_envvar=True,
    help="The database: a file, or postgresql://user@host/database.",
)
"""`--db`, for every command."""


def is_url(place: Place) -> bool:
    """Whether this is a Postgres database and no file."""
    return isinstance(place, str) and place.startswith(("postgres://", "postgresql://"))


def shown(place: Place) -> str:
    """The database in words, without a password or anything that might be a piece of one."""
    if isinstance(place, Path):
        return str(place)
    try:
        parts = urlsplit(place)
    except ValueError:
        return "Postgres"
    who, at, where = parts.netloc.rpartition("@")
    if not re.fullmatch(r"[\w.,:\[\]-]*", where) or not re.fullmatch(r"/?[\w.-]*", parts.path):
        return "Postgres"
    return f"{parts.scheme}://{who.partition(':')[0]}{at}{where}{parts.path}"


def registry() -> Registry:
    """The built-in drivers and capabilities, with the simulated model and `confirm`."""
    return Registry(
        drivers={"sim": "holdfast.cli.echo:Echo"}, capabilities={"confirm": "holdfast.cli.confirm:confirm"}
    )


def reading(db: Place, *, model: str | None = None) -> Runtime:
    """A runtime to look with only; it works while other processes are writing."""
    return Runtime(store_of(db), registry=registry(), model=model)


def store_of(db: Place) -> Store:
    """The store of a database that is there, to look at."""
    place = _existing(db)
    if isinstance(place, Path):
        return SQLiteStore(place, read_only=True)
    store: Store = load(POSTGRES)(place, patience=PATIENCE)
    return store


def writing(
    db: Place,
    *,
    make: bool = False,
    agents: Iterable[Agent] = (),
    drain: float = 30.0,
    lease: float = 30.0,
    model: str | None = None,
) -> Runtime:
    """A runtime that can run turns; a file must be there, unless it is to be made.

    Agents that name no model take `$HOLDFAST_MODEL`, else this one.
    """
    return Runtime(
        db if make else _existing(db),
        model=os.environ.get("HOLDFAST_MODEL") or model,
        agents=agents,
        registry=registry(),
        drain=drain,
        lease=lease,
    )


def is_missing(db: Place) -> bool:
    """Whether this is a file that is not there yet."""
    return isinstance(db, Path) and not db.exists()


def _existing(db: Place) -> Place:
    if is_missing(db):
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
    some = ", ".join(found[:3])
    raise UsageError(
        f"{len(found)} sessions are called {name!r}: {some}{' …' if found[3:] else ''}; give more of it"
    )


async def log_of(store: Store, session_id: str) -> AsyncIterator[Event]:
    """Every event of this session, the oldest first."""
    after = 0
    while page := await store.read(session_id, after=after):
        for event in page:
            yield event
        after = page[-1].sequence


def matches(part: str, ids: Iterable[str]) -> Iterator[str]:
    """The ids of which this is the beginning or the end, not counting their prefix."""
    for it in ids:
        digits = it.partition("_")[2]
        if part and (digits.startswith(part) or digits.endswith(part)):
            yield it


def the_one(part: str | None, ids: Iterable[str], what: str, session_id: str) -> str:
    """The one of these that is meant: the only one when no part of it is given. `what` they are, for the error.

    Raises `UsageError` listing them all.
    """
    known = list(ids)
    listed = ", ".join(known) or "none"
    if part is None and not known:
        raise UsageError(f"session {session_id} has no {what}")
    if part is None and len(known) > 1:
        raise UsageError(f"session {session_id} has more than one {what}; name one of: {listed}")
    digits = (part or "").removeprefix(f"{known[0].partition('_')[0]}_") if known else ""
    found = [it for it in known if part in (None, it)] or list(matches(digits, known))
    if len(found) != 1:
        raise UsageError(f"session {session_id} has no {what} {part!r}; there are: {listed}")
    return found[0]
