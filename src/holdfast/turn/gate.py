"""Hooks, asked before (and after) something happens; then policies, before it does. The first refusal wins.

A hook marked as guard that raises or runs out of time refuses: it fails closed. Another hook that fails is passed over,
and the failure is recorded. Each sees the arguments, or the result, as those before it left them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import msgspec
from msgspec import structs

from holdfast.events import EventContext, Fact, HookDecided, ToolCompleted
from holdfast.facts.hooks import retell
from holdfast.hook import AskFor, Decision, Defer, Deny, Hook, HookEvent, Interrupt, Modify, Point
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.messages import BlobRef, Text, ToolResult
from holdfast.turn.asks import Wish, ask_about
from holdfast.turn.call import Ready, plain, prepare, result_of
from holdfast.turn.policies import answered, policies_on

Verdict = tuple[str, Decision]
"""Who decided, and what."""


def has_gates(manifest: Manifest, point: Point) -> bool:
    """Whether anything is asked at this point, so that the common case costs nothing."""
    return point in manifest.hooks_at


async def before_tool(ready: Ready, journal: Journal, manifest: Manifest) -> Ready | Fact:
    """The call as hooks, policies and the tool's author leave it: ready (with other arguments perhaps), or the fact
    that stands in its way: a refusal as its outcome, an ask, or the end of the turn."""
    asked: list[Wish] = []
    if has_gates(manifest, "before_tool"):
        await journal.flush()
        for who, decision in await _hooks_on(ready, journal, manifest):
            if isinstance(decision, AskFor):
                asked.append((who, decision))  # a later refusal counts more
                continue
            after = _decided(who, decision, ready, journal, manifest)
            if not isinstance(after, Ready):
                return after
            ready = after
    if "tool" in manifest.charter.judged:
        left, wishes = await policies_on(ready, journal, manifest)
        if not isinstance(left, Ready):
            return left
        ready = left
        asked += wishes
    if not asked and ready.tool.ask is False:
        return ready
    return ask_about(ready, asked, journal, manifest) or ready


async def _hooks_on(ready: Ready, journal: Journal, manifest: Manifest) -> list[Verdict]:
    event = HookEvent(
        point="before_tool",
        session_id=journal.state.session_id,
        turn_id=journal.context.turn_id,
        tool=ready.call.name,
        call_id=ready.call.id,
        arguments=ready.text,
    )
    return await ask_hooks(event, journal, manifest)


def _decided(
    who: str, decision: Decision, ready: Ready, journal: Journal, manifest: Manifest
) -> Ready | Fact:
    """What a decision makes of a call that is ready; it is recorded when it changes something."""
    call = ready.call
    fact = HookDecided(hook=who, point="before_tool", decision="deny", call_id=call.id)
    match decision:
        case Deny(reason):
            journal.stage(structs.replace(fact, reason=reason))
            return ToolCompleted(result=result_of(call, f"Denied: {reason}. Nothing was run.", "denied"))
        case Defer(until=until, reason=reason):
            wait = Deny(f"not before {until.isoformat()}" + (f", {reason}" if reason else ""))
            return _decided(who, wait, ready, journal, manifest)
        case Interrupt(reason):
            return structs.replace(fact, decision="interrupt", reason=reason)
        case Modify(arguments=str(text)):
            journal.stage(structs.replace(fact, decision="modify", reason=decision.reason, arguments=text))
            return prepare(call, text, manifest.tools, ready.attempt)
    return ready


async def after_tool(result: ToolResult, ready: Ready, journal: Journal, manifest: Manifest) -> ToolResult:
    """The result as hooks leave it."""
    call = ready.call
    event = HookEvent(
        point="after_tool",
        session_id=journal.state.session_id,
        turn_id=journal.context.turn_id,
        tool=call.name,
        call_id=call.id,
        arguments=ready.text,
        result=result,
    )
    for who, decision in await ask_hooks(event, journal, manifest):
        fact = HookDecided(hook=who, point="after_tool", decision="modify", call_id=call.id)
        if isinstance(decision, Modify) and decision.result is not None:
            original = await _kept(result, who, journal, manifest)
            journal.stage(structs.replace(fact, reason=decision.reason, original=original))
            result = result_of(call, decision.result, result.status)
        elif isinstance(decision, Deny):
            original = await _kept(result, who, journal, manifest)
            journal.stage(structs.replace(fact, decision="deny", reason=decision.reason, original=original))
            result = result_of(call, f"Withheld: {decision.reason}", "denied")
        elif isinstance(decision, Interrupt):
            journal.stage(structs.replace(fact, decision="interrupt", reason=decision.reason))
    return result


async def _kept(result: ToolResult, who: str, journal: Journal, manifest: Manifest) -> BlobRef | None:
    """The result as it was, where the hook that replaces it keeps that."""
    if not any(hook.id == who and hook.keep_original for hook in manifest.hooks):
        return None
    body = msgspec.json.encode(result)
    return BlobRef(digest=await journal.put_blob(body), size=len(body), media_type="application/json")


async def ask_hooks(
    event: HookEvent, journal: Journal, manifest: Manifest, but: Sequence[str] = ()
) -> list[Verdict]:
    """What each hook at this event's point decided, in order, up to the first refusal. Silence is left out, and so are
    those in `but`, whose decisions stand on the log. After a turn there is nothing to decide: all of them run."""
    decided: list[Verdict] = []
    for hook in manifest.hooks_at.get(event.point, ()):
        if hook.id in but:
            continue
        decision = await _asked(hook, event, journal)
        if decision is None or event.point == "after_turn":
            continue
        decided.append((hook.id, decision))
        if isinstance(decision, Deny | Interrupt):
            break
        event = _with(decision, event)
    return decided


async def _asked(hook: Hook, event: HookEvent, journal: Journal) -> Decision | None:
    """What this hook decides. One that fails refuses if it is a guard; else that is recorded, and it said nothing."""
    said = await answered(f"hook {hook.id}", partial(hook.run, event), hook.patience, journal)
    failure = said[1] if isinstance(said, tuple) else _impossible(said, event.point)
    if not failure:
        return None if isinstance(said, tuple) else said
    if hook.guard and event.point != "after_turn":
        return Deny(f"the guard {hook.id} failed: {failure}")
    passed = HookDecided(hook=hook.id, point=event.point, decision="pass", reason=f"it failed: {failure}")
    of = EventContext(turn_id=event.turn_id) if event.point == "after_turn" else None
    journal.stage(passed, context=of)
    return None


def _impossible(decision: Decision | None, point: Point) -> str:
    """Why what was decided cannot be done about a call, or its result; empty when it can."""
    match point, decision:
        case "before_tool", Modify(arguments=None):
            return "a decision to modify a call needs arguments"
        case "after_tool", Modify(result=None):
            return "a decision to modify a result needs result"
        case "after_tool", AskFor() | Defer():
            return "a call that has run can be neither asked about nor put off"
    return ""


def _with(decision: Decision, event: HookEvent) -> HookEvent:
    """What the next hook is told: the arguments or the result as this decision leaves them."""
    if not isinstance(decision, Modify):
        return event
    if decision.arguments is not None and event.point == "before_tool":
        return structs.replace(event, arguments=decision.arguments)
    if decision.message is not None and event.message is not None and event.point == "before_turn":
        return structs.replace(event, message=retell(event.message, decision.message))
    if decision.result is not None and event.result is not None:
        text = (Text(text=plain(decision.result)),)
        return structs.replace(event, result=structs.replace(event.result, content=text))
    return event
