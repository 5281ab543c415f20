"""Reason: ask the model for the next message.

A failed call is a fact like any other; `retry` says when the same request is due again. Words that readers have seen
are soon on the log: when the model is cut off they are replaced by a new message, or, where the turn ends, kept as they
are and marked. Half a call and half a thought are never kept.
"""

from __future__ import annotations

import asyncio

from holdfast.events import OutputMessageReplaced, TurnSteered
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.turn.enter import turn_refused
from holdfast.turn.hear import OutOfBudget, hear, pay_up
from holdfast.turn.prompt import Prompt, build_request
from holdfast.turn.retry import failed
from holdfast.turn.watch import Watch


async def reason(journal: Journal, manifest: Manifest) -> None:
    """Ask the model once. Stages its message, or records why there is none. Raises `StoreError`."""
    turn = journal.running
    if turn.steering:
        heard = tuple(entry.message.id for entry in turn.steering)
        journal.stage(TurnSteered(inputs=heard, labels=manifest.charter.taint.inputs))
    if turn.shown_id:
        journal.stage(OutputMessageReplaced(message_id=turn.shown_id, reason="the model was cut off"))
    await journal.flush()
    if (manifest.hooks or manifest.charter.judged) and await turn_refused(journal, manifest):
        return
    await journal.history.recall(journal.state)
    request = await build_request(journal.state, journal.derived(Prompt), manifest, journal.store.get_blob)
    watch = Watch(journal, turn.id)
    try:
        facts = await hear(request, watch, journal, manifest)
    except asyncio.CancelledError:
        watch.give_up()
        raise
    except OutOfBudget:
        return
    except Exception as error:
        watch.give_up()
        if manifest.budgets:
            pay_up(journal)
        if turn.deadline is None or journal.reached != turn.deadline:  # else the planner ends the turn
            await journal.record(failed(error, turn, manifest, journal.now()))
        return
    watch.done()
    journal.stage(*facts)
