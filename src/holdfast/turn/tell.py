"""Tell: what somebody outside the turn says to a session: an input, an answer, what became of a call.

Each is a fact. Whoever may write the session records it; while another process is at work on it, the fact is left there
as a letter, durable at once, and that process records it. Either way `admit` decides whether it makes sense.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from holdfast.asking import check_name
from holdfast.errors import AskClosed, InputRejected, Superseded, UsageError
from holdfast.events import (
    CallResolved,
    CompactionAsked,
    Fact,
    InputMessage,
    SessionUpdated,
    TurnRecovered,
)
from holdfast.facts.answers import OutputContract
from holdfast.facts.asks import AskAnswered, GrantRevoked
from holdfast.facts.budgets import NOTHING, BudgetExceeded, BudgetRaised
from holdfast.folds.asks import said_in
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.messages import Content, Document, Image, Message
from holdfast.turn.admit import (
    admit,
    check_grant,
    context_of,
    in_doubt,
    is_new,
    may_answer,
    names_of,
    not_open,
)
from holdfast.turn.allowance import has_room
from holdfast.turn.blobs import kept_as, put_part
from holdfast.turn.consult import unconsulted
from holdfast.turn.document import keep_document
from holdfast.turn.input import check_label, check_metadata, check_text, new_turn, take_in
from holdfast.turn.passing import answer_past
from holdfast.turn.saying import Said, answer_fact, check_said, repeats


async def accept(
    journal: Journal,
    manifest: Manifest | None,
    content: Content,
    *,
    key: str = "",
    output: OutputContract | None = None,
) -> str:
    """Make the input durable and return the id of its turn; the same key again returns the same turn.

    When nothing else is under way the turn begins in the same append, under this manifest; without one it is begun by
    whoever drives the session. Raises `InputRejected`, `StoreError`.
    """
    message = await _message(journal, content)
    check_text(key=key)
    turn_id = new_turn(journal.state.session_id, key)
    fact = InputMessage(message=message, turn_id=turn_id, key=key, output=output)
    await keep_document(journal, manifest, output)
    return await _tell_input(fact, journal, manifest)


async def steer(journal: Journal, manifest: Manifest | None, content: Content, *, key: str = "") -> str:
    """Make the input part of the turn under way, to enter before its next model call; the id of that turn.

    Without a turn under way it is an ordinary input. Raises as `accept` does.
    """
    message = await _message(journal, content)
    check_text(key=key)
    await journal.look()
    if (turn := journal.state.turn) is None:
        return await accept(journal, manifest, content, key=key)
    fact = InputMessage(message=message, turn_id=turn.id, key=key, steer=True)
    return await _tell_input(fact, journal, manifest)


async def attach(journal: Journal, data: bytes, *, name: str, media_type: str) -> Image | Document:
    """Keep these bytes and return the part that stands for them. Raises `InputRejected`, `StoreError`."""
    check_text(name=name, media_type=media_type)
    if not isinstance(data, bytes):
        raise InputRejected(f"what is attached is bytes, not {type(data).__name__}")
    return await put_part(data, media_type, journal.put_blob, name=name)


async def _message(journal: Journal, content: Content) -> Message:
    return await take_in(content, journal.put_blob)


async def answer(journal: Journal, manifest: Manifest | None, ask_id: str, said: Said) -> None:
    """Record somebody's answer to an ask; the same one again, under the same key, does nothing.

    Raises `UnknownAsk` when it is not open, `AnswerForbidden` for somebody who may not, `AnswerRejected` for an answer
    that does not fit.
    """
    check_said(said)
    await journal.look()
    ask = journal.state.asks.get(ask_id)
    if ask is None:
        if not repeats(ask_id, said, journal.state):
            raise not_open(ask_id, journal.state)
        return
    may_answer(ask, said.by, journal, manifest)
    await _tell(await answer_past(answer_fact(journal, ask, said), ask, journal, manifest), journal, manifest)


async def revoke(
    journal: Journal, manifest: Manifest | None, grant_id: str, *, by: str, reason: str = ""
) -> None:
    """End a grant. Raises `UnknownGrant`, `AnswerForbidden`."""
    check_text(by=by, reason=reason)
    await journal.look()
    check_name(by, names_of(journal.state, manifest), f"revoke {grant_id}")
    check_grant(grant_id, journal.state)
    await _tell(GrantRevoked(grant_id=grant_id, by=by, reason=reason), journal)


async def update(journal: Journal, *, title: str | None, metadata: dict[str, str] | None) -> None:
    """Record a new title, or new metadata. Raises `InputRejected`, `StoreError`."""
    check_label(title=title or "")
    check_metadata(metadata or {})
    await _tell(SessionUpdated(title=title, metadata=metadata), journal)


async def raise_limit(journal: Journal, budget: str, amount: Decimal, *, by: str) -> None:
    """Record that a budget of this session may have so much more."""
    check_text(by=by)
    await _tell(BudgetRaised(budget=budget, amount=amount, by=by), journal)


async def compact(journal: Journal, *, by: str) -> None:
    """Record that somebody wants the transcript summarised. Raises `InputRejected`, `StoreError`."""
    check_text(by=by)
    if not by:
        raise InputRejected("say who wants the transcript summarised: by=...")
    await _tell(CompactionAsked(by=by), journal)


async def resolve(journal: Journal, call_id: str, result: Any, *, by: str, reason: str = "") -> None:
    """Record what became of a call in doubt. Raises `UnknownCall` when it is not in doubt, `UsageError` for None."""
    check_text(by=by, reason=reason)
    if result is None:
        raise UsageError(f"say what became of call {call_id}: give either result=... or rerun=True")
    await journal.look()
    shown = await kept_as(in_doubt(call_id, journal.state).call, result, journal.put_blob)
    await _tell(CallResolved(call_id=call_id, by=by, result=shown, reason=reason), journal)


async def rerun(
    journal: Journal, manifest: Manifest | None, call_id: str, *, by: str, reason: str = ""
) -> str:
    """Have a call in doubt run again, in the turn whose id this returns. Raises `UnknownCall`."""
    check_text(by=by, reason=reason)
    fact = CallResolved(call_id=call_id, by=by, turn_id=new_turn(), reason=reason)
    await _tell(fact, journal, manifest)
    return fact.turn_id


async def go_on(journal: Journal, manifest: Manifest | None = None, *, by: str = "") -> bool:
    """Own the session if anything is owed, and let a parked turn go on when `by` says who wants that. An ask that the
    approver of this manifest was not asked about is owed, too, and so is a turn at whose account there is room again:
    whoever raised it may have died before saying so here.

    Whether anything is owed. Raises `SessionHeld` while another process is at work on it.
    """
    check_text(by=by)
    await journal.refresh()
    turn = journal.state.turn
    parked = turn is not None and turn.parked
    asks = manifest is not None and bool(unconsulted(journal, manifest))
    room = await _room(journal, manifest)
    if journal.state.due() is None and not (by and parked) and not asks and room is None:
        return bool(await journal.store.letters(journal.state.session_id))
    await journal.own()
    if by and journal.state.turn is not None and journal.state.turn.parked:
        await journal.record(TurnRecovered(by=by))
    if room is not None and journal.state.turn is not None and journal.state.turn.exceeded == room:
        await journal.record(
            BudgetRaised(budget="", account=room.account, amount=NOTHING, by=by or room.account)
        )
    return True


async def _room(journal: Journal, manifest: Manifest | None) -> BudgetExceeded | None:
    """The budget that the turn waits for, where its account has room by now."""
    turn = journal.state.turn
    over = turn.exceeded if turn is not None else None
    if over is None or manifest is None or not over.waits or journal.state.due() is not None:
        return None
    return over if await has_room(over, manifest, journal.store) else None


async def _tell_input(fact: InputMessage, journal: Journal, manifest: Manifest | None) -> str:
    """The turn that the input belongs to: of several with one key, the one that was said first."""
    if fact.key:
        await journal.look()
        if journal.fresh or journal.state.turn is not None or not journal.ours:
            fact = await _first_letter(fact, journal)
    if await _tell(fact, journal, manifest) and fact.key:
        fact = await _first_letter(fact, journal)
        await journal.refresh()
    return journal.state.keys.get(fact.key) or fact.turn_id


async def _first_letter(fact: InputMessage, journal: Journal) -> InputMessage:
    """What was left with this key in a letter before, if anything was; recording it twice does nothing."""
    letters = await journal.store.letters(journal.state.session_id)
    said = [letter.event.data for letter in letters]
    return next((it for it in said if isinstance(it, InputMessage) and it.key == fact.key), fact)


async def _tell(fact: Fact, journal: Journal, manifest: Manifest | None = None) -> bool:
    """Record the fact, or leave it to the process that is at work on the session; whether it was left in a letter."""
    for _ in range(2):
        if not await journal.look():
            break
        try:
            admit(fact, journal, manifest)
            await journal.flush()
            return False
        except Superseded:  # somebody else has written since this session last rested here
            continue
    if not is_new(fact, journal.state):
        return False
    if isinstance(fact, AskAnswered):
        return await _leave_answer(fact, journal)
    await journal.post(fact, context_of(fact, journal.state))
    return True


async def _leave_answer(fact: AskAnswered, journal: Journal) -> bool:
    """Leave the answer in a letter, unless it is on the log; whether it is in one.

    Raises `AskClosed` when somebody else was first, whose answer may go from a letter to the log between any two looks.
    """
    if await _left_before(fact, journal):
        return True
    await journal.refresh()
    if not is_new(fact, journal.state):
        return False
    await journal.post(fact, context_of(fact, journal.state))
    await _left_before(fact, journal)
    await journal.refresh()
    closed = journal.state.closed.get(fact.ask_id)
    if closed is not None and (closed.how, closed.by, closed.said) != (fact.verdict, fact.by, said_in(fact)):
        raise not_open(fact.ask_id, journal.state)
    return True


async def _left_before(fact: AskAnswered, journal: Journal) -> bool:
    """Whether the same answer is in a letter already. Raises `AskClosed` when another one is, which came first."""
    letters = await journal.store.letters(journal.state.session_id)
    said = [letter.event.data for letter in letters]
    first = next((it for it in said if isinstance(it, AskAnswered) and it.ask_id == fact.ask_id), None)
    if first is None or first == fact:
        return first is not None
    if fact.key and _as_said(first) == _as_said(fact):
        return True
    raise AskClosed(
        f"ask {fact.ask_id} has an answer already, which is about to be recorded: {first.verdict} by {first.by}"
    )


def _as_said(fact: AskAnswered) -> tuple[str, ...]:
    return (fact.verdict, fact.by, fact.key, said_in(fact))
