"""Speech: what a message says, and its calls as guards let them through."""

from __future__ import annotations

from msgspec import structs

from holdfast.driver import Reply
from holdfast.facts.guards import GuardDecided
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.messages import Message, ToolCall
from holdfast.turn.fit import is_answer
from holdfast.turn.guards import arguments_past, words_in
from holdfast.turn.reply import name_reply


def spoken(message: Message, journal: Journal, manifest: Manifest) -> str:
    """Everything that the model says in this message; a call that is the answer, or of a tool that it made up, is part
    of that."""
    calls = message.calls
    said = [call.arguments for call in calls if is_answer(call, journal.running, manifest)]
    said += [call.name for call in calls if call.name not in manifest.tools]
    return "\n".join(it for it in (words_in(message), *said) if it)


async def named_past(
    reply: Reply, message_id: str, journal: Journal, manifest: Manifest
) -> tuple[Reply, list[GuardDecided], bool]:
    """The reply under our ids, with the arguments of its calls as guards leave them; what they found; and whether its
    calls are what the model wrote. A call that does not pass keeps no arguments. Raises what `name_reply` raises."""
    named = await name_reply(reply, message_id, journal.running, journal.put_blob)
    facts: list[GuardDecided] = []
    parts = list(named.message.content)
    for place, part in enumerate(parts):
        if isinstance(part, ToolCall) and not is_answer(part, journal.running, manifest):
            text, decided = await arguments_past(part, part.arguments, manifest.guarding, journal)
            facts += decided
            if text != part.arguments:
                parts[place] = structs.replace(part, arguments="{}" if text is None else text)
    same = all(one is other for one, other in zip(parts, named.message.content, strict=True))
    if same:
        return named, facts, not any(fact.action == "block" for fact in facts)
    message = structs.replace(named.message, content=tuple(parts))
    return structs.replace(named, message=message), facts, False
