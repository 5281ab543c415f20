"""A SQLite store's file: created, recognised, migrated, copied; and every SQLite error in our words.

The order of a creation matters after a power cut: make the file, switch it to WAL, make the tables, sync the
directory, and only then let anybody write. Without the last step the removal of the old journal could be undone,
and with it everything after. The file itself is never opened other than by SQLite once it exists: closing any
descriptor of it would drop the locks this process holds.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from threading import Event as Flag
from typing import NamedTuple
from urllib.parse import quote

import apsw

from holdfast.errors import (
    ForeignFile,
    NotEncodable,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreReadOnly,
    StoreTooNew,
    UsageError,
)

APPLICATION_ID = 0x484F4C44
"""Marks a database as ours, for us and for `file`: the letters HOLD."""

SOUND_SQLITE = (3, 51, 3)
"""Older ones can damage a file in WAL mode that two connections write to."""

FULL = 2
WAL_BYTES = 16 << 20
"""What the WAL file shrinks back to after it had to grow beyond."""

COPIED_PAGES = 1_000
"""Pages copied at once; in between one can be told to stop."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NO_ROOM_WHILE = (apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_SHMSIZE, apsw.SQLITE_IOERR_TRUNCATE)
"""A full disk, as these report it. A sync that fails is never one of them: what it lost is not known."""

NOT_DENIED = (*NO_ROOM, errno.EIO, errno.EMFILE, errno.ENFILE)
"""Why a file cannot be opened though its permissions allow it."""


class Queries(NamedTuple):
    """The statements in `queries/sqlite.sql`, by name."""

    create: str
    follow: str
    advance: str
    advance_anew: str
    add: str
    claim: str
    holder: str
    renew: str
    due: str
    post: str
    letters: str
    posted: str
    owners: str
    take: str
    save: str
    load: str
    keep: str
    standing: str
    read: str
    head: str
    heads: str
    blob: str
    every_session: str
    every_event: str
    every_blob: str
    early_snapshots: str
    every_letter: str
    standing_of: str
    held: str
    reserve: str
    release: str
    used: str
    raised: str
    accounts: str
    holding: str
    every_account: str
    enlist: str
    roster: str


@cache
def queries() -> Queries:
    """Read from the file once."""
    text = Path(__file__).with_name("queries").joinpath("sqlite.sql").read_text(encoding="utf-8")
    _, *parts = re.split(r"^-- (\w+): .*\n", text, flags=re.MULTILINE)
    return Queries(**dict(zip(parts[::2], parts[1::2], strict=True)))


@cache
def migrations() -> tuple[str, ...]:
    """The scripts that make version 1, 2, … of the tables."""
    folder = Path(__file__).with_name("schema") / "sqlite"
    return tuple([path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.sql"))])


class SQLiteFile:
    """Where a store lives. `timeout` is how long, in seconds, another process's lock is waited out."""

    def __init__(self, path: str | os.PathLike[str], timeout: float, vfs: str | None) -> None:
        self.path = os.path.realpath(path)
        self._timeout = timeout
        self._vfs = vfs

    def open_for_writing(self) -> apsw.Connection:
        """A connection to a file that is ours, up to date, and durable from here on."""
        self._create()
        with self._opening(apsw.SQLITE_OPEN_READWRITE) as connection:
            if connection.readonly("main"):
                raise StoreReadOnly(self._not_writable())
            version = self._recognise(connection)
            self._make_durable(connection)
            for number in range(version + 1, len(migrations()) + 1):
                _migrate(connection, number)
            self._sync_directory()
        return connection

    def open_for_reading(self) -> apsw.Connection:
        """A connection that cannot write, to a file that is ours and up to date."""
        if not os.path.exists(self.path):
            raise StoreError(f"there is no database at {self.path}; open it for writing to create it")
        self._check_regular()
        try:
            connection, version = self._look(apsw.SQLITE_OPEN_READONLY)
        except StoreReadOnly:
            if all(_may_write(path) for path in (self.path, os.path.dirname(self.path))):
                raise  # it failed for another reason, and the file may well be in use
            connection, version = self._look_at_rest()
        if version < len(migrations()):
            raise StoreReadOnly(
                f"{self.path} is not up to date; open it once for writing, which brings it there"
            )
        return connection

    def _look_at_rest(self) -> tuple[apsw.Connection, int]:
        """Reading makes companion files, which was not allowed. When nobody made any, the file can do without."""
        blocked = StoreError(
            f"{self.path} cannot be read; make it, its -wal and its -shm readable for this user"
        )
        if os.path.exists(self.path + "-wal"):
            raise blocked
        try:
            name = f"file:{quote(self.path)}?immutable=1"
            return self._look(apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI, name)
        except StoreReadOnly:
            raise blocked from None

    def _look(self, flags: int, name: str | None = None) -> tuple[apsw.Connection, int]:
        with self._opening(flags, name) as connection:
            return connection, self._recognise(connection)

    @contextmanager
    def _opening(self, flags: int, name: str | None = None) -> Iterator[apsw.Connection]:
        """A new connection. When what happens inside fails it is closed, and the failure is put in our words."""
        connection = None
        try:
            connection = self._connect(flags, name)
            yield connection
        except BaseException as error:
            meaning = self.explain(error, connection) if isinstance(error, apsw.Error) else None
            if connection is not None:
                let_go(connection)
            if meaning is None:
                raise
            raise meaning from error

    def _connect(self, flags: int, name: str | None = None) -> apsw.Connection:
        found = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
        if found < SOUND_SQLITE:
            wanted = ".".join(map(str, SOUND_SQLITE))
            raise StoreError(
                f"SQLite {apsw.sqlite_lib_version()} can damage databases in WAL mode; install an apsw wheel with "
                f"{wanted} or newer"
            )
        connection = apsw.Connection(name or self.path, flags=flags, vfs=self._vfs)
        connection.set_busy_timeout(round(self._timeout * 1000))
        return connection

    def _create(self) -> None:
        try:
            if not os.path.exists(self.path):
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
            elif self._check_regular() == 0:
                os.chmod(self.path, 0o600)
        except FileExistsError:
            pass  # another process was first
        except FileNotFoundError:
            folder = os.path.dirname(self.path)
            raise StoreError(
                f"{self.path} cannot be made: {folder} does not exist; make the directory first"
            ) from None
        except OSError as error:
            raise self._explain_os(error) from error

    def _check_regular(self) -> int:
        """The file's size; raises `ForeignFile` when it is a directory, a pipe or a device."""
        status = os.stat(self.path)
        if not stat.S_ISREG(status.st_mode):
            raise ForeignFile(f"{self.path} is not a regular file; choose another path")
        return status.st_size

    def _recognise(self, connection: apsw.Connection) -> int:
        """The version of the tables in this file, 0 for a new one."""
        connection.execute("BEGIN")
        application, version = connection.pragma("application_id"), connection.pragma("user_version")
        tables = connection.execute("SELECT count(*) FROM sqlite_schema").get
        connection.execute("ROLLBACK")
        if application != APPLICATION_ID and (application or version or tables):
            raise ForeignFile(f"{self.path} is a database of another program; choose another path")
        if version > len(migrations()):
            raise StoreTooNew(
                f"{self.path} was written by a newer Holdfast (tables {version}, this one knows {len(migrations())}); "
                "upgrade holdfast to open it"
            )
        return int(version)

    def _make_durable(self, connection: apsw.Connection) -> None:
        connection.pragma("synchronous", FULL)
        connection.pragma("fullfsync", 1)  # macOS: through the drive's own cache
        connection.pragma("journal_size_limit", WAL_BYTES)
        if self._switch_to_wal(connection) != "wal" or connection.pragma("synchronous") < FULL:
            raise StoreError(
                f"{self.path} cannot be made durable (WAL, synchronous=FULL); keep it on a local disk"
            )

    def _switch_to_wal(self, connection: apsw.Connection) -> str:
        """The mode it is in afterwards. Of several that switch at once SQLite turns all but one away at once."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                return str(connection.pragma("journal_mode", "wal"))
            except apsw.BusyError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.005)

    def _sync_directory(self) -> None:
        try:
            directory = os.open(os.path.dirname(self.path), os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise self._explain_os(error) from error

    @contextmanager
    def one_moment(self) -> Iterator[apsw.Connection]:
        """A connection that sees the file as it is now, whatever is written meanwhile."""
        connection = self.open_for_reading()
        try:
            connection.execute("BEGIN")
            connection.pragma("schema_version")  # the transaction begins with the first read
            yield connection
        except apsw.Error as error:
            raise self.explain(error) from error
        finally:
            let_go(connection)

    def copy_to(self, path: str | os.PathLike[str], stop: Flag) -> None:
        """Make a new database at `path` of everything in this one. Told to stop it makes nothing."""
        target = SQLiteFile(path, self._timeout, None)
        if os.path.lexists(target.path):
            raise UsageError(f"there is something at {target.path} already; choose another path for the copy")
        folder, name = os.path.split(target.path)
        try:
            descriptor, part = tempfile.mkstemp(prefix=f".{name}.", suffix=".part", dir=folder)
            os.close(descriptor)
            try:
                self._copy(SQLiteFile(part, self._timeout, self._vfs), stop)
                if not stop.is_set():
                    os.rename(part, target.path)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(part)
        except OSError as error:
            raise target._explain_os(error) from error
        target._sync_directory()

    def _copy(self, part: SQLiteFile, stop: Flag) -> None:
        with self.one_moment() as source, part._opening(apsw.SQLITE_OPEN_READWRITE) as target:
            target.pragma("journal_mode", "off")  # nobody knows the file before it is whole
            target.pragma("synchronous", FULL)
            target.pragma("fullfsync", 1)
            with target.backup("main", source, "main") as copying:
                while not stop.is_set() and not copying.done:
                    copying.step(COPIED_PAGES)
            target.close()

    def explain(self, error: Exception, connection: apsw.Connection | None = None) -> StoreError:
        """What a failure of SQLite means for the caller."""
        if isinstance(error, apsw.FullError) or _is_no_room(error, connection):
            return StoreFull(
                f"no room to write {self.path}, nothing of this write was kept; free space and try again"
            )
        if isinstance(error, apsw.CantOpenError) and connection and connection.system_errno in NOT_DENIED:
            return self._explain_os(
                OSError(connection.system_errno, os.strerror(connection.system_errno), self.path)
            )
        for kind, meaning, text in self._meanings():
            if isinstance(error, kind):
                return meaning(f"{text} ({error!r})")
        return StoreError(f"{self.path}: {error!r}")

    def _meanings(self) -> list[tuple[type[apsw.Error], type[StoreError], str]]:
        path = self.path
        return [
            (
                apsw.BusyError,
                StoreLocked,
                f"another process kept {path} locked for {self._timeout:g} s; stop it or wait",
            ),
            (apsw.ReadOnlyError, StoreReadOnly, self._not_writable()),
            (apsw.CantOpenError, StoreReadOnly, self._not_writable()),
            (apsw.PermissionsError, StoreReadOnly, self._not_writable()),
            (apsw.NotADBError, ForeignFile, f"{path} is not a SQLite database; choose another path"),
            (apsw.TooBigError, NotEncodable, f"a value is too large for {path}; split it"),
            (apsw.CorruptError, StoreCorrupt, f"{path} is damaged; restore it from a backup"),
            (
                apsw.IOError,
                StoreCorrupt,
                f"the disk under {path} failed; check it, then open the store again",
            ),
        ]

    def _not_writable(self) -> str:
        return (
            f"{self.path} cannot be written; make the file and its directory writable for this user, or open it with "
            "read_only=True to look at it"
        )

    def _explain_os(self, error: OSError) -> StoreError:
        if error.errno in NO_ROOM:
            return StoreFull(f"no room to create {self.path}; free space and try again")
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return StoreReadOnly(self._not_writable())
        if error.errno == errno.EIO:
            return StoreCorrupt(f"the disk under {self.path} failed ({error}); check it")
        return StoreError(f"{self.path} cannot be opened: {error}")


def _may_write(path: str) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def let_go(connection: apsw.Connection) -> None:
    """Close it. What fails then takes nothing away: the WAL keeps what is not in the database yet."""
    with suppress(apsw.Error):
        connection.close(force=True)


def _is_no_room(error: Exception, connection: apsw.Connection | None) -> bool:
    return (
        isinstance(error, apsw.IOError)
        and getattr(error, "extendedresult", None) in NO_ROOM_WHILE
        and connection is not None
        and connection.system_errno in NO_ROOM
    )


def _migrate(connection: apsw.Connection, number: int) -> None:
    """Bring the tables to this version, unless another process just did."""
    connection.execute("BEGIN IMMEDIATE")
    if connection.pragma("user_version") < number:
        connection.execute(migrations()[number - 1])
        connection.pragma("application_id", APPLICATION_ID)
        connection.pragma("user_version", number)
    connection.execute("COMMIT")
