"""One session in one file, out and in again."""

import hashlib
import json
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import Agent, MemoryStore, Runtime, SQLiteStore, Store, UnknownSession, UsageError, tool
from holdfast.archive import blobs_of, export_session, import_session, read_archive
from holdfast.drivers.sim import Sim, call, say
from holdfast.errors import StoreCorrupt
from holdfast.events import BlobRef, FileWritten, UnknownFact
from holdfast.state import encode_state
from holdfast.testing.said import event, said

MakeStore = Callable[[str], Store]


@tool(effect="pure")
async def fetch() -> str:
    """Fetch more than a log should hold."""
    return "x" * 200_000


def agent() -> Agent:
    return Agent("Fetch.", name="fetcher", model=Sim.storyboard(call("fetch"), say("Done.")), tools=[fetch])


@pytest.fixture(params=["memory", "sqlite"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> MakeStore:
    if request.param == "memory":
        return lambda name: MemoryStore()
    return lambda name: SQLiteStore(tmp_path / f"{name}.db")


async def exported(store: Store, session_id: str) -> list[bytes]:
    return [line async for line in export_session(store, session_id)]


async def a_session(runtime: Runtime) -> str:
    session = await runtime.session(agent(), title="Kept", metadata={"desk": "4"})
    await session.files.write("/small.txt", b"hello")
    await session.files.write("/large.bin", bytes(range(256)) * 400)
    await session.run("Go.")
    return session.id


async def test_a_session_comes_back_as_it_was(make_store: MakeStore) -> None:
    async with Runtime(make_store("one")) as one, Runtime(make_store("other"), agents=[agent()]) as other:
        session_id = await a_session(one)
        lines = await exported(one.store, session_id)
        assert len(json.loads(lines[0])["blobs"]) >= 4, "layers, manifest, the long result and the large file"
        assert await import_session(other.store, lines) == session_id
        there = await other.open(session_id)
        assert await there.events() == await one.store.read(session_id)
        original = await one.open(session_id, read_only=True)
        assert encode_state(there.state) == encode_state(original.state)
        assert await there.files.read("/large.bin") == bytes(range(256)) * 400
        assert await exported(other.store, session_id) == lines


@pytest.fixture
async def lines() -> list[bytes]:
    async with Runtime() as runtime:
        return await exported(runtime.store, await a_session(runtime))


@pytest.fixture
async def empty() -> AsyncIterator[MemoryStore]:
    store = MemoryStore()
    await store.open()
    yield store
    await store.close()


async def test_an_archive_cut_off_anywhere_is_refused_and_nothing_is_written(
    lines: list[bytes], empty: MemoryStore
) -> None:
    for end in range(len(lines)):
        with pytest.raises(UsageError, match="broken"):
            await import_session(empty, lines[:end])
        with pytest.raises(UsageError, match="broken"):
            await import_session(empty, [*lines[:end], lines[end][:-2]])
    assert await empty.sessions() == []


async def test_an_archive_with_a_line_missing_doubled_moved_or_changed_is_refused(
    lines: list[bytes], empty: MemoryStore
) -> None:
    for place in range(len(lines)):
        changed = lines[place].replace(b'"', b"'", 1)
        for wrong in (
            [*lines[:place], *lines[place + 1 :]],
            [*lines[: place + 1], *lines[place:]],
            [*lines[:place], changed, *lines[place + 1 :]],
            [*lines[:place], b"\n", *lines[place:]],
        ):
            with pytest.raises(UsageError):
                await import_session(empty, wrong)
    reworded = [line.replace(b'"title":"Kept"', b'"title":"Gone"') for line in lines]
    assert reworded != lines
    with pytest.raises(UsageError, match="their digest differs"):
        await import_session(empty, reworded)
    assert await empty.sessions() == []


def sealed(lines: list[bytes]) -> list[bytes]:
    """The lines with a trailer that fits them: what somebody who edits an archive may make."""
    header = json.loads(lines[0])
    trailer = {
        "events": len(lines) - 2 - len(header["blobs"]),
        "blobs": len(header["blobs"]),
        "sha256": hashlib.sha256(b"".join(lines[:-1])).hexdigest(),
    }
    return [*lines[:-1], json.dumps(trailer).encode() + b"\n"]


async def test_an_edited_archive_is_held_against_itself(lines: list[bytes]) -> None:
    assert read_archive(sealed(lines)).session_id
    header = json.loads(lines[0])
    fewer = json.dumps({**header, "blobs": header["blobs"][1:]}).encode() + b"\n"
    layers = len(lines) - 1 - len(header["blobs"])
    other_bytes = json.dumps({**json.loads(lines[-2]), "data": "AAAA"}).encode() + b"\n"
    cases = {
        "where event 3 belongs": [*lines[:3], *lines[4:]],
        "cannot be read": [*lines[:3], b"{}\n", *lines[4:]],
        "not those it is named after": [*lines[:-2], lines[-3], lines[-1]],
        "the bytes of blob": [*lines[:-2], other_bytes, lines[-1]],
        "is missing": [fewer, *lines[1:layers], *lines[layers + 1 :]],
        "not the header": [lines[0].replace(b"holdfast.session", b"something.else"), *lines[1:]],
        "is no session's id": [lines[0].replace(header["session_id"].encode(), b"x"), *lines[1:]],
        "reads version 1": [lines[0].replace(b'"version":1', b'"version":2'), *lines[1:]],
        "is of session": [
            lines[0].replace(header["session_id"].encode(), b"session_" + b"0" * 32),
            *lines[1:],
        ],
    }
    for message, wrong in cases.items():
        with pytest.raises(UsageError, match=message):
            read_archive(sealed(wrong))


async def test_a_session_that_is_here_already_stays_as_it_is(lines: list[bytes], empty: MemoryStore) -> None:
    session_id = await import_session(empty, lines)
    before = await empty.head(session_id)
    with pytest.raises(UsageError, match="already"):
        await import_session(empty, lines)
    assert await empty.head(session_id) == before


async def test_what_an_imported_session_owes_waits_until_it_is_opened() -> None:
    async with Runtime(drain=0) as one:
        session = await one.session(agent())
        await session.send("Go.")
        lines = await exported(one.store, session.id)
    async with Runtime(agents=[agent()]) as other:
        session_id = await import_session(other.store, lines)
        assert await other.store.due(other.clock.now()) == []
        assert await other.drive(session_id) == "completed"


async def test_nothing_is_exported_of_a_stranger_or_without_a_blob_it_needs(empty: MemoryStore) -> None:
    with pytest.raises(UnknownSession):
        await exported(empty, "session_" + "0" * 32)
    lost = FileWritten(
        path="/a", size=1, digest="sha256:a", blob=BlobRef(digest="sha256:" + "0" * 64, size=1)
    )
    await empty.append("session_a", [event("session_a", 1, lost)], expected=0, epoch=1)  # type: ignore[arg-type]
    with pytest.raises(Exception, match="0000"):
        await exported(empty, "session_a")


async def test_a_log_with_a_hole_is_not_exported(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "log.db")
    await store.open()
    await store.append("session_a", said("session_a", 1, *"abc"), expected=0, epoch=1)
    await store.close()
    damaged = sqlite3.connect(tmp_path / "log.db")
    with damaged:
        damaged.execute("DELETE FROM events WHERE key & 15 = 3")
    damaged.close()
    await store.open()
    with pytest.raises(StoreCorrupt, match="missing"):
        await exported(store, "session_a")
    await store.close()


def test_a_blob_in_a_fact_of_a_newer_release_is_found() -> None:
    reference = {"digest": "sha256:" + "1" * 64, "size": 3, "media_type": "text/plain"}
    later = event("session_a", 1, UnknownFact(data={"parts": [{"blob": reference}], "size": 3}))
    assert list(blobs_of(later)) == [reference["digest"]]


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.lists(st.one_of(texts, st.dictionaries(texts, texts | st.integers() | st.none())), min_size=1))
async def test_out_in_and_out_again_is_the_same(words: list[str | dict[str, str | int | None]]) -> None:
    session_id = "session_" + "7" * 32
    events = [
        said(session_id, number, word)[0]
        if isinstance(word, str)
        else event(session_id, number, UnknownFact(data=word), kind="future.fact")
        for number, word in enumerate(words, 1)
    ]
    one, other = MemoryStore(), MemoryStore()
    await one.open()
    await other.open()
    await one.append(session_id, events, expected=0, epoch=1)
    lines = await exported(one, session_id)
    await import_session(other, lines)
    assert await exported(other, session_id) == lines
    assert await other.read(session_id, limit=10_000) == await one.read(session_id, limit=10_000)
