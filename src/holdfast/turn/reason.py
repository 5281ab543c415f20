"""Reason: ask the model for the next message.

A failed call is a fact like any other; `retry` says when the same request is due again. Words that readers have seen
are soon on the log: when the model is cut off they are replaced by a new message, or, where the turn ends, kept as they
are and marked. Half a call and half a thought are never kept.
"""

from __future__ import annotations

import asyncio

from holdfast.events import OutputMessageCompleted, OutputMessageReplaced, TurnSteered
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.turn.gate import turn_refused
from holdfast.turn.prompt import Prompt, build_request
from holdfast.turn.reply import name_reply
from holdfast.turn.retry import ask_driver, failed
from holdfast.turn.watch import Watch


async def reason(journal: Journal, manifest: Manifest) -> None:
    """Ask the model once. Stages its message, or records why there is none. Raises `StoreError`."""
    turn = journal.running
    if turn.steering:
        journal.stage(TurnSteered(inputs=tuple(entry.message.id for entry in turn.steering)))
    if turn.shown_id:
        journal.stage(OutputMessageReplaced(message_id=turn.shown_id, reason="the model was cut off"))
    await journal.flush()
    if (manifest.hooks or manifest.policies) and await turn_refused(journal, manifest):
        return
    await journal.history.recall(journal.state)
    request = await build_request(journal.state, journal.derived(Prompt), manifest, journal.store.get_blob)
    watch = Watch(journal, turn.id)
    try:
        reply = await ask_driver(request, watch.emit, journal, manifest)
        reply = await name_reply(reply, watch.message_id, turn, journal.put_blob)
    except asyncio.CancelledError:
        watch.give_up()
        raise
    except Exception as error:
        watch.give_up()
        if turn.deadline is None or journal.reached != turn.deadline:  # else the planner ends the turn
            await journal.record(failed(error, turn, manifest, journal.now()))
        return
    watch.done()
    route = manifest.route(turn.route)
    cost = route.price(reply, journal.now())
    journal.stage(
        OutputMessageCompleted(
            message=reply.message,
            stop=reply.stop,
            iteration=turn.iteration + 1,
            attempt=turn.attempt + 1,
            model=reply.model or route.model,
            response_id=reply.response_id,
            usage=reply.usage,
            duration_ms=watch.elapsed_ms(),
            first_token_ms=watch.first_token_ms,
            cost=cost.amount if cost else None,
            price_date=cost.price_date if cost else None,
        )
    )
