"""One writer at a time, among runtimes and among processes."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast import Agent, MemoryStore, Runtime, SQLiteStore, Turn, TurnResult, tool
from holdfast.driver import Emit, Reply, Request
from holdfast.drivers.sim import Sim, call, say
from holdfast.errors import SessionHeld
from holdfast.outcome import Outcome
from tests.conftest import ROOT


def working(gate: asyncio.Event) -> Agent:
    """An agent whose tool waits for the gate."""

    @tool(effect="once")
    async def work() -> str:
        """Work until somebody says stop."""
        await gate.wait()
        return "worked"

    return Agent(
        "Work.", name="worker", model=Sim.storyboard(call("work"), say("Done."), say("Again.")), tools=[work]
    )


async def test_a_session_at_work_is_held_and_free_when_it_rests(tmp_path: Path) -> None:
    gate = asyncio.Event()
    agent = working(gate)
    async with Runtime(tmp_path / "log.db") as one, Runtime(tmp_path / "log.db", agents=[agent]) as other:
        mine = await one.session(agent)
        turn = await mine.send("Begin.")
        theirs = await other.open(mine.id)
        with pytest.raises(SessionHeld, match="is held by"):
            await theirs.resume()
        assert theirs.turn is not None
        watching = asyncio.ensure_future(_rest(theirs.turn))
        gate.set()
        assert (await turn).text == "Done."
        assert (await watching).text == "Done.", "awaiting a turn that runs elsewhere follows its log"
        assert (await theirs.run("Now me.")).text == "Again."


async def _rest(turn: Turn) -> TurnResult:
    return await turn


def streaming(gate: asyncio.Event) -> Agent:
    """An agent whose model speaks until the gate is open."""

    class Talker(Sim):
        async def reply(self, request: Request, emit: Emit) -> Reply:
            while not gate.is_set():
                emit("text", "word ", 0)
                await asyncio.sleep(0.1)
            return await super().reply(request, emit)

    return Agent("Speak.", name="speaker", model=Talker.always("Done."))


@pytest.mark.parametrize("agent_of", [working, streaming], ids=["a tool sleeps", "a model streams"])
async def test_a_lease_is_renewed_while_something_takes_longer_than_it(
    agent_of: Callable[[asyncio.Event], Agent], tmp_path: Path
) -> None:
    gate = asyncio.Event()
    agent = agent_of(gate)
    async with (
        Runtime(tmp_path / "log.db", lease=2.0) as one,
        Runtime(tmp_path / "log.db", agents=[agent]) as other,
    ):
        turn = await (await one.session(agent)).send("Begin.")
        (head,) = await other.sessions()
        await asyncio.sleep(2.5)
        assert turn.status == "running"
        with pytest.raises(SessionHeld):
            await (await other.open(head.session_id)).resume()
        gate.set()
        assert (await turn).status == "completed"


async def test_recover_goes_on_with_what_is_owed_and_leaves_what_is_at_work(tmp_path: Path) -> None:
    agent = working(asyncio.Event())
    async with Runtime(tmp_path / "log.db", agents=[agent], drain=0) as one:
        for _ in range(3):
            await (await one.session(agent)).send("Begin.")
        async with Runtime(tmp_path / "log.db", agents=[agent]) as other:
            assert await other.recover() == []
    async with Runtime(tmp_path / "log.db", agents=[agent]) as after:
        sessions = await after.recover()
        assert len(sessions) == 3
        for session in sessions:
            if (turn := session.turn) is not None:
                await turn
            outcome = session.state.outcome
            assert outcome is not None
            assert (outcome.text, len(outcome.in_doubt)) == ("Done.", 1)


async def test_recover_leaves_nothing_however_much_was_interrupted() -> None:
    store, gate, many = MemoryStore(), asyncio.Event(), 1_001
    agent = working(gate)
    async with Runtime(store, agents=[agent], drain=0) as one:
        for _ in range(many):
            await (await one.session(agent)).send("Begin.")
    gate.set()
    async with Runtime(store, agents=[agent]) as after:
        sessions = await after.recover()
        assert len({session.id for session in sessions}) == many
        for session in sessions:
            if (turn := session.turn) is not None:
                await turn
        assert {session.state.outcome and session.state.outcome.text for session in sessions} == {"Done."}


STOPPED = """
import asyncio, sys
from holdfast import Runtime
from tests.test_leases import working

async def main():
    gate = asyncio.Event()
    async with Runtime(sys.argv[1], lease=0.5) as runtime:
        session = await runtime.session(working(gate))
        turn = await session.send("Begin.")
        while (await session.events())[-1].type != "tool.started":
            await asyncio.sleep(0.01)
        print(session.id, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        gate.set()
        try:
            print((await turn).status, flush=True)
        except Exception as error:
            print(type(error).__name__, error, flush=True)

asyncio.run(main())
"""


async def test_a_process_that_slept_beyond_its_lease_cannot_write_and_learns_why(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(tmp_path / "log.db")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        session_id = (await asyncio.to_thread(child.stdout.readline)).strip()
        os.kill(child.pid, signal.SIGSTOP)
        async with Runtime(tmp_path / "log.db") as runtime:
            result = await _taken_over(runtime, session_id)
            assert (result.status, len(result.in_doubt)) == ("completed", 1)
            before = (await runtime.store.head(session_id)).sequence  # type: ignore[union-attr]
            os.kill(child.pid, signal.SIGCONT)
            child.stdin.write("\n")
            child.stdin.flush()
            said = await asyncio.to_thread(child.stdout.readline)
            assert said.startswith("StaleEpoch epoch 1 of ")
            assert "took over" in said
            after = (await runtime.store.head(session_id)).sequence  # type: ignore[union-attr]
            assert after == before
    finally:
        child.kill()
        child.communicate()


async def _taken_over(runtime: Runtime, session_id: str) -> Outcome:
    session = await runtime.open(session_id, working(asyncio.Event()))
    if (turn := session.turn) is not None:
        await turn
    assert session.state.outcome is not None
    return session.state.outcome


def test_a_dead_process_holds_nothing_on_its_own_machine(tmp_path: Path) -> None:
    script = STOPPED.replace("lease=0.5", "lease=3600")
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "log.db")], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    session_id = child.stdout.readline().decode().strip()
    child.kill()
    child.communicate()

    async def main() -> None:
        async with Runtime(tmp_path / "log.db") as runtime:
            assert (await _taken_over(runtime, session_id)).status == "completed"

    asyncio.run(main())


async def test_the_store_is_told_who_writes(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "log.db")
    async with Runtime(store) as runtime:
        session = await runtime.session(Agent(model=Sim.always("Hello."), name="greeter"))
        assert (await session.run("Hi.")).text == "Hello."
        await store.claim(session.id, owner="somebody else", hold=60)
        turn = await session.send("Hi again.")
        assert (turn.status, len(await store.letters(session.id))) == ("queued", 1)
        await store.claim(session.id, owner="somebody else")
        assert (await turn).text == "Hello."
        assert await store.letters(session.id) == []
