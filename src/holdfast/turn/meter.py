"""The meter: every model call goes through `ask_model`, which reserves before it is sent and settles after.

Turn and session budgets follow from the log. Those of principals and organisations, and rates, are accounts in the
store, changed in the append that records the fact. What was reserved by a process that died is settled in full by
whoever goes on with the turn, once: nobody knows what the model had answered by then.
"""

from __future__ import annotations

import asyncio

from holdfast.driver import DeltaKind, Emit, Reply, Request
from holdfast.errors import DriverError
from holdfast.facts.budgets import Spent
from holdfast.journal import Journal
from holdfast.manifest import Manifest, Route
from holdfast.turn.booking import Bill, Refused, book, set_aside, settle
from holdfast.turn.measure import at_most, used
from holdfast.turn.retry import ask_driver

NEVER_ANSWERED = frozenset(
    {"authentication", "quota", "rate_limit", "overloaded", "too_large", "invalid_request", "unsupported"}
)
"""Failures of requests that no model has worked on: they use nothing but the call."""

PERHAPS_ANSWERED = frozenset({"connection", "server_error", "content_policy"})
"""Failures of requests that a model has worked on if anything of its answer arrived."""


class OutOfBudget(Exception):
    """The model was not asked; the log says which budget or rate is used up."""


async def ask_model(
    request: Request, emit: Emit, journal: Journal, manifest: Manifest, route: Route
) -> Reply:
    """The model's reply, paid for: what settles it is staged, for the append of whatever is recorded next.

    Raises `OutOfBudget`, and what `ask_driver` raises.
    """
    if not (manifest.budgets or manifest.rates):
        return await ask_driver(request, emit, journal, route)
    return await _metered(request, emit, journal, manifest, route)


async def _metered(request: Request, emit: Emit, journal: Journal, manifest: Manifest, route: Route) -> Reply:
    most, priced = at_most(request, journal, manifest, route)
    if not priced:
        _check_priced(route, manifest)
    held = set_aside(most, route.model, journal, manifest) or await book(most, route.model, journal, manifest)
    if isinstance(held, Refused):
        held.enter(journal)
        await journal.flush()
        raise OutOfBudget
    heard = False

    def hear(kind: DeltaKind, piece: str, index: int) -> None:
        nonlocal heard
        heard = True
        emit(kind, piece, index)

    try:
        reply = await ask_driver(request, hear, journal, route)
    except asyncio.CancelledError:
        if not held.key:
            journal.derived(Bill).owe(most, "assumed")
        raise
    except Exception as error:
        await settle(held, _lost(error, most, heard=heard), "assumed", journal, manifest)
        raise
    spent, how = used(reply, request, most, journal, manifest, route)
    await settle(held, spent, how, journal, manifest)
    return reply


def pay_up(journal: Journal) -> None:
    """Stage what a model call used, where no reply comes of it."""
    journal.derived(Bill).settle(journal)


def _check_priced(route: Route, manifest: Manifest) -> None:
    bound = [it.name for it in manifest.budgets if it.quantity == "usd" and it.unknown_price == "refuse"]
    if bound:
        raise DriverError(
            "unsupported",
            f"budget {bound[0]!r} bounds money, and what {route.model} costs is not known; give its prices to "
            "Registry(models=...), or let it count as nothing with Budget(unknown_price='free')",
        )


def _lost(error: Exception, most: Spent, *, heard: bool) -> Spent:
    """What a call that failed may have used."""
    kind = error.kind if isinstance(error, DriverError) else None
    if kind in NEVER_ANSWERED or (kind in PERHAPS_ANSWERED and not heard):
        return Spent(model_calls=most.model_calls)
    return most
