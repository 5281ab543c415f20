"""The roster in a SQLite file."""

from __future__ import annotations

import apsw

from holdfast.store import Listing
from holdfast.stores.roster import read_rows, row_of
from holdfast.stores.sqlite_file import queries

SQL = queries()


def enlist(cursor: apsw.Cursor, listing: Listing) -> bool:
    """See `Rostering.enlist`."""
    return cursor.execute(SQL.enlist, row_of(listing)).get is not None


def roster(reading: apsw.Connection) -> list[Listing]:
    """See `Rostering.roster`."""
    return read_rows(body for (body,) in reading.execute(SQL.roster))
