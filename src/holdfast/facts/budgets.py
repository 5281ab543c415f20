"""The facts about money and other things that run out: reserved before they are used, settled after.

Amounts of what is counted (calls, tokens) are whole; money is US dollars, exact.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Context, Decimal
from functools import reduce
from typing import ClassVar, Literal

from msgspec import Struct

from holdfast.facts.fact import Fact

Quantity = Literal["model_calls", "tokens", "usd", "tool_calls", "seconds"]
"""What a budget bounds: replies asked for, tokens in and out, US dollars, tool calls, seconds of wall time."""

Scope = Literal["turn", "session", "principal", "organisation"]
"""Whose spending a budget bounds."""

NOTHING = Decimal(0)

EXACT = Context(prec=60)
"""More digits than any sum of costs has, whatever context the program around us has set."""


def exact_sum(amounts: Iterable[Decimal]) -> Decimal:
    """All of these together, exactly."""
    return reduce(EXACT.add, amounts, NOTHING)


class Spent(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What was used of each quantity."""

    model_calls: int = 0
    tokens: int = 0
    usd: Decimal = NOTHING

    def __add__(self, other: Spent) -> Spent:
        """Both together."""
        if self == UNSPENT:
            return other
        return Spent(
            model_calls=self.model_calls + other.model_calls,
            tokens=self.tokens + other.tokens,
            usd=EXACT.add(self.usd, other.usd) if other.usd else self.usd,
        )


UNSPENT = Spent()


class Booked(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What is held on an account that several sessions share."""

    account: str
    quantity: Quantity
    amount: Decimal


class BudgetReserved(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What is about to be used at most; set aside, on shared accounts in the same transaction, before it is."""

    kind: ClassVar[str] = "budget.reserved"
    key: str = ""
    amount: Spent = Spent()
    accounts: tuple[Booked, ...] = ()
    call_id: str = ""
    """The tool call that it lets run. That is spent at once, and nothing settles it."""


class BudgetSettled(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What was used of a reservation, in the same append as the outcome."""

    kind: ClassVar[str] = "budget.settled"
    key: str = ""
    """Empty: nothing was set aside on the log, and no reply tells what the call used."""
    amount: Spent = Spent()
    how: Literal["reported", "estimated", "assumed"] = "reported"
    """By whom: the provider; counted here, since it said nothing; or nobody knows, and all of it counts."""


class BudgetExceeded(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Something was refused before it was done: `used` (and reserved elsewhere) and `asked` are more than `limit`."""

    kind: ClassVar[str] = "budget.exceeded"
    budget: str
    """Its name."""
    scope: str
    quantity: Quantity
    limit: Decimal
    used: Decimal
    asked: Decimal
    account: str = ""
    """The shared account, where it is one."""
    waits: bool = False
    """The turn waits until the budget is raised, or until this instant; else it ends."""
    until: datetime | None = None
    key: str = ""
    """Under which the account knows who waits."""


class BudgetWarned(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """More was used than a soft limit says. Nothing stops."""

    kind: ClassVar[str] = "budget.warned"
    budget: str
    scope: str
    quantity: Quantity
    limit: Decimal
    used: Decimal
    account: str = ""


class PaymentMade(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The host's authority paid this for a tool call."""

    kind: ClassVar[str] = "payment.made"
    call_id: str
    key: str
    receipt: str
    """As the authority names it. Nothing else of what it said is kept."""
    amount: Decimal
    currency: str
    payee: str
    purpose: str = ""


class BudgetRaised(Fact, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Somebody allowed more: this session, or (with `account`) everybody on that account. An amount of 0, in the name
    of the account, says that a turn that waits there found room."""

    kind: ClassVar[str] = "budget.raised"
    budget: str
    amount: Decimal
    by: str
    account: str = ""


FACTS: tuple[type[Fact], ...] = (
    BudgetReserved,
    BudgetSettled,
    BudgetExceeded,
    BudgetWarned,
    PaymentMade,
    BudgetRaised,
)
"""The kinds of this subject."""


def in_words(limit: BudgetExceeded) -> str:
    """Which budget is used up, for a person."""
    what = _WORDS[limit.quantity]
    until = f" It begins anew at {limit.until:%Y-%m-%d %H:%M:%S} UTC." if limit.until is not None else ""
    asked = f" The next step may need {_plain(limit.asked)}." if limit.asked else ""
    return (
        f"The budget {limit.budget!r} is used up: {_plain(limit.used)} of {_plain(limit.limit)} {what} are used or set "
        f"aside.{asked}{until}"
    )


_WORDS: dict[Quantity, str] = {
    "model_calls": "model calls",
    "tokens": "tokens",
    "usd": "US dollars",
    "tool_calls": "tool calls",
    "seconds": "seconds",
}


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize(EXACT):f}"
