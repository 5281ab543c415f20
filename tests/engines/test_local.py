"""Workers that share a store."""

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast import Agent, Context, Runtime, tool
from holdfast.drivers.sim import Sim, call, say
from holdfast.engines import local
from holdfast.errors import ConfigError, SessionHeld, StoreLocked
from holdfast.testing import problems_in
from holdfast.writer import this_process


class Bench:
    """An agent whose tool notes who worked on what, and waits for a gate."""

    def __init__(self, worker: str, done: list[tuple[str, str]], gate: asyncio.Event | None = None) -> None:
        @tool(effect="once")
        async def toil(ctx: Context) -> str:
            """Toil."""
            done.append((worker, ctx.session.id))
            await (gate.wait() if gate is not None else asyncio.sleep(0.005))
            return "toiled"

        self.agent = Agent("Toil.", name="toiler", model=Sim.rule(_answer), tools=[toil])


def _answer(request: object) -> object:
    return say("Done.") if request.messages[-1].role == "tool" else call("toil")  # type: ignore[attr-defined]


async def owing(path: Path, agent: Agent, number: int) -> list[str]:
    """So many sessions with an input that nobody is at work on."""
    async with Runtime(path, agents=[agent]) as runtime:
        made = []
        for _ in range(number):
            session = await runtime.session(agent)
            await session.update(title="owing")
            made.append(session.id)
    async with Runtime(path, agents=[agent]) as runtime:
        for session_id in made:
            await (await runtime.open(session_id, drive=False)).send("Begin.")
    return made


async def at_rest(runtime: Runtime, number: int) -> None:
    """Wait until so many sessions are at rest."""
    async with asyncio.timeout(60):
        while sum([head.sequence >= 9 for head in await runtime.sessions(limit=1_000)]) < number:
            await runtime.store.woken(0.2)


async def woken(seconds: float, since: int | None) -> int:
    """Something is always written."""
    return 0


async def nothing() -> None:
    """Nobody is dead."""


async def until(come_true: Callable[[], bool]) -> None:
    """Wait until this is so."""
    async with asyncio.timeout(60):
        while True:
            if come_true():
                return
            await asyncio.sleep(0.01)


async def test_two_workers_on_one_file_share_forty_sessions_and_run_each_turn_once(tmp_path: Path) -> None:
    done: list[tuple[str, str]] = []
    both, stop = asyncio.Event(), asyncio.Event()
    one, other = Bench("one", done, both).agent, Bench("other", done, both).agent
    sessions = await owing(tmp_path / "log.db", one, 40)
    async with (
        Runtime(tmp_path / "log.db", agents=[one]) as a,
        Runtime(tmp_path / "log.db", agents=[other]) as b,
    ):
        workers = [asyncio.ensure_future(runtime.work(sessions=4, stop=stop)) for runtime in (a, b)]
        await until(lambda: len(done) == 8)
        assert Counter(worker for worker, _ in done) == {"one": 4, "other": 4}
        both.set()
        await at_rest(a, 40)
        stop.set()
        await asyncio.gather(*workers)
        assert Counter(session_id for _, session_id in done) == dict.fromkeys(sessions, 1)
        for session_id in sessions:
            assert problems_in(await a.store.read(session_id)) == []
        assert await a.store.due(a.clock.now()) == []


async def test_an_input_that_arrives_later_wakes_an_idle_worker(tmp_path: Path) -> None:
    done: list[tuple[str, str]] = []
    agent = Bench("one", done).agent
    async with Runtime(tmp_path / "log.db", agents=[agent]) as runtime:
        stop = asyncio.Event()
        work = asyncio.ensure_future(runtime.work(stop=stop))
        await asyncio.sleep(0.1)
        sessions = await owing(tmp_path / "log.db", agent, 1)
        await at_rest(runtime, 1)
        assert [session_id for _, session_id in done] == sessions
        stop.set()
        await work


async def test_a_worker_told_to_stop_takes_up_nothing_more_and_lets_turns_rest(tmp_path: Path) -> None:
    done: list[tuple[str, str]] = []
    gate, stop = asyncio.Event(), asyncio.Event()
    agent = Bench("one", done, gate).agent
    await owing(tmp_path / "log.db", agent, 3)
    async with Runtime(tmp_path / "log.db", agents=[agent]) as runtime:
        work = asyncio.ensure_future(runtime.work(sessions=2, stop=stop))
        await until(lambda: len(done) == 2)
        stop.set()
        await asyncio.sleep(0.05)
        assert not work.done(), "two turns are under way"
        gate.set()
        await work
        assert len(done) == 2
        assert len(await runtime.store.due(runtime.clock.now())) == 1


async def test_a_session_whose_agent_is_unknown_is_left_and_said_so_once(tmp_path: Path) -> None:
    done: list[tuple[str, str]] = []
    agent = Bench("one", done).agent
    (session_id,) = await owing(tmp_path / "log.db", agent, 1)
    left: list[tuple[str, Exception]] = []
    stop = asyncio.Event()
    async with Runtime(tmp_path / "log.db") as runtime:
        work = asyncio.ensure_future(
            runtime.work(stop=stop, report=lambda name, why: left.append((name, why)))
        )
        await until(lambda: left != [])
        stranger = await runtime.session(Agent(name="chatty", model=Sim.always("Hello.")))
        for _ in range(5):
            await stranger.run("Hi.")
            await asyncio.sleep(0.03)
        stop.set()
        await work
        assert [(name, type(why)) for name, why in left] == [(session_id, ConfigError)]
        assert "toil" in str(left[0][1])
        assert await runtime.store.due(runtime.clock.now()) == [session_id]


async def test_a_session_that_somebody_holds_is_left_to_him(tmp_path: Path) -> None:
    done: list[tuple[str, str]] = []
    gate, stop = asyncio.Event(), asyncio.Event()
    one, other = Bench("one", done, gate).agent, Bench("other", done).agent
    async with (
        Runtime(tmp_path / "log.db") as app,
        Runtime(tmp_path / "log.db", agents=[other]) as runtime,
    ):
        session = await app.session(one)
        turn = await session.send("Begin.")
        work = asyncio.ensure_future(runtime.work(stop=stop))
        with pytest.raises(SessionHeld):
            await runtime.drive(session.id)
        await asyncio.sleep(0.1)
        gate.set()
        assert (await turn).status == "completed"
        stop.set()
        await work
    assert done == [("one", session.id)]


async def test_a_worker_that_died_without_a_word_is_replaced_when_its_lease_ran_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "POLL", 0.1)
    done: list[tuple[str, str]] = []
    agent = Bench("other", done).agent
    (session_id,) = await owing(tmp_path / "log.db", agent, 1)
    stop = asyncio.Event()
    async with Runtime(tmp_path / "log.db", agents=[agent]) as runtime:
        await runtime.store.claim(session_id, owner="on another machine", hold=3_600)
        work = asyncio.ensure_future(runtime.work(stop=stop))
        await asyncio.sleep(0.2)
        assert done == []
        await runtime.store.renew("on another machine", 0.2)  # the last that is heard of it
        await at_rest(runtime, 1)
        stop.set()
        await work
    assert done == [("other", session_id)]


def a_dead_writer() -> str:
    """The name of a writer whose process has ended."""
    script = "from holdfast.writer import this_process; print(this_process().name)"
    return subprocess.check_output([sys.executable, "-c", script], text=True).strip()


async def test_a_worker_sees_that_a_process_of_its_machine_died_and_waits_for_no_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "POLL", 0.1)
    done: list[tuple[str, str]] = []
    agent = Bench("other", done).agent
    sessions = await owing(tmp_path / "log.db", agent, 2)
    stop = asyncio.Event()
    async with Runtime(tmp_path / "log.db", agents=[agent]) as runtime:
        alive = this_process().name
        await runtime.store.claim(sessions[0], owner=alive, hold=3_600)
        work = asyncio.ensure_future(runtime.work(stop=stop))
        await runtime.store.claim(sessions[1], owner=a_dead_writer(), hold=3_600)
        await at_rest(runtime, 1)
        stop.set()
        await work
        assert done == [("other", sessions[1])]
        assert await runtime.store.owners() == [alive]


async def test_recovering_waits_for_no_lease_of_a_dead_process(tmp_path: Path) -> None:
    done: list[tuple[str, str]] = []
    agent = Bench("other", done).agent
    (session_id,) = await owing(tmp_path / "log.db", agent, 1)
    async with Runtime(tmp_path / "log.db", agents=[agent]) as runtime:
        await runtime.store.claim(session_id, owner=a_dead_writer(), hold=3_600)
        assert [session.id for session in await runtime.recover()] == [session_id]
        await at_rest(runtime, 1)
    assert done == [("other", session_id)]


async def test_a_session_that_was_held_a_moment_ago_is_not_left_for_a_whole_poll(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local, "POLL", 3_600.0)
    tries: list[str] = []
    stop = asyncio.Event()

    async def due(limit: int) -> list[str]:
        return ["session_a"] if len(tries) < 2 else []

    async def take(session_id: str) -> str:
        tries.append(session_id)
        if len(tries) == 1:
            raise SessionHeld
        return "completed"

    async def silence(seconds: float, since: int | None) -> int:
        await asyncio.sleep(seconds)
        return 0

    work = asyncio.ensure_future(local.Worker(due, take, silence, nothing).run(stop, 1.0))
    await until(lambda: len(tries) == 2)
    stop.set()
    await work


async def test_a_session_that_fails_is_tried_again_later_and_not_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(local, "POLL", 0.2)
    tries: list[str] = []
    left: list[str] = []
    stop = asyncio.Event()

    async def due(limit: int) -> list[str]:
        if len(tries) == 1 and not left[1:]:
            raise StoreLocked
        return ["session_a"][:limit]

    async def take(session_id: str) -> str:
        tries.append(session_id)
        raise StoreLocked

    worker = local.Worker(due, take, woken, nothing, sessions=1, report=lambda name, why: left.append(name))
    work = asyncio.ensure_future(worker.run(stop, 1.0))
    await until(lambda: len(tries) == 2)
    stop.set()
    await work
    assert len(tries) == 2
    assert set(left) == {"session_a", ""}
    assert left.count("session_a") == 2


async def test_a_session_with_nothing_owed_is_not_asked_again_and_again() -> None:
    tries: list[str] = []
    stop = asyncio.Event()

    async def due(limit: int) -> list[str]:
        return ["session_a"]

    async def take(session_id: str) -> None:
        tries.append(session_id)

    work = asyncio.ensure_future(local.Worker(due, take, woken, nothing).run(stop, 1.0))
    await asyncio.sleep(0.2)
    stop.set()
    await work
    assert tries == ["session_a"]
