"""Allowance: what budgets and rates say to something that is about to be used."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from msgspec import Struct

from holdfast.budget import Budget, Rate, account_name, rate_account, waiting_key, window_of
from holdfast.errors import AccountExceeded, ConfigError
from holdfast.facts.budgets import NOTHING, Booked, BudgetExceeded, BudgetWarned, Quantity, Spent
from holdfast.folds.budgets import Amount, amount_of, plus, set_aside, used_in_session, used_in_turn
from holdfast.manifest import Manifest
from holdfast.state import State
from holdfast.store import Accounting, Entry


class Asking(Struct, frozen=True, kw_only=True):
    """What is about to be used: a model call, or one call of a tool."""

    key: str = ""
    amount: Spent = Spent()
    model: str = ""
    tool: str = ""
    payment: bool = False
    """It is money that a tool spends."""
    others: int = 0
    """Calls that are about to run besides it."""

    def of(self, quantity: Quantity) -> Amount | None:
        """How much of this quantity; None when it has nothing to do with it. Time passes with everything."""
        if self.payment:
            return self.amount.usd if quantity == "usd" else None
        if quantity == "seconds":
            return 0
        if quantity == "tool_calls":
            return 1 if self.tool else None
        return amount_of(self.amount, quantity) if self.model else None


_ONE = Decimal(1)
_ENDLESS = Decimal("Infinity")


class Booking(Struct, frozen=True, kw_only=True):
    """An entry on a shared account, and the budget or rate that wants it."""

    entry: Entry
    rule: Budget | Rate
    quantity: Quantity
    until: datetime | None
    """When the next window of it begins."""

    @property
    def limit(self) -> Decimal:
        """What may be used at most; infinite where only a soft limit says anything."""
        return _ENDLESS if self.entry.ceiling is None else self.entry.ceiling

    @property
    def booked(self) -> Booked:
        """As a fact has it."""
        return Booked(account=self.entry.account, quantity=self.quantity, amount=self.entry.amount)

    @property
    def held(self) -> bool:
        """Whether it must be settled later."""
        return self.entry.kind == "reserve"


def limit_reached(asking: Asking, state: State, manifest: Manifest, now: datetime) -> BudgetExceeded | None:
    """The first turn or session budget without room for this."""
    for budget in manifest.bounds.own:
        amount = asking.of(budget.quantity)
        if budget.hard is None or amount is None:
            continue
        limit: Amount = budget.hard
        if state.raised:
            limit = plus(limit, state.raised.get(budget.name, 0))
        used = _used(budget, state, now)
        if state.reserved:
            used = plus(used, set_aside(state, budget.quantity))
        if budget.quantity == "tool_calls":
            used = plus(used, asking.others)
        if plus(used, amount) > limit or (not amount and used >= limit):
            return BudgetExceeded(
                budget=budget.name,
                scope=budget.scope,
                quantity=budget.quantity,
                limit=Decimal(limit),
                used=Decimal(used),
                asked=Decimal(amount),
                waits=budget.on_exceeded == "wait",
            )
    return None


def _used(budget: Budget, state: State, now: datetime) -> Amount:
    used = used_in_turn if budget.scope == "turn" else used_in_session
    return used(state, budget.quantity, now)


def bookings(asking: Asking, state: State, manifest: Manifest, now: datetime) -> list[Booking]:
    """What this changes on shared accounts. Raises `ConfigError` when a budget is somebody's and nobody is named.

    Several budgets, or rates, may be counted on one account: it is entered there once, for the one of the lowest limit.
    """
    found = [it for budget in manifest.bounds.shared if (it := _of_budget(budget, asking, state, now))]
    found += [it for rate in manifest.rates if (it := _of_rate(rate, asking, state, now))]
    lowest: dict[str, Booking] = {}
    for it in found:
        if it.limit < lowest.setdefault(it.entry.account, it).limit:
            lowest[it.entry.account] = it
    return list(lowest.values())


def _of_budget(budget: Budget, asking: Asking, state: State, now: datetime) -> Booking | None:
    amount = asking.of(budget.quantity)
    if amount is None:
        return None
    name = account_name(budget.scope, who(budget.scope, budget.name, state), budget.quantity, budget.per, now)
    entry = Entry(
        kind="spend" if asking.tool else "reserve",
        account=name,
        amount=Decimal(amount),
        key=asking.key,
        ceiling=None if budget.hard is None else Decimal(budget.hard),
    )
    until = None if budget.per is None else window_of(budget.per, now)[1]
    return Booking(entry=entry, rule=budget, quantity=budget.quantity, until=until)


def _of_rate(rate: Rate, asking: Asking, state: State, now: datetime) -> Booking | None:
    pattern, name = (rate.tool, asking.tool) if rate.tool else (rate.model, asking.model)
    if not name or pattern not in ("*", name):
        return None
    shared_by = {"store": "", "session": state.session_id}.get(rate.scope)
    whose = who(rate.scope, rate.name, state) if shared_by is None else shared_by
    entry = Entry(
        kind="spend", account=rate_account(rate, whose, now), amount=_ONE, ceiling=Decimal(rate.calls)
    )
    quantity: Quantity = "tool_calls" if rate.tool else "model_calls"
    return Booking(entry=entry, rule=rate, quantity=quantity, until=window_of(float(rate.per), now)[1])


def who(scope: str, name: str, state: State) -> str:
    """Whose account it is. Raises `ConfigError` when the session does not say."""
    found = state.principal if scope == "principal" else state.organisation
    if not found:
        raise ConfigError(
            f"{name!r} bounds {scope}s, and session {state.session_id} has none; make it with "
            f'runtime.session({scope}="...")'
        )
    return found


def refused_by(
    error: AccountExceeded, books: Iterable[Booking], state: State
) -> tuple[BudgetExceeded, tuple[Entry, ...]]:
    """The fact of this refusal, and what tells the account who waits for it."""
    booking = next(it for it in books if it.entry.account == error.account)
    rule = booking.rule
    waits = isinstance(rule, Rate) or rule.on_exceeded == "wait"
    key = ""
    if isinstance(rule, Budget) and waits:
        key = waiting_key(state.session_id, state.sequence + 1, booking.limit, booking.entry.amount)
    fact = BudgetExceeded(
        budget=rule.name,
        scope=rule.scope,
        quantity=booking.quantity,
        limit=error.limit,
        used=error.used,
        asked=booking.entry.amount,
        account=error.account,
        waits=waits,
        until=booking.until,
        key=key,
    )
    waiting = Entry(kind="reserve", account=error.account, amount=NOTHING, key=key)
    return fact, (waiting,) if key else ()


async def has_room(over: BudgetExceeded, manifest: Manifest, store: object) -> bool:
    """Whether the shared account at which a turn waits has room by now."""
    budget = next((it for it in manifest.bounds.shared if it.name == over.budget), None)
    if not over.key or budget is None or not isinstance(store, Accounting):
        return False
    if budget.hard is None:
        return True
    account = await store.account(over.account)
    return account.has_room(over.asked, Decimal(budget.hard))


async def warnings(
    used: Spent, state: State, manifest: Manifest, store: object, now: datetime
) -> list[BudgetWarned]:
    """What soft limits have to say when this is used too, and have not said before."""
    told = []
    for budget in manifest.bounds.soft:
        seen = state.turn.warned if budget.scope == "turn" and state.turn is not None else state.warned
        if budget.soft is None or budget.name in seen:
            continue
        account: str = ""
        before: Amount = 0
        if not budget.shared:
            before = _used(budget, state, now)
        elif isinstance(store, Accounting):
            account = account_name(
                budget.scope, who(budget.scope, budget.name, state), budget.quantity, budget.per, now
            )
            before = (await store.account(account)).used
        total = plus(before, amount_of(used, budget.quantity))
        if total > budget.soft:
            told.append(
                BudgetWarned(
                    budget=budget.name,
                    scope=budget.scope,
                    quantity=budget.quantity,
                    limit=Decimal(budget.soft),
                    used=Decimal(total),
                    account=account,
                )
            )
    return told


def seconds_spent(state: State, manifest: Manifest, now: datetime) -> list[Entry]:
    """What the turn, which ends now, used of the time of its principal and organisation."""
    timed = manifest.bounds.timed
    took = Decimal(used_in_turn(state, "seconds", now)) if timed else NOTHING
    accounts = [
        account_name(it.scope, who(it.scope, it.name, state), it.quantity, it.per, now) for it in timed
    ]
    return [Entry(kind="spend", account=account, amount=took) for account in dict.fromkeys(accounts)]
