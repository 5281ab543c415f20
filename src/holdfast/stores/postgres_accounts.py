"""Accounts in Postgres: entries as the function `append_and_enter` takes them, and why it refuses some."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from holdfast.errors import AccountExceeded
from holdfast.store import Entry
from holdfast.stores.accept import exceeded

NO_ROOM = "HF001"
"""An account has no room for an entry."""

NOT_THERE = "HF002"
"""The session does not stand where the append says."""


def columns(entries: Sequence[Entry]) -> tuple[list[Any], ...]:
    """The columns that say what changes on accounts."""
    rows = [(entry.kind, entry.account, entry.key, entry.amount, entry.ceiling) for entry in entries]
    return tuple(map(list, zip(*rows, strict=True)))


async def enter(statement: str, entries: Sequence[Entry], connection: Any) -> None:
    """Make entries by themselves. Raises `AccountExceeded`."""
    try:
        await connection.execute(statement, *columns(entries))
    except Exception as error:
        if isinstance(refused := reason_in(error), AccountExceeded):
            raise refused from None
        raise


def reason_in(error: BaseException) -> AccountExceeded | tuple[int | None, int | None] | None:
    """Why `append_and_enter` refused: for an account, or for where the session stands; None for any other error."""
    state, detail = getattr(error, "sqlstate", None), getattr(error, "detail", None)
    if state not in (NO_ROOM, NOT_THERE) or not detail:
        return None
    said = json.loads(detail)
    if state == NOT_THERE:
        return said[0], said[1]
    account, limit, used, asked = said
    entry = Entry(kind="spend", account=account, amount=Decimal(asked), ceiling=Decimal(limit))
    return exceeded(entry, Decimal(used), Decimal(0))
