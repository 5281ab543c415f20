"""What a turn looks like while it runs: words on one stream, activity on another; or JSON, one object per line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import IO, Any, Protocol

import click
import msgspec

from holdfast import Event, Lagged, TextDelta, ToolOutput, ToolProgress, TurnResult
from holdfast import events as facts
from holdfast.cli.text import (
    clean,
    clock,
    count,
    dollars,
    duration,
    joined,
    one_line,
    size_of,
    to_resolve,
    tokens,
)
from holdfast.follow import Signal

MARKS = {"ok": ("ok", "green"), "error": ("failed", "red"), "denied": ("denied", "yellow")}
"""How an outcome is called, and its colour; others are shown by their own name in magenta."""


class View(Protocol):
    """Shows what happens."""

    def note(self, text: str) -> None:
        """Say something about the command itself."""
        ...

    def take(self, item: Event | Signal) -> None:
        """Show one thing."""
        ...

    def recall(self, event: Event) -> None:
        """Learn what happened before, and show nothing."""
        ...

    def end(self, session_id: str, result: TurnResult) -> None:
        """Show how it came to rest."""
        ...


class JsonView:
    """Every event and signal as one JSON object per line; the last line is the result."""

    def note(self, text: str) -> None:
        """Nothing: only JSON is written."""

    def take(self, item: Event | Signal) -> None:
        """Write the item."""
        click.echo(facts.encode_event(item) if isinstance(item, Event) else msgspec.json.encode(item))

    def recall(self, event: Event) -> None:
        """Nothing: only what is new is written."""

    def end(self, session_id: str, result: TurnResult) -> None:
        """Write the result, as type `result`."""
        line = {"type": "result", "session_id": session_id, **msgspec.to_builtins(result)}
        click.echo(msgspec.json.encode(line))


class TextView:
    """The model's words go to `words`, everything else to `notes`; on one terminal they share lines politely."""

    def __init__(self, words: IO[str], notes: IO[str]) -> None:
        self._words = words
        self._notes = notes
        self._safe: Callable[[str], str] = clean if words.isatty() else str
        self._calls: dict[str, str] = {}
        """Arguments of calls by id."""
        self._streams = words.isatty()
        """Elsewhere a message is written once, whole: whoever reads gets exactly what was said."""
        self._streamed: dict[str, str] = {}
        """What was shown of messages under way."""
        self._kept: dict[str, str] = {}
        """What the log has of messages under way."""
        self._open = ""
        """What the last line is waiting for: `text`, a call's id, or nothing."""

    def take(self, item: Event | Signal) -> None:
        """Show the item, if there is anything to see."""
        match item:
            case Event():
                if show := _SHOWN.get(type(item.data)):
                    show(self, item.data)
            case TextDelta() if self._streams:
                self._streamed[item.message_id] = self._streamed.get(item.message_id, "") + item.text
                self._say(item.text)
            case ToolProgress():
                self.note(f"  {clean(item.name)}: {one_line(item.message)}")
            case ToolOutput():
                self.note(f"  {clean(item.name)} | {clean(item.text).rstrip()}")
            case Lagged():
                self.note(f"  (too slow to show everything: {item.missed} items were passed over)")

    def recall(self, event: Event) -> None:
        """Remember the calls that were asked for."""
        if isinstance(event.data, facts.OutputMessageCompleted):
            self._calls.update({call.id: call.arguments for call in event.data.message.calls})

    def end(self, session_id: str, result: TurnResult) -> None:
        """Say what it took, what it waits for and what is in doubt."""
        for ask in result.asks:
            verb = "approve" if ask.wants == "approval" else "answer"
            text = "" if ask.wants == "approval" else " TEXT"
            self.note(f"{clean(ask.tool)} waits for: holdfast {verb} {ask.ask_id}{text}   (or deny)")
        if result.exceeded is not None and result.stop is None:
            self.note(f"The turn waits. {one_line(result.reason, 400)}", fg="yellow")
        for call in result.in_doubt:
            self.note(f"in doubt: {clean(call.name)} was cut off and may have had its effect", fg="magenta")
            self.note(f"  once you know: {to_resolve(session_id, call.call_id)}", fg="magenta")
        replies = count(result.iterations, "model reply", "model replies")
        self.note(
            f"[{joined(result.status, replies, tokens(result.usage), dollars(result.cost), session_id)}]"
        )

    def note(self, text: str, **style: Any) -> None:
        """A line of activity."""
        self._finish_line()
        click.secho(text, file=self._notes, **(style or {"dim": True}))

    def _say(self, text: str) -> None:
        if self._open not in ("", "text"):
            self._finish_line()
        click.echo(self._safe(text), file=self._words, nl=False)
        self._open = "" if text.endswith("\n") else "text"

    def _finish_line(self) -> None:
        if self._open == "text":
            click.echo(file=self._words)
        elif self._open:
            click.echo(file=self._notes)
        self._open = ""

    def _replied(self, fact: facts.OutputMessageCompleted) -> None:
        self._calls.update({call.id: call.arguments for call in fact.message.calls})
        shown, text = self._streamed.pop(fact.message.id, ""), fact.message.text
        if shown and not text.startswith(shown):  # its first words came before anybody looked
            self._finish_line()
            shown = ""
        if text != shown:
            self._say(text[len(shown) :])
        self._finish_line()
        if fact.stop == "cut_off":
            self.note("! cut off here", fg="yellow")

    def _kept_so_far(self, fact: facts.OutputMessageShown) -> None:
        """Words that were not seen live: another process is at work, or they came before anybody looked."""
        kept = self._kept[fact.message_id] = self._kept.get(fact.message_id, "") + fact.text
        shown = self._streamed.get(fact.message_id, "")
        if self._streams and len(kept) > len(shown) and kept.startswith(shown):
            self._streamed[fact.message_id] = kept
            self._say(kept[len(shown) :])

    def _resolved(self, fact: facts.CallResolved) -> None:
        what = "is run again" if fact.result is None else f"came to: {one_line(fact.result.text, 160)}"
        self.note(
            joined(f"! a call in doubt {what}", f"says {clean(fact.by)}", one_line(fact.reason)), fg="magenta"
        )

    def _replaced(self, fact: facts.OutputMessageReplaced) -> None:
        if self._streamed.pop(fact.message_id, ""):
            self.note("! what was written above is void: the model is asked again", fg="yellow")

    def _model_failed(self, fact: facts.ReasonFailed) -> None:
        if fact.retry_at:  # otherwise the turn fails, and says so
            why = f"{fact.reason}: {one_line(fact.error.message, 200)}"
            self.note(f"! the model failed ({why}); trying again at {clock(fact.retry_at)}", fg="yellow")
        elif fact.next_model:
            self.note(
                f"! {clean(fact.model)} failed ({one_line(fact.error.message, 200)}); asking {clean(fact.next_model)}",
                fg="yellow",
            )

    def _started(self, fact: facts.ToolStarted) -> None:
        self._finish_line()
        again = f" (attempt {fact.attempt})" if fact.attempt > 1 else ""
        arguments = one_line(self._calls.get(fact.call_id, ""))
        click.secho(f"> {clean(fact.name)} {arguments}{again} ", file=self._notes, nl=False, dim=True)
        self._open = fact.call_id

    def _completed(self, fact: facts.ToolCompleted) -> None:
        result = fact.result
        mark, colour = MARKS.get(result.status, (result.status.upper().replace("_", " "), "magenta"))
        detail = size_of(result.text) if result.status == "ok" else one_line(result.text, 160)
        took = duration(fact.duration_ms) if fact.attempt and result.status in ("ok", "error") else ""
        if self._open != result.call_id:
            self._finish_line()
            click.secho(f"< {clean(result.name)} ", file=self._notes, nl=False, dim=True)
        click.secho(joined(mark, took, detail), file=self._notes, fg=colour)
        self._open = ""

    def _asked(self, fact: facts.AskOpened) -> None:
        whole = clean(fact.arguments)  # nobody should agree to what they have not seen
        self.note(f"? {clean(fact.tool)} {whole}: {one_line(fact.reason, 200)}", fg="yellow")

    def _voided(self, fact: facts.AskVoided) -> None:
        self.note(f"? {one_line(fact.reason, 200)}", fg="yellow")

    def _granted(self, fact: facts.GrantUsed) -> None:
        text = (
            f"? {clean(fact.tool)} {clean(fact.arguments)}: {fact.verdict} by {one_line(fact.by)} beforehand"
        )
        self.note(text, fg="yellow")

    def _decided(self, fact: facts.HookDecided) -> None:
        self.note(f"! {fact.hook} decided {fact.decision}: {one_line(fact.reason, 160)}", fg="yellow")

    def _ruled(self, fact: facts.PolicyDecided) -> None:
        later = f" until {fact.until.isoformat(timespec='seconds')}" if fact.until else ""
        who = clean(fact.rule or fact.policy)
        self.note(f"! {who} decided {fact.decision}{later}: {one_line(fact.reason, 160)}", fg="yellow")

    def _drifted(self, fact: facts.Drifted) -> None:
        changes = one_line(", ".join(fact.changes), 160)
        self.note(f"! the manifest has changed, {fact.choice}: {changes}", fg="yellow")

    def _guarded(self, fact: facts.GuardDecided) -> None:
        reason = f": {one_line(fact.reason, 160)}" if fact.reason else ""
        self.note(f"! {clean(fact.guard)} decided {fact.action} ({clean(fact.code)}){reason}", fg="yellow")

    def _failed(self, fact: facts.TurnFailed) -> None:
        self.note(f"The turn failed ({fact.error.code}): {one_line(fact.error.message, 400)}", fg="red")

    def _cancelled(self, fact: facts.TurnCancelled) -> None:
        self.note(joined("The turn was cancelled", one_line(fact.reason)), fg="yellow")

    def _stopped(self, fact: facts.TurnCompleted) -> None:
        if fact.stop != "end_turn":
            why = f". {one_line(fact.reason, 400)}" if fact.reason else ""
            self.note(f"The turn ended early: {fact.stop}{why}", fg="yellow")


_SHOWN: dict[type[facts.Fact], Callable[[TextView, Any], None]] = {
    facts.OutputMessageCompleted: TextView._replied,
    facts.OutputMessageShown: TextView._kept_so_far,
    facts.OutputMessageReplaced: TextView._replaced,
    facts.CallResolved: TextView._resolved,
    facts.ReasonFailed: TextView._model_failed,
    facts.ToolStarted: TextView._started,
    facts.ToolCompleted: TextView._completed,
    facts.AskOpened: TextView._asked,
    facts.AskVoided: TextView._voided,
    facts.GrantUsed: TextView._granted,
    facts.HookDecided: TextView._decided,
    facts.PolicyDecided: TextView._ruled,
    facts.Drifted: TextView._drifted,
    facts.GuardDecided: TextView._guarded,
    facts.TurnFailed: TextView._failed,
    facts.TurnCancelled: TextView._cancelled,
    facts.TurnCompleted: TextView._stopped,
}


def view_for(as_json: bool) -> View:
    """How a command that runs one turn shows it: words on standard output, the rest on standard error; or JSON."""
    return JsonView() if as_json else TextView(sys.stdout, sys.stderr)
