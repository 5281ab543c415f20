"""The tools of the `files` capability, as a model meets them."""

import json
from pathlib import Path
from typing import Any

import pytest

from holdfast.capabilities.files import MAX_LISTED, MAX_READ_CHARACTERS, MAX_READ_LINES, files
from holdfast.errors import ConfigError, MissingService, ToolError, WorkspaceError
from holdfast.events import Fact
from holdfast.schema import InvalidArguments
from holdfast.services import FILES, Files, Key, Scope
from holdfast.tool import Call, Context, SessionInfo, Tool
from holdfast.workspace.disk_files import DiskFiles
from tests.workspace.bench import Bench

TOOLS: dict[str, Tool] = {tool.name: tool for tool in files({}).tools}


class Session:
    """A workspace, and the way the runtime calls tools on it."""

    def __init__(self, place: Path | None = None) -> None:
        self.bench = Bench()
        self.files: Files = DiskFiles(place, writable=True) if place else self.bench.files()
        self.outbox: list[Fact] = []

    async def call(self, name: str, *, attempt: int = 1, commit: bool = True, **arguments: Any) -> str:
        self.outbox = []
        lent: dict[Key[Any], object] = {FILES: self.files}
        context = Context(
            session=SessionInfo(id=self.bench.state.session_id),
            call=Call(id="call_1", key="call_1", name=name, attempt=attempt, turn_id="turn_1"),
            scope=Scope(lent).for_call("call_1", self.outbox),
            progress=print,
            output=print,
        )
        tool = TOOLS[name]
        result = await tool.run(context, tool.parameters.read(json.dumps(arguments)))
        if commit:
            await self.bench.record(*self.outbox)
        assert isinstance(result, str)
        return result

    async def refused(self, name: str, **arguments: Any) -> str:
        """The code, if it has one, and what is said to the model."""
        with pytest.raises((ToolError, WorkspaceError)) as error:
            await self.call(name, **arguments)
        assert self.outbox == []
        code = error.value.code if isinstance(error.value, WorkspaceError) else ""
        return f"{code}: {error.value}"


@pytest.fixture(params=["log", "disk"])
def session(request: pytest.FixtureRequest, tmp_path: Path) -> Session:
    return Session() if request.param == "log" else Session(tmp_path)


def test_the_capability_brings_its_tools_and_its_need() -> None:
    capability = files({})
    assert capability.name == "files"
    assert capability.needs == (FILES,)
    assert set(TOOLS) == {"read_file", "write_file", "edit_file", "list_files", "grep_files", "delete_file"}
    assert all(name in capability.instructions for name in ("read_file", "edit_file", "write_file"))


def test_read_only_offers_and_mentions_no_writing() -> None:
    capability = files({"read_only": True})
    assert {tool.name for tool in capability.tools} == {"read_file", "list_files", "grep_files"}
    assert "edit_file" not in capability.instructions


@pytest.mark.parametrize("config", [{"readonly": True}, {"read_only": "yes"}, {"read_only": True, "x": 1}])
def test_another_configuration_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match='capability "files"'):
        files(config)


def test_readers_are_pure_and_writers_share_a_lane() -> None:
    for name, tool in TOOLS.items():
        writes = name in ("write_file", "edit_file", "delete_file")
        assert tool.effect == ("idempotent" if writes else "pure")
        assert tool.lane == ("workspace" if writes else "")


async def test_a_session_without_files_is_told_so() -> None:
    session = Session()
    context = Context(
        session=SessionInfo(id="s"),
        call=Call(id="c", key="c", name="read_file", attempt=1, turn_id="t"),
        scope=Scope(),
        progress=print,
        output=print,
    )
    tool = TOOLS["read_file"]
    with pytest.raises(MissingService):
        await tool.run(context, tool.parameters.read('{"path": "/a"}'))
    assert session.outbox == []


async def test_write_read_edit_list_search_delete(session: Session) -> None:
    assert await session.call("write_file", path="src/a.py", content="x = 1\n") == (
        "wrote 6 bytes to /workspace/src/a.py"
    )
    assert await session.call("read_file", path="/workspace/src/a.py") == "x = 1"
    assert await session.call("edit_file", path="/src/a.py", old="1", new="2") == (
        "replaced 1 occurrence in /workspace/src/a.py"
    )
    assert await session.call("list_files") == "/workspace/src/"
    assert await session.call("list_files", path="src") == "/workspace/src/a.py (6 bytes)"
    assert await session.call("grep_files", pattern="x = ") == "/workspace/src/a.py:1: x = 2"
    assert await session.call("delete_file", path="src/a.py") == "deleted"
    assert (await session.refused("read_file", path="src/a.py")).startswith("not-found: /workspace/src")


async def test_a_long_file_comes_in_parts_that_join(session: Session) -> None:
    text = "\n".join([f"line {n}" for n in range(1, 5_001)])
    await session.call("write_file", path="/a", content=text)
    parts, offset = [], 0
    while True:
        part = await session.call("read_file", path="/a", offset=offset)
        body, _, note = part.rpartition("\n")
        parts.append(body)
        if "go on" not in note:
            break
        offset = int(note.partition("offset=")[2].rstrip("]"))
    assert "\n".join(parts) == text
    assert len(parts) == -(-5_000 // MAX_READ_LINES)
    assert note == "[lines 4001-5000 of 5000; this is the end]"


async def test_offset_and_limit_pick_lines(session: Session) -> None:
    await session.call("write_file", path="/a", content="1\n2\n3\n4\n")
    assert (
        await session.call("read_file", path="/a", offset=1, limit=2)
        == "2\n3\n[lines 2-3 of 4; go on with offset=3]"
    )
    assert await session.call("read_file", path="/a", offset=3) == "4\n[lines 4-4 of 4; this is the end]"
    assert (
        await session.call("read_file", path="/a", offset=4)
        == "[the file has 4 lines; offset 4 is behind its end]"
    )
    for wrong in ({"offset": -1}, {"limit": 0}, {"limit": MAX_READ_LINES + 1}):
        with pytest.raises(InvalidArguments):
            await session.call("read_file", path="/a", **wrong)


async def test_very_long_lines_are_cut_and_said_to_be(session: Session) -> None:
    await session.call("write_file", path="/a", content="x" * (MAX_READ_CHARACTERS + 5) + "\nend")
    shown = await session.call("read_file", path="/a")
    assert shown.startswith("x" * MAX_READ_CHARACTERS + "\n[line 1 is 60,005 characters long")
    assert shown.endswith("[lines 1-1 of 2; go on with offset=1]")


async def test_many_characters_end_a_part_early(session: Session) -> None:
    await session.call("write_file", path="/a", content=("y" * 999 + "\n") * 200)
    assert (await session.call("read_file", path="/a")).endswith("[lines 1-60 of 200; go on with offset=60]")


async def test_a_large_file_is_paged_too(session: Session) -> None:
    await session.files.write("/a", b"line\n" * 100_000)
    assert (await session.call("read_file", path="/a")).endswith(
        "[lines 1-2000 of 100000; go on with offset=2000]"
    )


async def test_an_empty_file_is_said_to_be_empty(session: Session) -> None:
    await session.call("write_file", path="/a", content="")
    assert await session.call("read_file", path="/a") == "[the file is empty]"


@pytest.mark.parametrize("data", [b"\xff\xfe", b"a\0b"])
async def test_a_binary_file_is_not_read_as_text(session: Session, data: bytes) -> None:
    await session.files.write("/a", data)
    assert (await session.refused("read_file", path="/a")).startswith("not-text")
    assert (await session.refused("edit_file", path="/a", old="a", new="b")).startswith("not-text")


async def test_every_refusal_carries_its_code_and_the_virtual_path(session: Session, tmp_path: Path) -> None:
    await session.call("write_file", path="/d/f", content="1")
    refusals = {
        "traversal": await session.refused("read_file", path="../x"),
        "is-directory": await session.refused("read_file", path="/d"),
        "not-directory": await session.refused("list_files", path="/d/f"),
        "not-found": await session.refused("list_files", path="/e"),
        "not-empty": await session.refused("delete_file", path="/d"),
        "root-protected": await session.refused("delete_file", path="/", recursive=True),
        "reserved": await session.refused("write_file", path="/.tasks/x", content=""),
        "bad-pattern": await session.refused("grep_files", pattern="("),
    }
    for code, message in refusals.items():
        assert message.startswith(f"{code}: ")
        assert str(tmp_path) not in message


async def test_an_edit_needs_a_passage_that_is_there(session: Session) -> None:
    await session.call("write_file", path="/a", content="def f():\n    return 1\n")
    assert "read the file" in await session.refused("edit_file", path="/a", old="nowhere", new="x")
    hint = await session.refused("edit_file", path="/a", old="def f():\n  return 1", new="x")
    assert "its first line is, at 1" in hint
    assert "the same text" in await session.refused("edit_file", path="/a", old="1", new="1")
    with pytest.raises(InvalidArguments):
        await session.call("edit_file", path="/a", old="", new="x")


async def test_an_edit_needs_a_passage_that_is_unique(session: Session) -> None:
    await session.call("write_file", path="/a", content="a\nb\na\n")
    assert "occurs 2 times, at lines 1, 3" in await session.refused("edit_file", path="/a", old="a", new="c")
    assert await session.call("edit_file", path="/a", old="a", new="c", replace_all=True) == (
        "replaced 2 occurrences in /workspace/a"
    )
    assert await session.files.read("/a") == b"c\nb\nc\n"


@pytest.mark.parametrize(
    ("before", "old", "new", "replace_all", "after"),
    [
        ("x = 1\n", "1", "2", False, "x = 2\n"),
        ("x = 1\n", "x", "xx", False, "xx = 1\n"),
        ("keep drop\n", " drop", "", False, "keep\n"),
        ("a a\n", "a", "ab", True, "ab ab\n"),
        ("import a\n", "import a\n", "import a\nimport b\n", False, "import a\nimport b\n"),
    ],
)
async def test_an_edit_that_was_cut_off_is_made_once(
    session: Session, before: str, old: str, new: str, replace_all: bool, after: str
) -> None:
    arguments: dict[str, Any] = {"path": "/a", "old": old, "new": new, "replace_all": replace_all}
    await session.call("write_file", path="/a", content=before)
    await session.call("edit_file", commit=False, **arguments)
    said = await session.call("edit_file", attempt=2, **arguments)
    assert (await session.files.read("/a")).decode() == after
    assert said.startswith(
        "replaced" if isinstance(session.files, type(session.bench.files())) else "this call was cut off"
    )


async def test_an_edit_that_was_cut_off_before_its_effect_is_made(session: Session) -> None:
    await session.call("write_file", path="/a", content="x = 1\n")
    await session.call("edit_file", attempt=2, path="/a", old="1", new="2")
    assert await session.files.read("/a") == b"x = 2\n"


async def test_writing_and_deleting_again_changes_nothing(session: Session) -> None:
    for attempt in (1, 2):
        await session.call("write_file", attempt=attempt, commit=attempt == 2, path="/a", content="1")
    assert await session.files.read("/a") == b"1"
    assert await session.call("delete_file", path="/a") == "deleted"
    assert (
        await session.call("delete_file", attempt=2, path="/a") == "there was nothing to delete at this path"
    )


async def test_a_file_changed_by_another_between_read_and_write_is_a_conflict(tmp_path: Path) -> None:
    class Contended(DiskFiles):
        async def read(self, path: str) -> bytes:
            data = await super().read(path)
            (tmp_path / "a").write_text("theirs 1")
            return data

    session = Session(tmp_path)
    await session.call("write_file", path="/a", content="mine 1")
    session.files = Contended(tmp_path, writable=True)
    assert (await session.refused("edit_file", path="/a", old="1", new="2")).startswith(
        "conflict: /workspace/a"
    )
    assert (tmp_path / "a").read_text() == "theirs 1"


async def test_a_long_listing_is_cut_and_said_to_be(session: Session) -> None:
    for n in range(MAX_LISTED + 3):
        await session.files.write(f"/{n}", b"")
    listed = (await session.call("list_files")).splitlines()
    assert len(listed) == MAX_LISTED + 1
    assert listed[-1].startswith("[1,000 of 1,003 entries shown")


async def test_an_empty_directory_is_said_to_be_empty(session: Session) -> None:
    assert await session.call("list_files") == "[the directory is empty]"


async def test_a_listing_shows_what_is_read_only() -> None:
    session = Session()
    await session.bench.files().seed("/a", b"1", read_only=True)
    assert await session.call("list_files") == "/workspace/a (1 bytes, read-only)"
    assert (await session.refused("write_file", path="/a", content="")).startswith("read-only: /workspace/a")


async def test_a_search_says_what_it_left_out(session: Session) -> None:
    assert await session.call("grep_files", pattern="x") == "[no match]"
    await session.files.write("/big", b"x\n" * 300_000)
    await session.files.write("/binary", b"x\0")
    await session.files.write("/long", b"y" * 100_000)
    await session.files.write("/many", b"x\n" * 300)
    found = await session.call("grep_files", pattern="x", ignore_case=True)
    assert found.splitlines()[199:] == [
        "/workspace/many:200: x",
        "[stopped at 200 matches; narrow the pattern, path or glob]",
        "[not searched, larger than 512 KiB: /workspace/big]",
        "[1 file not searched because not text]",
        "[1 very long line searched in part]",
    ]


async def test_a_directory_called_workspace_is_shown_as_it_must_be_written(session: Session) -> None:
    await session.call("write_file", path="workspace/a", content="inner")
    await session.call("write_file", path="/a", content="outer")
    listed = await session.call("list_files", recursive=True)
    assert "/workspace/workspace/a (5 bytes)" in listed.splitlines()
    assert await session.call("read_file", path="/workspace/workspace/a") == "inner"
    assert await session.call("grep_files", pattern="inner") == "/workspace/workspace/a:1: inner"
