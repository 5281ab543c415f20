"""Guards: what they keep back of a message is seen by nobody, though the process dies over it."""

import asyncio
from typing import Any

import msgspec
import pytest

from holdfast import Agent, Event, Guard, Runtime, TextDelta
from holdfast.drivers.sim import say
from holdfast.events import OutputMessageReplaced, OutputMessageShown
from holdfast.turn import watch
from tests.failure_model.agents import agent_of, agent_with
from tests.failure_model.world import INPUT, PATIENCE, Aftermath, Model, World, rest, until

CANARY = "zanzibar"
STORY = "Once upon a time there was a long story that somebody told. " * 3
TRIPS = (
    "after output.message.shown",
    "before output.message.replaced",
    "after output.message.replaced",
    "before guard.decided",
    "after guard.decided",
)
"""Where a process dies: with words out and nothing found, at the trip, and as the reply is withheld."""


@pytest.fixture(autouse=True)
def _words_are_kept_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "KEPT_WITHIN", 0.001)
    monkeypatch.setattr(watch, "KEPT_AT_LAST", 0.001)


def talker(*, retries: int = 0) -> Agent:
    """An agent that says what it must not, after some words that it may."""
    step = say(f"{STORY}Then came {CANARY}. {STORY}", pace=0.001)
    return agent_of(step, *[step] * retries, "Next.", guards=(guard(retries),))


def guard(retries: int = 0) -> Guard:
    """What it must not say, which is not among what is kept of the guard."""
    return Guard(id="tone", expressions=("z[a]nzibar",), answer="No comment.", retries=retries)


async def watched(runtime: Runtime, agent: Agent, seen: list[Any]) -> None:
    """An application that shows its reader everything it gets, from the log on."""
    heads = await runtime.sessions()
    session = await runtime.open(heads[0].session_id, agent) if heads else await runtime.session(agent)
    turn = await session.send(INPUT, key=INPUT)
    async with asyncio.timeout(PATIENCE):
        async for item in turn:
            seen.append(item)
    await rest(session)


def holds(items: list[Any], text: str = "zan") -> bool:
    said = "".join(item.text for item in items if isinstance(item, TextDelta))
    return text in said or any(text in msgspec.json.encode(item).decode() for item in items)


def check_void(events: list[Event]) -> None:
    """Whatever was shown is void."""
    shown = {event.data.message_id for event in events if isinstance(event.data, OutputMessageShown)}
    void = {event.data.message_id for event in events if isinstance(event.data, OutputMessageReplaced)}
    assert shown
    assert shown <= void


def after_manifest(after: Aftermath) -> list[Event]:
    return [event for event in after.events if event.type != "session.created"]


@pytest.mark.parametrize("place", TRIPS)
async def test_cp23_a_recovered_turn_never_shows_what_was_blocked_and_the_words_before_it_are_void(
    world: World, place: str
) -> None:
    agent = talker()
    first: list[Any] = []
    await world.kill(place, agent, lambda runtime: watched(runtime, agent, first))
    second: list[Any] = []
    async with world.runtime(agent) as runtime:
        await watched(runtime, agent, second)
        (head,) = await runtime.sessions()
        after = await world.look_at(await runtime.open(head.session_id))
    assert any(isinstance(item, TextDelta) for item in first), "some of it was out already"
    assert not holds(first)
    assert not holds(second)
    assert not holds(after_manifest(after))
    check_void(after.events)
    assert after.outcome is not None
    assert (after.text, after.outcome.stop) == ("No comment.", "refusal")
    assert [message.text for message in after.messages] == [INPUT, "No comment."]
    assert after.kinds.count("guard.decided") == 1


async def test_cp23_a_reply_that_is_asked_for_again_is_withheld_as_often_as_the_guard_says(
    world: World,
) -> None:
    agent = talker(retries=1)
    await world.kill("after guard.decided", agent)
    await world.kill("after output.message.shown", agent)
    after = await world.go_on(agent)
    assert not holds(after_manifest(after))
    check_void(after.events)
    assert (after.text, after.kinds.count("guard.decided")) == ("No comment.", 2)


@pytest.mark.parametrize("place", TRIPS[:4])
async def test_cp23_of_a_turn_that_was_cut_off_at_the_trip_and_cancelled_nothing_blocked_is_kept(
    world: World, place: str
) -> None:
    await world.kill(place, talker())
    wait = [60.0]
    quiet = agent_with(Model.rule(lambda request: say("Next.", delay=wait[0])), guards=(guard(),))
    async with world.runtime(quiet) as runtime:
        (head,) = await runtime.sessions()
        session = await runtime.open(head.session_id)
        assert session.turn is not None
        assert (await session.turn.cancel("enough")).status == "cancelled"
        wait[0] = 0.0
        assert (await session.run("And now?")).status == "completed"
        after = await world.look_at(session)
    assert not holds(after_manifest(after))
    assert STORY.startswith(after.messages[1].text[:100]) or after.messages[1].role == "user"


async def test_cp23_a_reader_elsewhere_sees_the_words_and_that_they_are_void_and_nothing_of_the_rest(
    world: World,
) -> None:
    agent = talker()
    seen: list[Any] = []
    async with world.runtime(agent) as one, world.runtime(agent) as other:
        session = await one.session(agent)
        turn = await session.send(INPUT, key=INPUT)
        theirs = await other.open(session.id, read_only=True)

        async def follow() -> None:
            async for event in theirs.follow():
                seen.append(event)

        following = asyncio.ensure_future(follow())
        assert (await turn).text == "No comment."
        last = (await session.events())[-1]
        await until(lambda: last in seen)
        following.cancel()
        await asyncio.wait([following])
        assert await session.events() == seen
    assert not holds([event for event in seen if event.type != "session.created"])
    check_void(seen)
