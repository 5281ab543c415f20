"""Every kind of workspace behaves the same."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import WorkspaceError
from holdfast.services import FileInfo, Files
from holdfast.store import digest_of
from holdfast.workspace.disk_files import DiskFiles
from holdfast.workspace.paths import spelled
from tests.workspace.bench import Bench
from tests.workspace.vectors import DATA, by_id, expected, input_of, of_surface


@pytest.fixture(params=["log", "call", "disk"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    """Files on the log, as one tool call sees them, and on a disk."""
    match request.param:
        case "log":
            return Bench().files()
        case "call":
            return Bench().files().for_call("call_1", [])
        case _:
            return DiskFiles(tmp_path, writable=True, max_file_bytes=10_000_000)


async def code_of(awaitable: Any) -> str:
    with pytest.raises(WorkspaceError) as refused:
        await awaitable
    assert str(refused.value)
    return refused.value.code


async def paths(files: Files, path: str = "/", *, recursive: bool = False) -> list[str]:
    return [info.path for info in await files.list(path, recursive=recursive)]


@pytest.mark.parametrize("data", [b"", b"text\n", "naïve €".encode(), b"\0\xff\x00", b"x" * 100_000, b"\r\n"])
async def test_what_was_written_is_read_back(files: Files, data: bytes) -> None:
    info = await files.write("/a/b.bin", data)
    assert await files.read("a/b.bin") == data
    assert (info.path, info.size, info.digest) == ("/a/b.bin", len(data), digest_of(data))


async def test_a_second_write_replaces_the_first(files: Files) -> None:
    await files.write("/a", b"long first content")
    await files.write("/workspace/a", b"second")
    assert await files.read("/a") == b"second"
    assert (await files.stat("/a")).size == 6


async def test_parents_are_made_and_listed(files: Files) -> None:
    await files.write("/x/y/z.txt", b"1")
    await files.write("/x/a.txt", b"22")
    await files.write("/top", b"")
    assert await paths(files) == ["/top", "/x"]
    assert await paths(files, "/x") == ["/x/a.txt", "/x/y"]
    assert await paths(files, recursive=True) == ["/top", "/x", "/x/a.txt", "/x/y", "/x/y/z.txt"]
    assert await paths(files, "x/y/", recursive=True) == ["/x/y/z.txt"]


async def test_an_entry_tells_files_from_directories(files: Files) -> None:
    await files.write("/d/f", b"12345")
    directory, file = await files.list("/", recursive=True)
    assert (directory.path, directory.is_directory, directory.size) == ("/d", True, 0)
    assert (file.path, file.is_directory, file.size, file.read_only) == ("/d/f", False, 5, False)
    assert (await files.stat("/d")).is_directory
    assert (await files.stat("/")).is_directory
    assert (await files.stat("/d/f")).size == 5


async def test_an_empty_workspace_lists_nothing(files: Files) -> None:
    assert await files.list() == []
    assert await files.list("/", recursive=True) == []


async def test_what_is_missing_is_not_found(files: Files) -> None:
    await files.write("/f", b"")
    for path in ("/nope", "/nope/deeper"):
        assert await code_of(files.read(path)) == "not-found"
        assert await code_of(files.stat(path)) == "not-found"
        assert await code_of(files.list(path)) == "not-found"
        assert await files.delete(path) is False


async def test_a_file_is_no_directory(files: Files) -> None:
    await files.write("/f", b"")
    assert await code_of(files.read("/f/x")) == "not-directory"
    assert await code_of(files.stat("/f/x")) == "not-directory"
    assert await code_of(files.write("/f/x", b"")) == "not-directory"
    assert await code_of(files.write("/f/x/y", b"")) == "not-directory"
    assert await code_of(files.list("/f")) == "not-directory"
    assert await files.delete("/f/x") is False


async def test_a_directory_is_no_file(files: Files) -> None:
    await files.write("/d/f", b"")
    for path in ("/d", "/"):
        assert await code_of(files.read(path)) == "is-directory"
        assert await code_of(files.write(path, b"")) == "is-directory"


async def test_a_full_directory_is_deleted_only_when_asked(files: Files) -> None:
    await files.write("/d/f", b"")
    await files.write("/d/e/g", b"")
    await files.write("/dd", b"")
    assert await code_of(files.delete("/d")) == "not-empty"
    assert await paths(files, recursive=True) == ["/d", "/d/e", "/d/e/g", "/d/f", "/dd"]
    assert await files.delete("/d", recursive=True) is True
    assert await paths(files, recursive=True) == ["/dd"]
    assert await files.delete("/dd") is True
    assert await files.delete("/dd") is False


async def test_the_root_cannot_be_deleted(files: Files) -> None:
    await files.write("/a", b"")
    for path in ("/", "", "/workspace/", "."):
        assert await code_of(files.delete(path, recursive=True)) == "root-protected"
    assert await files.read("/a") == b""


async def test_compare_and_set(files: Files) -> None:
    first = await files.write("/a", b"1", expect="")
    assert await code_of(files.write("/a", b"2", expect="")) == "conflict"
    assert await code_of(files.write("/a", b"2", expect=digest_of(b"other"))) == "conflict"
    await files.write("/a", b"2", expect=first.digest)
    assert await code_of(files.write("/a", b"3", expect=first.digest)) == "conflict"
    assert await code_of(files.write("/b/c", b"3", expect=first.digest)) == "conflict"
    assert await files.read("/a") == b"2"
    assert await paths(files) == ["/a"]


async def test_of_two_writers_with_the_same_expectation_one_wins(files: Files) -> None:
    seen = (await files.write("/a", b"v1")).digest

    async def attempt(data: bytes) -> str:
        try:
            return (await files.write("/a", data, expect=seen)).digest
        except WorkspaceError as refused:
            return refused.code

    for turn in range(20):
        outcomes = await asyncio.gather(*[attempt(b"%d by %d" % (turn, n)) for n in range(4)])
        assert outcomes.count("conflict") == 3
        seen = next(outcome for outcome in outcomes if outcome != "conflict")
        assert digest_of(await files.read("/a")) == seen


async def test_a_content_that_came_back_counts_as_unchanged(files: Files) -> None:
    seen = (await files.write("/a", b"x")).digest
    await files.write("/a", b"y")
    await files.write("/a", b"x")
    await files.write("/a", b"z", expect=seen)
    assert await files.read("/a") == b"z"


async def test_a_file_above_the_limit_is_refused(files: Files) -> None:
    assert await code_of(files.write("/big", b"x" * 10_000_001)) == "too-large"
    assert await files.list() == []


async def test_a_listed_path_leads_back_to_its_file(files: Files) -> None:
    await files.write("/workspace/workspace/x", b"inner")
    await files.write("/x", b"outer")
    contents = {info.path: await files.read(info.path) for info in await files.list("/workspace/workspace")}
    contents |= {
        info.path: await files.read(info.path) for info in await files.list() if not info.is_directory
    }
    assert contents == {"/workspace/workspace/x": b"inner", "/x": b"outer"}
    assert (await files.stat("/workspace/workspace")).is_directory


async def test_what_is_told_of_a_file_can_be_written_as_json(files: Files) -> None:
    info = await files.write("/d/a", b"1")
    assert msgspec.json.decode(msgspec.json.encode(info), type=FileInfo) == info
    msgspec.json.encode(await files.list(recursive=True))
    msgspec.json.encode(await files.stat("/d"))


async def test_names_that_look_alike_are_different_files(files: Files) -> None:
    names = [path for pair in DATA["pairs"] if pair["relation"] == "distinct-keys" for path in pair["paths"]]
    for name in names:
        await files.write(name, name.encode())
    for name in names:
        assert await files.read(name) == name.encode()


@pytest.mark.parametrize("vector", of_surface("store"), ids=by_id)
async def test_every_store_vector_has_the_same_verdict_and_key(files: Files, vector: dict[str, Any]) -> None:
    path = input_of(vector)
    carry_out = {
        "read": lambda: files.read(path),  # type: ignore[arg-type]  # bytes come in at some edges
        "write": lambda: files.write(path, b"data"),  # type: ignore[arg-type]
        "delete": lambda: files.delete(path),  # type: ignore[arg-type]
    }[vector.get("op", "read")]
    if vector["expect"] == "deny":
        assert await code_of(carry_out()) == vector["error"]
        assert await files.list(recursive=True) == []
        return
    key = expected(vector, "session_path")
    if key == "/":
        assert (await files.stat(path)).path == key  # type: ignore[arg-type]
        return
    await files.write(path, b"data")  # type: ignore[arg-type]
    key = spelled(key)
    assert key in await paths(files, recursive=True)
    assert await files.read(expected(vector, "display_path")) == b"data"


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["write", "create", "read", "stat", "list", "delete"]),
        st.sampled_from(["/a", "/a/b", "/a/b/c", "/d", "/d/e", "/", "/f/../g", "/.tasks/x"]),
        st.binary(max_size=3),
    ),
    max_size=15,
)


@settings(max_examples=60)
@given(STEPS)
def test_log_and_disk_answer_every_sequence_of_operations_alike(steps: list[tuple[str, str, bytes]]) -> None:
    async def answer(files: Files, what: str, path: str, data: bytes) -> Any:
        try:
            match what:
                case "write":
                    return (await files.write(path, data)).digest
                case "create":
                    return (await files.write(path, data, expect="")).digest
                case "read":
                    return await files.read(path)
                case "stat":
                    info = await files.stat(path)
                    return (info.path, info.size, info.is_directory)
                case "list":
                    return [(info.path, info.size) for info in await files.list(path, recursive=True)]
                case _:  # only whole trees: a disk keeps a directory that was emptied, the log has none
                    return await files.delete(path if path.count("/") == 1 else "/a", recursive=True)
        except WorkspaceError as refused:
            return refused.code

    async def compare() -> None:
        with tempfile.TemporaryDirectory() as place:
            log, disk = Bench().files(), DiskFiles(place, writable=True)
            for step in steps:
                assert await answer(log, *step) == await answer(disk, *step)

    asyncio.run(compare())
