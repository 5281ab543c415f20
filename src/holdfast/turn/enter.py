"""Enter: whether a turn may begin or its model be asked, and what the model is told of each input.

Hooks before a turn are asked about each of its inputs before the model hears it, those that steer a turn under way
included. What one makes of an input is durable at once, and it is not asked about that input again. One that said
nothing is, when the process dies before the model has answered.
"""

from __future__ import annotations

from msgspec import structs

from holdfast.events import HookDecided
from holdfast.facts.hooks import retell
from holdfast.hook import AskFor, Decision, Defer, Deny, HookEvent, Interrupt, Modify, Point
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.messages import Message
from holdfast.turn.gate import ask_hooks, has_gates
from holdfast.turn.policies import stopped


class _Heard(set[str]):
    """Inputs of the turn under way that hooks were asked about in this process."""


async def turn_refused(journal: Journal, manifest: Manifest, model: str = "") -> bool:
    """Whether a hook, policy or rule ends the turn before the model is asked, or puts that off; recorded when one does.
    `model` is the one that is asked, where it is not the turn's."""
    turn = journal.running
    if has_gates(manifest, "before_turn"):
        for message in _unheard(journal):
            if await _input_refused(message, journal, manifest):
                return True
    fresh = not (turn.iteration or turn.attempt or turn.compaction_attempt or turn.compaction_tried)
    if fresh and "turn" in manifest.charter.judged and await stopped("turn", journal, manifest):
        return True
    if has_gates(manifest, "before_reason") and await _reason_refused(journal, manifest):
        return True
    name = model or manifest.route(turn.route).model
    return "model" in manifest.charter.judged and await stopped("model", journal, manifest, name)


def _unheard(journal: Journal) -> list[Message]:
    """Inputs that the model has not answered, and that no hook was asked about here."""
    turn, asked = journal.running, journal.derived(_Heard)
    asked.intersection_update(turn.inputs)
    new = [it for it in turn.inputs[turn.heard :] if it not in asked]
    said = {it.id: it for it in journal.state.messages if it.id in new} if new else {}
    return [said[it] for it in new if it in said]


async def _input_refused(message: Message, journal: Journal, manifest: Manifest) -> bool:
    before = journal.state.views.get(message.id)
    seen = retell(message, before.text) if before is not None else message
    event = _event("before_turn", seen, journal)
    for who, decision in await ask_hooks(event, journal, manifest, () if before is None else before.by):
        fact = HookDecided(hook=who, point="before_turn", decision="interrupt", message_id=message.id)
        if (
            isinstance(decision, Modify)
            and decision.message is not None
            and retell(seen, decision.message).content
        ):
            await journal.record(
                structs.replace(fact, decision="modify", reason=decision.reason, view=decision.message)
            )
        elif (reason := _refusal(decision)) is not None:
            await journal.record(structs.replace(fact, reason=reason))
            return True
    journal.derived(_Heard).add(message.id)
    return False


async def _reason_refused(journal: Journal, manifest: Manifest) -> bool:
    event = _event("before_reason", journal.state.last_message, journal)
    for who, decision in await ask_hooks(event, journal, manifest):
        if (reason := _refusal(decision)) is not None:
            fact = HookDecided(hook=who, point="before_reason", decision="interrupt", reason=reason)
            await journal.record(fact)
            return True
    return False


def _event(point: Point, message: Message | None, journal: Journal) -> HookEvent:
    session_id, turn_id = journal.state.session_id, journal.context.turn_id
    return HookEvent(point=point, session_id=session_id, turn_id=turn_id, message=message)


def _refusal(decision: Decision) -> str | None:
    """Why a turn or a model call may not go on. What cannot be done there (to ask, wait or modify) refuses too."""
    match decision:
        case Deny(reason) | Interrupt(reason):
            return reason
        case AskFor(reason=reason):
            return f"{reason} (a person can be asked about a tool call only)"
        case Defer(until=until, reason=reason):
            return f"not before {until.isoformat()} {reason}".rstrip()
        case Modify(message=str()):
            return "a decision to modify left nothing of the input, or came where there is none"
        case Modify():
            return "a decision to modify has nothing to change before a turn or a model call"
    return None
