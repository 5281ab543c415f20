"""Accounts: what principals and organisations have used, and how much more they may."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal

from holdfast.budget import WAITING, Budget, Per, Rate, account_name, waits_for
from holdfast.errors import ConfigError, UsageError
from holdfast.events import EventContext
from holdfast.facts.budgets import BudgetRaised, Quantity, Scope
from holdfast.fold import unplaced
from holdfast.manifest import Manifest
from holdfast.store import Account, Accounting, Store, accounting_of
from holdfast.writer import release_the_dead

LONGEST_WHO = 800
"""Bytes of the name of a principal or an organisation with accounts; the name of an account holds a few more."""


class Accounts:
    """The accounts of one store. Get it from `runtime.accounts`.

    Raises `AccountsUnsupported` where the store keeps none.
    """

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now

    async def standing(self, scope: Scope, who: str, quantity: Quantity, per: Per | None = None) -> Account:
        """Where the account of this principal or organisation stands, in its present window."""
        return await self.get(account_name(scope, who, quantity, per, self._now()))

    async def get(self, name: str) -> Account:
        """The account of this name; one that nothing was ever entered on stands at 0."""
        return await accounting_of(self._store).account(name)

    async def all(self, prefix: str = "", *, limit: int = 1_000) -> list[Account]:
        """Accounts whose names begin with this, by name."""
        return await accounting_of(self._store).accounts(prefix, limit=limit)

    async def raise_limit(self, name: str, amount: Decimal | int, *, by: str) -> Account:
        """Let this account have so much more, in its window, whatever budget bounds it; sessions that wait for that go
        on. An amount below 0 takes it away again. `by` says who allowed it, in the logs of those sessions.

        Raises `UsageError` for what is no amount, and for nobody.
        """
        more = exact(amount)
        check_by(by)
        account = await accounting_of(self._store).raise_account(name, more)
        for key in account.keys:
            if waiting := waits_for(key):
                session_id, *_ = waiting
                fact = BudgetRaised(budget="", account=name, amount=more, by=by)
                await self._store.post(session_id, unplaced(fact, EventContext(), self._now(), session_id))
        return account

    async def unblocked(self) -> list[str]:
        """Sessions that wait at an account which has room for them by now. Most of them have been told; where whoever
        raised it died over that, or others used less than they had set aside, nobody did. Empty without accounts."""
        if not isinstance(self._store, Accounting):
            return []
        found: dict[str, None] = {}
        page = await self._store.holding(WAITING)
        while page:
            for account in page:
                waiting = filter(None, map(waits_for, account.keys))
                found |= dict.fromkeys(it for it, most, asked in waiting if account.has_room(asked, most))
            page = await self._store.holding(WAITING, after=page[-1].name)
        return list(found)


def check_by(by: object) -> None:
    """Raise `UsageError` unless this is a name, as logs hold it."""
    if not isinstance(by, str) or not by.strip() or not by.isprintable():
        raise UsageError(f"by is {by!r}; say who allows it, in plain text")


def exact(amount: object) -> Decimal:
    """An amount to raise something by. Raises `UsageError` for one that is not exact."""
    if isinstance(amount, bool) or not isinstance(amount, int | Decimal) or not Decimal(amount).is_finite():
        raise UsageError(f'{amount!r} is no amount; give an exact number, such as Decimal("2.50")')
    return Decimal(amount)


def check_shared(manifest: Manifest, store: Store, principal: str, organisation: str) -> None:
    """Raise `ConfigError` when a budget or rate is of somebody who is not named, or has no account to be counted on."""
    named = {"principal": principal, "organisation": organisation}
    rules: tuple[Budget | Rate, ...] = (*manifest.budgets, *manifest.rates)
    for rule in rules:
        if named.get(rule.scope, "-") == "":
            raise ConfigError(
                f"{rule.name!r} bounds {rule.scope}s, and this session has none; make it with "
                f'runtime.session({rule.scope}="...")'
            )
        who = named.get(rule.scope, "")
        if len(who.encode()) > LONGEST_WHO or "\0" in who:
            raise ConfigError(
                f"{rule.name!r} bounds {rule.scope}s, and {who[:80]!r} cannot name an account; give at most "
                f"{LONGEST_WHO} bytes of text without NUL, such as a digest of it"
            )
    if not manifest.bounds.private:
        accounting_of(store)


class Due:
    """What there is to do for the workers of one store: sessions that are due, and those at whose account there is
    room again."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now
        self._unblocked: list[str] = []

    async def __call__(self, limit: int) -> list[str]:
        """At most so many."""
        found = await self._store.due(self._now(), limit=limit)
        more = self._unblocked[: max(limit - len(found), 0)]
        del self._unblocked[: len(more)]
        return list(dict.fromkeys((*found, *more)))

    async def all(self) -> list[str]:
        """All of them, however many there are."""
        limit, (more, self._unblocked) = 1_000, (self._unblocked, [])
        while len(found := await self._store.due(self._now(), limit=limit)) == limit:
            limit *= 4
        return list(dict.fromkeys((*found, *more)))

    async def tend(self) -> None:
        """Let go of what the dead hold, and look at the accounts. It is enough to do so every few seconds."""
        await release_the_dead(self._store)
        self._unblocked = await Accounts(self._store, self._now).unblocked()
