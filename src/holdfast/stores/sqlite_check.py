"""A SQLite store's file held against itself: what is missing, changed or left behind.

Reads everything, in one transaction, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from decimal import Decimal
from itertools import islice
from threading import Event as Flag

import apsw

from holdfast.errors import StoreCorrupt
from holdfast.events import decode_event
from holdfast.store import Problem, digest_of
from holdfast.stores.chain import MISFIT, beginning, link
from holdfast.stores.sqlite_file import SQLiteFile, queries

SQL = queries()

MOST = 1_000
"""Problems that are told. A file with more is not mended one by one."""


def problems(file: SQLiteFile, boot: str, stop: Flag) -> list[Problem]:
    """What is wrong with this file, on a machine whose start has this name."""
    with file.one_moment() as reading:
        reading.set_progress_handler(stop.is_set, 10_000)
        return list(islice(_problems(reading, file.path, boot), MOST))


def _problems(reading: apsw.Connection, path: str, boot: str) -> Iterator[Problem]:
    for found in _parts(reading, path, boot):
        try:
            yield from found
        except (apsw.Error, TypeError, ValueError) as error:  # also what is in a row may be anything
            yield Problem(
                kind="damage", where=path, message=f"reading ends here ({error!r}); restore a backup"
            )


def _parts(reading: apsw.Connection, path: str, boot: str) -> Iterator[Iterator[Problem]]:
    """Each can fail by itself."""
    yield _damage(reading, path)
    yield _logs(reading, boot)
    yield _letters(reading)
    yield _snapshots(reading)
    yield _blobs(reading)
    yield _accounts(reading)


def _damage(reading: apsw.Connection, path: str) -> Iterator[Problem]:
    for (line,) in reading.execute("PRAGMA integrity_check"):
        if line != "ok":
            yield Problem(kind="damage", where=path, message=f"SQLite says: {line}; restore a backup")


def _logs(reading: apsw.Connection, boot: str) -> Iterator[Problem]:
    """Each session's row against its events."""
    last: dict[int, int] = {}
    names: dict[int, str] = {}
    ends: dict[int, tuple[int, bytes]] = {}
    for number, name, sequence, owner, held_boot in reading.execute(SQL.every_session):
        names[number], last[number] = name, sequence
        if owner is not None and held_boot != boot:
            message = f"held by {owner!r} since before the machine last started; that no longer keeps anybody from it"
            yield Problem(kind="lease", where=name, message=message)
    for number, sequence, chain, body in reading.execute(SQL.every_event):
        name = names.setdefault(number, "")
        end, before = ends.get(number) or (0, beginning(str(name)))  # a damaged row may hold anything
        yield from _missing(name, end, sequence - 1)
        sound = yield from _event(name, sequence, body)
        if sound and number in last and end + 1 == sequence and link(before, body) != chain:
            yield Problem(kind="chain", where=f"{name}:{sequence}", message=MISFIT)
        ends[number] = sequence, chain if isinstance(chain, bytes) else b""
    for number, name in names.items():
        end, _ = ends.get(number) or (0, b"")
        if number not in last:
            message = f"events up to {end} of session number {number}, which has no row"
            yield Problem(kind="event", where=f"number {number}", message=message)
            continue
        yield from _missing(name, end, last[number])
        if end > last[number]:
            message = f"there are events up to {end}, though the session ends at {last[number]}"
            yield Problem(kind="event", where=f"{name}:{end}", message=message)


def _missing(name: str, end: int, last: int) -> Iterator[Problem]:
    if end < last:
        where = f"{name}:{end + 1}" + (f"-{last}" if last > end + 1 else "")
        yield Problem(kind="gap", where=where, message="missing; restore a backup")


def _event(name: str, sequence: int, body: bytes | None) -> Generator[Problem, None, bool]:
    """What is wrong with it by itself; whether nothing is."""
    where = f"{name}:{sequence}"
    try:
        event = decode_event(body or b"")
    except StoreCorrupt as error:
        yield Problem(kind="event", where=where, message=f"{error}; restore a backup")
        return False
    if event.sequence != sequence or (name and event.session_id != name):
        message = f"says it is event {event.sequence} of {event.session_id}; restore a backup"
        yield Problem(kind="event", where=where, message=message)
        return False
    return True


def _letters(reading: apsw.Connection) -> Iterator[Problem]:
    for number, name, body in reading.execute(SQL.every_letter):
        if name is None:
            message = "a letter to a session that has no row; delete it"
            yield Problem(kind="letter", where=f"letter {number}", message=message)
            continue
        where = f"{name}:letter {number}"
        try:
            event = decode_event(body or b"")
        except StoreCorrupt as error:
            yield Problem(kind="letter", where=where, message=f"{error}; whoever left it must say it again")
            continue
        if event.sequence != 0 or event.session_id != name:
            message = f"says it is event {event.sequence} of {event.session_id}; delete it"
            yield Problem(kind="letter", where=where, message=message)


def _snapshots(reading: apsw.Connection) -> Iterator[Problem]:
    for name, number, sequence in reading.execute(SQL.early_snapshots):
        message = f"a snapshot of event {sequence}, which is not there; delete the snapshot"
        yield Problem(kind="snapshot", where=name or f"number {number}", message=message)


def _blobs(reading: apsw.Connection) -> Iterator[Problem]:
    for digest, data in reading.execute(SQL.every_blob):
        if digest_of(data) != digest:
            message = "its bytes are not those it is named after; restore a backup"
            yield Problem(kind="blob", where=digest, message=message)


def _accounts(reading: apsw.Connection) -> Iterator[Problem]:
    """Amounts are text, which may be anything."""
    for name, key, *amounts in reading.execute(SQL.every_account):
        try:
            wrong = not all(Decimal(amount).is_finite() for amount in amounts)
        except (ArithmeticError, TypeError, ValueError):
            wrong = True
        if wrong:
            where = f"{name} ({key})" if key else name
            yield Problem(kind="account", where=where, message=f"{amounts} are no amounts; mend the row")
