"""Tell: what somebody outside the turn says to a session: an input, an answer, what became of a call.

Each is a fact. Whoever may write the session records it; while another process is at work on it, the fact is left there
as a letter, durable at once, and that process records it. Either way `admit` decides whether it makes sense.
"""

from __future__ import annotations

from typing import Any, Literal

from holdfast.errors import InputRejected, Superseded, UsageError
from holdfast.events import AskAnswered, CallResolved, Fact, InputMessage, SessionUpdated, TurnRecovered
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.messages import Content, Document, Image, Message
from holdfast.turn.admit import admit, context_of, in_doubt, is_new
from holdfast.turn.blobs import kept_as, put_part
from holdfast.turn.input import check_metadata, check_text, new_turn, take_in

Verdict = Literal["approved", "denied"]
"""An answer to an ask."""


async def accept(journal: Journal, manifest: Manifest | None, content: Content, *, key: str = "") -> str:
    """Make the input durable and return the id of its turn; the same key again returns the same turn.

    When nothing else is under way the turn begins in the same append, under this manifest; without one it is begun by
    whoever drives the session. Raises `InputRejected`, `StoreError`.
    """
    message = await _message(journal, content)
    check_text(key=key)
    turn_id = new_turn(journal.state.session_id, key)
    fact = InputMessage(message=message, turn_id=turn_id, key=key)
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


async def answer(journal: Journal, ask_id: str, verdict: Verdict, *, by: str, reason: str = "") -> None:
    """Record somebody's answer to an ask. Raises `UnknownAsk` when it is not open."""
    check_text(by=by, reason=reason)
    await _tell(AskAnswered(ask_id=ask_id, verdict=verdict, by=by, reason=reason), journal)


async def update(journal: Journal, *, title: str | None, metadata: dict[str, str] | None) -> None:
    """Record a new title, or new metadata. Raises `InputRejected`, `StoreError`."""
    check_text(title=title or "")
    check_metadata(metadata or {})
    await _tell(SessionUpdated(title=title, metadata=metadata), journal)


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


async def go_on(journal: Journal, *, by: str = "") -> bool:
    """Own the session if anything is owed, and let a parked turn go on when `by` says who wants that.

    Whether anything is owed. Raises `SessionHeld` while another process is at work on it.
    """
    check_text(by=by)
    await journal.refresh()
    turn = journal.state.turn
    parked = turn is not None and turn.parked
    if journal.state.due() is None and not (by and parked):
        return bool(await journal.store.letters(journal.state.session_id))
    await journal.own()
    if by and journal.state.turn is not None and journal.state.turn.parked:
        await journal.record(TurnRecovered(by=by))
    return True


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
    await journal.post(fact, context_of(fact, journal.state))
    return True
