"""What every store asks before it takes an append or a claim, and how it words a refusal."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from holdfast.errors import (
    AccountExceeded,
    SequenceConflict,
    SessionHeld,
    StaleEpoch,
    StoreClosed,
    Superseded,
    UnknownSession,
    UsageError,
)
from holdfast.events import Event
from holdfast.facts.budgets import EXACT
from holdfast.store import Entry, Terms

FIRST_EPOCH = 1
"""Of the writer that creates a session."""


def check_events(session_id: str, events: Sequence[Event], expected: int) -> None:
    """Raise `UsageError` unless these are this session's next events, numbered on from `expected`, in UTC."""
    for sequence, event in enumerate(events, expected + 1):
        if event.sequence != sequence or event.session_id != session_id or event.ts.tzinfo is None:
            raise UsageError(_misfit(session_id, event, sequence))
    if not events or expected < 0:
        raise UsageError(
            f"nothing to append to {session_id} after {expected}: give one event or more, after 0 or more"
        )


def check_terms(terms: Terms) -> None:
    """Raise `UsageError` for terms that no lease can have, and a due time that is no instant."""
    if not terms.hold >= 0 or not terms.owner.isascii():
        check_lease(terms.owner, terms.hold)
    if terms.due is not None and terms.due.tzinfo is None:
        check_instant(terms.due)
    for entry in terms.entries:
        check_entry(entry)


LONGEST_NAME = 1_000
"""Bytes in the name of an account, or in a key."""


def check_entry(entry: Entry) -> None:
    """Raise `UsageError` for an entry that no account can have."""
    exact = (entry.amount,) if entry.ceiling is None else (entry.amount, entry.ceiling)
    if not all(it.is_finite() for it in exact) or entry.amount < 0:
        raise UsageError(f"{entry} cannot be entered: amounts are finite decimals, and not below 0")
    check_account(entry.account)
    if entry.kind != "spend":
        check_account(entry.key)


def check_alone(entries: Sequence[Entry]) -> None:
    """Raise `UsageError` for entries that cannot be made by themselves: a lost answer would make them twice."""
    for entry in entries:
        if entry.kind == "spend":
            raise UsageError(f"{entry} is made with an append only; reserve and settle it")
        check_entry(entry)


def check_account(name: str) -> None:
    """Raise `UsageError` for a name that no account (and no key) can have."""
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        size = 0
    if not 0 < size <= LONGEST_NAME or "\0" in name:
        raise UsageError(f"{name[:80]!r} cannot name an account: give 1 to {LONGEST_NAME} bytes of text")


def check_raise(name: str, amount: Decimal) -> None:
    """Raise `UsageError` for an account that nothing can be added to the ceilings of, or an amount that is none."""
    check_account(name)
    if not amount.is_finite():
        raise UsageError(f"{amount} cannot be added to the ceilings of {name}: give a finite decimal")


def exceeded(entry: Entry, used: Decimal, raised: Decimal) -> AccountExceeded | None:
    """Why this entry does not fit on an account that has so much used and set aside; None when it does."""
    if entry.ceiling is None:
        return None
    limit = EXACT.add(entry.ceiling, raised)
    if EXACT.add(used, entry.amount) <= limit and (entry.amount or used < limit):
        return None
    return AccountExceeded(
        f"account {entry.account} has no room for {entry.amount:f}: {used:f} of {limit:f} are used or set aside",
        account=entry.account,
        limit=limit,
        used=used,
        asked=entry.amount,
    )


def check_lease(owner: str, hold: float) -> None:
    """Raise `UsageError` unless `owner` is text that can be kept and `hold` is 0 or more seconds."""
    if not hold >= 0:
        raise UsageError(f"a session cannot be held for {hold} s; give 0 (which lets go of it) or more")
    try:
        owner.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{owner!r} cannot be the name of an owner: it is not valid Unicode") from None


def check_letter(session_id: str, event: Event) -> None:
    """Raise `UsageError` unless this event can be a letter to the session: its own, without a place in the log."""
    if event.session_id != session_id or event.sequence != 0 or event.ts.tzinfo is None:
        raise UsageError(
            f"event {event.sequence} of {event.session_id} cannot be a letter to {session_id}: a letter belongs to its "
            "session, has sequence 0 and a time in UTC"
        )


def check_instant(moment: datetime) -> None:
    """Raise `UsageError` for a time without a zone."""
    if moment.tzinfo is None:
        raise UsageError(f"{moment} has no zone; take it from a Clock, which says UTC")


def refusal(session_id: str, *, sequence: int, current: int, expected: int, epoch: int) -> Superseded:
    """Why an append is refused: the log stands at `sequence` and belongs to the writer of epoch `current`."""
    if epoch != current:
        return stale(session_id, current=current, epoch=epoch)
    return SequenceConflict(
        f"{session_id} ends at event {sequence}, not {expected}: another append came first; read the log again"
    )


def stale(session_id: str, *, current: int, epoch: int) -> StaleEpoch:
    """Why the writer of this epoch may do nothing: the session is at epoch `current`."""
    if epoch < current:
        return StaleEpoch(
            f"epoch {epoch} of {session_id} is over: a writer with epoch {current} took over; stop writing"
        )
    return StaleEpoch(
        f"epoch {epoch} of {session_id} was never claimed, it is at {current}; call claim() first"
    )


def held(session_id: str, owner: str, seconds: float) -> SessionHeld:
    """Why a claim is refused: this owner's lease runs for so many more seconds."""
    who = repr(owner) if owner else "another writer"
    return SessionHeld(
        f"{session_id} is held by {who} for another {seconds:.3f} s, unless it lets go or renews; try again then",
        owner=owner,
        seconds=seconds,
    )


def unknown(session_id: str, place: str = "this store") -> UnknownSession:
    """There is nothing to claim."""
    return UnknownSession(f"no session {session_id!r} in {place}")


def closed() -> StoreClosed:
    """The store is not open."""
    return StoreClosed("this store is closed; await its open() first")


def _misfit(session_id: str, event: Event, sequence: int) -> str:
    if event.ts.tzinfo is None:
        return f"event {event.sequence} of {session_id} has a time without a zone; take it from a Clock, which says UTC"
    return (
        f"event {event.sequence} of {event.session_id} stands where event {sequence} of {session_id} belongs; "
        "number events on from `expected`, without gaps"
    )
