"""A Postgres store's server: reached, recognised, migrated; and every Postgres error in our words.

A password is in the URL and nowhere else: not in a repr, not in an error. That is also why a URL that cannot be
understood is not quoted, nor what asyncpg had to say about it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import asyncpg

from holdfast.errors import (
    ForeignFile,
    HoldfastError,
    NotEncodable,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
    StoreTooNew,
    UsageError,
)
from holdfast.stores.accept import closed

T = TypeVar("T")

log = logging.getLogger(__name__)

PAUSES = (0.05, 1.0)
"""Seconds between two tries to reach a server that is away: at first, and at most."""

SLOWEST = 60.0
"""Seconds that one statement may take."""

RESTARTING = ("57P01", "57P02", "57P03", "57P05", "53300", "25P03")
"""Shutting down, crashed, starting up, idle for too long, no connection left: another try may find it well again."""

UNDONE = ("40001", "40P01")
"""The server undid the transaction to let another one go on; the same again may work."""


class Queries(NamedTuple):
    """The statements in `queries/postgres.sql`, by name."""

    append: str
    append_and_take: str
    append_and_enter: str
    claim: str
    holder: str
    stand_still: str
    renew: str
    due: str
    post: str
    letters: str
    posted: str
    owners: str
    discard: str
    read: str
    event: str
    head: str
    heads: str
    save: str
    load: str
    keep: str
    blob: str
    account: str
    accounts: str
    holding: str
    enter: str
    raise_account: str
    enlist: str
    roster: str
    standing: str
    alone: str
    found: str
    begin: str
    version: str
    migrated: str


@cache
def queries(schema: str) -> Queries:
    """Read from the file once for each schema."""
    text = Path(__file__).with_name("queries").joinpath("postgres.sql").read_text(encoding="utf-8")
    _, *parts = re.split(r"^-- (\w+): .*\n", in_schema(text, schema), flags=re.MULTILINE)
    return Queries(**dict(zip(parts[::2], parts[1::2], strict=True)))


@cache
def migrations() -> tuple[str, ...]:
    """The scripts that make version 1, 2, … of the tables."""
    folder = Path(__file__).with_name("schema") / "postgres"
    return tuple([path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.sql"))])


def in_schema(text: str, schema: str) -> str:
    """SQL that names the schema `holdfast`, for another one."""
    return re.sub(r"'holdfast'", f"'{schema}'", re.sub(r"\bholdfast(?= *[.;])", f'"{schema}"', text))


class PostgresServer:
    """Where a store lives. `patience` is how long, in seconds, a server that went away is waited for."""

    def __init__(self, dsn: str, schema: str, patience: float, *, behind_pooler: bool) -> None:
        if not re.fullmatch(r"(?!pg_)[a-z_][a-z0-9_]{0,62}", schema):
            raise UsageError(
                f"{schema!r} cannot be the store's schema; use up to 63 of a-z, 0-9 and _, not beginning with pg_"
            )
        self.name = _without_password(dsn)
        self.schema = schema
        self.patience = patience
        self.behind_pooler = behind_pooler
        self._dsn = dsn
        self._connecting: set[asyncio.Task[Any]] = set()

    def __str__(self) -> str:
        return f"schema {self.schema} of {self.name}"

    async def connect(self) -> Any:
        """A new connection, as asyncpg raises it; but a URL it does not understand is a `UsageError`."""
        try:
            return await self._connect(self._dsn, timeout=self._patience_to_connect(), **self._settings())
        except (ValueError, asyncpg.ClientConfigurationError) as error:
            raise self._misunderstood(error) from None

    async def pool(self, size: int, *, lent: bool = False) -> Any:
        """Up to so many connections, made when they are needed; the same goes for them. Those that are lent to others
        are cleared of what those set."""
        pool = asyncpg.create_pool(
            self._dsn,
            min_size=0,
            max_size=size,
            connect=self._connect,
            timeout=self._patience_to_connect(),
            reset=None if lent else _leave_as_it_is,
            **self._settings(),
        )
        return await pool

    async def _connect(self, *where: Any, **how: Any) -> Any:
        """As `asyncpg.connect`, but connecting goes on to its end where whoever asked is cancelled, who leaves at once.

        Cut off between the socket and the first word, asyncpg leaves a failure behind that nobody reads.
        """
        connecting = asyncio.create_task(asyncpg.connect(*where, **how), name="holdfast-connecting")
        self._connecting.add(connecting)
        connecting.add_done_callback(self._connecting.discard)
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            connecting.add_done_callback(_hang_up)
            raise

    async def settle(self) -> None:
        """Wait for the connections that nobody wants any more; when cancelled, give them up."""
        while self._connecting:
            try:
                await asyncio.wait(self._connecting)
            except asyncio.CancelledError:
                for connecting in self._connecting:
                    connecting.cancel()
                raise

    def _patience_to_connect(self) -> float:
        return max(min(self.patience, 10.0), 1.0)

    def _settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = {"command_timeout": SLOWEST}
        return {**settings, "statement_cache_size": 0} if self.behind_pooler else settings

    async def prepare(self) -> None:
        """Make sure that the schema is ours and up to date, as soon as the server is there."""
        deadline, pause = asyncio.get_running_loop().time() + self.patience, PAUSES[0]
        while True:
            try:
                await self._prepare()
                return
            except HoldfastError:
                raise
            except Exception as error:
                if not worth_another_try(error):
                    raise self.explain(error) from error
                if asyncio.get_running_loop().time() + pause > deadline:
                    raise self._waited_in_vain(error) from error
                if pause == PAUSES[0]:
                    log.warning("%s; waiting for up to %g s", self.explain(error), self.patience)
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSES[1])

    def _waited_in_vain(self, error: Exception) -> StoreError:
        meaning = self.explain(error)
        return type(meaning)(f"{meaning}. It was waited for, for {self.patience:g} s (patience)")

    async def _prepare(self) -> None:
        connection = await self.connect()
        try:
            self._check_fit(await connection.fetchrow(queries(self.schema).standing))
            if await self._version(connection) < len(migrations()):
                async with connection.transaction():
                    await self._migrate(connection)
            await connection.close(timeout=1.0)
        finally:
            connection.terminate()

    def _check_fit(self, standing: Any) -> None:
        """Whether the server keeps every text, and what it was given."""
        if standing["encoding"] != "UTF8":
            raise StoreError(
                f"{self.name} keeps text as {standing['encoding']}, which cannot hold every text; use a database made "
                "with ENCODING 'UTF8'"
            )
        if not standing["syncs"]:
            log.warning("%s runs with fsync=off: what it acknowledges may not survive its machine", self.name)

    async def _version(self, connection: Any) -> int:
        """Of the tables; 0 when there are none yet."""
        sql = queries(self.schema)
        standing = await connection.fetchrow(sql.standing)
        if not standing["ours"]:
            if standing["relations"]:
                raise ForeignFile(f"{self} holds tables of another program; choose another schema")
            return 0
        version = await connection.fetchval(sql.version)
        if version > len(migrations()):
            raise StoreTooNew(
                f"{self} was written by a newer Holdfast (tables {version}, this one knows {len(migrations())}); "
                "upgrade holdfast to open it"
            )
        return int(version)

    async def _migrate(self, connection: Any) -> None:
        """Bring the tables up to date, unless another process just did."""
        sql = queries(self.schema)
        await connection.execute(sql.alone)
        version = await self._version(connection)
        standing = await connection.fetchrow(sql.standing)
        if not standing["there"]:
            await connection.execute(sql.found)
        if not standing["ours"]:
            await connection.execute(sql.begin)
        for number, script in enumerate(migrations()[version:], version + 1):
            await connection.execute(in_schema(script, self.schema))
            await connection.execute(sql.migrated, number)

    async def ask(self, pool: Any, question: Callable[[Any], Awaitable[T]]) -> T:
        """Put a question that may be put twice to the server, again and again while it is away."""
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + self.patience, PAUSES[0]
        while True:
            try:
                async with pool.acquire() as connection:
                    return await question(connection)
            except HoldfastError:
                raise
            except Exception as error:
                if pool.is_closing():
                    raise closed() from None
                if is_elsewhere(error):
                    await pool.expire_connections()
                if not worth_another_try(error) or loop.time() + pause > deadline:
                    raise self.explain(error) from error
            await asyncio.sleep(pause)
            pause = min(2 * pause, PAUSES[1])

    def explain(self, error: BaseException) -> StoreError:
        """What a failure of Postgres or of the way there means for the caller."""
        state = getattr(error, "sqlstate", None) or ""
        for states, meaning, text in _MEANINGS:
            if state.startswith(states):
                return meaning(f"{self}: {text} ({_said(error)})")
        if is_away(error):
            return StoreError(
                f"{self.name} cannot be reached ({_said(error)}); start it, or correct the address"
            )
        return StoreError(f"{self}: {_said(error)}")

    def _misunderstood(self, error: BaseException) -> UsageError:
        return UsageError(
            f"the address of the Postgres store is not understood ({type(error).__name__}); write "
            "postgresql://user:password@host:port/database, with %-escapes in the password"
        )


_MEANINGS: tuple[tuple[tuple[str, ...], type[StoreError], str], ...] = (
    (("53100",), StoreFull, "no room on the server's disk, nothing of this write was kept; free space"),
    (("25006",), StoreReadOnly, "the server takes no writes; connect to the primary"),
    (("42501",), StoreReadOnly, "this role may not do that; grant it the schema and its tables"),
    (("55P03", "57014"), StoreLocked, "another transaction kept the session locked for too long; end it or wait"),
    (UNDONE, StoreLocked, "other transactions came in between again and again; try again"),
    (("XX001", "XX002", "58030"), StoreCorrupt, "the database is damaged or its disk failed; restore it from a backup"),
    (("54", "22021", "22P05"), NotEncodable, "a value cannot be kept there; split it"),
    (("3D000",), StoreError, "this database does not exist; create it"),
    (("28",), StoreError, "the server refused the log-in; check user and password"),
    (("26000", "42P05"), StoreError, "a pooler hands connections around; open the store with behind_pooler=True"),
    (("53300",), StoreError, "the server has no connection left; raise max_connections or use smaller pools"),
)  # fmt: skip


def is_away(error: BaseException) -> bool:
    """Whether the server could not be reached or went away; what it was doing may have been done."""
    state = getattr(error, "sqlstate", None) or ""
    if state:
        return state.startswith(("08", *RESTARTING))
    if isinstance(error, ValueError):  # asyncpg's way to say that an argument does not fit
        return False
    return isinstance(error, (OSError, EOFError, asyncpg.InterfaceError, asyncpg.InternalClientError))


def is_undone(error: BaseException) -> bool:
    """Whether the server undid a transaction that it would carry out if it came again."""
    return getattr(error, "sqlstate", None) in UNDONE


def is_elsewhere(error: BaseException) -> bool:
    """Whether this connection leads to a server that takes no writes, perhaps no longer; a new one may do better."""
    return getattr(error, "sqlstate", None) == "25006"


def worth_another_try(error: BaseException) -> bool:
    """Whether the same question may be answered a moment later."""
    return is_away(error) or is_undone(error)


def _said(error: BaseException) -> str:
    """What an error says, without what it was about: the detail of a Postgres error may quote content."""
    said = error.args[0] if isinstance(error, asyncpg.PostgresError) and error.args else error
    return f"{type(error).__name__}: {said}".rstrip(": ")


def _hang_up(connecting: asyncio.Task[Any]) -> None:
    """End the connection, if there is one."""
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().terminate()


async def _leave_as_it_is(_connection: Any) -> None:
    """Nothing that is done with a pooled connection changes it, so nothing must be undone."""


def _without_password(dsn: str) -> str:
    """Where a URL leads, for people: without a password, and without anything that might be a piece of one."""
    try:
        parts = urlsplit(dsn)
    except ValueError:
        return "Postgres"
    who, at, where = parts.netloc.rpartition("@")
    hosts_and_ports = re.fullmatch(r"([^:]*|\[[^\]]*\])(:\d*)?(,([^:,]*|\[[^\]]*\])(:\d*)?)*", where)
    if not hosts_and_ports or "@" in parts.path + parts.query + parts.fragment:
        return "Postgres"
    return f"{parts.scheme}://{who.partition(':')[0]}{at}{where}{parts.path}"
