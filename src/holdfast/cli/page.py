"""A timeline on the terminal. Rich is loaded when a page is made, so that other commands do not wait for it."""

from __future__ import annotations

import shutil

from holdfast.cli.text import (
    between,
    clean,
    clock,
    count,
    day,
    dollars,
    duration,
    joined,
    one_line,
    size_of,
    to_resolve,
    tokens,
)
from holdfast.cli.timeline import Called, Entry, Noted, Said, Timeline, TurnLine

COLOURS = {
    "completed": "green",
    "ok": "green",
    "failed": "red",
    "error": "red",
    "unfinished": "magenta",
    "started": "magenta",
    "cut_off": "magenta",
    "in_doubt": "magenta",
    "waiting": "yellow",
    "denied": "yellow",
    "cancelled": "yellow",
}
AFTER_CUT_OFF = {
    "pure": "it has no effect and will be run again",
    "idempotent": "it will be run again with the same key",
    "reconcile": "its tool will be asked what became of it",
    "once": "it may have had its effect, and will not be run again",
}
"""What is due for a call without an outcome, by its effect class."""
IN_DOUBT = "cut off before its outcome was recorded; it may have had its effect, and was not run again"
STOPS = {
    "unfinished": "(these words were shown so far)",
    "replaced": "(void: the model was cut off here, and asked again)",
    "cut_off": "(cut off here: the turn ended first)",
}
"""What is said of a message that did not come to its own end."""
UNFINISHED = "A process is at work on this turn, or was cut off. Opening the session again goes on with it."


class Page:
    """Writes a timeline to the terminal. `full` cuts nothing short."""

    def __init__(self, full: bool) -> None:
        from rich.console import Console
        from rich.text import Text

        self._text = Text
        self._width = max(60, shutil.get_terminal_size((120, 24)).columns)
        self._console = Console(width=self._width, highlight=False, emoji=False)
        self._full = full
        self._session_id = ""

    def show(self, line: Timeline) -> None:
        """Write all of it."""
        self._session_id = line.id
        self._line(joined(line.id, one_line(line.title, self._width // 2)), "bold")
        made = f"made {day(line.created_at)}" if line.created_at else ""
        agent = f"agent {clean(line.agent)}" if line.agent else ""
        self._line(
            joined(agent, made, count(line.events, "event"), tokens(line.usage), dollars(line.cost)), "dim"
        )
        for name, value in line.metadata.items():
            self._line(f"{one_line(name)} = {one_line(value, 200)}", "dim")
        self._rows(line.before)
        for number, turn in enumerate(line.turns, 1):
            self._turn(number, turn)

    def _line(self, text: str, style: str = "") -> None:
        self._console.print(text, style=style, markup=False)

    def _turn(self, number: int, turn: TurnLine) -> None:
        took = between(turn.started_at, turn.ended_at) if turn.ended_at else ""
        stop = "" if turn.stop in ("", "end_turn", turn.status) else one_line(turn.stop)
        replies = count(turn.replies, "model reply", "model replies")
        about = joined(
            f"Turn {number}", turn.status, stop, took, replies, tokens(turn.usage), dollars(turn.cost)
        )
        self._line("")
        self._line(about, f"bold {COLOURS.get(turn.status, '')}")
        self._rows(turn.entries)
        if turn.error:
            self._line(clean(turn.error), "red")
        if turn.status == "unfinished":
            self._line(UNFINISHED, "magenta")

    def _rows(self, entries: list[Entry]) -> None:
        for entry in entries:
            match entry:
                case Said():
                    self._said(entry)
                case Called():
                    self._called(entry)
                case Noted():
                    self._row(clock(entry.at), entry.what.replace("_", " "), clean(entry.text), "yellow")

    def _said(self, said: Said) -> None:
        if said.who == "user":
            self._row(clock(said.at), "user", clean(said.text), "bold")
            return
        again = f"attempt {said.attempt}" if said.attempt > 1 else ""
        about = joined(
            clean(said.model), duration(said.duration_ms), again, tokens(said.usage), dollars(said.cost)
        )
        self._row(clock(said.at), "model", about, "dim")
        if said.thinking:
            self._row("", "", f"thinking: {self._short(said.thinking)}", "dim italic")
        if said.text:
            self._row("", "", clean(said.text), "strike" if said.stop == "replaced" else "")
        if said.stop:
            self._row("", "", STOPS[said.stop], "yellow")

    def _called(self, call: Called) -> None:
        self._row(clock(call.at), "call", f"{clean(call.name)} {self._short(call.arguments)}", "cyan")
        self._row("", "", self._outcome(call), COLOURS.get(call.status, "dim"))
        if call.resolved:
            self._row("", "", f"RESOLVED: {self._short(call.resolved)}", "green")
        elif call.status == "in_doubt":
            self._row("", "", f"once you know: {to_resolve(self._session_id, call.call_id)}", "magenta")
        if self._full and call.result:
            self._row("", "", clean(call.result), "dim")

    def _outcome(self, call: Called) -> str:
        """How the call stands, in words that claim no more than the log does."""
        again = f"attempt {call.attempts}, the one before was cut off" if call.attempts > 1 else ""
        due = AFTER_CUT_OFF.get(call.effect, "")
        match call.status:
            case "ok" | "error":
                said = size_of(call.result) if call.status == "ok" else ""
                return joined(
                    call.status, duration(call.duration_ms), again, said or self._short(call.result)
                )
            case "in_doubt":
                return joined("IN DOUBT", IN_DOUBT)
            case "started":
                return joined("NO OUTCOME RECORDED", again, f"it is running or was cut off; if so, {due}")
            case "cut_off":
                return joined("CUT OFF", again, due)
            case "asked":
                return "not run yet"
            case "waiting":
                return "waits for an answer (holdfast approve, or deny)"
        return joined(call.status, self._short(call.result))

    def _short(self, text: str) -> str:
        return clean(text) if self._full else one_line(text, self._width - 44)

    def _row(self, time: str, who: str, text: str, style: str) -> None:
        lead = f"{time:<8} {who:<8} "
        for line in self._text(text, style).wrap(self._console, self._width - len(lead), overflow="fold"):
            line.rstrip()
            self._console.print(self._text.assemble((lead, "dim"), line), soft_wrap=True)
            lead = " " * len(lead)
