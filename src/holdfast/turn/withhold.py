"""Withhold: a reply passes the guards, or other words are recorded in its place.

What stands in its place has the usage and the cost of the reply itself. Then the model is asked again and told why, as
often as the guard says; or the turn ends, with the words that the application chose.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import structs

from holdfast.driver import Reply
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.turn.guards import WITHHELD, Verdict, judged, note_of, stand_in
from holdfast.turn.overhear import overheard
from holdfast.turn.screen import Screen
from holdfast.turn.speech import named_past, spoken
from holdfast.turn.told import Facts, completed, facts_of


async def let_by(
    ask: Callable[[], Awaitable[Reply]], screen: Screen, journal: Journal, manifest: Manifest
) -> Facts:
    """The facts of the reply to what is asked, whose pieces go through this screen. Raises what asking raises."""
    checks = manifest.guarding.checking
    reply = await (overheard(ask, screen, checks, journal) if checks and not screen.holds else ask())
    rest = screen.end()
    verdicts = await _on_speech(reply, screen, journal, manifest)
    if verdicts and verdicts[-1].action == "block":
        return _withheld(verdicts, reply, screen, journal, manifest)
    watch = screen.watch
    passed, decided, unchanged = await named_past(reply, watch.message_id, journal, manifest)
    screen.show([it for it in rest if unchanged or it[0] != "arguments"])
    logged = [it.on_speech(watch.message_id) for it in verdicts]
    return [*facts_of(passed, watch, journal, manifest), *logged, *decided]


async def _on_speech(reply: Reply, screen: Screen, journal: Journal, manifest: Manifest) -> list[Verdict]:
    """What guards find in what the model said; the last one blocks, if any does."""
    guards = manifest.guarding
    if not guards.speech:
        return []
    if screen.found is not None:
        guard, rule = screen.found
        code = screen.code or guard.code or f"guard.{rule.partition(' ')[0] or 'expression'}"
        return [Verdict(guard, code, rule, "block")]
    text = spoken(reply.message, journal, manifest)
    text = "\n".join([text, *(it for it in screen.said() if it not in text)]).strip("\n")
    found = await judged("output", text, guards.speech, journal) if text else []
    if found and found[-1].action == "block":
        screen.withhold(found[-1].guard, found[-1].rule)
    return found


def _withheld(
    verdicts: list[Verdict], reply: Reply, screen: Screen, journal: Journal, manifest: Manifest
) -> Facts:
    """What is recorded in place of a reply: the model is asked again, or the turn ends with the guard's words."""
    turn, verdict = journal.running, verdicts[-1]
    again = turn.withheld.times < verdict.guard.retries and turn.iteration + 1 < manifest.max_iterations
    message = stand_in(WITHHELD if again else verdict.guard.answer)
    if again:
        message = structs.replace(message, phase="commentary")
    heard = structs.replace(reply, message=message, stop="end_turn" if again else "refusal", response_id="")
    facts = [it.on_speech(message.id) for it in verdicts]
    if again:
        facts[-1] = structs.replace(facts[-1], note=note_of(facts[-1]))
    return [completed(heard, reply, screen.watch, journal, manifest), *facts]
