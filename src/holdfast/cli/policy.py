"""`holdfast policy test`: what rules would have said to the calls of a recorded session. Runs and writes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import click
import msgspec
from msgspec import Struct

from holdfast import CapabilityRef, Event, Registry, UnknownSession
from holdfast.charter import book_of
from holdfast.cli.agentfile import read_agent
from holdfast.cli.place import Place, db_option, find, log_of, reading
from holdfast.cli.rulefile import read_rules
from holdfast.cli.text import count, one_line
from holdfast.events import (
    AskAnswered,
    AskOpened,
    HookDecided,
    OutputMessageCompleted,
    PolicyDecided,
    ToolCompleted,
)
from holdfast.rulebook import RuleBook

DIFFERS = 1
"""The exit code when rules would have decided differently."""


class Trial(Struct, kw_only=True):
    """One call, what the rules say of it, and what was really decided."""

    call_id: str
    name: str
    arguments: str
    decision: str = "allow"
    rule: str = ""
    reason: str = ""
    really: str = "allow"
    """`allow`, `deny`, `ask`, or `-` for a call that came to nothing before anybody decided."""
    by: str = ""
    """Who decided so: a rule, policy, hook or person."""
    status: str = ""
    """The outcome."""

    @property
    def differs(self) -> bool:
        """Whether the rules decide otherwise."""
        return self.really != "-" and self.decision != self.really


@click.group()
def policy() -> None:
    """Try rules before they decide anything."""


@policy.command()
@click.argument("rules", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("session", default="last")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per call.")
@db_option
def test(rules: Path, session: str, as_json: bool, db: Place) -> None:
    """Show what RULES would have said to each call of a session.

    RULES is a TOML or JSON file, or an agent file (.md). SESSION is the latest when not given. Nothing is run and
    nothing written. Exit code 0: they decide as was decided then; 1: some call would be decided otherwise; 2: the rules
    or the session cannot be read.
    """
    given = read_agent(rules).layers[0].config.rules if rules.suffix == ".md" else read_rules(rules).rules
    files = Registry().capability(CapabilityRef(name="files"))
    book = book_of(given, {tool.name for tool in files.tools})
    trials = try_out(asyncio.run(_events(db, session)), book)
    if as_json:
        for trial in trials:
            click.echo(msgspec.json.encode({**msgspec.to_builtins(trial), "differs": trial.differs}))
    else:
        _show(trials, {rule.id for rule in given})
    if any(trial.differs for trial in trials):
        click.get_current_context().exit(DIFFERS)


async def _events(db: Place, name: str) -> list[Event]:
    async with reading(db) as runtime:
        session_id = await find(runtime, name)
        events = [event async for event in log_of(runtime.store, session_id)]
        if not events:
            raise UnknownSession(f"session {session_id} is gone")
        return events


def try_out(events: Iterable[Event], book: RuleBook) -> list[Trial]:
    """Each call of this log, with what the rules say of the arguments that were last decided about."""
    trials: dict[str, Trial] = {}
    asks: dict[str, str] = {}
    for event in events:
        if isinstance(event.data, OutputMessageCompleted):
            for call in event.data.message.calls:
                trials[call.id] = Trial(call_id=call.id, name=call.name, arguments=call.arguments or "{}")
        else:
            _take_in(event.data, trials, asks)
    for trial in trials.values():
        if (said := book.decide("tool", trial.name, trial.arguments)) is not None:
            trial.decision, trial.rule, trial.reason = said.decision, said.rule, said.reason
    return list(trials.values())


def _take_in(fact: object, trials: dict[str, Trial], asks: dict[str, str]) -> None:
    match fact:
        case PolicyDecided(call_id=call_id) | HookDecided(call_id=call_id) if call_id in trials:
            _decided(fact, trials[call_id])
        case AskOpened(call_id=call_id) if call_id in trials:
            asks[fact.ask_id] = call_id
            trials[call_id].really, trials[call_id].arguments = "ask", fact.arguments
        case AskAnswered(ask_id=ask_id) if ask_id in asks:
            trials[asks[ask_id]].by = f"{fact.verdict} by {fact.by}"
        case ToolCompleted(result=result) if result.call_id in trials:
            trial = trials[result.call_id]
            trial.status = result.status
            if trial.really == "allow" and not fact.attempt:
                trial.really = "-"


def _decided(fact: PolicyDecided | HookDecided, trial: Trial) -> None:
    who = (fact.rule or fact.policy) if isinstance(fact, PolicyDecided) else fact.hook
    if fact.arguments is not None:
        trial.arguments = fact.arguments
    if fact.decision in ("deny", "interrupt", "ask"):
        trial.really, trial.by = ("ask" if fact.decision == "ask" else "deny"), who


def _show(trials: list[Trial], rules: set[str]) -> None:
    head = ("call", "arguments", "rules say", "rule", "was decided", "outcome")
    rows = [head, *(_row(trial) for trial in trials)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(head))]
    for row in rows:
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    differing = sum(trial.differs for trial in trials)
    click.echo(f"{count(len(trials), 'call')}, {differing} decided otherwise")
    if idle := sorted(rules - {trial.rule for trial in trials}):
        click.echo(f"decided nothing here: {', '.join(idle)}")


def _row(trial: Trial) -> tuple[str, ...]:
    really = f"{trial.really} ({trial.by})" if trial.by else trial.really
    return (
        one_line(trial.name, 30),
        one_line(trial.arguments, 40),
        trial.decision + ("  !" if trial.differs else ""),
        trial.rule or "-",
        one_line(really, 40),
        trial.status or "-",
    )
