"""Files of a real directory."""

import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import UsageError, WorkspaceError
from holdfast.workspace.disk_files import IGNORED, DiskFiles
from holdfast.workspace.paths import display, normalise
from tests.workspace.vectors import by_id, of_surface


async def code_of(awaitable: Any) -> str:
    with pytest.raises(WorkspaceError) as refused:
        await awaitable
    return refused.value.code


def put(root: Path, path: str, what: str) -> None:
    """Lay down one entry of a vector's `on_disk`."""
    place = root / path.lstrip("/")
    kind, _, target = what.partition(":")
    match kind:
        case "dir":
            place.mkdir()
        case "symlink":
            inside = target.replace("<ROOT>", str(root))
            place.symlink_to(root / inside.lstrip("/") if path == target else inside)
        case "socket":
            with Inside(place.parent):
                socket.socket(socket.AF_UNIX).bind(place.name)
        case "fifo":
            os.mkfifo(place)
        case _:
            place.write_text(what)


class Inside:
    """A socket's address is short: bind it from within its directory."""

    def __init__(self, place: Path) -> None:
        self.place, self.before = place, Path.cwd()

    def __enter__(self) -> None:
        os.chdir(self.place)

    def __exit__(self, *_: object) -> None:
        os.chdir(self.before)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("vector", of_surface("disk"), ids=by_id)
async def test_every_disk_vector_has_its_verdict(root: Path, vector: dict[str, Any]) -> None:
    context = vector.get("context", {})
    for path, what in context.get("on_disk", {}).items():
        put(root, path, what)
    files = DiskFiles(root, writable=True, windows_names=context.get("platform") == "windows")
    path = vector["input"].replace("<ROOT>", str(root.resolve()))
    if vector["expect"] == "deny":
        with pytest.raises(WorkspaceError) as refused:
            await (files.write(path, b"x") if vector.get("op") == "write" else files.read(path))
        assert refused.value.code == vector["error"]
        assert str(root) not in str(refused.value)
        return
    if vector.get("op") == "write":
        assert (await files.write(path, b"x")).path == vector["session_path"]
    elif vector.get("op") == "read":
        real = root / vector["session_path"].lstrip("/")
        real.parent.mkdir(parents=True, exist_ok=True)
        real.write_text("content")
        assert await files.read(path) == b"content"
    else:
        assert (await files.stat(path)).path == vector["session_path"]
    assert display(normalise(vector["session_path"])) == vector["display_path"]


@pytest.mark.parametrize("where", ["outside", "inside", "nowhere", "itself"])
async def test_a_link_is_refused_wherever_it_points(root: Path, files: DiskFiles, where: str) -> None:
    (root / "a").write_text("inside")
    target = {"outside": "../outside/f", "inside": "a", "nowhere": "gone", "itself": "link"}[where]
    (root / "link").symlink_to(target)
    for attempt in (
        files.read("/link"),
        files.write("/link", b"x"),
        files.write("/link", b"x", expect=""),
        files.stat("/link"),
        files.list("/link"),
        files.delete("/link"),
        files.delete("/link", recursive=True),
    ):
        assert await code_of(attempt) == "symlink"
    assert (root / "link").is_symlink()
    assert (root.parent / "outside" / "f").read_text() == "secret"
    assert [info.path for info in await files.list()] == ["/a"]


async def test_a_link_as_a_directory_is_refused(root: Path, files: DiskFiles) -> None:
    (root / "d").symlink_to("../outside", target_is_directory=True)
    for attempt in (
        files.read("/d/f"),
        files.write("/d/f", b"x"),
        files.write("/d/new/deep", b"x"),
        files.stat("/d/f"),
        files.list("/d"),
        files.delete("/d/f"),
    ):
        assert await code_of(attempt) == "symlink"
    assert os.listdir(root.parent / "outside") == ["f"]
    assert [info.path for info in await files.list(recursive=True)] == []


async def test_pipes_and_devices_are_refused_without_blocking(root: Path, files: DiskFiles) -> None:
    os.mkfifo(root / "pipe")
    for attempt in (
        files.read("/pipe"),
        files.write("/pipe", b"x"),
        files.stat("/pipe"),
        files.delete("/pipe"),
    ):
        assert await code_of(attempt) == "special-file"
    assert await code_of(files.read("/pipe/x")) == "special-file"
    assert await files.list() == []


async def test_a_device_is_refused() -> None:
    assert await code_of(DiskFiles("/dev").read("/null")) == "special-file"


async def test_a_denied_path_makes_no_system_call(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writable, read_only = DiskFiles(root, writable=True), DiskFiles(root)

    def touched(*args: object, **options: object) -> None:
        raise AssertionError(f"the disk was touched: {args}")

    for name in ("open", "stat", "mkdir", "unlink", "rename", "scandir"):
        monkeypatch.setattr(os, name, touched)
    codes = [
        await code_of(writable.read("/../x")),
        await code_of(writable.write("/.git/config", b"")),
        await code_of(writable.write("/.tasks/x", b"")),
        await code_of(writable.delete("/.git/hooks/x")),
        await code_of(writable.delete("/", recursive=True)),
        await code_of(writable.list("/a\nb")),
        await code_of(read_only.write("/x", b"")),
        await code_of(read_only.delete("/x")),
    ]
    monkeypatch.undo()
    assert codes == [
        "traversal",
        "protected",
        "reserved",
        "protected",
        "root-protected",
        "control-char",
        "read-only",
        "read-only",
    ]


async def test_a_read_only_view_changes_nothing(root: Path) -> None:
    (root / "a").write_text("1")
    view = DiskFiles(root)
    assert await view.read("/a") == b"1"
    assert await code_of(view.write("/a", b"2")) == "read-only"
    assert await code_of(view.delete("/a")) == "read-only"
    assert (await view.stat("/a")).read_only
    assert (root / "a").read_text() == "1"


@pytest.mark.parametrize("mode", [0o644, 0o755, 0o600, 0o664])
async def test_a_file_keeps_its_mode(root: Path, files: DiskFiles, mode: int) -> None:
    (root / "run.sh").write_text("old")
    (root / "run.sh").chmod(mode)
    await files.write("/run.sh", b"new")
    assert stat.S_IMODE((root / "run.sh").stat().st_mode) == mode
    assert os.listdir(root) == ["run.sh"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
async def test_a_file_keeps_its_owner(root: Path, files: DiskFiles) -> None:
    (root / "f").write_text("old")
    os.chown(root / "f", 12_345, 54_321)
    await files.write("/f", b"new")
    status = (root / "f").stat()
    assert (status.st_uid, status.st_gid) == (12_345, 54_321)


async def test_a_new_file_has_the_usual_mode(root: Path, files: DiskFiles) -> None:
    await files.write("/new", b"")
    (root / "usual").write_text("")
    assert (root / "new").stat().st_mode == (root / "usual").stat().st_mode


async def test_a_setuid_bit_does_not_survive(root: Path, files: DiskFiles) -> None:
    (root / "x").write_text("old")
    (root / "x").chmod(0o4755)
    await files.write("/x", b"new")
    assert stat.S_IMODE((root / "x").stat().st_mode) == 0o755


async def test_a_file_without_write_permission_is_read_only(root: Path, files: DiskFiles) -> None:
    (root / "d").mkdir()
    (root / "d" / "a").write_text("1")
    (root / "d" / "a").chmod(0o444)
    assert (await files.stat("/d/a")).read_only
    assert await code_of(files.write("/d/a", b"2")) == "read-only"
    assert await code_of(files.delete("/d/a")) == "read-only"
    assert await code_of(files.delete("/d", recursive=True)) == "read-only"
    assert (root / "d" / "a").read_text() == "1"


async def test_another_name_of_the_same_file_keeps_its_content(root: Path, files: DiskFiles) -> None:
    os.link(root.parent / "outside" / "f", root / "f")
    await files.write("/f", b"changed")
    assert (root.parent / "outside" / "f").read_text() == "secret"


@pytest.mark.parametrize("place", ["repo/.git", "repo/sub/.git"])
async def test_a_directory_with_a_repository_in_it_is_not_deleted(
    root: Path, files: DiskFiles, place: str
) -> None:
    (root / place).mkdir(parents=True)
    (root / "repo" / "a").write_text("1")
    assert await code_of(files.delete("/repo", recursive=True)) == "protected"
    assert (root / "repo" / "a").exists()


async def test_deleting_a_tree_unlinks_the_links_in_it(root: Path, files: DiskFiles) -> None:
    (root / "d" / "e").mkdir(parents=True)
    (root / "d" / "link").symlink_to("../../outside", target_is_directory=True)
    (root / "d" / "e" / "link").symlink_to("../../../outside/f")
    os.mkfifo(root / "d" / "pipe")
    assert await files.delete("/d", recursive=True)
    assert os.listdir(root) == []
    assert (root.parent / "outside" / "f").read_text() == "secret"


async def test_an_emptied_directory_stays_until_it_is_deleted(root: Path, files: DiskFiles) -> None:
    await files.write("/d/f", b"")
    await files.delete("/d/f")
    assert (await files.stat("/d")).is_directory
    assert await files.delete("/d") is True
    assert os.listdir(root) == []


async def test_a_recursive_listing_names_but_does_not_enter_what_tools_keep(
    root: Path, files: DiskFiles
) -> None:
    for name in (".git", "node_modules", "src"):
        (root / name).mkdir()
        (root / name / "f").write_text("")
    assert [info.path for info in await files.list(recursive=True)] == [
        "/.git",
        "/node_modules",
        "/src",
        "/src/f",
    ]
    assert [info.path for info in await files.list("/node_modules", recursive=True)] == ["/node_modules/f"]
    everything = DiskFiles(root, ignore=())
    assert len(await everything.list(recursive=True)) == 6
    assert ".git" in IGNORED


async def test_a_listing_leaves_out_what_no_path_can_name(root: Path, files: DiskFiles) -> None:
    for name in (b"good", b"bad\xff", b"line\nbreak", b"bidi\xe2\x80\xae", b"space "):
        (root / os.fsdecode(name)).write_text("")
    assert [info.path for info in await files.list()] == ["/good"]


async def test_a_listing_tells_size_and_time(root: Path, files: DiskFiles) -> None:
    (root / "a").write_bytes(b"123")
    os.utime(root / "a", (1_000_000_000, 1_000_000_000))
    (info,) = await files.list()
    assert info.size == 3
    assert info.updated_at is not None
    assert info.updated_at.isoformat() == "2001-09-09T01:46:40+00:00"


async def test_a_file_above_the_limit_is_not_read(root: Path) -> None:
    (root / "big").write_bytes(b"x" * 11)
    files = DiskFiles(root, max_file_bytes=10, writable=True)
    assert await code_of(files.read("/big")) == "too-large"
    assert await code_of(files.write("/new", b"x" * 11)) == "too-large"


async def test_no_error_names_the_host_path(root: Path, files: DiskFiles) -> None:
    (root / "d").mkdir()
    (root / "link").symlink_to("/etc/passwd")
    (root / "f").write_text("")
    for attempt in (
        files.read("/missing"),
        files.read("/d"),
        files.read("/link"),
        files.read("/f/x"),
        files.read(f"{root}/../x"),
        files.list("/f"),
        files.write("/d", b""),
        files.delete("/"),
    ):
        with pytest.raises(WorkspaceError) as refused:
            await attempt
        assert str(root) not in str(refused.value)
        assert str(root.parent) not in str(refused.value)
        assert "/workspace" in str(refused.value)


async def test_a_root_that_vanished_is_an_error_without_its_name(root: Path, files: DiskFiles) -> None:
    root.rmdir()
    with pytest.raises(WorkspaceError) as refused:
        await files.list()
    assert str(root) not in str(refused.value)


def test_a_root_must_be_a_directory(root: Path) -> None:
    (root / "f").write_text("")
    for place in (root / "missing", root / "f"):
        with pytest.raises(UsageError, match="is not a directory"):
            DiskFiles(place)


async def test_a_root_behind_a_link_is_fine(root: Path) -> None:
    (root / "a").write_text("1")
    (root.parent / "alias").symlink_to(root, target_is_directory=True)
    assert await DiskFiles(root.parent / "alias").read("/a") == b"1"


async def test_an_agent_that_may_write_cannot_touch_the_hooks_of_its_workspace(tmp_path: Path) -> None:
    (tmp_path / "sub" / ".holdfast").mkdir(parents=True)
    (tmp_path / "sub" / ".holdfast" / "hooks.toml").write_text("")
    files = DiskFiles(tmp_path, writable=True)
    assert await code_of(files.write("/.holdfast/hooks.toml", b"x")) == "protected"
    assert await code_of(files.delete("/sub/.holdfast/hooks.toml")) == "protected"
    assert await code_of(files.delete("/sub", recursive=True)) == "protected"
