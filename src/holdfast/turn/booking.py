"""Booking: set aside, settle, and say what is in the way. Each is a fact, and what it changes on shared accounts."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from msgspec import Struct, structs

from holdfast.errors import AccountExceeded
from holdfast.facts.budgets import NOTHING, BudgetExceeded, BudgetReserved, BudgetSettled, BudgetWarned, Spent
from holdfast.folds.budgets import amount_of, first_try
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.store import Entry
from holdfast.turn.allowance import Asking, bookings, limit_reached, refused_by, seconds_spent, warnings
from holdfast.turn.lost import count_lost

How = Literal["reported", "estimated", "assumed"]
"""By whom what was used is known."""


class Refused(Struct, frozen=True):
    """Which budget or rate is in the way, and what tells its account who waits."""

    fact: BudgetExceeded
    waiting: tuple[Entry, ...] = ()

    def enter(self, journal: Journal) -> None:
        """Stage it."""
        _wait_no_more(journal)
        journal.enter(*self.waiting)
        journal.stage(self.fact)


def set_aside(
    most: Spent, model: str, journal: Journal, manifest: Manifest
) -> BudgetReserved | Refused | None:
    """Set aside what a call of this model uses at most, or say what is in its way; None when that must be booked.

    Where only the budgets of one turn or session bound it, and this is the first try, there is nothing to record: that
    the reply is owed is on the log, and so is what a process that dies now was at.
    """
    if journal.state.reserved:
        settle_orphans(journal)
    if not manifest.bounds.private:
        return None
    turn = journal.running
    if turn.lost:
        journal.stage(BudgetSettled(amount=most, how="assumed"))
    if not first_try(turn):
        return None
    asking = Asking(amount=most, model=model)
    over = limit_reached(asking, journal.state, manifest, journal.present())
    return BudgetReserved(amount=most) if over is None else Refused(over)


async def book(most: Spent, model: str, journal: Journal, manifest: Manifest) -> BudgetReserved | Refused:
    """Record what a call of this model uses at most, or say what is in its way."""
    key = f"{journal.running.id}:{journal.state.sequence + 1}"
    asking, fact = Asking(key=key, amount=most, model=model), BudgetReserved(key=key, amount=most)
    return await _book(asking, fact, journal, manifest) or fact


async def let_run(
    call_id: str, tool: str, others: int, journal: Journal, manifest: Manifest
) -> Refused | None:
    """What is in the way of this call, besides `others` that are about to run; None when nothing is."""
    asking = Asking(key=call_id, tool=tool, others=others)
    return await _book(asking, BudgetReserved(key=call_id, call_id=call_id), journal, manifest)


async def _book(asking: Asking, fact: BudgetReserved, journal: Journal, manifest: Manifest) -> Refused | None:
    """Record that this is set aside, or say what is in its way. Rates and shared budgets are asked in the store.

    Nothing else of this session may be under way.
    """
    _wait_no_more(journal)
    now = journal.present()
    if limit := limit_reached(asking, journal.state, manifest, now):
        return Refused(limit)
    books = bookings(asking, journal.state, manifest, now)
    if not books:
        if not asking.tool:
            await journal.record(fact)
        return None
    fact = structs.replace(fact, accounts=tuple(it.booked for it in books if it.held))
    try:
        await journal.reserve(fact, *[it.entry for it in books])
    except AccountExceeded as error:
        return Refused(*refused_by(error, books, journal.state))
    return None


async def settle(held: BudgetReserved, spent: Spent, how: How, journal: Journal, manifest: Manifest) -> None:
    """Stage what was used, and what soft limits have to say about it. What nothing was set aside for on the log goes
    on the bill."""
    told: list[BudgetWarned] = []
    if manifest.bounds.soft:
        told = await warnings(spent, journal.state, manifest, journal.store, journal.now())
    if held.key:
        _stage_settled(held.key, spent, how, journal)
    else:
        journal.derived(Bill).owe(spent, how)
    if told:
        journal.stage(*told)


class Bill:
    """What a model call used, until the log tells it: with the reply, or alone where there is none."""

    def __init__(self) -> None:
        self._spent: Spent | None = None
        self._how: How = "reported"

    def owe(self, spent: Spent, how: How) -> None:
        """This was used, besides what is owed already."""
        self._spent, self._how = spent if self._spent is None else self._spent + spent, how

    def take(self) -> Spent | None:
        """What was used, for the fact of the reply."""
        spent, self._spent = self._spent, None
        return spent

    def settle(self, journal: Journal) -> None:
        """Stage what was used and came to no reply."""
        if (spent := self.take()) is not None:
            journal.stage(BudgetSettled(amount=spent, how=self._how))


def _stage_settled(key: str, spent: Spent, how: How, journal: Journal) -> None:
    reserved = journal.state.reserved.get(key)
    if reserved is None:
        return
    for it in reserved.accounts:
        amount = Decimal(amount_of(spent, it.quantity))
        journal.enter(Entry(kind="settle", account=it.account, key=key, amount=amount))
    _wait_no_more(journal)
    journal.stage(BudgetSettled(key=key, amount=spent, how=how))


def _wait_no_more(journal: Journal) -> None:
    """Whoever waits at an account stands on it, so that raising it can wake them."""
    turn = journal.state.turn
    if turn is not None and turn.exceeded is not None and turn.exceeded.key:
        over = turn.exceeded
        journal.enter(Entry(kind="settle", account=over.account, key=over.key, amount=NOTHING))


def settle_orphans(journal: Journal) -> None:
    """Stage what was reserved and never settled, as used in full: its process died, or was told to stop."""
    for key, reserved in list(journal.state.reserved.items()):
        _stage_settled(key, reserved.amount, "assumed", journal)


async def settle_turn(journal: Journal, manifest: Manifest) -> None:
    """Stage what is left to settle when the turn ends. Raises `StoreError`."""
    if journal.running.lost and manifest.bounds.private:
        await count_lost(journal, manifest)
    settle_orphans(journal)
    journal.derived(Bill).settle(journal)
    _wait_no_more(journal)
    if manifest.bounds.timed:
        journal.enter(*seconds_spent(journal.state, manifest, journal.now()))
