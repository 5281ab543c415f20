"""Every rule about logs finds the log that breaks it, and nothing in a sound one."""

import asyncio
from collections.abc import Callable

import pytest
from msgspec import structs

from holdfast import Agent, Event, Limits, Request, Runtime, tool
from holdfast.drivers.sim import Sim, Step, calls, say
from holdfast.events import AskAnswered, Fact, OutputMessageCompleted, ToolStarted, TurnRecovered
from holdfast.facts.compaction import ContextCompacted
from holdfast.testing import ScriptedApprover, VirtualClock, approve, problems_in

Log = list[Event]


@tool(effect="idempotent")
async def book(seat: int) -> str:
    """Book."""
    return f"booked {seat}"


@tool(ask=True)
async def tell() -> str:
    """Tell."""
    return "told"


MODEL = Sim.storyboard(calls(("book", {"seat": 1}), ("tell", {})), "Done.")


@pytest.fixture
async def log() -> Log:
    """One turn with two calls, one of them asked about."""
    async with Runtime(clock=VirtualClock()) as runtime:
        session = await runtime.session(Agent(model=MODEL, tools=[book, tell]))
        assert (await session.run("Do it.", key="one")).status == "waiting"
        assert problems_in(await session.events()) == []  # it waits for somebody, visibly
        turn = session.turn
        assert turn is not None
        await ScriptedApprover(approve()).answer(session)
        await turn
        return await session.events()


def places(log: Log, kind: str) -> list[int]:
    """Where events of this type stand."""
    return [place for place, event in enumerate(log) if event.type == kind]


def renumbered(log: Log) -> Log:
    """The same events, numbered from 1."""
    return [structs.replace(event, sequence=number) for number, event in enumerate(log, 1)]


def without(kind: str) -> Callable[[Log], Log]:
    """Leave out the first event of this type."""
    return lambda log: renumbered([event for event in log if event is not log[places(log, kind)[0]]])


def twice(kind: str) -> Callable[[Log], Log]:
    """Have the last event of this type twice in a row."""

    def change(log: Log) -> Log:
        place = places(log, kind)[-1]
        return renumbered([*log[: place + 1], *log[place:]])

    return change


def earlier(kind: str) -> Callable[[Log], Log]:
    """Have the first event of this type as the second of all."""

    def change(log: Log) -> Log:
        moved = log[places(log, kind)[0]]
        return renumbered([log[0], moved, *[event for event in log[1:] if event is not moved]])

    return change


def changed(kind: type[Fact], **fields: object) -> Callable[[Log], Log]:
    """Change the last fact of this kind."""

    def change(log: Log) -> Log:
        place = places(log, kind.kind)[-1]
        fact = structs.replace(log[place].data, **fields)
        return [*log[:place], structs.replace(log[place], data=fact), *log[place + 1 :]]

    return change


def gap(log: Log) -> Log:
    return [*log[:3], *log[4:]]


def claimed_again(log: Log) -> Log:
    claim = log[places(log, "tool.started")[-1]]
    assert isinstance(claim.data, ToolStarted)
    again = structs.replace(claim, data=structs.replace(claim.data, attempt=claim.data.attempt + 1))
    return renumbered([*log, again])


def claimed_for_other_arguments(log: Log) -> Log:
    place = places(log, "tool.started")[-1]
    claim = log[place].data
    assert isinstance(claim, ToolStarted)
    other = structs.replace(claim, attempt=claim.attempt + 1, arguments_digest="sha256:other")
    return renumbered([*log[: place + 1], structs.replace(log[place], data=other), *log[place + 1 :]])


def answered_in_two_messages(log: Log) -> Log:
    """A reply whose calls stand in the log a second time, under the ids they had."""
    place = places(log, "output.message.completed")[0]
    return renumbered([*log[: place + 1], log[place], *log[place + 1 :]])


def with_an_empty_reply(log: Log) -> Log:
    place = places(log, "output.message.completed")[-1]
    reply = log[place].data
    assert isinstance(reply, OutputMessageCompleted)
    empty = structs.replace(reply, message=structs.replace(reply.message, content=()))
    return [*log[:place], structs.replace(log[place], data=empty), *log[place + 1 :]]


BREAKS: dict[str, tuple[Callable[[Log], Log], str]] = {
    "a gap": (gap, "event 5 stands where event 4 belongs"),
    "an input accepted twice": (twice("input.message"), "key 'one' was accepted 2 times"),
    "an end lost": (without("turn.completed"), "was accepted and did not end"),
    "two ends": (twice("turn.completed"), "ended 2 times"),
    "two beginnings": (twice("turn.started"), "started 2 times"),
    "an end of nothing": (without("input.message"), "ended, and was never accepted"),
    "an outcome lost": (without("tool.completed"), "has no outcome"),
    "two outcomes": (twice("tool.completed"), "has 2 outcomes"),
    "an outcome before its call": (earlier("tool.completed"), "has an outcome, and nobody asked for it"),
    "a claim before its call": (earlier("tool.started"), "was claimed, and nobody asked for it"),
    "a claim that skips an attempt": (changed(ToolStarted, attempt=3), "attempt 3 where attempt 1 was next"),
    "a claim after the outcome": (claimed_again, "was claimed again after its outcome"),
    "a claim of something else": (claimed_for_other_arguments, "with other arguments than before"),
    "calls asked for twice": (answered_in_two_messages, "was asked for twice"),
    "an ask closed twice": (twice("ask.answered"), "was closed 2 times"),
    "an answer to nothing": (without("ask.opened"), "was closed, and never opened"),
    "a call that nobody agreed to": (without("ask.answered"), "was claimed, and its ask is open"),
    "a call that somebody denied": (
        changed(AskAnswered, verdict="denied"),
        "was claimed, and its ask is denied",
    ),
    "an empty reply": (with_an_empty_reply, "the transcript is not valid"),
}


async def test_a_sound_log_has_no_problem(log: Log) -> None:
    assert len(log) > 8
    assert problems_in(log) == []


async def test_no_log_has_no_problem() -> None:
    assert problems_in([]) == []


@pytest.mark.parametrize("what", BREAKS)
async def test_a_broken_log_is_found(what: str, log: Log) -> None:
    change, complaint = BREAKS[what]
    found = problems_in(change(log))
    assert any(complaint in problem for problem in found), found


async def test_an_input_that_came_too_late_to_steer_has_a_turn_of_its_own() -> None:
    model = Sim.storyboard(say("Slow.", delay=1), "Yes.")
    async with Runtime(clock=VirtualClock()) as runtime:
        session = await runtime.session(Agent(model=model, limits=Limits(max_iterations=1)))
        turn = await session.send("Go.")
        await asyncio.sleep(0.5)
        await session.steer("Faster!")
        await turn
        await asyncio.sleep(1)
        events = await session.events()
    assert len(places(events, "turn.completed")) == 2
    assert problems_in(events) == []
    assert any("did not end" in problem for problem in problems_in(events[:-1]))


async def test_a_turn_that_was_cut_off_too_often_waits_for_a_person(log: Log) -> None:
    under_way = log[: places(log, "turn.started")[0] + 1]
    again = [
        structs.replace(under_way[-1], type="turn.recovered", data=TurnRecovered(attempt=attempt))
        for attempt in (1, 2, 3, 4)
    ]
    assert problems_in(renumbered([*under_way, *again])) == []
    assert problems_in(renumbered([*under_way, *again[:3]])) != []


async def test_a_turn_under_way_is_a_problem_only_at_rest(log: Log) -> None:
    under_way = log[: places(log, "ask.opened")[0]]
    assert problems_in(under_way, at_rest=False) == []
    assert any("has no outcome" in problem for problem in problems_in(under_way))
    assert any("did not end" in problem for problem in problems_in(under_way))


async def test_a_call_may_be_claimed_again_after_a_cut_off(log: Log) -> None:
    place = places(log, "tool.started")[0]
    claim = log[place].data
    assert isinstance(claim, ToolStarted)
    again = structs.replace(log[place], data=structs.replace(claim, attempt=2))
    assert problems_in(renumbered([*log[: place + 1], again, *log[place + 1 :]])) == []


async def test_a_summary_that_stands_for_too_much_too_little_or_half_an_exchange_is_found() -> None:
    def choose(request: Request) -> Step | str:
        words = request.messages[-1].text.startswith
        return calls(("book", {"seat": 1})) if words("Book") else "so"

    async with Runtime(clock=VirtualClock()) as runtime:
        session = await runtime.session(Agent(model=Sim.rule(choose), tools=[book]))
        for _ in range(3):
            await session.run("Book a seat. " * 50)
        await session.compact(by="ana")
        await session.run("and now?")
        log = await session.events()
    assert problems_in(log) == []
    (place,) = places(log, "context.compacted")
    fact = log[place].data
    assert isinstance(fact, ContextCompacted)

    def with_covers(covers: int) -> list[str]:
        told = structs.replace(log[place], data=structs.replace(fact, covers=covers))
        return problems_in([*log[:place], told, *log[place + 1 :]], transcript=False)

    assert "separates a result" in with_covers(2)[0]
    assert "covers 0 of" in with_covers(0)[0]
    assert "covers 99 of" in with_covers(99)[0]
