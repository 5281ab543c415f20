"""Afford: which of the calls that a model asks for budgets and rates let run. A call counts once, when first seen."""

from __future__ import annotations

from collections.abc import Iterable

from holdfast.budget import Rate
from holdfast.events import ToolCompleted
from holdfast.facts.budgets import BudgetExceeded
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.turn.booking import let_run
from holdfast.turn.call import result_of
from holdfast.turn.fit import is_answer
from holdfast.turn.step import Owed


async def affordable(owed: Iterable[Owed], journal: Journal, manifest: Manifest) -> list[Owed]:
    """Those that may be carried out. A call above a rate is settled with what the model reads; at a budget the first
    that does not fit, and all behind it, stay owed, and the turn ends or waits once nothing before them is left."""
    fits: list[Owed] = []
    running = 0
    for need in owed:
        call = journal.running.calls[need.call_id]
        answer = is_answer(call.call, journal.running, manifest)
        if need.how not in ("run", "reconcile") or call.paid or call.attempt or answer:
            fits.append(need)
            running += need.how == "run" and not call.attempt and not answer
            continue
        refused = await let_run(need.call_id, call.call.name, running, journal, manifest)
        if refused is None:
            fits.append(need)
            running += 1
        elif isinstance(rate := _rate(refused.fact, manifest), Rate):
            text = _too_often(rate, refused.fact)
            journal.stage(ToolCompleted(result=result_of(call.call, text, "error")))
        else:
            if not fits:
                refused.enter(journal)
            break
    return fits


def _rate(limit: BudgetExceeded, manifest: Manifest) -> Rate | None:
    """The rate that this is about; None when it is about a budget."""
    if not limit.account.startswith("rate:"):
        return None
    return next(rate for rate in manifest.rates if rate.name == limit.budget)


def _too_often(rate: Rate, limit: BudgetExceeded) -> str:
    what = "any tool" if rate.tool == "*" else rate.tool
    again = f" Try again after {limit.until:%H:%M:%S} UTC." if limit.until is not None else ""
    return (
        f"Error: {what} may be called {rate.calls} times in {rate.per:g} s, and was. Nothing was run.{again}"
    )
