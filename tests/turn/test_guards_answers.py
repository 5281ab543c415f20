"""Results that clients hand in: what guards make of them is on the log with the answer, whoever records it."""

import asyncio
import base64
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast import Agent, Event, Runtime, Session, tool
from holdfast.config import Config
from holdfast.drivers.sim import Sim, calls, say
from holdfast.errors import AskClosed, UnknownAsk
from holdfast.events import AskAnswered, GuardDecided
from holdfast.guard import Guard
from holdfast.messages import Image, Text
from holdfast.stores.memory import MemoryStore
from holdfast.testing.client import Client
from holdfast.testing.crash_scene import Play, Scene
from holdfast.testing.watched import Watch
from tests.test_media import png
from tests.turn.scenes import assert_sound, results, session_with

CANARY = "zanzibar"
OUT = Guard(id="out", where="tool_output", expressions=("z[a]nzibar",), action="redact")


@tool(client=True)
async def locate() -> Any:
    """Where the user is."""
    raise AssertionError("it is carried out in the browser")


def agent_of(*wanted: tuple[str, Any], tools: Sequence[Any] = (), guard: Guard = OUT) -> Agent:
    board = Sim.storyboard(calls(*(wanted or (("locate", {}),))), say("Done."))
    config = Config(guards=(guard,))
    return Agent("Help.", name="helper", model=board, tools=[locate, *tools], config=config)


def decided(events: Sequence[Event]) -> list[str]:
    return [event.data.action for event in events if isinstance(event.data, GuardDecided)]


def holds(events: Sequence[Event]) -> bool:
    return any(CANARY in msgspec.json.encode(event).decode() for event in events)


async def answering(session: Session) -> None:
    """Go on with whatever there is, and hand in what a client is asked for."""
    turn = session.turn or (None if session.state.outcome else await session.send("go", key="go"))
    while turn is not None and (await turn).status == "waiting":
        for ask in session.asks:
            with suppress(UnknownAsk):
                await session.submit(ask.ask_id, f"in {CANARY}", by="browser", key=ask.ask_id)


def test_killed_anywhere_an_answer_stands_with_what_guards_made_of_it() -> None:
    play = Play(
        make_agent=agent_of,
        make_client=lambda: Client(answering, None),
        make_watch=partial(Watch, None),
        services=None,
        seed=0,
    )
    for kill in range(Scene(play).crossed + 1):
        scene = Scene(play, (kill,) if kill else ())
        (events,) = scene.logs.values()
        assert decided(events) == ["redact"], f"after {scene.killed}"
        assert not holds(events)
        assert_sound(events)


async def test_what_guards_made_of_an_answer_reaches_the_process_that_it_was_left_for(tmp_path: Path) -> None:
    gate = asyncio.Event()

    @tool(effect="once")
    async def wait() -> str:
        """Wait."""
        await gate.wait()
        return "waited"

    worker = agent_of(("wait", {}), ("locate", {}), tools=[wait])
    path = tmp_path / "log.db"
    async with Runtime(path, agents=[worker]) as one, Runtime(path, agents=[worker]) as other:
        mine = await one.session(worker)
        turn = await mine.send("go")
        async for event in mine.follow():
            if event.type == "tool.started":
                break
        theirs = await other.open(mine.id)
        (ask,) = theirs.asks
        await theirs.submit(ask.ask_id, f"in {CANARY}", by="browser")
        assert not holds([it.event for it in await other.store.letters(mine.id)])
        gate.set()
        async with asyncio.timeout(10):
            while (await turn).status == "waiting":  # noqa: ASYNC110 - the letter is on its way
                await asyncio.sleep(0.05)
        events = await mine.events()
    assert [it.text for it in results(events)] == ["waited", "in [removed]"]
    assert decided(events) == ["redact"]
    assert not holds(events)
    assert_sound(events)


def guard_that(action: Any) -> Guard:
    return Guard(id="out", where="tool_output", expressions=("z[a]nzibar",), action=action)


@pytest.mark.parametrize("action", ["redact", "block", "log"])
async def test_the_same_result_handed_in_again_is_harmless_although_guards_changed_it(action: Any) -> None:
    async with session_with(agent_of(guard=guard_that(action))) as session:
        (ask,) = (await session.run("go")).asks
        for _ in range(2):
            await session.submit(ask.ask_id, f"in {CANARY}", by="browser", key="k1")
        for other in ({"by": "bob"}, {"key": "k2"}):
            with pytest.raises(AskClosed):
                await session.submit(ask.ask_id, f"in {CANARY}", **{"by": "browser", "key": "k1", **other})
        events = await session.events()
    answers = [event.data for event in events if isinstance(event.data, AskAnswered)]
    assert len(answers) == 1
    assert holds(events) is (action == "log")


@pytest.mark.parametrize("action", ["block", "log"])
async def test_a_picture_in_a_result_that_is_withheld_is_kept_nowhere(action: Any) -> None:
    data = png(30, 20) + b"pixels of it"
    picture = Image(url=f"data:image/png;base64,{base64.b64encode(data).decode()}")
    store = MemoryStore()
    async with session_with(agent_of(guard=guard_that(action)), store) as session:
        turn = await session.send("go")
        (ask,) = (await turn).asks
        await session.submit(ask.ask_id, [Text(text=f"in {CANARY}"), picture], by="browser")
        assert (await turn).status == "completed"
        (result,) = results(await session.events())
    assert result.text.startswith("[Withheld" if action == "block" else "in ")
    assert ("pixels of it" in repr(vars(store))) is (action == "log")
