"""Deliver: hand finished output to its sinks, once for each key.

That an attempt begins is durable before the sink is called, what came of it after. An attempt of which nobody knows the
outcome is looked up where the sink can; where it cannot, it is in doubt, stays visible, and is never sent again.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

from msgspec import structs

from holdfast.events import EventContext
from holdfast.facts.deliveries import DeliveryStatus, Owed, SinkDelivered, SinkStarted
from holdfast.history import outcome_of
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.sink import SINKS, Delivery, Findable, NotDelivered, Registered
from holdfast.turn.call import is_ours, said
from holdfast.turn.policies import action_of, permitted

ATTEMPTS = 5
"""At a delivery that certainly did not arrive."""
FIRST_WAIT = 2.0
"""Seconds before the second attempt; four times as long before each further one."""

UNKNOWN = "the sink cannot say whether it arrived; find out, it is not sent again"


def deliverable(journal: Journal) -> list[Owed]:
    """Deliveries that can be made now, the oldest first. None while a turn is under way."""
    state = journal.state
    if not state.deliveries or state.turn is not None or SINKS not in journal.scope:
        return []
    known, now = journal.scope[SINKS].known, journal.present()
    return [
        it
        for it in state.deliveries.values()
        if it.status == "owed" and it.sink in known and (it.retry_at is None or it.retry_at <= now)
    ]


def again_at(journal: Journal) -> datetime | None:
    """When a delivery that failed is to be tried again, with nothing else to do until then."""
    state = journal.state
    if not state.deliveries or state.turn is not None or SINKS not in journal.scope:
        return None
    known = journal.scope[SINKS].known
    waits = [it.retry_at for it in state.deliveries.values() if it.status == "owed" and it.sink in known]
    return min((at for at in waits if at is not None), default=None)


async def deliver(owed: Owed, journal: Journal, manifest: Manifest) -> None:
    """Make this delivery, or record why it is not made. Raises `StoreError`."""
    registered = journal.scope[SINKS].known[owed.sink]
    if owed.under_way and (fact := await _proof(owed, registered, journal)) is not None:
        await _record(fact, owed, journal)
        return
    action = structs.replace(action_of("delivery", journal, owed.sink), turn_id=owed.turn_id)
    if (against := await permitted(action, journal, manifest)) is not None:
        await _record(_settled(owed, "denied", reason=against.reason), owed, journal)
        return
    attempt = owed.attempt + 1
    started = SinkStarted(key=owed.key, sink=owed.sink, attempt=attempt)
    delivery = await _content(owed, attempt, journal)
    await journal.record(started, context=EventContext(turn_id=owed.turn_id))
    owed = journal.state.deliveries[owed.key]
    await _record(await _attempt(delivery, owed, registered, journal), owed, journal)


async def _attempt(delivery: Delivery, owed: Owed, registered: Registered, journal: Journal) -> SinkDelivered:
    work = partial(registered.sink.deliver, delivery)
    try:
        receipt = await journal.stragglers.run(f"sink {owed.sink}", owed.turn_id, work, registered.timeout)
        return _settled(owed, "delivered", receipt=str(receipt or "")[:1_000])
    except NotDelivered as error:
        return _failed(owed, str(error), journal, final=error.final)
    except BaseException as error:
        if is_ours(error):
            raise
        found = await _proof(owed, registered, journal, why=said(error))
        return found or _failed(owed, said(error), journal, final=False)


async def _proof(
    owed: Owed, registered: Registered, journal: Journal, why: str = "it was cut off"
) -> SinkDelivered | None:
    """What became of an attempt that was cut off; None when it certainly did not arrive."""
    if not isinstance(registered.sink, Findable):
        return _settled(owed, "in_doubt", reason=f"{why}; {UNKNOWN}")
    look_up = partial(registered.sink.look_up, owed.key)
    try:
        receipt = await journal.stragglers.run(f"sink {owed.sink}", owed.turn_id, look_up, registered.timeout)
    except BaseException as error:
        if is_ours(error):
            raise
        return _settled(owed, "in_doubt", reason=f"looking for it failed: {said(error)}")
    return None if receipt is None else _settled(owed, "delivered", receipt=str(receipt)[:1_000])


def _settled(owed: Owed, status: DeliveryStatus, *, receipt: str = "", reason: str = "") -> SinkDelivered:
    return SinkDelivered(
        key=owed.key, sink=owed.sink, status=status, attempt=owed.attempt, receipt=receipt, reason=reason
    )


def _failed(owed: Owed, reason: str, journal: Journal, *, final: bool) -> SinkDelivered:
    wait = FIRST_WAIT * 4 ** (owed.attempt - 1)
    last = final or owed.attempt >= ATTEMPTS
    return SinkDelivered(
        key=owed.key,
        sink=owed.sink,
        status="failed",
        attempt=owed.attempt,
        reason=reason,
        retry_at=None if last else journal.now() + timedelta(seconds=wait),
    )


async def _content(owed: Owed, attempt: int, journal: Journal) -> Delivery:
    state = journal.state
    outcome = state.outcome
    if outcome is None or outcome.turn_id != owed.turn_id:
        outcome = await outcome_of(owed.turn_id, state.session_id, journal.store)
    assert outcome is not None, f"delivery {owed.key} is owed for a turn that has not ended"
    return Delivery(
        key=owed.key,
        sink=owed.sink,
        session_id=state.session_id,
        turn_id=owed.turn_id,
        agent=state.agent,
        status=outcome.status,
        stop=outcome.stop,
        text=outcome.text,
        attempt=attempt,
    )


async def _record(fact: SinkDelivered, owed: Owed, journal: Journal) -> None:
    await journal.record(fact, context=EventContext(turn_id=owed.turn_id))
