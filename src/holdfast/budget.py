"""Budgets and rates: how much may be used, by whom, and what happens then. Data, and part of the manifest.

    Config(budgets=(Budget(name="a refund", scope="turn", quantity="usd", hard=Decimal("0.50")),))
    Config(rates=(Rate(tool="search", calls=10, per=60.0),))

Something is reserved before it is used and settled after, so a hard limit refuses before anything is sent.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, get_args

from msgspec import Struct
from msgspec.structs import force_setattr

from holdfast.errors import ConfigError
from holdfast.facts.budgets import Quantity, Scope

Per = Literal["hour", "day", "month"]
"""A window of the calendar, in UTC, in which the counting begins anew."""

SHARED: frozenset[str] = frozenset({"principal", "organisation"})
"""Scopes that many sessions, in any number of processes, have in common."""


class Budget(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How much of one quantity may be used in one scope. Raises `ConfigError` for what cannot be a limit."""

    scope: Scope
    quantity: Quantity
    hard: Decimal | int | None = None
    """What would be more is refused before it is done."""
    soft: Decimal | int | None = None
    """More than this is told (`budget.warned`), and nothing stops."""
    name: str = ""
    """Layers replace each other's budgets by name. Empty: `<scope> <quantity>`."""
    on_exceeded: Literal["stop", "wait"] = "stop"
    """The turn ends with stop `budget`, or waits, durably, until the budget is raised or its next window begins."""
    per: Per | None = None
    """The window. Only for principals and organisations."""
    unknown_price: Literal["refuse", "free"] = "refuse"
    """For money: a model whose price is not known is not asked, or counts as costing nothing."""

    def __post_init__(self) -> None:
        if not self.name:
            force_setattr(self, "name", f"{self.scope} {self.quantity}")
        self._check()

    def _check(self) -> None:
        for field, allowed in _ALLOWED.items():
            if getattr(self, field) not in allowed:
                said = ", ".join(str(it) for it in allowed)
                raise ConfigError(
                    f"budget {self.name!r}: {field} is {getattr(self, field)!r}; it is one of {said}"
                )
        if self.hard is None and self.soft is None:
            raise ConfigError(f"budget {self.name!r} has no limit; give hard=, soft= or both")
        for limit in (self.hard, self.soft):
            if limit is not None:
                _check_limit(limit, f"budget {self.name!r}", whole=self.quantity not in ("usd", "seconds"))
        if self.per is not None and self.scope not in SHARED:
            raise ConfigError(
                f"budget {self.name!r}: a {self.scope} has no budget per {self.per}; leave per= out, or bound the "
                "principal or the organisation"
            )

    @property
    def shared(self) -> bool:
        """Whether it is counted on an account of the store."""
        return self.scope in SHARED


class Rate(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How often a tool or a model may be called within a window. Raises `ConfigError` for what cannot be a rate.

    A tool call above it is refused with a result that the model reads; a model call waits, durably, for the next one.
    """

    calls: int
    per: float
    """Seconds of a window. Windows begin at whole multiples of it since 1970."""
    tool: str = ""
    """The tool's name; `*` for all tools together."""
    model: str = ""
    """The model as it is asked for (`vendor/name`); `*` for all models together."""
    scope: Literal["session", "principal", "organisation", "store"] = "store"
    """Who shares it; `store` is everybody on this store."""
    name: str = ""
    """Empty: `<scope> <tool or model>`."""

    def __post_init__(self) -> None:
        if not self.name:
            force_setattr(self, "name", f"{self.scope} {self.tool or self.model}")
        if bool(self.tool) is bool(self.model):
            raise ConfigError(f"rate {self.name!r}: give either tool= or model= ('*' for all of them)")
        if self.scope not in ("session", "principal", "organisation", "store"):
            raise ConfigError(
                f"rate {self.name!r}: scope is {self.scope!r}; it is one of session, principal, organisation, store"
            )
        _check_limit(self.calls, f"rate {self.name!r}", whole=True)
        if not 0 < self.per <= _A_YEAR:
            raise ConfigError(
                f"rate {self.name!r}: a window of {self.per!r} s; give seconds above 0, a year at most"
            )


class Bounds(Struct, frozen=True, kw_only=True):
    """The budgets and rates of one manifest, told apart once."""

    own: tuple[Budget, ...]
    """With a hard limit, of one turn or session."""
    shared: tuple[Budget, ...]
    soft: tuple[Budget, ...]
    """With a soft limit."""
    private: bool
    """Whether nothing that others spend too is bounded."""
    money: bool
    tools: bool
    """Whether a tool call can be refused."""
    timed: tuple[Budget, ...]
    """Of the time of a principal or an organisation."""


def bounds_of(budgets: tuple[Budget, ...], rates: tuple[Rate, ...]) -> Bounds:
    """These, told apart."""
    shared = tuple(it for it in budgets if it.shared)
    return Bounds(
        own=tuple(it for it in budgets if not it.shared and it.hard is not None),
        shared=shared,
        soft=tuple(it for it in budgets if it.soft is not None),
        private=not shared and not rates,
        money=any(it.quantity == "usd" for it in budgets),
        tools=any(it.quantity in ("tool_calls", "seconds") for it in budgets) or any(it.tool for it in rates),
        timed=tuple(it for it in shared if it.quantity == "seconds"),
    )


_A_YEAR = 366 * 86_400.0

_ALLOWED: dict[str, tuple[Any, ...]] = {
    "scope": get_args(Scope),
    "quantity": get_args(Quantity),
    "on_exceeded": ("stop", "wait"),
    "per": (None, *get_args(Per)),
    "unknown_price": ("refuse", "free"),
}


def _check_limit(limit: object, what: str, *, whole: bool) -> None:
    exact = isinstance(limit, int) and not isinstance(limit, bool)
    exact = exact or (not whole and isinstance(limit, Decimal) and limit.is_finite())
    if not exact:
        kind = "a whole number" if whole else 'an exact number, such as Decimal("2.50")'
        raise ConfigError(f"{what}: a limit of {limit!r}; give {kind}")
    if isinstance(limit, int | Decimal) and limit <= 0:
        raise ConfigError(
            f"{what}: a limit of {limit} allows nothing at all; give more than 0, or leave the tool or model out"
        )


def window_of(per: Per | float, now: datetime) -> tuple[str, datetime]:
    """The window that this instant is in: its name, and when the next one begins."""
    now = now.astimezone(UTC)
    match per:
        case "hour":
            start = now.replace(minute=0, second=0, microsecond=0)
            return f"{start:%Y-%m-%dT%H}", start + timedelta(hours=1)
        case "day":
            start = now.replace(hour=0, minute=0, second=0, microsecond=0)
            return f"{start:%Y-%m-%d}", start + timedelta(days=1)
        case "month":
            start = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            return f"{start:%Y-%m}", (start + timedelta(days=32)).replace(day=1)
        case float() | int():
            number = int((now - _BEGINNING) / timedelta(seconds=per))
            return f"{per:g}s.{number}", _BEGINNING + (number + 1) * timedelta(seconds=per)


_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


def account_name(scope: Scope, who: str, quantity: Quantity, per: Per | None, now: datetime) -> str:
    """The account of a principal or an organisation, in the window that this instant is in."""
    name = f"{scope}:{who}:{quantity}"
    return name if per is None else f"{name}:{window_of(per, now)[0]}"


def rate_account(rate: Rate, who: str, now: datetime) -> str:
    """The account of a rate, in its present window. `who` shares it; nobody in particular where all of the store do."""
    what = f"tool {rate.tool}" if rate.tool else f"model {rate.model}"
    return f"rate:{rate.scope}:{who}:{what}:{window_of(float(rate.per), now)[0]}"


WAITING = "wait:"
"""How the keys of sessions that wait at an account begin."""


def waiting_key(session_id: str, sequence: int, ceiling: Decimal, asked: Decimal) -> str:
    """The key under which an account knows that this session waits for room for so much below this ceiling."""
    return f"{WAITING}{session_id}:{sequence}:{ceiling}:{asked}"


def waits_for(key: str) -> tuple[str, Decimal, Decimal] | None:
    """The session whose key this is, the ceiling, and what it asked for; None for other keys."""
    match key.split(":"):
        case ["wait", session_id, _, ceiling, asked]:
            return session_id, Decimal(ceiling), Decimal(asked)
    return None
