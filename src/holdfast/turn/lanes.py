"""Lanes: run the calls that may run.

Calls run side by side, at most `tool_concurrency` at once; those that share a lane one after another. A call is claimed
(durably) right before it is dispatched, and its outcome is durable on its own. The transcript takes the results in the
model's order, whatever order they came in.
"""

from __future__ import annotations

import asyncio

from holdfast.events import Fact, ToolCompleted
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.turn.blobs import holds_data, kept_result
from holdfast.turn.call import Ready, dispatch, is_long, limited, reconciled, stopped_from_outside, with_note
from holdfast.turn.claim import check_replay, claim
from holdfast.turn.passing import hidden, let_out
from holdfast.turn.transaction import CallTransaction

Lane = list[Ready]

PURE_CLAIM = 0.005
"""Seconds by which the claim of a call without effect is durable. A quick one shares the append of its outcome."""


async def run_all(ready: list[Ready], journal: Journal, manifest: Manifest) -> None:
    """Run the calls. Those that start at once are claimed together, in one append."""
    if not ready:
        return
    lanes, claimed = await start(ready, journal, manifest)
    if len(lanes) == 1:
        await run_lane(lanes[0], claimed, journal, manifest)
        return
    slots = asyncio.Semaphore(manifest.tool_concurrency)

    async def take_slot(lane: Lane) -> None:
        async with slots:
            await run_lane(lane, claimed, journal, manifest)

    await journal.stragglers.side_by_side([take_slot(lane) for lane in lanes])


async def start(ready: list[Ready], journal: Journal, manifest: Manifest) -> tuple[list[Lane], set[str]]:
    """The calls by lane, and the ids of those that are claimed: the first of each that starts at once."""
    for call in ready:
        if call.attempt > 1:
            check_replay(call, journal)
    lanes = _lanes(ready, manifest.parallel_calls)
    first = [lane[0] for lane in lanes[: manifest.tool_concurrency]]
    journal.stage(*[claim(call, journal, manifest) for call in first])
    if all(call.tool.effect == "pure" for call in first):
        journal.flush_within(PURE_CLAIM)
    else:
        await journal.flush()
    return lanes, {call.call.id for call in first}


def _lanes(ready: list[Ready], parallel: bool) -> list[Lane]:
    lanes: dict[str, Lane] = {}
    for call in ready:
        lanes.setdefault(lane_of(call, parallel), []).append(call)
    return list(lanes.values())


def lane_of(call: Ready, parallel: bool) -> str:
    """The lane of this call: without parallel calls there is one."""
    if not parallel:
        return ""
    return f"lane {call.tool.lane}" if call.tool.lane else call.call.id


async def run_lane(lane: Lane, claimed: set[str], journal: Journal, manifest: Manifest) -> None:
    """Run these calls one after another."""
    for call in lane:
        if stopped_from_outside():  # the call before it may have kept that to itself
            raise asyncio.CancelledError
        if call.call.id not in claimed:
            await _claim_late(call, journal, manifest)
        await _run(call, journal, manifest)


async def _claim_late(ready: Ready, journal: Journal, manifest: Manifest) -> None:
    if ready.attempt > 1:
        check_replay(ready, journal)
    await journal.record(claim(ready, journal, manifest))


async def _run(ready: Ready, journal: Journal, manifest: Manifest) -> None:
    """Run one claimed call and make its outcome durable, with the facts its services left in the outbox."""
    own = CallTransaction(journal.store)
    try:
        await _run_in(own, ready, journal, manifest)
    finally:
        if own.lent:
            await own.roll_back()


async def _run_in(own: CallTransaction, ready: Ready, journal: Journal, manifest: Manifest) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    seconds = _seconds(ready, journal, manifest)
    outbox: list[Fact] = []
    if manifest.guards:
        ready = hidden(ready, manifest)
    known = await reconciled(ready, journal, seconds) if ready.attempt > 1 else None
    result = known or await dispatch(ready, journal, outbox, seconds, own.lend)
    if manifest.hooks or manifest.guards:
        result = await let_out(result, ready, journal, manifest)
    if holds_data(result.content):
        result = await kept_result(result, journal.put_blob)
    if ready.note:
        result = with_note(result, ready.note)
    if is_long(result, manifest.result_bytes):
        result = await limited(result, journal, manifest.result_bytes)
    if own.lent:
        result = await own.settle(result, ready.call)
    if result.status != "ok":
        outbox.clear()
    took = round((loop.time() - started) * 1000)
    outcome = ToolCompleted(result=result, attempt=ready.attempt, duration_ms=took)
    await journal.record(*outbox, outcome, through=own.sealed)


def _seconds(ready: Ready, journal: Journal, manifest: Manifest) -> float:
    """How long this call may take: the tool's limit, or what is left of the turn."""
    limit = ready.tool.timeout or manifest.tool_timeout
    deadline = journal.running.deadline
    if deadline is None:
        return limit
    return max(0.0, min(limit, (deadline - journal.now()).total_seconds()))
