"""`holdfast chat`: talk to an agent at the terminal, or feed it lines."""

from __future__ import annotations

import asyncio
import io
import re
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import click
import msgspec

from holdfast import AskOpened, HoldfastError, Runtime, Session, TurnResult, UsageError
from holdfast.cli.compose import Wanted, agent_options, session_for
from holdfast.cli.inspect import described
from holdfast.cli.place import Place, db_option, writing
from holdfast.cli.record import who
from holdfast.cli.text import clean
from holdfast.cli.view import TextView
from holdfast.cli.watch import EXIT_CODES, Watcher

with suppress(ImportError):
    import readline  # noqa: F401  (gives `input` editing and history, where there is one)

HELP = """\
/help     this
/inspect  the exact next request
/files    the files of this session
/exit     leave; `holdfast chat --session last` goes on
Ctrl-C    stop the turn"""


@click.command()
@agent_options
@click.option("--session", "name", metavar="SESSION", help="Continue this session.")
@db_option
def chat(name: str | None, db: Place, wanted: Wanted) -> None:
    """Talk to an agent.

    Calls that need an answer ask here. Ctrl-C stops a turn; /help lists what else can be said. Lines may come from a
    pipe. Exit code 3 when a question stays without an answer.
    """
    with asyncio.Runner() as runner:
        runtime = runner.run(_opened(db))
        try:
            session = runner.run(session_for(runtime, name, wanted))
            code = Chat(runner, session).talk()
        finally:
            runner.run(runtime.close())
    sys.exit(code)


async def _opened(db: Place) -> Runtime:
    return await writing(db, make=True).__aenter__()


class Chat:
    """A conversation: read a line in this thread, run the turn on the loop, and again."""

    def __init__(self, runner: asyncio.Runner, session: Session) -> None:
        self._runner = runner
        self._session = session
        self._view = TextView(sys.stdout, sys.stdout)
        self._watcher = Watcher(session, self._view)
        self._human = sys.stdin.isatty()
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="replace")

    def talk(self) -> int:
        """Go on until the lines end, `/exit`, or a question stays without an answer. The exit code."""
        self._view.note(f"{self._session.id}; /help lists what else you can say")
        if self._session.turn is not None:
            self._bring_to_rest(self._watcher.rest_of_it(follow=True))
        while not self._waiting and (line := self._read("you> ")) not in (None, "/exit", "/quit"):
            try:
                self._obey(line.strip())
            except HoldfastError as error:
                self._view.note(f"error: {error}", fg="red")
        self._view.note("to go on: holdfast chat --session last")
        return EXIT_CODES["waiting"] if self._waiting else 0

    @property
    def _waiting(self) -> bool:
        return bool(self._session.state.asks)

    def _obey(self, line: str) -> None:
        match line.split(maxsplit=1):
            case []:
                return
            case ["/help"]:
                click.echo(HELP)
            case ["/inspect"]:
                click.echo("\n".join(described(self._runner.run(self._session.inspect()))))
            case ["/files"]:
                infos = self._runner.run(self._session.files.list("/", recursive=True))
                click.echo("\n".join([clean(info.path) for info in infos]) or "(no files)")
            case [command, *_] if re.fullmatch("/[a-z]+", command):
                self._view.note(f"there is no {command}; /help lists what there is")
            case _:
                self._bring_to_rest(self._watcher.send(line))

    def _bring_to_rest(self, watching: Coroutine[Any, Any, TurnResult | None]) -> None:
        """Watch a turn, and put each of its questions to whoever sits here."""
        result = self._runner.run(watching)
        if result is None:
            return
        while result.asks and (turn := self._session.turn) and self._settle(result.asks[0]):
            after = self._session.state.sequence
            result = self._runner.run(self._watcher.rest_of(turn, after, check=True))
        self._view.end(self._session.id, result)

    def _settle(self, ask: AskOpened) -> bool:
        """Put a question; whether it was answered."""
        if ask.wants != "approval":
            return self._answer(ask)
        click.echo(clean(msgspec.json.format(ask.arguments, indent=2)))
        while (answer := self._read(f"may {clean(ask.tool)} run? [y / n REASON] ")) is not None:
            verdict, _, reason = answer.strip().partition(" ")
            if verdict.lower() in ("y", "yes"):
                self._runner.run(self._session.approve(ask.ask_id, by=who()))
                return True
            if verdict.lower() in ("n", "no"):
                self._runner.run(self._session.deny(ask.ask_id, by=who(), reason=reason.strip()))
                return True
        return False

    def _answer(self, ask: AskOpened) -> bool:
        """Have a question of the model answered in words; whether it was."""
        if ask.wants != "answer":
            self._view.note(
                f"{clean(ask.tool)} is carried out by another program: holdfast answer {ask.ask_id} JSON"
            )
            return False
        click.echo("\n".join([clean(ask.reason), *(f"  - {clean(option)}" for option in ask.options)]))
        while (text := self._read("answer> ")) is not None:
            try:
                self._runner.run(self._session.answer(ask.ask_id, text.strip(), by=who()))
            except UsageError as error:
                self._view.note(f"error: {error}", fg="red")
            else:
                return True
        return False

    def _read(self, prompt: str) -> str | None:
        """A line without its end; None when there are no more."""
        try:
            return input(prompt if self._human else "")
        except (EOFError, KeyboardInterrupt):
            click.echo()
            return None
