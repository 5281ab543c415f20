"""Passing: what goes into tools and comes out of them, as hooks and guards let it through."""

from __future__ import annotations

from msgspec import structs

from holdfast.events import AskAnswered, AskOpened, ToolCompleted
from holdfast.facts.guards import GuardDecided
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.messages import ToolCall, ToolResult
from holdfast.turn.blobs import holds_data, kept_result
from holdfast.turn.call import Ready, prepare, result_of
from holdfast.turn.gate import after_tool, has_gates
from holdfast.turn.guards import arguments_past, result_past


async def let_in(ready: Ready, journal: Journal, manifest: Manifest) -> Ready | ToolCompleted:
    """The call as guards leave it, where hooks, policies or people changed what its model wrote and guards let pass;
    or where there were other guards then."""
    call = ready.call
    if ready.text == (call.arguments or "{}") and manifest.digest == journal.running.manifest:
        return ready
    text, facts = await arguments_past(call, ready.text, manifest.guarding, journal)
    journal.stage(*facts)
    if text is None:
        words = f"Denied: {facts[-1].in_words}. Nothing was run."
        return ToolCompleted(result=result_of(call, words, "denied"))
    if text == ready.text:
        return ready
    changed = prepare(call, text, manifest.tools, ready.attempt)
    return structs.replace(changed, note=ready.note) if isinstance(changed, Ready) else changed


async def let_out(result: ToolResult, ready: Ready, journal: Journal, manifest: Manifest) -> ToolResult:
    """The result as guards, and then hooks, leave it; what hooks put in its place goes through the guards, too."""
    result = await past_guards(result, ready.call, journal, manifest)
    if has_gates(manifest, "after_tool"):
        before, result = result, await after_tool(result, ready, journal, manifest)
        if result != before:
            result = await past_guards(result, ready.call, journal, manifest)
    return result


async def past_guards(result: ToolResult, call: ToolCall, journal: Journal, manifest: Manifest) -> ToolResult:
    """The result as guards leave it."""
    if manifest.guards:
        result, facts = await result_past(result, call, manifest.guarding, journal)
        journal.stage(*facts)
    return result


async def answer_past(
    fact: AskAnswered, ask: AskOpened, journal: Journal, manifest: Manifest | None
) -> AskAnswered:
    """An answer with the result that it gives as guards leave it, before it is recorded or left in a letter; the bytes
    in what is left are kept as blobs."""
    turn, result = journal.state.turn, fact.result
    if result is None:
        return fact
    decided: list[GuardDecided] = []
    if manifest is not None and manifest.guards and turn is not None:
        result, decided = await result_past(result, turn.calls[ask.call_id].call, manifest.guarding, journal)
    if holds_data(result.content):
        result = await kept_result(result, journal.put_blob)
    return structs.replace(fact, result=result, guarded=tuple(decided))


def hidden(ready: Ready, manifest: Manifest) -> Ready:
    """The call, quiet where its result may be kept back."""
    over = manifest.guarding.over("tool_output", ready.call.name)
    return structs.replace(ready, quiet=True) if any(it.action != "log" for it in over) else ready
