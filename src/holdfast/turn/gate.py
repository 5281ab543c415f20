"""Hooks and policies, asked before (and after) something happens. The first refusal wins.

A policy, or a hook marked as guard, that raises or runs out of time refuses: it fails closed. Another hook that fails
is passed over, and the failure is recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec
from msgspec import structs

from holdfast.events import EventContext, Fact, HookDecided, ToolCompleted
from holdfast.hook import AskFor, Decision, Defer, Deny, HookEvent, Interrupt, Modify, Point
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.messages import ToolResult
from holdfast.policy import Action, ActionKind
from holdfast.turn.asks import author_asks, open_ask
from holdfast.turn.call import Ready, prepare, result_of, said, stopped_from_outside

Verdict = tuple[str, Decision]
"""Who decided, and what."""


def has_gates(manifest: Manifest, point: Point) -> bool:
    """Whether anything is asked at this point, so that the common case costs nothing."""
    if manifest.policies or not manifest.hooks:
        return bool(manifest.policies)
    return any(hook.point == point for hook in manifest.hooks)


async def turn_refused(journal: Journal, manifest: Manifest) -> bool:
    """Whether a hook or policy ends the turn before the model is asked; recorded when one does."""
    points: tuple[Point, ...] = ("before_reason",)
    if journal.running.iteration == 0 and journal.running.attempt == 0:
        points = ("before_turn", "before_reason")
    for point in points:
        for who, decision in await _on_turn(point, journal, manifest):
            reason = _refusal(decision)
            if reason is not None:
                await journal.record(HookDecided(hook=who, point=point, decision="interrupt", reason=reason))
                return True
    return False


def _refusal(decision: Decision) -> str | None:
    """Why a turn or a model call may not go on. What cannot be done there (to ask, wait or modify) refuses too."""
    match decision:
        case Deny(reason) | Interrupt(reason):
            return reason
        case AskFor(reason=reason):
            return f"{reason} (a person can be asked about a tool call only)"
        case Defer(until=until, reason=reason):
            return f"not before {until.isoformat()} {reason}".rstrip()
        case Modify():
            return "a decision to modify has nothing to change before a turn or a model call"
    return None


async def _on_turn(point: Point, journal: Journal, manifest: Manifest) -> list[Verdict]:
    event = HookEvent(
        point=point,
        session_id=journal.state.session_id,
        turn_id=journal.context.turn_id,
        message=journal.state.last_message,
    )
    kind: ActionKind = "turn" if point == "before_turn" else "model"
    action = Action(
        kind=kind,
        session_id=event.session_id,
        turn_id=event.turn_id,
        name=manifest.route(journal.running.route).model if kind == "model" else "",
    )
    return [*await ask_hooks(event, journal, manifest), *await _ask_policies(action, journal, manifest)]


async def before_tool(ready: Ready, journal: Journal, manifest: Manifest) -> Ready | Fact:
    """The call as hooks, policies and the tool's author leave it: ready (with other arguments perhaps), or the fact
    that stands in its way: a refusal as its outcome, an ask, or the end of the turn."""
    wanted: AskFor | None = None
    if has_gates(manifest, "before_tool"):
        await journal.flush()
        for ask in (_hooks_on, _policies_on):
            for who, decision in await ask(ready, journal, manifest):
                if isinstance(decision, AskFor):
                    wanted = wanted or decision  # a later refusal counts more
                    continue
                after = _decided(who, decision, ready, journal, manifest)
                if not isinstance(after, Ready):
                    return after
                ready = after
    return open_ask(ready, wanted) if wanted is not None else author_asks(ready) or ready


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


async def _policies_on(ready: Ready, journal: Journal, manifest: Manifest) -> list[Verdict]:
    action = Action(
        kind="tool",
        session_id=journal.state.session_id,
        turn_id=journal.context.turn_id,
        name=ready.call.name,
        call_id=ready.call.id,
        arguments=ready.text,
        effect=ready.tool.effect,
    )
    return await _ask_policies(action, journal, manifest)


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
        result=result,
    )
    for who, decision in await ask_hooks(event, journal, manifest):
        fact = HookDecided(hook=who, point="after_tool", decision="modify", call_id=call.id)
        if isinstance(decision, Modify) and decision.result is not None:
            journal.stage(structs.replace(fact, reason=decision.reason))
            result = result_of(call, decision.result, result.status)
        elif isinstance(decision, Deny):
            journal.stage(structs.replace(fact, decision="deny", reason=decision.reason))
            result = result_of(call, f"Withheld: {decision.reason}", "denied")
        elif isinstance(decision, Interrupt):
            journal.stage(structs.replace(fact, decision="interrupt", reason=decision.reason))
    return result


async def ask_hooks(event: HookEvent, journal: Journal, manifest: Manifest) -> list[Verdict]:
    """What each hook at this event's point decided, in order, up to the first refusal. Silence is left out."""
    decided: list[Verdict] = []
    for hook in manifest.hooks:
        if hook.point != event.point:
            continue
        asked = partial(hook.run, event)
        decision, failure = await _answer(f"hook {hook.id}", asked, min(hook.timeout, 30.0), journal)
        if failure and hook.guard:
            decision = Deny(f"the guard {hook.id} failed: {failure}")
        elif failure:
            passed = HookDecided(
                hook=hook.id, point=event.point, decision="pass", reason=f"it failed: {failure}"
            )
            ended = None if journal.state.turn is not None else EventContext(turn_id=event.turn_id)
            journal.stage(passed, context=ended)
        if decision is not None:
            decided.append((hook.id, decision))
            if isinstance(decision, Deny | Interrupt):
                break
    return decided


async def _ask_policies(action: Action, journal: Journal, manifest: Manifest) -> list[Verdict]:
    decided: list[Verdict] = []
    for policy in manifest.policies:
        asked = partial(policy.decide, action)
        decision, failure = await _answer(f"policy {policy.name}", asked, policy.timeout, journal)
        if failure or decision is None:
            decision = Deny(
                f"the policy {policy.name} {f'failed: {failure}' if failure else 'decided nothing'}"
            )
        decided.append((policy.name, decision))
        if isinstance(decision, Deny | Interrupt):
            break
    return decided


async def _answer(
    who: str, ask: Callable[[], Awaitable[Decision | None]], seconds: float, journal: Journal
) -> tuple[Decision | None, str]:
    """What was decided, and why nothing was where that failed. What no log can hold is no decision."""
    try:
        decision = await journal.stragglers.run(who, journal.state.session_id, ask, seconds)
        return None if decision is None else _checked(decision), ""
    except TimeoutError:
        return None, f"no answer within {seconds:g} s"
    except (Exception, asyncio.CancelledError) as error:
        if isinstance(error, asyncio.CancelledError) and stopped_from_outside():
            raise
        return None, said(error)


def _checked(decision: Decision) -> Decision:
    if not isinstance(decision, Decision):
        raise TypeError(f"{decision!r} is not a decision; return Allow(), Deny(reason) or another of them")
    if (
        isinstance(decision, AskFor)
        and decision.expires_at is not None
        and decision.expires_at.tzinfo is None
    ):
        raise ValueError("expires_at has no time zone")
    return msgspec.json.decode(msgspec.json.encode(decision), type=type(decision))
