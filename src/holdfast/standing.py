"""Standing: where the budgets of one session stand."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from msgspec import Struct

from holdfast.budget import Budget, account_name, window_of
from holdfast.errors import UnknownBudget
from holdfast.facts.budgets import EXACT, NOTHING, Quantity, Scope
from holdfast.folds.budgets import set_aside, used_in_session, used_in_turn
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.state import State
from holdfast.store import Store, accounting_of


class BudgetStanding(Struct, frozen=True, kw_only=True):
    """Where a budget stands for one session."""

    name: str
    scope: Scope
    quantity: Quantity
    hard: Decimal | None
    """With what it was raised by; None: nothing is refused."""
    soft: Decimal | None
    used: Decimal
    reserved: Decimal
    """Set aside for what is under way, everywhere."""
    account: str = ""
    """The shared account that it is counted on."""
    until: datetime | None = None
    """When its next window begins."""

    @property
    def left(self) -> Decimal | None:
        """What may still be used; None without a hard limit."""
        return None if self.hard is None else max(self.hard - self.used - self.reserved, NOTHING)


async def standing(journal: Journal, manifest: Manifest) -> tuple[BudgetStanding, ...]:
    """Where each budget of this session stands now."""
    now = journal.now()
    return tuple([await _standing(it, journal.state, journal.store, now) for it in manifest.budgets])


async def _standing(budget: Budget, state: State, store: Store, now: datetime) -> BudgetStanding:
    if budget.shared:
        who = state.principal if budget.scope == "principal" else state.organisation
        name = account_name(budget.scope, who, budget.quantity, budget.per, now)
        account = await accounting_of(store).account(name)
        used, reserved, raised = account.used, account.reserved, account.raised
    else:
        of = used_in_turn if budget.scope == "turn" else used_in_session
        name, reserved = "", set_aside(state, budget.quantity)
        used = Decimal(of(state, budget.quantity, now))
        raised = state.raised.get(budget.name, NOTHING)
    return BudgetStanding(
        name=budget.name,
        scope=budget.scope,
        quantity=budget.quantity,
        hard=None if budget.hard is None else EXACT.add(Decimal(budget.hard), raised),
        soft=None if budget.soft is None else Decimal(budget.soft),
        used=used,
        reserved=reserved,
        account=name,
        until=None if budget.per is None else window_of(budget.per, now)[1],
    )


def named(name: str, manifest: Manifest) -> Budget:
    """The budget of this name. Raises `UnknownBudget`."""
    for budget in manifest.budgets:
        if budget.name == name:
            return budget
    known = ", ".join(repr(it.name) for it in manifest.budgets) or "none"
    raise UnknownBudget(f"this session has no budget {name!r}; it has: {known}")
