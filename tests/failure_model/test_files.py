"""Files and blobs: a session's workspace, large results, and a directory on a disk."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from holdfast import Agent, Context, Limits, Runtime, Session, tool
from holdfast.drivers.sim import call
from holdfast.errors import WorkspaceError
from holdfast.events import FileWritten, ToolCompleted
from holdfast.services import FILES
from holdfast.store import digest_of
from holdfast.workspace.disk_files import DiskFiles
from holdfast.workspace.log_files import LogFiles
from tests.failure_model.agents import agent_of
from tests.failure_model.world import World, serve

OLD, NEW = b"old", b"new " * 10_000
"""The new content is too large to stand in an event."""


def writing() -> Agent:
    @tool(effect="idempotent")
    async def save(ctx: Context) -> str:
        """Save."""
        await ctx.scope[FILES].write("/a.txt", NEW)
        return "saved"

    return agent_of(call("save"), "Done.", tools=[save])


def dumping() -> Agent:
    @tool(effect="idempotent")
    async def dump() -> str:
        """Say a lot."""
        return "spam " * 1_000

    return agent_of(call("dump"), "Done.", tools=[dump], limits=Limits(result_bytes=100))


async def with_old(runtime: Runtime, agent: Agent) -> None:
    """A session whose file says something already, and then its turn."""
    session = await runtime.session(agent)
    await session.files.write("/a.txt", OLD)
    await serve(runtime, agent)


async def check_blobs(world: World) -> int:
    """That everything a log points at is there; how many pointers there are."""
    store, count = await world.watcher(), 0
    for head in await store.sessions():
        for event in await store.read(head.session_id):
            for digest in blobs_in(event.data):
                assert digest_of(await store.get_blob(digest)) == digest
                count += 1
    return count


def blobs_in(fact: Any) -> list[str]:
    if isinstance(fact, FileWritten):
        return [fact.blob.digest] if fact.blob else []
    if isinstance(fact, ToolCompleted):
        return [text.split("kept as ")[1][:71] for text in [fact.result.text] if "kept as " in text]
    layers = getattr(fact, "layers", "")
    return [layers] if layers else []


async def test_cp33_a_large_result_is_kept_before_it_is_pointed_at(world: World) -> None:
    agent = dumping()
    for place in ("before put_blob", "after put_blob", "before tool.completed", "after tool.completed"):
        await world.disk.wipe()
        await world.kill(place, agent)
        await check_blobs(world)
        after = await world.go_on(agent)
        assert await check_blobs(world) == 2, "the layers of the session, and the result"
        assert "5,000 bytes in all" in after.results[0].text


async def test_cp61_a_file_is_old_or_new_and_there_with_its_event(world: World) -> None:
    agent = writing()
    for place in ("after tool.started", "before tool.completed", "after tool.completed"):
        await world.disk.wipe()
        await world.kill(place, agent, lambda runtime: with_old(runtime, agent))
        async with world.runtime() as runtime:
            (head,) = await runtime.sessions()
            session = await runtime.open(head.session_id, read_only=True)
            content = await session.files.read("/a.txt")
            assert content == (NEW if place == "after tool.completed" else OLD)
            assert session.state.files["/a.txt"].digest == digest_of(content)
            kinds = [event.type for event in await session.events()]
            assert kinds.count("file.written") == 1 + kinds.count("tool.completed")
        assert (await world.go_on(agent)).text == "Done."


async def test_cp62_of_two_writers_of_one_file_one_wins_and_the_other_is_told(world: World) -> None:
    agent = writing()
    async with world.runtime(agent) as runtime:
        session = await runtime.session(agent)
        await session.files.write("/a.txt", OLD)
        expect = digest_of(OLD)
        ends = await asyncio.gather(
            *[session.files.write("/a.txt", f"{n}".encode(), expect=expect) for n in range(5)],
            return_exceptions=True,
        )
        refused = [end for end in ends if isinstance(end, WorkspaceError)]
        assert len(refused) == 4
        assert {error.code for error in refused} == {"conflict"}
        (winner,) = [n for n, end in enumerate(ends) if not isinstance(end, WorkspaceError)]
        assert await session.files.read("/a.txt") == f"{winner}".encode()
        kinds = [event.type for event in await world.log()]
    assert kinds.count("file.written") == 2


async def test_cp63_a_quota_is_not_exceeded_by_a_byte_whoever_writes_at_once(world: World) -> None:
    agent = agent_of("Hello.")
    async with world.runtime(agent) as runtime:
        session = await runtime.session(agent)
        files = tight(session, quota=100)
        ends = await asyncio.gather(
            *[files.write(f"/{n}.txt", b"x" * 30) for n in range(8)], return_exceptions=True
        )
        assert [type(end) for end in ends].count(WorkspaceError) == 5
        await files.write("/last.txt", b"x" * 10)
        with pytest.raises(WorkspaceError, match="101 bytes in all; the quota is 100"):
            await files.write("/over.txt", b"x")
        assert sum(fact.size for fact in session.state.files.values()) == 100


def tight(session: Session, quota: int) -> LogFiles:
    """The session's files with less room."""
    files = session.files
    assert isinstance(files, LogFiles)
    files._quota_bytes = quota
    return files


async def test_cp64_a_file_on_a_disk_is_synced_before_it_has_its_name_and_so_is_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, rename, replace = os.fsync, os.rename, os.replace

    def synced(descriptor: int) -> None:
        done.append("sync folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "sync file")
        fsync(descriptor)

    def renamed(*args: Any, **options: Any) -> None:
        done.append("rename")
        rename(*args, **options)

    def replaced(*args: Any, **options: Any) -> None:
        done.append("rename")
        replace(*args, **options)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    monkeypatch.setattr(os, "replace", replaced)
    await DiskFiles(tmp_path, writable=True).write("/a.txt", NEW)
    assert done.index("sync file") < done.index("rename") < len(done) - 1 - done[::-1].index("sync folder")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


async def test_cp64_a_write_to_a_disk_that_dies_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = DiskFiles(tmp_path, writable=True)
    await files.write("/a.txt", OLD)

    def dies(*args: Any, **options: Any) -> None:
        raise OSError(5, "the power is gone")

    for name in ("fsync", "rename", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, dies)
            try:
                await files.write("/a.txt", NEW)
            except (WorkspaceError, OSError):
                assert (tmp_path / "a.txt").read_bytes() == OLD
    await files.write("/a.txt", NEW)
    assert (tmp_path / "a.txt").read_bytes() == NEW


async def test_cp66_nothing_ever_points_at_a_blob_that_is_not_there(world: World) -> None:
    agent = writing()
    for place in await world.places(agent):
        await world.disk.wipe()
        await world.kill_at(place, agent)
        await check_blobs(world)
    await world.go_on(agent)
    assert await check_blobs(world) == 2
