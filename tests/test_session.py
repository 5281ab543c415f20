"""A session: one log, read and written by whoever holds it, and followed by whoever likes."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from holdfast import FILES, Context, Event, Runtime, Session, WorkspaceError, tool
from holdfast.drivers.sim import call, say
from holdfast.errors import InputRejected, RuntimeClosed, StoreClosed
from holdfast.fold import fold
from holdfast.store import Store
from holdfast.stores.memory import MemoryStore
from holdfast.stores.sqlite import SQLiteStore
from tests.conftest import ROOT
from tests.talking_process import AGENT
from tests.turn.scenes import agent_of, assert_sound, kinds, session_with


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store of each kind."""
    return MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "log.db")


@asynccontextmanager
async def new_session(store: Store | None, *steps: Any, **options: Any) -> AsyncIterator[Session]:
    async with Runtime(store, drain=0) as runtime:
        yield await runtime.session(agent_of(*steps, **options))


async def test_a_new_session_is_empty_and_not_yet_in_the_store() -> None:
    store = MemoryStore()
    async with Runtime(store) as runtime:
        session = await runtime.session(agent_of(say("done")))
        assert await session.messages() == []
        assert session.turn is None
        assert await session.resume() is None
        assert await runtime.sessions() == []
        assert repr(session) == f"Session('{session.id}', 1 events)"


async def test_the_log_can_be_read_from_anywhere(store: Store) -> None:
    async with new_session(store, say("one"), say("two")) as session:
        await session.run("a")
        await session.run("b")
        events = await session.events()
        assert_sound(events)
        assert len(events) == 9
        for after in range(len(events) + 2):
            assert await session.events(after) == events[after:]
            assert await session.events(after, limit=2) == events[after : after + 2]
        assert fold(session.id, events) == session.state


async def test_the_transcript_is_a_copy() -> None:
    async with new_session(None, say("one"), say("two")) as session:
        await session.run("a")
        messages = await session.messages()
        messages.clear()
        assert len(await session.messages()) == 2
        assert (await session.run("b")).text == "two"


async def test_title_and_metadata_can_change(store: Store) -> None:
    async with Runtime(store) as runtime:
        session = await runtime.session(agent_of(say("one")), title="first", metadata={"who": "ann"})
        await session.run("a")
        await session.update(title="second")
        assert (session.state.title, session.state.metadata) == ("second", {"who": "ann"})
        await session.update(metadata={"who": "bob", "where": ""})
        assert (session.state.title, session.state.metadata) == ("second", {"who": "bob", "where": ""})
        assert fold(session.id, await session.events()) == session.state


UNFIT: list[dict[str, Any]] = [
    {"title": "\ud800"},
    {"title": 5},
    {"metadata": {"a": "\udfff"}},
    {"metadata": {"\udfff": "a"}},
    {"metadata": {"a": 1}},
    {"metadata": {1: "a"}},
    {"metadata": {"title": None}},
]


@pytest.mark.parametrize("change", UNFIT, ids=[str(number) for number in range(len(UNFIT))])
async def test_what_no_log_can_hold_is_refused_and_does_no_harm(change: dict[str, Any], store: Store) -> None:
    async with Runtime(store) as runtime:
        with pytest.raises(InputRejected):
            await runtime.session(agent_of(say("one")), **change)
        session = await runtime.session(agent_of(say("one")), metadata={"title": "a name like any other"})
        with pytest.raises(InputRejected):
            await session.update(**change)
        assert (await session.run("a")).text == "one"


# --- files ---------------------------------------------------------------------------------------------------------


async def test_files_are_part_of_the_log(store: Store) -> None:
    async with new_session(store, say("one")) as session:
        await session.files.write("/notes/a.txt", b"hello")
        assert await session.files.read("/notes/a.txt") == b"hello"
        assert [info.path for info in await session.files.list("/notes")] == ["/notes/a.txt"]
        events = await session.events()
        assert kinds(events) == ["session.created", "file.written"]
        assert await session.files.delete("/notes/a.txt")
        with pytest.raises(WorkspaceError) as missing:
            await session.files.read("/notes/a.txt")
        assert missing.value.code == "not-found"
        assert (await session.run("a")).text == "one"
        assert_sound(await session.events())


async def test_files_are_what_tools_see() -> None:
    @tool(effect="pure")
    async def read(ctx: Context, path: str) -> str:
        """Read."""
        return (await ctx.scope[FILES].read(path)).decode()

    async with new_session(None, call("read", path="/a.txt"), say("done"), tools=[read]) as session:
        await session.files.write("/a.txt", b"hello")
        await session.run("go")
        assert [it.text for it in await session.messages() if it.role == "tool"] == ["hello"]


async def test_large_files_survive_a_restart(tmp_path: Path) -> None:
    body = bytes(range(256)) * 1_000
    agent = agent_of(say("one"))
    async with Runtime(tmp_path / "log.db") as runtime:
        session = await runtime.session(agent)
        await session.files.write("/large.bin", body)
    async with Runtime(tmp_path / "log.db") as runtime:
        again = await runtime.open(session.id, agent)
        assert await again.files.read("/large.bin") == body


# --- follow --------------------------------------------------------------------------------------------------------


async def take(session: Session, number: int, after: int = 0) -> list[Event]:
    """The next `number` events that following shows."""
    seen: list[Event] = []
    following = session.follow(after)
    async with asyncio.timeout(60):
        async for event in following:
            seen.append(event)
            if len(seen) == number:
                break
    await following.aclose()  # type: ignore[attr-defined]
    return seen


async def test_following_begins_with_the_log_and_goes_on_with_what_is_recorded(store: Store) -> None:
    async with new_session(store, say("one"), say("two")) as session:
        await session.run("a")
        reader = asyncio.create_task(take(session, 9))
        await asyncio.sleep(0.01)
        await session.run("b")
        assert await reader == await session.events()


async def test_following_can_begin_anywhere(store: Store) -> None:
    async with new_session(store, say("one"), say("two")) as session:
        await session.run("a")
        reader = asyncio.create_task(take(session, 6, after=3))
        await session.run("b")
        assert [event.sequence for event in await reader] == list(range(4, 10))


async def test_many_followers_miss_nothing_however_slow_they_are() -> None:
    answers = [say(f"answer {number}") for number in range(40)]
    async with session_with(agent_of(*answers)) as session:

        async def read(pause: float) -> list[int]:
            seen: list[int] = []
            following = session.follow()
            async with asyncio.timeout(60):
                async for event in following:
                    seen.append(event.sequence)
                    await asyncio.sleep(pause)
                    if event.sequence == 161:
                        break
            await following.aclose()  # type: ignore[attr-defined]
            return seen

        readers = [asyncio.create_task(read(pause)) for pause in (0.0, 0.0001, 0.002)]
        for number in range(40):
            await session.run(f"input {number}")
        assert await asyncio.gather(*readers) == [list(range(1, 162))] * 3


async def test_following_a_runtime_that_closes_ends_with_a_reason(store: Store) -> None:
    async with new_session(store, say("one")) as session:
        await session.run("a")
        reader = asyncio.create_task(take(session, 100))
        await asyncio.sleep(0.01)
    with pytest.raises((RuntimeClosed, StoreClosed)):
        await reader


@contextmanager
def talking(database: Path, session_id: str, *inputs: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that talks in a session."""
    command = [sys.executable, "-m", "tests.talking_process", str(database), session_id, *inputs]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def say_next(process: subprocess.Popen[str]) -> str:
    """Let the other process send its next input, and wait for the answer."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


async def test_a_session_that_another_process_writes_can_be_followed(tmp_path: Path) -> None:
    database = tmp_path / "log.db"
    with talking(database, "new", "one", "two", "three") as other:
        assert other.stdout is not None
        session_id = other.stdout.readline().strip()
        assert await asyncio.to_thread(say_next, other) == "You said: one"
        async with Runtime(database) as runtime:
            session = await runtime.open(session_id, read_only=True)
            reader = asyncio.create_task(take(session, 13))
            for text in ("two", "three"):
                assert await asyncio.to_thread(say_next, other) == f"You said: {text}"
            seen = await reader
            assert seen == await session.events()
    assert_sound(seen)
    assert kinds(seen).count("turn.completed") == 3


async def test_a_session_goes_to_and_fro_between_processes(tmp_path: Path) -> None:
    database = tmp_path / "log.db"
    async with Runtime(database) as runtime:
        session = await runtime.session(AGENT)
        await session.run("zero")
    async with Runtime(database) as runtime:
        mine = await runtime.open(session.id, AGENT)
        with talking(database, session.id, "one", "three") as other:
            assert other.stdout is not None
            assert other.stdout.readline().strip() == session.id
            assert await asyncio.to_thread(say_next, other) == "You said: one"
            assert (await mine.run("two")).text == "You said: two"
            assert await asyncio.to_thread(say_next, other) == "You said: three"
            assert (await mine.run("four")).text == "You said: four"
            events, messages = await mine.events(), await mine.messages()
            assert fold(session.id, events) == mine.state
    assert_sound(events)
    said = [message.text for message in messages if message.role == "user"]
    assert said == ["zero", "one", "two", "three", "four"]
