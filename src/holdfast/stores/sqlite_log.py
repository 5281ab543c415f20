"""Logs in a SQLite file: an append, from its arguments to its rows, and events read back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

import apsw

from holdfast.errors import StoreCorrupt, Superseded
from holdfast.events import Event, encode_event
from holdfast.store import Terms
from holdfast.stores import sqlite_accounts as books
from holdfast.stores.accept import FIRST_EPOCH, check_events, check_terms, refusal
from holdfast.stores.boot_clock import BootClock
from holdfast.stores.chain import beginning, links, verified
from holdfast.stores.sqlite_file import queries
from holdfast.stores.sqlite_rows import FAR, LAST, bounded, checked, findable, microseconds, taking

SQL = queries()

Append = Callable[[apsw.Cursor], None]


def appending(
    clock: BootClock, session_id: str, events: Sequence[Event], expected: int, epoch: int, terms: Terms
) -> Append:
    """What writes these events, in the writing thread. They are checked and encoded here, in the caller's.

    Raises `UsageError` and `NotEncodable`; the append refuses with `Superseded`, `AccountExceeded`, and `StoreCorrupt`
    when the event that it follows is missing.
    """
    check_events(session_id, events, expected)
    check_terms(terms)
    bodies = [checked(encode_event(event)) for event in events]
    created, updated = microseconds(events[0].ts), microseconds(events[-1].ts)
    due = None if terms.due is None else microseconds(terms.due)
    taken = terms.taken and taking(session_id, terms.taken)
    entries = terms.entries
    place = min(expected, FAR), min(epoch, LAST)  # what no row has is refused like any other

    def append(cursor: apsw.Cursor) -> None:
        last = place[0] + len(bodies)
        owner, until, boot = clock.lease(terms.owner, terms.hold)
        pages = books.check(cursor, entries, session_id, place) if entries else None
        if expected == 0 and epoch == FIRST_EPOCH:
            before = beginning(session_id)
            row = (session_id, last, epoch, created, updated, due, owner, until, boot)
            number = cursor.execute(SQL.create, row).get
            if number is None:
                raise _refusal(cursor, session_id, expected, epoch)
        else:
            found = cursor.execute(SQL.follow, (session_id, *place, due, owner, boot)).get
            if found is None or found[1] is None:
                raise _refusal(cursor, session_id, expected, epoch)
            number, before, same = found
            if same:
                cursor.execute(SQL.advance, (number, last, updated, until))
            else:
                cursor.execute(SQL.advance_anew, (number, last, updated, until, due, owner, boot))
        cursor.executemany(SQL.add, zip(count((number << 32) + expected + 1), links(before, bodies), bodies))
        if taken:
            cursor.executemany(SQL.take, taken)
        if pages:
            books.enter(cursor, pages)

    return append


def _refusal(cursor: apsw.Cursor, session_id: str, expected: int, epoch: int) -> Superseded | StoreCorrupt:
    sequence, current = cursor.execute(SQL.standing, (session_id,)).get or (0, FIRST_EPOCH)
    if (sequence, current) == (expected, epoch):
        return StoreCorrupt(f"event {expected} of {session_id} is missing; restore a backup")
    return refusal(session_id, sequence=sequence, current=current, expected=expected, epoch=epoch)


def events(reading: apsw.Connection, path: str, session_id: str, after: int, limit: int) -> list[Event]:
    """See `Store.read`. `path` is where they are, for people."""
    start = bounded(after)
    rows = reading.execute(SQL.read, (findable(session_id), start, bounded(limit) + (start > 0)))
    return verified(session_id, start, rows, path)
