"""Agents and harnesses that are archived or deleted: nothing new begins, and nothing that was begun is lost."""

import asyncio
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from holdfast import (
    Agent,
    AgentUnavailable,
    Harness,
    Runtime,
    SQLiteStore,
    Store,
    TurnResult,
    UsageError,
    sync,
    tool,
)
from holdfast.drivers.sim import Sim, call, calls, say
from holdfast.errors import RosterUnsupported
from holdfast.events import ToolCompleted
from holdfast.stores.memory import MemoryStore
from tests.conftest import ROOT
from tests.timing import VIRTUAL
from tests.turn.scenes import assert_sound, cut_off


class Gate:
    """A tool that begins, and comes back when it may."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.open = asyncio.Event()
        self.runs = 0

    def agent(self, *steps: object) -> Agent:
        """An agent with that tool, and one that must be approved."""

        @tool(effect="once")
        async def work() -> str:
            """Work."""
            self.runs += 1
            self.begun.set()
            await self.open.wait()
            return "worked"

        @tool(effect="once", ask=True)
        async def pay(cents: int) -> str:
            """Pay."""
            self.runs += 1
            return "paid"

        @tool(client=True)
        async def look() -> str:
            """Look with the user's own eyes."""
            raise NotImplementedError

        plan = steps or (call("work"), call("work"), say("Done."))
        return Agent("Work.", name="worker", model=Sim.storyboard(*plan), tools=[work, pay, look])  # type: ignore[arg-type]


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "log.db")


def stopped(result: TurnResult, code: str) -> str:
    """The words with which the turn was stopped."""
    assert result.status == "failed"
    assert result.error is not None
    assert result.error.code == code
    return result.error.message


async def test_an_archived_agent_takes_no_session_and_no_input(store: Store) -> None:
    agent = Agent("Hi.", name="greeter", model=Sim.storyboard(say("Hi."), say("Ho.")))
    async with Runtime(store) as runtime:
        session = await runtime.session(agent)
        turn = await session.send("Hello.", key="one")
        assert (await turn).text == "Hi."
        await runtime.archive(agent, by="ann", reason="moved")
        for refused in (session.send("Again."), session.steer("Again."), runtime.session(agent)):
            with pytest.raises(
                AgentUnavailable, match=r"agent 'greeter' was archived by ann \(moved\)"
            ) as caught:
                await refused
            assert caught.value.listing.status == "archived"
        assert (await session.send("Hello.", key="one")).id == turn.id, (
            "what was accepted before stays accepted"
        )
        (listing,) = await runtime.roster()
        assert (listing.kind, listing.name, listing.by) == ("agent", "greeter", "ann")
        await runtime.restore(agent, by="bob")
        assert (await session.run("Again.")).text == "Ho."
        assert [(it.status, it.by) for it in await runtime.roster()] == [("active", "bob")]


async def test_a_turn_ends_before_its_next_step_and_what_was_started_is_kept(
    store: Store, gate: Gate
) -> None:
    async with Runtime(store) as runtime:
        agent = gate.agent()
        session = await runtime.session(agent)
        turn = await session.send("Begin.")
        await gate.begun.wait()
        await runtime.archive(agent, by="ann")
        gate.open.set()
        text = stopped(await turn, "agent_archived")
        assert text.startswith("Agent 'worker' was archived by ann")
        (outcome,) = [it.data for it in await session.events() if isinstance(it.data, ToolCompleted)]
        assert outcome.result.text == "worked"
        assert gate.runs == 1


async def test_a_harness_below_another_one_blocks_too_and_says_that_it_was_deleted(store: Store) -> None:
    house = Harness("House rules.", name="house")
    desk = Harness("Desk rules.", name="desk", parent=house)
    agent = Agent("Hi.", name="greeter", model=Sim.always(say("Hi.")))
    async with Runtime(store) as runtime:
        session = await runtime.session(agent, harness=desk)
        await runtime.archive(house, deleted=True)
        with pytest.raises(AgentUnavailable, match="harness 'house' was deleted"):
            await session.send("Hello.")
        with pytest.raises(UsageError, match="for good"):
            await runtime.restore(house)
        with pytest.raises(UsageError, match="for good"):
            await runtime.archive(house)
        other = await runtime.session(agent)
        assert (await other.run("Hello.")).text == "Hi."


async def test_an_answer_to_an_archived_agent_runs_nothing(store: Store, gate: Gate) -> None:
    agent = gate.agent(call("pay", cents=5), say("Done."))
    async with Runtime(store) as runtime:
        session = await runtime.session(agent)
        turn = await session.send("Pay.")
        assert (await turn).status == "waiting"
        await runtime.archive(agent)
        await session.approve(session.asks[0].ask_id, by="ann")
        stopped(await turn, "agent_archived")
        assert gate.runs == 0
        assert session.asks == ()


async def test_a_result_that_somebody_handed_in_is_recorded_all_the_same(store: Store, gate: Gate) -> None:
    agent = gate.agent(call("look"), say("Done."))
    async with Runtime(store) as runtime:
        session = await runtime.session(agent)
        turn = await session.send("Look.")
        assert (await turn).status == "waiting"
        await runtime.archive(agent)
        await session.submit(session.asks[0].ask_id, "a cat", by="ann")
        stopped(await turn, "agent_archived")
        (outcome,) = [it.data for it in await session.events() if isinstance(it.data, ToolCompleted)]
        assert (outcome.result.status, outcome.result.text) == ("ok", "a cat")


async def test_while_others_of_the_batch_run_an_answered_call_does_not_begin(
    store: Store, gate: Gate
) -> None:
    agent = gate.agent(calls(("work", {}), ("pay", {"cents": 5})), say("Done."))
    async with Runtime(store) as runtime:
        session = await runtime.session(agent)
        turn = await session.send("Both.")
        await gate.begun.wait()
        async for event in session.follow():
            if event.type == "ask.opened":
                break
        await runtime.archive(agent)
        await session.approve(session.asks[0].ask_id, by="ann")
        await asyncio.sleep(0.05)
        gate.open.set()
        stopped(await turn, "agent_archived")
        outcomes = [it.data.result for it in await session.events() if isinstance(it.data, ToolCompleted)]
        assert {it.name: it.status for it in outcomes} == {"work": "ok", "pay": "cancelled"}
        assert gate.runs == 1


@VIRTUAL
async def test_a_process_at_work_notices_within_a_second_what_another_one_archived(
    tmp_path: Path, gate: Gate
) -> None:
    agent = gate.agent()
    async with Runtime(tmp_path / "log.db") as one, Runtime(tmp_path / "log.db") as other:
        session = await one.session(agent)
        turn = await session.send("Begin.")
        await gate.begun.wait()
        await other.archive(Agent(name="worker"), by="ann")
        await asyncio.sleep(1.0)
        gate.open.set()
        stopped(await turn, "agent_archived")
        with pytest.raises(AgentUnavailable):
            await session.send("Again.")


@VIRTUAL
async def test_a_process_that_rested_notices_before_it_begins_anything(tmp_path: Path) -> None:
    agent = Agent("Hi.", name="greeter", model=Sim.always(say("Hi.")))
    async with Runtime(tmp_path / "log.db") as one, Runtime(tmp_path / "log.db") as other:
        session = await one.session(agent)
        await session.run("Hello.")
        await other.archive(agent)
        await asyncio.sleep(1.0)
        with pytest.raises(AgentUnavailable):
            await session.send("Again.")


async def test_an_input_that_was_accepted_before_is_answered_by_a_failure_that_says_why(store: Store) -> None:
    agent = Agent("Hi.", name="greeter", model=Sim.always(say("Hi.")))
    async with Runtime(store, agents=[agent]) as runtime:
        session = await runtime.session(agent)
        await session.update(title="Durable")
        session_id = session.id
    async with Runtime(store, agents=[agent]) as runtime:
        waiting = await (await runtime.open(session_id, drive=False)).send("Hello.")
    async with Runtime(store, agents=[agent]) as runtime:
        await runtime.archive(agent)
        assert await runtime.drive(session_id) == "failed"
        session = await runtime.open(session_id)
        stopped(await session.handle(waiting.id), "agent_archived")


async def test_what_cannot_be_listed_is_said(store: Store) -> None:
    async with Runtime(store) as runtime:
        for wrong in ("", "a\x00b", "\udc80", "x" * 1_001):
            with pytest.raises(UsageError):
                await runtime.archive(Agent(name=wrong))
        with pytest.raises(UsageError, match="no Agent and no Harness"):
            await runtime.archive("greeter")  # type: ignore[arg-type]
        with pytest.raises(UsageError):
            await runtime.archive(Agent(name="a"), reason="\udc80")
        with pytest.raises(UsageError, match="by of a listing is None; it must be text"):
            await runtime.archive(Agent(name="a"), by=None)  # type: ignore[arg-type]
        assert await runtime.roster() == []


async def test_what_has_no_name_of_its_own_cannot_be_archived(store: Store) -> None:
    unnamed = Agent("Hi.", model=Sim.always(say("Hi.")))
    async with Runtime(store) as runtime:
        for it, kind in ((unnamed, "agent"), (Agent(name="agent"), "agent"), (Harness("x"), "harness")):
            with pytest.raises(UsageError, match=f"every {kind} without a name of its own"):
                await runtime.archive(it)
            with pytest.raises(UsageError):
                await runtime.restore(it)
        assert await runtime.roster() == []
        assert (await (await runtime.session(unnamed)).run("Hello")).status == "completed"


class Plain:
    """A store of somebody else's, without a roster."""

    def __init__(self) -> None:
        self._store = MemoryStore()

    def __getattr__(self, name: str) -> object:
        if name in ("enlist", "roster"):
            raise AttributeError(name)
        return getattr(self._store, name)


async def test_a_store_without_a_roster_works_and_says_that_it_has_none() -> None:
    agent = Agent("Hi.", name="greeter", model=Sim.always(say("Hi.")))
    store: Store = Plain()  # type: ignore[assignment]
    async with Runtime(store) as runtime:
        assert (await (await runtime.session(agent)).run("Hello.")).text == "Hi."
        with pytest.raises(RosterUnsupported, match="Plain keeps no roster"):
            await runtime.archive(agent)


class Counting(MemoryStore):
    """Counts how often the roster is read."""

    reads = 0

    async def roster(self) -> list:  # type: ignore[type-arg]
        """See `Rostering.roster`."""
        self.reads += 1
        return await super().roster()


async def test_where_nobody_archives_anything_many_turns_read_the_roster_hardly_ever() -> None:
    store, began = Counting(), time.monotonic()
    async with Runtime(store) as runtime:
        session = await runtime.session(Agent("Hi.", model=Sim.always(say("Hi."))))
        for _ in range(200):
            await session.run("Hello.")
    assert store.reads <= 2 + (time.monotonic() - began) / 0.4


PROGRAM = """
import asyncio, os, signal, sys
from holdfast import Agent, Runtime

async def main():
    async with Runtime(sys.argv[1]) as runtime:
        await runtime.archive(Agent(name="worker"), by="ann")
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_what_a_process_archived_before_it_was_killed_stays_archived(
    tmp_path: Path, gate: Gate
) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "log.db")]
    done = await asyncio.to_thread(subprocess.run, command, cwd=ROOT, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    async with Runtime(tmp_path / "log.db") as runtime:
        with pytest.raises(AgentUnavailable, match="by ann"):
            await runtime.session(gate.agent())


def test_blocking_code_archives_and_restores(tmp_path: Path) -> None:
    agent = Agent("Hi.", name="greeter", model=Sim.always(say("Hi.")))
    with sync.Runtime(tmp_path / "log.db") as runtime:
        runtime.archive(agent, by="ann")
        with pytest.raises(AgentUnavailable):
            runtime.session(agent)
        runtime.restore(agent, by="ann")
        assert runtime.session(agent).run("Hello.").text == "Hi."
        assert [it.status for it in runtime.roster()] == ["active"]


async def test_wherever_a_turn_was_cut_off_an_archived_agent_runs_nothing_and_loses_nothing(
    gate: Gate,
) -> None:
    gate.open.set()
    agent, whole = gate.agent(call("work"), say("Done.")), MemoryStore()
    async with Runtime(whole) as runtime:
        session = await runtime.session(agent)
        await session.run("Begin.")
        events = await session.events()
    for after in range(3, len(events)):
        store, gate.runs = await cut_off(events, after), 0
        async with Runtime(store) as runtime:
            await runtime.archive(agent)
            session = await runtime.open(session.id, agent)
            assert session.turn is not None
            result = await session.turn
            log = await session.events()
        assert gate.runs == 0
        assert_sound(log)
        if after < len(events) - 1:
            stopped(result, "agent_archived")
        began = any(it.type == "tool.started" for it in events[:after])
        ended = any(it.type == "tool.completed" for it in events[:after])
        assert len(result.in_doubt) == int(began and not ended), (
            "what may have happened is said to be in doubt"
        )
