"""Accounts in a SQLite file. Amounts are text there: SQLite has no exact numbers, so the sums are made here."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import partial

import apsw

from holdfast.errors import AccountExceeded
from holdfast.facts.budgets import EXACT
from holdfast.store import Account, Entry
from holdfast.stores.accept import FIRST_EPOCH
from holdfast.stores.accounts import Page, after
from holdfast.stores.sqlite_file import queries

SQL = queries()

Pages = dict[str, Page]
"""Accounts as they will be."""


def check(cursor: apsw.Cursor, entries: Sequence[Entry], session_id: str, standing: tuple[int, int]) -> Pages:
    """What these entries make of their accounts. Writes nothing. Raises `AccountExceeded`, unless the session is not at
    this sequence and epoch: whoever is not the writer any more is told that, and not what is left."""
    try:
        return after(entries, partial(_page, cursor))
    except AccountExceeded:
        if (cursor.execute(SQL.standing, (session_id,)).get or (0, FIRST_EPOCH)) == standing:
            raise
        return {}


def enter(cursor: apsw.Cursor, pages: Pages) -> None:
    """Write these accounts, in the transaction in which they were worked out."""
    for name, page in pages.items():
        before = _page(cursor, name)
        cursor.execute(SQL.used, (name, str(page.used)))
        for key, amount in before.held.items():
            if page.held.get(key) != amount:
                cursor.execute(SQL.release, (name, key))
        for key, amount in page.held.items():
            if before.held.get(key) != amount:
                cursor.execute(SQL.reserve, (name, key, str(amount)))


def enter_alone(cursor: apsw.Cursor, entries: Sequence[Entry]) -> None:
    """See `Accounting.enter`."""
    enter(cursor, after(entries, partial(_page, cursor)))


def raise_account(cursor: apsw.Cursor, name: str, amount: Decimal) -> Account:
    """See `Accounting.raise_account`."""
    raised = EXACT.add(_page(cursor, name).raised, amount)
    cursor.execute(SQL.raised, (name, str(raised)))
    return _page(cursor, name).as_account(name)


def account(reading: apsw.Connection, name: str) -> Account:
    """See `Accounting.account`."""
    return _page(reading.cursor(), name).as_account(name)


def accounts(reading: apsw.Connection, prefix: str | None, limit: int) -> list[Account]:
    """See `Accounting.accounts`."""
    names = [name for (name,) in reading.execute(SQL.accounts, (prefix, limit))]
    return [_page(reading.cursor(), name).as_account(name, keys=None) for name in names]


def holding(reading: apsw.Connection, prefix: str | None, after: str | None, limit: int) -> list[Account]:
    """See `Accounting.holding`."""
    names = [name for (name,) in reading.execute(SQL.holding, (prefix, after, limit))]
    return [_page(reading.cursor(), name).as_account(name, keys=prefix) for name in names]


def _page(cursor: apsw.Cursor, name: str) -> Page:
    used, raised = cursor.execute(SQL.standing_of, (name,)).get or ("0", "0")
    page = Page(Decimal(used), Decimal(raised))
    page.held = {key: Decimal(amount) for key, amount in cursor.execute(SQL.held, (name,))}
    return page
