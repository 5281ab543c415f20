"""Run control: a turn's snapshot, its terminal event and its status agree, whoever drives it."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from holdfast import Agent, AgentUnavailable, Runtime, UsageError, tool
from holdfast.drivers.sim import Sim, call, fail, say
from holdfast.errors import (
    ConfigError,
    InputRejected,
    OutputTypeError,
    RuntimeClosed,
    UnknownModel,
    UnknownTurn,
)
from holdfast.events import TURN_ENDS
from holdfast.ids import new_id
from holdfast.store import Store
from holdfast.stores.memory import MemoryStore
from holdfast.stores.sqlite import SQLiteStore
from tests.conftest import ROOT
from tests.talking_process import AGENT
from tests.turn.scenes import agent_of


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store of each kind."""
    return MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "log.db")


async def test_a_turn_that_ended_is_described_by_its_log(store: Store) -> None:
    async with Runtime(store) as runtime:
        session = await runtime.session(agent_of(say("one"), say("two")))
        turn = await session.send("a")
        result = await turn
        later = await session.send("b")
        await later
        shot, end = await turn.snapshot(), await turn.terminal()
        assert end is not None
        assert (shot.status, shot.stop, shot.terminal) == ("completed", "end_turn", end)
        assert (shot.iterations, shot.usage) == (result.iterations, result.usage)
        assert shot.started_at is not None
        assert shot.manifest.startswith("sha256:")
        assert [event for event in await session.events() if event.type in TURN_ENDS] == [
            end,
            await later.terminal(),
        ]


async def test_a_turn_that_waits_and_one_behind_it_are_described(store: Store) -> None:
    @tool(ask=True)
    async def pay() -> str:
        """Pay."""
        return "paid"

    async with Runtime(store) as runtime:
        session = await runtime.session(agent_of(call("pay"), say("done"), say("next"), tools=[pay]))
        turn = await session.send("go")
        await turn
        behind = await session.send("next")
        await behind
        shot, queued = await turn.snapshot(), await behind.snapshot()
        assert (shot.status, len(shot.asks), shot.terminal, shot.stop) == ("waiting", 1, None, None)
        assert (queued.status, queued.asks, queued.started_at) == ("queued", (), None)
        assert await turn.terminal() is None
        result = await behind.cancel("not needed")
        assert (result.status, (await behind.snapshot()).status) == ("cancelled", "cancelled")
        assert (await turn.cancel()).status == "cancelled"
        end = await turn.terminal()
        assert end is not None
        assert end.type == "turn.cancelled"


async def test_a_turn_that_failed_says_why(store: Store) -> None:
    async with Runtime(store) as runtime:
        session = await runtime.session(agent_of(fail("invalid_request", "no such thing")))
        turn = await session.send("a")
        result = await turn
        shot = await turn.snapshot()
        assert (shot.status, shot.stop, shot.error) == ("failed", "error", result.error)


async def test_a_turn_that_nobody_knows_is_an_error(store: Store) -> None:
    async with Runtime(store) as runtime:
        session = await runtime.session(agent_of(say("one")))
        await session.run("a")
        stranger = session.handle(new_id("turn"))
        for asked in (stranger.snapshot(), stranger.terminal()):
            with pytest.raises(UnknownTurn):
                await asked


async def test_what_a_wait_answers_is_on_the_log_when_it_answers(store: Store) -> None:
    async with Runtime(store) as runtime:
        session = await runtime.session(agent_of(*[say(f"{n}") for n in range(20)]))
        for number in range(20):
            turn = await session.send(f"{number}")
            result = await turn
            end = await turn.terminal()
            assert end is not None
            assert (end.type, turn.status) == (f"turn.{result.status}", result.status)


async def test_nothing_is_recorded_before_what_a_turn_needs_is_there(store: Store) -> None:
    async with Runtime(store) as runtime:
        session = await runtime.session(agent_of(say("one")))
        await session.run("a")
        before = await session.events()
        broken = await runtime.open(session.id)
        assert broken.id == session.id
        with pytest.raises((ConfigError, UnknownModel)):
            await runtime.session(Agent("x", model="nobody/nothing"))
        assert await session.events() == before
        assert len(await runtime.sessions()) == 1


async def test_checks_come_in_their_order_and_none_has_an_effect_before_all_pass(store: Store) -> None:
    agent = Agent("x", name="clerk", model=Sim.always(say("done")))
    runtime = Runtime(store)
    async with runtime:
        session = await runtime.session(agent)
        await session.run("a")
        before = await session.events()
        await runtime.archive(agent)
        wrong: tuple[tuple[type[UsageError], Any], ...] = (
            (AgentUnavailable, object()),
            (OutputTypeError, object()),
            (InputRejected, int),
        )
        for error, output in wrong:
            with pytest.raises(error):
                await session.send("  ", output=output)
            assert await session.events() == before
            assert session.turn is None
            await runtime.restore(agent)
        assert (await session.run("b")).status == "completed"
    with pytest.raises(RuntimeClosed):
        await session.send("  ", output=object())


async def test_a_session_that_another_process_works_on_is_up_to_date_after_refresh(tmp_path: Path) -> None:
    database = tmp_path / "log.db"
    async with Runtime(database) as runtime:
        session = await runtime.session(AGENT)
        await session.run("zero")
        session_id = session.id
    async with Runtime(database) as runtime:
        watching = await runtime.open(session_id, read_only=True)
        command = [sys.executable, "-m", "tests.talking_process", str(database), session_id, "one"]
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other:
            await asyncio.to_thread(other.communicate, "\n")
        assert watching.state.sequence == 5
        state = await watching.refresh()
        assert (state.sequence, watching.state.sequence) == (9, 9)
        last = state.outcome
        assert last is not None
        shot = await watching.handle(last.turn_id).snapshot()
        assert (shot.status, shot.sequence) == ("completed", 9)
