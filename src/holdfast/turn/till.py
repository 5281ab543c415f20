"""The till: a tool asks the host's authority for a payment here, and budgets count it.

It is on the log before it is asked for, set aside on shared accounts, and settled when the receipt is there. One that
was cut off is asked for again under what was set aside then when its call is run again, and else counts in full. The
call's key goes with it, so that the same call pays once however often it is run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from weakref import ref

from msgspec import structs

from holdfast.errors import AccountExceeded, PaymentRefused
from holdfast.events import Fact
from holdfast.facts.budgets import NOTHING, BudgetReserved, BudgetSettled, PaymentMade, Spent, in_words
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.services import PaymentRequest, Payments, Receipt
from holdfast.store import Entry, accounting_of
from holdfast.turn.allowance import Asking, bookings, limit_reached, refused_by

CURRENCY = "USD"
"""What budgets of money count."""


class Till:
    """Gives each call a `Payments` of its own."""

    def __init__(
        self, journal: ref[Journal], authority: Payments, manifest: Callable[[], Awaitable[Manifest]]
    ) -> None:
        self._journal = journal
        self._authority = authority
        self._manifest = manifest

    def for_call(self, call_id: str, outbox: list[Fact]) -> Payments:
        """See `PerCall`."""
        journal = self._journal()
        assert journal is not None
        return _Counter(call_id, journal, self._authority, self._manifest)


class _Counter:
    """One call's payments: the n-th has the same key whenever the call is run."""

    def __init__(
        self,
        call_id: str,
        journal: Journal,
        authority: Payments,
        manifest: Callable[[], Awaitable[Manifest]],
    ) -> None:
        self._call_id = call_id
        self._journal = journal
        self._authority = authority
        self._manifest = manifest
        self._count = 0

    async def pay(self, request: PaymentRequest) -> Receipt:
        """See `Payments.pay`."""
        self._count += 1
        key = request.key or f"{self._call_id}:{self._count}"
        _check(request)
        counted, told = await self._before(key)
        if not counted:
            await self._set_aside(key, request)
        try:
            receipt = await self._authority.pay(structs.replace(request, key=key))
        except PaymentRefused:
            await self._settle(key, NOTHING)
            raise
        paid = max(receipt.amount, NOTHING)
        made = PaymentMade(
            call_id=self._call_id,
            key=key,
            receipt=receipt.id,
            amount=paid,
            currency=request.currency,
            payee=request.payee,
            purpose=request.purpose,
        )
        await self._settle(key, paid if request.currency == CURRENCY else NOTHING, *(() if told else (made,)))
        if paid > request.amount:
            raise PaymentRefused(
                f"{paid} {request.currency} were charged, more than was asked for ({request.amount}); "
                f"receipt {receipt.id}"
            )
        return receipt

    async def _before(self, key: str) -> tuple[bool, bool]:
        """Whether budgets have counted this payment, and the log tells of it, since the call was run before."""
        state, counted, told, after = self._journal.state, False, False, 0
        call = self._journal.running.calls.get(self._call_id)
        if call is None or call.attempt < 2:
            return False, False
        while events := await self._journal.store.read(state.session_id, after=after):
            for event in events:
                match event.data:
                    case PaymentMade() as made if made.key == key:
                        counted = told = True
                    case BudgetSettled() as settled if settled.key == _held(key) and settled.amount.usd:
                        counted = True
            after = events[-1].sequence
        return counted, told

    async def _set_aside(self, key: str, request: PaymentRequest) -> None:
        journal, manifest = self._journal, await self._manifest()
        money = any(it.quantity == "usd" for it in manifest.budgets)
        if money and request.currency != CURRENCY:
            raise PaymentRefused(
                f"budgets count {CURRENCY}, and this payment is in {request.currency}; pay in {CURRENCY}"
            )
        amount = Spent(usd=request.amount if money else NOTHING)
        asking, now = Asking(key=_held(key), amount=amount, payment=True), journal.present()
        books = bookings(asking, journal.state, manifest, now)
        before = journal.state.reserved.get(_held(key))
        if before is not None and before.amount.usd >= amount.usd:  # cut off: it is set aside since then
            accounts = {it.account for it in before.accounts}
            books = [it for it in books if it.entry.account in accounts]
        elif limit := limit_reached(asking, journal.state, manifest, now):
            raise PaymentRefused(in_words(limit))
        else:
            held = tuple(it.booked for it in books)
            await journal.record(BudgetReserved(key=_held(key), amount=amount, accounts=held))
        if not books:
            return
        try:
            await accounting_of(journal.store).enter([it.entry for it in books])
        except AccountExceeded as error:
            await self._settle(key, NOTHING)
            raise PaymentRefused(in_words(refused_by(error, books, journal.state)[0])) from None

    async def _settle(self, key: str, paid: Decimal, *made: Fact) -> None:
        journal = self._journal
        reserved = journal.state.reserved.get(_held(key))
        if reserved is not None:
            for it in reserved.accounts:
                journal.enter(Entry(kind="settle", account=it.account, key=_held(key), amount=paid))
            made = (*made, BudgetSettled(key=_held(key), amount=Spent(usd=paid)))
        if made:
            await journal.record(*made)


def _held(key: str) -> str:
    """The key of what is set aside: no key that a tool thinks of is another's, or says who waits."""
    return f"pay:{key}"


def _check(request: PaymentRequest) -> None:
    amount: object = request.amount
    if not (isinstance(amount, Decimal) and amount.is_finite() and amount > 0):
        raise PaymentRefused(
            f'a payment of {amount!r} cannot be made; give an amount such as Decimal("2.50")'
        )
