"""Races, crashes, and a disk that takes two spellings for one file (imitated at the system calls)."""

import os
import signal
import subprocess
import sys
import textwrap
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from holdfast.errors import WorkspaceError
from holdfast.workspace import beneath
from holdfast.workspace.disk_files import DiskFiles
from holdfast.workspace.paths import normalise

SWAPPER = """
import os, sys
os.chdir(sys.argv[1])
print("ready", flush=True)
while True:
    os.rename("d", "aside"); os.symlink("../outside", "d")
    os.unlink("d"); os.rename("aside", "d")
"""


@pytest.fixture
def swapping(root: Path) -> Iterator[None]:
    """A process that keeps replacing the directory `d` by a link to the outside, and back."""
    (root / "d").mkdir()
    (root / "d" / "f").write_text("inside")
    process = subprocess.Popen([sys.executable, "-c", SWAPPER, str(root)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    yield
    process.kill()
    process.wait()
    process.stdout.close()


async def test_a_directory_swapped_for_a_link_never_leads_outside(
    root: Path, files: DiskFiles, swapping: None
) -> None:
    seen = set()
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        try:
            seen.add(await files.read("/d/f"))
            await files.write("/d/f", b"inside")
            await files.write("/d/g/h", b"inside")
            await files.delete("/d/g", recursive=True)
        except WorkspaceError as refused:
            seen.add(refused.code.encode())
    assert b"secret" not in seen
    assert b"inside" in seen
    assert os.listdir(root.parent / "outside") == ["f"]
    assert (root.parent / "outside" / "f").read_text() == "secret"


def test_an_open_directory_stays_the_one_that_was_checked(root: Path) -> None:
    (root / "d").mkdir()
    (root / "d" / "f").write_text("inside")
    with beneath.directory(str(root), ["d"]) as parent:
        (root / "d").rename(root / "aside")
        (root / "d").symlink_to("../outside", target_is_directory=True)
        with beneath.reading(parent, "f", "/d/f") as file:
            assert file.read() == b"inside"
        beneath.replace(parent, "f", b"changed", "/d/f")
    assert (root / "aside" / "f").read_bytes() == b"changed"
    assert (root.parent / "outside" / "f").read_text() == "secret"


WRITER = """
import asyncio, os, signal, sys
from holdfast.workspace.disk_files import DiskFiles
place, how = sys.argv[1:]
def die(*args, **options):
    os.kill(os.getpid(), signal.SIGKILL)
if how == "before rename":
    os.rename = die
elif how == "after rename":
    rename = os.rename
    os.rename = lambda *args, **options: (rename(*args, **options), die())
async def main():
    files = DiskFiles(place, writable=True)
    print("ready", flush=True)
    while True:
        for letter in b"bc":
            await files.write("/f", bytes([letter]) * 200_000)
asyncio.run(main())
"""


def writer(root: Path, how: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(root), how], stdout=subprocess.PIPE
    )


def is_whole(data: bytes) -> bool:
    return len(data) == 200_000 and len(set(data)) == 1


@pytest.mark.parametrize(("how", "letter"), [("before rename", b"a"), ("after rename", b"b")])
async def test_a_write_cut_off_at_the_rename_leaves_old_or_new(root: Path, how: str, letter: bytes) -> None:
    (root / "f").write_bytes(b"a" * 200_000)
    with writer(root, how) as process:
        assert process.wait() == -signal.SIGKILL
    assert (root / "f").read_bytes() == letter * 200_000
    assert [info.path for info in await DiskFiles(root).list()] == ["/f"]


def test_a_write_cut_off_anywhere_leaves_old_or_new(root: Path) -> None:
    (root / "f").write_bytes(b"a" * 200_000)
    for turn in range(6):
        with writer(root, "") as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.003 * turn)
            process.kill()
        assert is_whole((root / "f").read_bytes())


async def test_a_failed_write_leaves_nothing_behind(
    root: Path, files: DiskFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "f").write_text("old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device", str(root))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WorkspaceError, match="No space left") as refused:
        await files.write("/f", b"new")
    monkeypatch.undo()
    assert refused.value.code == "io-error"
    assert str(root) not in str(refused.value)
    assert os.listdir(root) == ["f"]
    assert (root / "f").read_text() == "old"


def test_a_huge_directory_is_refused(root: Path) -> None:
    for n in range(4):
        (root / str(n)).write_text("")
    with beneath.directory(str(root), ()) as fd, pytest.raises(WorkspaceError) as refused:
        beneath.entries(fd, normalise("/"), limit=3)
    assert refused.value.code == "too-large"


@pytest.fixture(params=["case", "accents", "both"])
def folding(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make every name that is looked up below a directory find an entry of another spelling."""

    def fold(name: str) -> str:
        if request.param != "case":
            name = unicodedata.normalize("NFC", name)
        return name.casefold() if request.param != "accents" else name

    def found(name: str, directory: int | None) -> str:
        if directory is None:
            return name
        return next((entry for entry in os.listdir(directory) if fold(entry) == fold(name)), name)

    def folded(call: Callable[..., Any], key: str = "dir_fd") -> Callable[..., Any]:
        return lambda name, *args, **options: call(found(name, options.get(key)), *args, **options)

    for name in ("open", "stat", "mkdir", "unlink", "access"):
        monkeypatch.setattr(os, name, folded(getattr(os, name)))
    rename = os.rename
    monkeypatch.setattr(
        os, "rename", lambda old, new, **fds: rename(old, found(new, fds["dst_dir_fd"]), **fds)
    )
    return str(request.param)


def twins(folding: str) -> tuple[str, str]:
    return ("café.txt", "cafe\u0301.txt") if folding == "accents" else ("Read.me", "read.ME")


async def refused(awaitable: Any) -> str:
    with pytest.raises(WorkspaceError) as error:
        await awaitable
    return error.value.code


async def test_the_second_spelling_is_a_conflict_and_the_first_file_stays(
    tmp_path: Path, folding: str
) -> None:
    files = DiskFiles(tmp_path, writable=True)
    first, second = twins(folding)
    await files.write(first, b"first")
    assert await refused(files.write(second, b"second")) == "conflict"
    assert await refused(files.delete(second)) == "conflict"
    await files.write(first, b"changed")
    assert os.listdir(tmp_path) == [first]
    assert await files.read(first) == b"changed"


async def test_a_directory_of_another_spelling_is_a_conflict_too(tmp_path: Path, folding: str) -> None:
    files = DiskFiles(tmp_path, writable=True)
    first, second = twins(folding)
    await files.write(f"{first}/f", b"first")
    assert await refused(files.write(f"{second}/f", b"second")) == "conflict"
    assert await refused(files.write(f"{second}/g", b"second")) == "conflict"
    assert await files.read(f"{first}/f") == b"first"


async def test_two_links_to_one_file_are_not_twins(tmp_path: Path) -> None:
    files = DiskFiles(tmp_path, writable=True)
    (tmp_path / "a").write_text("1")
    os.link(tmp_path / "a", tmp_path / "A")
    await files.write("/A", b"2")
    assert (tmp_path / "a").read_text() == "1"
    assert (tmp_path / "A").read_text() == "2"
