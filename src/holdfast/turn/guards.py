"""Guards at work: on the model's message before it is recorded, on what tools are given, and on what they give.

What a guard blocks or redacts goes no further than this file. A reply that is withheld is recorded as the words that
stand in its place, with what it cost; then the model is asked again, as often as the guard says, or the turn ends.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, structs

from holdfast.facts.guards import GuardAction, GuardDecided, Place
from holdfast.guard import CODE, Found, Guard, Guards, Seen
from holdfast.ids import new_id
from holdfast.journal import Journal
from holdfast.messages import (
    Document,
    Image,
    Message,
    Native,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    user_message,
)
from holdfast.turn.call import is_ours

T = TypeVar("T")

MASK = "[removed]"
"""What stands in place of what a guard redacts."""
WITHHELD = "[This reply was withheld.]"
"""What stands in place of a reply after which the model is asked again."""

OFF_LOOP = 100_000
"""Characters from which on a text is looked through, or redacted, in a thread."""

_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


class Verdict(Struct, frozen=True):
    """What a guard found."""

    guard: Guard
    code: str
    rule: str
    action: GuardAction
    clean: str | None = None
    """The text without it, where the guard's function says so."""

    def fact(self, where: Place, *, call_id: str = "", message_id: str = "") -> GuardDecided:
        """That it was found."""
        guard = self.guard
        return GuardDecided(
            guard=guard.id,
            where=where,
            action=self.action,
            code=self.code,
            rule=self.rule,
            reason=guard.reason,
            call_id=call_id,
            message_id=message_id,
        )

    def on_speech(self, message_id: str) -> GuardDecided:
        """That it was found in what the model said."""
        return self.fact("stream" if self.guard.at("stream") else "output", message_id=message_id)


def words_in(message: Message) -> str:
    """Everything that the model says in this message, its thinking included; calls are left out."""
    found: list[str] = []
    for part in message.content:
        match part:
            case Thinking(text=text):
                found.append(text)
            case Native(data=data, text=text):
                found += [data, text]
            case Document(name=name, url=url):
                found += [name, _address(url)]
            case Image(url=url):
                found.append(_address(url))
    return "\n".join(text for text in (message.text, *found) if text)


def _address(url: str) -> str:
    return "" if url.startswith("data:") else url


async def judged(
    place: Place, text: str, guards: tuple[Guard, ...], journal: Journal, call: ToolCall | None = None
) -> list[Verdict]:
    """What these guards find in this text, up to the first that blocks."""
    found: list[Verdict] = []
    for guard in guards:
        verdict = await _look(guard, place, text, journal, call)
        if verdict is not None:
            found.append(verdict)
            if verdict.action == "block":
                break
    return found


async def _look(
    guard: Guard, place: Place, text: str, journal: Journal, call: ToolCall | None
) -> Verdict | None:
    rule = await _aside(len(text), partial(rule_in, guard, text)) if guard.has_rules else ""
    if rule:
        return Verdict(guard, guard.code or f"guard.{rule.partition(' ')[0]}", rule, guard.action)
    if guard.check is not None:
        return await _ask(guard, place, text, journal, call)
    if not guard.has_rules:
        return Verdict(guard, guard.code or "guard.tool", guard.tools, guard.action)
    return None


async def _aside(size: int, work: Callable[[], T]) -> T:
    """What this work on so many characters comes to."""
    return await asyncio.to_thread(work) if size > OFF_LOOP else work()


def rule_in(guard: Guard, text: str) -> str:
    """The rule that finds something in this text, as it is or with the escapes of JSON resolved; empty without one."""
    hit = guard.sieve.find(text)
    if hit is None and "\\" in text:
        hit = guard.sieve.find(unescaped(text))
    return hit.rule if hit is not None else ""


def unescaped(text: str) -> str:
    """The text with the escapes of JSON strings resolved, whether all of it is JSON or not."""
    plain = _ESCAPE.sub(lambda it: chr(int(it[1], 16)) if it[1] else _CONTROLS.get(it[2], it[2]), text)
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


async def _ask(
    guard: Guard, place: Place, text: str, journal: Journal, call: ToolCall | None
) -> Verdict | None:
    """What the guard's function says; one that fails has found something."""
    assert guard.check is not None
    state = journal.state
    seen = Seen(
        where=place if guard.at(place) else "stream",
        text=text,
        session_id=state.session_id,
        turn_id=journal.context.turn_id,
        tool=call.name if call else "",
        call_id=call.id if call else "",
    )
    failed: GuardAction = "log" if guard.action == "log" else "block"
    try:
        found = await journal.stragglers.run(
            f"guard {guard.id}", state.session_id, partial(guard.check, seen), guard.timeout
        )
        if found is None or found is False:
            return None
        found = Found() if found is True else found
        if not isinstance(found, Found):
            raise TypeError
    except TimeoutError:
        return Verdict(guard, "guard.timeout", "", failed)
    except BaseException as error:
        if is_ours(error):
            raise
        return Verdict(guard, "guard.failed", type(error).__name__, failed)
    action = "block" if guard.action == "redact" and found.clean is None else guard.action
    code = found.code if CODE.fullmatch(found.code) else guard.code or "guard.check"
    return Verdict(guard, code, "", action, found.clean)


async def arguments_past(
    call: ToolCall, text: str, guards: Guards, journal: Journal
) -> tuple[str | None, list[GuardDecided]]:
    """The arguments as guards leave them, and what they found; None when one does not let the call pass."""
    facts: list[GuardDecided] = []
    for guard in guards.over("tool_input", call.name):
        for verdict in await judged("tool_input", text, (guard,), journal, call):
            changed: str | None = text
            if verdict.action == "redact":
                changed = verdict.clean
                if changed is None:
                    changed = await _aside(len(text), partial(_redacted_json, text, guard))
                changed = changed if changed is not None and _is_object(changed) else None
                if changed is None:
                    verdict = structs.replace(verdict, action="block")
            facts.append(verdict.fact("tool_input", call_id=call.id))
            if verdict.action == "block" or changed is None:
                return None, facts
            text = changed
    return text, facts


async def result_past(
    result: ToolResult, call: ToolCall, guards: Guards, journal: Journal
) -> tuple[ToolResult, list[GuardDecided]]:
    """The result as guards leave it, and what they found. That the call has run is not changed by it."""
    facts: list[GuardDecided] = []
    for guard in guards.over("tool_output", call.name):
        text = _shown_in(result)
        for verdict in await judged("tool_output", text, (guard,), journal, call):
            changed: ToolResult | None = result
            if verdict.action == "redact":
                changed = await _aside(len(text), partial(_redacted, result, verdict))
                if changed is None:
                    verdict = structs.replace(verdict, action="block")
            facts.append(verdict.fact("tool_output", call_id=call.id))
            if verdict.action == "block" or changed is None:
                words = f"[Withheld: {facts[-1].in_words}.]"
                return structs.replace(result, content=(Text(text=words),)), facts
            result = changed
    return result, facts


def _shown_in(result: ToolResult) -> str:
    """Everything that can be read in this result."""
    return words_in(Message(id="", role="tool", content=result.content))


def _redacted(result: ToolResult, verdict: Verdict) -> ToolResult | None:
    """The result without what was found; None where it is not to be had without."""
    if verdict.clean is not None:
        return structs.replace(result, content=(Text(text=verdict.clean),))
    sieve = verdict.guard.sieve
    content = tuple(
        Text(text=sieve.redact(part.text, MASK)[0]) if isinstance(part, Text) else part
        for part in result.content
    )
    clean = structs.replace(result, content=content)
    return None if rule_in(verdict.guard, _shown_in(clean)) else clean


def _redacted_json(text: str, guard: Guard) -> str | None:
    try:
        clean = msgspec.json.encode(_without(msgspec.json.decode(text or "{}"), guard)).decode()
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
    return None if rule_in(guard, clean) else clean


def _without(value: Any, guard: Guard) -> Any:
    if isinstance(value, str):
        return guard.sieve.redact(value, MASK)[0]
    if isinstance(value, list):
        return [_without(item, guard) for item in value]
    if isinstance(value, dict):
        return {_without(key, guard): _without(item, guard) for key, item in value.items()}
    if isinstance(value, int | float) and not isinstance(value, bool):
        written = msgspec.json.encode(value).decode()
        return value if guard.sieve.find(written) is None else MASK
    return value


def _is_object(text: str) -> bool:
    try:
        return isinstance(msgspec.json.decode(text or "{}"), dict)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False


def note_of(fact: GuardDecided) -> Message:
    """What the model is told when it is asked again."""
    return user_message(
        f"Your last reply was withheld from the user: {fact.in_words}. Answer again, in another way, without what it "
        "looks for; do not mention this."
    )


def stand_in(text: str) -> Message:
    """What is recorded in place of a reply."""
    return Message(id=new_id("message"), role="assistant", content=(Text(text=text),))
