"""Permit: what becomes of a call that somebody was, or is to be, asked about."""

from __future__ import annotations

from msgspec import structs

from holdfast.asking import AskFor
from holdfast.events import Fact, ToolCompleted
from holdfast.facts.asks import AskExpired, AskOpened, AskVoided
from holdfast.folds.asks import TOO_LATE, asked_within
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.messages import ToolResult
from holdfast.state import CallState
from holdfast.turn.asks import ask_about, bound_by, client_ask, granted
from holdfast.turn.call import Ready, is_long, limited, prepare, result_of
from holdfast.turn.gate import before_tool
from holdfast.turn.passing import let_in, let_out


def void_if_changed(call: CallState, journal: Journal, manifest: Manifest) -> bool:
    """Void the answer to an ask about something that has changed since, before the call is run for the first time."""
    if not call.verdict or not call.bound or call.dispatched or call.doubtful:
        return False
    if bound_by(call.call.name, manifest) == call.bound:
        return False
    reason = f"{call.call.name}, or a hook or policy over it, is not what it was when this was asked"
    journal.stage(AskVoided(ask_id=call.ask_id, call_id=call.call.id, reason=reason))
    return True


async def pass_gate(ready: Ready, call: CallState, journal: Journal, manifest: Manifest) -> Ready | Fact:
    """The call as hooks, policies, grants and answers leave it: ready, or the fact that stands in its way."""
    after = await _past_all(ready, call, journal, manifest)
    return _bounded(after, call, journal, manifest) if isinstance(after, AskOpened) else after


def _bounded(
    ask: AskOpened, call: CallState, journal: Journal, manifest: Manifest
) -> AskOpened | ToolCompleted:
    """The ask, or the denial of its call where people were asked as often in this minute as the session may."""
    limit = manifest.asks_per_minute
    if not limit or ask.wants == "result" or asked_within(journal.state, journal.now()) < limit:
        return ask
    text = (
        f"Denied: somebody would have to be asked about {ask.tool}, and this session has asked people {limit:,} times "
        "in this minute, which is as often as it may. Nothing was run. Ask for less, or for this later."
    )
    return ToolCompleted(result=result_of(call.call, text, "denied"))


async def _past_all(ready: Ready, call: CallState, journal: Journal, manifest: Manifest) -> Ready | Fact:
    after: Ready | Fact = ready
    if not call.verdict:
        after = await before_tool(ready, journal, manifest)
        if isinstance(after, AskOpened):
            after = _with_grant(after, ready, journal, manifest)
    elif call.edited:
        after = _noted(ready) if call.dispatched else await _edited(ready, journal, manifest)
    elif call.doubtful and not call.dispatched:  # somebody wants it run again, and that answers any question
        again = await before_tool(ready, journal, manifest)
        after = ready if isinstance(again, AskOpened) else again
    if manifest.guards and isinstance(after, Ready):
        after = await let_in(after, journal, manifest)
    if isinstance(after, Ready) and after.tool.client is not None:
        return client_ask(after, after.tool.client, journal, manifest)
    return after


def _with_grant(ask: AskOpened, ready: Ready, journal: Journal, manifest: Manifest) -> Ready | Fact:
    """The call let through, or denied, by an answer that was given before; else its ask."""
    used = granted(ask, journal, manifest)
    if used is None:
        return ask
    journal.stage(used)
    if used.verdict == "denied":
        text = f"Denied: {used.reason}. Nothing was run."
        return ToolCompleted(result=result_of(ready.call, text, "denied"))
    checked = prepare(ready.call, ask.arguments, manifest.tools, ready.attempt)
    assert isinstance(checked, Ready), "what was asked about was ready"
    return checked


async def _edited(ready: Ready, journal: Journal, manifest: Manifest) -> Ready | Fact:
    """The call with the arguments that a person put in place of the model's, unless somebody refuses those.

    Where hooks change them further it is asked again, for nobody has seen that.
    """
    after = await before_tool(ready, journal, manifest)
    if isinstance(after, AskOpened):
        return _noted(ready) if after.arguments == ready.text else after
    if not isinstance(after, Ready):
        return after
    if after.text == ready.text:
        return _noted(ready)
    again = AskFor(reason="hooks changed the arguments that were approved")
    return ask_about(after, [("hooks", again)], journal, manifest) or after


def _noted(ready: Ready) -> Ready:
    """With a word to the model about what runs instead of what it asked for."""
    note = f"[A person changed the arguments of this call. What ran: {ready.text}]\n"
    return structs.replace(ready, note=note)


def answered(call: CallState, manifest: Manifest) -> Ready | ToolCompleted:
    """A call whose result was given, ready for the hooks that see results; an outcome when it fits no more."""
    return prepare(call.call, call.asked or call.call.arguments, manifest.tools, call.attempt)


async def outcome(ready: Ready, result: ToolResult, journal: Journal, manifest: Manifest) -> ToolCompleted:
    """The outcome of a call whose result was given from outside: it is treated as that of any other."""
    if manifest.hooks or manifest.guards:
        result = await let_out(result, ready, journal, manifest)
    if is_long(result, manifest.result_bytes):
        result = await limited(result, journal, manifest.result_bytes)
    return ToolCompleted(result=result, labels=manifest.charter.brings.get(ready.call.name, ()))


def expiry(call: CallState, journal: Journal) -> list[Fact]:
    """Nobody answered in time: what happens then, as it was asked."""
    ask = journal.state.asks[call.ask_id]
    if ask.on_expiry == "default" and ask.default is not None and ask.wants != "approval":
        text = ask.default
        if ask.wants == "answer":
            text = f"Nobody answered in time. Take this as the answer: {text}"
        return [AskExpired(ask_id=ask.ask_id, result=result_of(call.call, text, "ok"))]
    if ask.on_expiry == "fail":
        return [AskExpired(ask_id=ask.ask_id)]
    denied = result_of(call.call, f"Denied: {TOO_LATE}. Nothing was run.", "denied")
    return [AskExpired(ask_id=ask.ask_id), ToolCompleted(result=denied)]
