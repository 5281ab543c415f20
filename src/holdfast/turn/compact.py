"""Compact: have the beginning of the transcript summarised, so that the next request is shorter.

Nothing is lost by it: the log keeps every message, and only what the model is told changes. The summary is recorded
when it is whole, so one that was cut off is simply made again. It is a model call like any other: hooks and policies
are asked, failures are tried again, and what it cost is the turn's.
"""

from __future__ import annotations

import asyncio

from holdfast.facts.compaction import CompactionFailed, CompactReason, ContextCompacted
from holdfast.journal import Journal
from holdfast.manifest import Manifest, Route
from holdfast.turn.abridge import CARRIED, cut, estimate, summary_message
from holdfast.turn.enter import turn_refused
from holdfast.turn.meter import OutOfBudget, pay_up
from holdfast.turn.retry import failure_of, judged
from holdfast.turn.summarise import summarise


async def compact(reason: CompactReason, journal: Journal, manifest: Manifest) -> None:
    """Record a summary, or why there is none. Raises `StoreError`."""
    turn = journal.running
    route = manifest.summariser or manifest.route(turn.route)
    await journal.flush()
    if (manifest.hooks or manifest.charter.judged) and await turn_refused(journal, manifest, route.model):
        return
    await journal.history.recall(journal.state)
    try:
        fact = await _compacted(reason, route, journal, manifest)
    except OutOfBudget:
        return
    except Exception as error:
        pay_up(journal)
        if turn.deadline is None or journal.reached != turn.deadline:  # else the planner ends the turn
            await journal.record(_not_compacted(error, reason, route, journal, manifest))
        return
    pay_up(journal)
    await journal.record(fact)


async def _compacted(
    reason: CompactReason, route: Route, journal: Journal, manifest: Manifest
) -> ContextCompacted:
    state, turn, now = journal.state, journal.running, asyncio.get_running_loop().time
    first, messages = state.compacted, list(state.as_told(state.messages))
    requests = await journal.history.page(state, turn.began, turn.began + 1)
    carried = next((it for it in state.as_told(requests) if estimate(it) <= CARRIED), None)
    length = cut(messages, manifest.summary_rules.keep, -1 if carried is None else turn.began - first)
    started = now()
    reply = await summarise(messages[:length], route, journal, manifest)
    covers = first + length
    summary = summary_message(reply.message.text.strip(), carried if turn.began < covers else None)
    cost = route.price(reply, journal.now())
    told = len(messages) + (state.summary is not None)
    return ContextCompacted(
        summary=summary,
        covers=covers,
        upto=messages[length - 1].id,
        reason=reason,
        messages_before=told,
        messages_after=len(messages) - length + 1,
        tokens_before=state.context or None,
        attempt=turn.compaction_attempt + 1,
        model=reply.model or route.model,
        response_id=reply.response_id,
        usage=reply.usage,
        duration_ms=round((now() - started) * 1000),
        cost=cost.amount if cost else None,
        price_date=cost.price_date if cost else None,
    )


def _not_compacted(
    error: Exception, reason: CompactReason, route: Route, journal: Journal, manifest: Manifest
) -> CompactionFailed:
    """With an instant to try again, or with the model that is sent everything, where there is another one than that
    for which it was too much. Raises a `StoreError` as it is."""
    turn = journal.running
    attempt = turn.compaction_attempt + 1
    failure, retry_at = judged(error, attempt, turn.failing_since, route, manifest, journal.now())
    others = manifest.routes[turn.route + 1 :] if reason == "too_large" and retry_at is None else ()
    return CompactionFailed(
        reason=reason,
        error_kind=failure.kind,
        error=failure_of(failure),
        attempt=attempt,
        retry_at=retry_at,
        model=route.model,
        next_model=others[0].model if others else "",
    )
