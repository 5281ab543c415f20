"""`holdfast approve`, `deny` and `answer`: answer what a session waits for."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import click
import msgspec
from msgspec import Struct

from holdfast import AskOpened, Session, TurnResult, UsageError
from holdfast.cli.asks import find_ask
from holdfast.cli.compose import reopen
from holdfast.cli.given import missing_here
from holdfast.cli.place import Place, db_option, writing
from holdfast.cli.record import who
from holdfast.cli.view import View, view_for
from holdfast.cli.watch import EXIT_CODES, Watcher
from holdfast.errors import SessionHeld

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class UntilType(click.ParamType[datetime]):
    """Reads a time, or how long from now."""

    name = "TIME|30m|2h|7d"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """The instant that is meant; a time without a zone is of this machine's."""
        if found := re.fullmatch(r"(\d{1,6})([smhd])", value):
            return datetime.now(UTC) + timedelta(seconds=int(found[1]) * _SECONDS[found[2]])
        try:
            return datetime.fromisoformat(value).astimezone()
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time; write 2026-12-24T18:00 or 30m, 2h, 7d", param, ctx)


class Word(Struct, frozen=True, kw_only=True):
    """What somebody says of an ask."""

    verdict: Literal["approved", "denied", "answered"]
    by: str
    reason: str = ""
    text: str = ""
    arguments: str | None = None
    scope: tuple[str, ...] = ()
    until: datetime | None = None

    async def say(self, session: Session, ask: AskOpened | None, ask_id: str) -> None:
        """Say it."""
        sticky: dict[str, Any] = {"scope": _scope(self.scope), "until": self.until}
        if self.verdict == "approved":
            await session.approve(ask_id, by=self.by, reason=self.reason, arguments=self.arguments, **sticky)
        elif self.verdict == "denied":
            await session.deny(ask_id, by=self.by, reason=self.reason, **sticky)
        elif ask is not None and ask.wants == "result":
            await session.submit(ask_id, _value(self.text), by=self.by)
        else:
            await session.answer(ask_id, self.text, by=self.by)


def _scope(given: tuple[str, ...]) -> Any:
    if not given:
        return "call"
    if len(given) == 1 and given[0] in ("call", "session", "tool"):
        return given[0]
    patterns = dict(it.partition("=")[::2] for it in given)
    if not all("=" in it for it in given):
        raise UsageError("--for takes session, tool, or NAME=PATTERN for an argument (and again for another)")
    return patterns


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise UsageError(f"this ask wants a result, as JSON: {error}") from error


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        db_option,
        click.option("--json", "as_json", is_flag=True, help="Show the rest of the turn as JSON lines."),
        click.option("--by", default=None, help="Who answers; whoever is logged in here by default."),
    ):
        command = option(command)
    return command


def _sticky(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option(
            "--until", type=UntilType(), default=None, help="How long it holds for further calls, with --for."
        ),
        click.option(
            "--for",
            "scope",
            multiple=True,
            metavar="session|tool|NAME=PATTERN",
            help="What it holds for besides this call; a pattern may be repeated.",
        ),
        click.option("--reason", default="", help="Kept with the answer; the model reads why it was denied."),
        click.argument("names", nargs=-1, required=True, metavar="[SESSION] ASK"),
    ):
        command = option(command)
    return command


@click.command()
@_common
@click.option("--arguments", metavar="JSON", default=None, help="Let it run with these arguments instead.")
@_sticky
def approve(names: tuple[str, ...], db: Place, as_json: bool, by: str | None, **given: Any) -> None:
    """Let a call run that waits for that.

    The turn goes on here. ASK may be given by its last characters. SESSION alone will do when it has one ask.
    """
    _settle(names, Word(verdict="approved", by=who() if by is None else by, **given), as_json, db)


@click.command()
@_common
@_sticky
def deny(names: tuple[str, ...], db: Place, as_json: bool, by: str | None, **given: Any) -> None:
    """Refuse what is asked.

    The turn goes on here. ASK may be given by its last characters. SESSION alone will do when it has one ask.
    """
    _settle(names, Word(verdict="denied", by=who() if by is None else by, **given), as_json, db)


@click.command()
@_common
@click.argument("ask")
@click.argument("text")
def answer(ask: str, text: str, db: Place, as_json: bool, by: str | None) -> None:
    """Answer a question, or hand in a result.

    TEXT is the answer, or the result as JSON. The turn goes on here.
    """
    _settle((ask,), Word(verdict="answered", by=who() if by is None else by, text=text), as_json, db)


def _settle(names: tuple[str, ...], word: Word, as_json: bool, db: Place) -> None:
    if len(names) > 2:
        raise click.UsageError("name one ask: ASK, or SESSION ASK")
    result = asyncio.run(_answer(names, word, view_for(as_json), db))
    sys.exit(EXIT_CODES[result.status] if result else 0)


async def _answer(names: tuple[str, ...], word: Word, view: View, db: Place) -> TurnResult | None:
    async with writing(db) as runtime:
        state, ask_id = await find_ask(runtime, names)
        ask = state.asks.get(ask_id)
        if missing := await missing_here(runtime, state):
            session = await runtime.open(state.session_id, drive=False)
            await word.say(session, ask, ask_id)
            view.note(
                f"{word.verdict}; it goes on when the program that has {', '.join(missing)} opens this session"
            )
            return None
        session = await reopen(runtime, state.session_id)
        watcher = Watcher(session, view)
        await word.say(session, ask, ask_id)
        try:
            result = await watcher.rest_of_it()
        except SessionHeld:
            view.note(f"{word.verdict}; it goes on in the process that is at work on this session")
            return None
        if result is not None:
            view.end(session.id, result)
        return result
