"""Whether what is left after the deaths is what was promised: the log against the world outside."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg

from holdfast import Event, SQLiteStore
from holdfast.errors import SessionHeld
from holdfast.events import (
    TURN_ENDS,
    FileWritten,
    InputMessage,
    OutputMessageCompleted,
    SessionCreated,
    ToolCompleted,
    ToolStarted,
    TurnRecovered,
)
from holdfast.messages import ToolCall, ToolResult
from holdfast.store import Store, digest_of
from holdfast.testing import problems_in
from holdfast.writer import Writer, claim
from tests.crash.lives import store_at
from tests.crash.scenarios import Scenario
from tests.crash.world import Fuse, Line, World

THE_JUDGE = Writer(name="the judge", lease=0.0)


@dataclass
class Findings:
    """What is wrong, and how much there was to look at."""

    problems: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


async def judge(scenario: Scenario, place: Path, url: str, deaths: int) -> Findings:
    """Look at everything that one case left. The database stays as it is, but for the claims that prove it free."""
    found = Findings()
    world = World(place)
    store = store_at(place, url, Fuse())
    await store.open()
    try:
        logs = [await _log(store, head.session_id) for head in await store.sessions(limit=1_000)]
        titles = Counter(_title(events) for events in logs)
        wanted = {f"session {number}": 1 for number in range(scenario.sessions)}
        if titles != wanted:
            found.problems.append(f"there are the sessions {dict(titles)} where {wanted} belong")
        for events in logs:
            found.counts["events"] += len(events)
            found.problems += problems_in(events)
            found.problems += _inputs(scenario, events, world)
            _calls(found, scenario, events, world, deaths)
            found.problems += _files(scenario, events)
        found.problems += _strangers(logs, world)
        found.problems += await _left_over(store, logs)
        found.counts["sessions"] = len(logs)
        found.counts["parked"] = len(world.lines("parked"))
    finally:
        await store.close()
    if url:
        await _remove(url, place.name)
    return found


async def _remove(url: str, schema: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(f"SET client_min_messages = error; DROP SCHEMA {schema} CASCADE")
    await connection.close()


async def _log(store: Store, session_id: str) -> list[Event]:
    events: list[Event] = []
    while page := await store.read(session_id, after=len(events)):
        events += page
    return events


def _title(events: Sequence[Event]) -> str:
    first = events[0].data
    return first.title if isinstance(first, SessionCreated) else ""


def _inputs(scenario: Scenario, events: Sequence[Event], world: World) -> Iterator[str]:
    """Every input that was acknowledged is there as it was acknowledged, and ended as its client was told."""
    title = _title(events)
    inputs = {event.data.key: event.data.turn_id for event in events if isinstance(event.data, InputMessage)}
    wanted = {f"input {place}" for place in range(len(scenario.inputs))} | (
        {"steer"} if scenario.steer else set()
    )
    if inputs.keys() != wanted:
        yield f"{title} holds the inputs {sorted(inputs)} where {sorted(wanted)} belong"
    for line in world.lines("accepted"):
        if line.session == title and inputs.get(line.label) != line.turn:
            yield f"{line.label!r} was accepted as {line.turn}, and the log has {inputs.get(line.label)}"
    ends = {event.context.turn_id: event.type for event in events if event.type in TURN_ENDS}
    yield from (f"{turn} ended as {end}" for turn, end in ends.items() if end not in scenario.ends)
    for line in world.lines("told"):
        if line.session == title and ends.get(line.turn) != f"turn.{line.status}":
            yield f"{line.turn} was told as {line.status}, and the log says {ends.get(line.turn)}"


@dataclass
class _Story:
    """Everything about one call."""

    call: ToolCall
    turn_id: str
    claims: list[ToolStarted] = field(default_factory=list)
    result: ToolResult | None = None
    cut: bool = False
    """Whether a writer was cut off while the call was under way."""
    runs: list[Line] = field(default_factory=list)
    effects: list[Line] = field(default_factory=list)

    @property
    def effect(self) -> str:
        return self.claims[-1].effect if self.claims else ""

    @property
    def under_way(self) -> bool:
        return self.result is None and bool(self.claims) and self.claims[-1].dispatched


def _stories(events: Sequence[Event], world: World) -> dict[str, _Story]:
    stories: dict[str, _Story] = {}
    for event in events:
        match event.data:
            case OutputMessageCompleted(message=message):
                stories |= {call.id: _Story(call, event.context.turn_id) for call in message.calls}
            case ToolStarted(call_id=call_id) as claim:
                stories[call_id].claims.append(claim)
            case ToolCompleted(result=result):
                stories[result.call_id].result = result
            case TurnRecovered():
                for story in stories.values():
                    story.cut = story.cut or story.under_way
    for call_id, story in stories.items():
        story.runs += [line for line in world.lines("run") if line.call == call_id]
        story.effects += [line for line in world.lines("effect") if line.call == call_id]
    return stories


def _calls(found: Findings, scenario: Scenario, events: Sequence[Event], world: World, deaths: int) -> None:
    stories = _stories(events, world)
    if scenario.calls not in (-1, len(stories)):
        found.problems.append(f"the model asked for {len(stories)} calls instead of {scenario.calls}")
    cancelled = {event.context.turn_id for event in events if event.type == "turn.cancelled"}
    for story in stories.values():
        who = f"{story.call.name} {story.call.id} [{story.effect or 'never claimed'}]"
        told = _told(story, stopped=story.turn_id in cancelled)
        found.problems += [f"{who} {what}" for what in (*_ran(story, deaths), *told)]
        found.counts["calls"] += 1
        found.counts["effects"] += len(story.effects)
        found.counts["ran again"] += len(story.runs) > 1
        if story.result is not None and story.result.status == "in_doubt":
            found.counts["in doubt"] += 1
            found.counts["in doubt, and done"] += bool(story.effects)


def _ran(story: _Story, deaths: int) -> Iterator[str]:
    """What is wrong with how often it ran, and what it did."""
    if story.runs and not story.claims:
        yield "ran without a claim"
    if len(story.runs) > deaths + 1:
        yield f"ran {len(story.runs)} times, with {deaths} deaths"
    if story.effect == "once" and len(story.runs) > 1:
        yield f"ran {len(story.runs)} times"
    if len(story.effects) > 1:
        yield f"took effect {len(story.effects)} times"
    if len({line.key for line in story.runs}) > 1:
        yield "ran under several keys"


def _told(story: _Story, *, stopped: bool) -> Iterator[str]:
    """What is wrong with its outcome: `in_doubt` belongs exactly where an effect may have happened."""
    result = story.result
    if result is None:
        return  # problems_in says so
    in_doubt = result.status == "in_doubt"
    ours = story.call.name not in ("write_file", "edit_file")
    if result.status == "ok" and story.effect != "pure" and ours and not story.effects:
        yield "is told as done, and never took effect"
    if result.status in ("denied", "cancelled") and story.effects:
        yield f"took effect, and is told as {result.status}"
    if in_doubt and story.effect != "once":
        yield "is told as in doubt, although it could have been run again or asked about"
    if in_doubt and not story.claims:
        yield "is told as in doubt, and was never claimed"
    if in_doubt and not story.cut and not stopped:
        yield "is told as in doubt, and was never cut off"
    if story.effect == "once" and story.cut and not in_doubt:
        yield f"was cut off, and is told as {result.status}"


def _files(scenario: Scenario, events: Sequence[Event]) -> Iterator[str]:
    files = {event.data.path: event.data.digest for event in events if isinstance(event.data, FileWritten)}
    wanted = {path: digest_of(text.encode()) for path, text in scenario.files.items()}
    if files != wanted:
        yield f"the workspace holds {sorted(files)}, or not as it was written"


def _strangers(logs: Sequence[Sequence[Event]], world: World) -> Iterator[str]:
    """Effects that no log knows of, and the same one under two calls."""
    calls = {
        call.id
        for events in logs
        for event in events
        if isinstance(event.data, OutputMessageCompleted)
        for call in event.data.message.calls
    }
    times: defaultdict[tuple[str, str], int] = defaultdict(int)
    for line in world.lines("effect"):
        times[line.session, line.label] += 1
        if line.call not in calls:
            yield f"{line.label!r} took effect for {line.call}, of which no log knows"
    yield from (
        f"{label!r} of {session} took effect {n} times" for (session, label), n in times.items() if n > 1
    )


async def _left_over(store: Store, logs: Sequence[Sequence[Event]]) -> list[str]:
    """Orphans: what is due and nobody takes, a lease without an owner, a letter nobody read, damage in the file."""
    found = [f"{it} is still due" for it in await store.due(datetime.now(UTC) + timedelta(days=1))]
    for events in logs:
        session_id = events[0].session_id
        try:
            await claim(store, session_id, THE_JUDGE)  # as the next process would, which sees who is dead
        except SessionHeld as held:
            found.append(f"{session_id} is still held by {held.owner}")
        found += [
            f"letter {it.number} to {session_id} was never read" for it in await store.letters(session_id)
        ]
    if isinstance(store, SQLiteStore):
        found += [f"{it.kind} at {it.where}: {it.message}" for it in await store.check()]
    return found


def judged(scenario: Scenario, place: Path, url: str, deaths: int) -> Findings:
    """`judge`, on an event loop of its own."""
    return asyncio.run(judge(scenario, place, url, deaths))
