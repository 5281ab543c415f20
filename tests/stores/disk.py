"""A disk that remembers every write and sync, can fail on request, and can be cut off at any moment."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import apsw
import pytest

SECTOR = 512

SHARES = (0.0, 0.1, 0.5, 0.9, 1.0)
"""How much of what was not synced may be found: nothing, all, or any part of it."""


@dataclass(frozen=True)
class Step:
    """What happened to a file: `open`, `write`, `truncate`, `sync` or `delete`; or `ack`, told to the caller.

    A `read` is no step: it can fail, and is not remembered.
    """

    what: str
    file: str
    offset: int = 0
    data: bytes = b""


class Disk(apsw.VFS):
    """Give its `name` to a store as `vfs`. Directory syncs are seen too, as a sync of the file `.`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.name = f"disk-{id(self)}"
        self.steps: list[Step] = []
        self.fail: Callable[[Step], int] = lambda step: 0
        """The SQLite error code to fail a step with; 0 lets it happen."""
        self.torn = False
        """Whether half of a write that fails is written all the same."""
        self.errno = errno.EIO
        """Why a step fails, as the system says it."""
        super().__init__(self.name, "unix")
        fsync = os.fsync

        def directory_fsync(descriptor: int) -> None:
            try:
                self.note(Step("sync", "."))
            except apsw.Error as error:
                raise OSError(self.errno, os.strerror(self.errno)) from error
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", directory_fsync)

    def note(self, step: Step) -> None:
        self.ask(step)
        self.steps.append(step)

    def ask(self, step: Step) -> None:
        """Raise what this step fails with, if it is to fail."""
        code = self.fail(step)
        if code:
            error = apsw.exception_for(code)
            error.extendedresult = code  # type: ignore[attr-defined]
            raise error

    def xGetLastError(self) -> tuple[int, str]:  # noqa: N802
        return self.errno, os.strerror(self.errno)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> File:  # noqa: N802
        return File(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        self.note(Step("delete", os.path.basename(filename)))
        super().xDelete(filename, syncdir)


class File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name or ""
        self.disk, self.file = disk, os.path.basename(path)
        disk.note(Step("open", self.file))
        super().__init__("unix", name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        self.disk.ask(Step("read", self.file, offset))
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        try:
            self.disk.note(Step("write", self.file, offset, bytes(data)))
        except apsw.Error:
            if self.disk.torn:
                super().xWrite(data[: len(data) // 2], offset)
            raise
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self.disk.note(Step("truncate", self.file, newsize))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self.disk.note(Step("sync", self.file))
        super().xSync(flags)


class PowerCut:
    """What may be found when the power goes, after the steps it was told of.

    What was synced is there, and so is what was there `before`. Of what was written to a file since its last sync, any
    sectors may be there and any may not. A file that was made or deleted since the last sync of anything may be there
    or not, as on ext4 and XFS.
    """

    def __init__(self, before: Mapping[str, bytes] | None = None) -> None:
        self.safe = {name: bytearray(content) for name, content in (before or {}).items()}
        self.loose: dict[str, list[Step]] = {}
        self.made: set[str] = set()
        self.deleted: dict[str, bytearray] = {}

    def happens(self, step: Step) -> None:
        """Take in the next step."""
        if step.what != "ack":
            getattr(self, f"_{step.what}")(step)

    def files(self, dice: random.Random) -> dict[str, bytes]:
        """One of the many possible outcomes."""
        found = {name: bytearray(content) for name, content in self.safe.items()}
        for name, writes in self.loose.items():
            kept = dice.choice(SHARES)
            for part in (part for write in writes for part in _sectors(write)):
                if dice.random() < kept:
                    _apply(found[name], part)
        for name in self.made:
            if name in found and dice.random() < 0.5:
                del found[name]
        for name, content in self.deleted.items():
            if name not in found and dice.random() < 0.5:
                found[name] = content
        return {name: bytes(content) for name, content in found.items()}

    def _open(self, step: Step) -> None:
        if step.file not in self.safe:
            self.safe[step.file] = bytearray()
            self.made.add(step.file)

    def _write(self, step: Step) -> None:
        self.loose.setdefault(step.file, []).append(step)

    _truncate = _write

    def _sync(self, step: Step) -> None:
        for write in self.loose.pop(step.file, []):
            _apply(self.safe[step.file], write)
        self.made.clear()
        self.deleted.clear()

    def _delete(self, step: Step) -> None:
        if step.file in self.safe:
            self.deleted[step.file] = self.safe.pop(step.file)
        self.loose.pop(step.file, None)


def _apply(content: bytearray, step: Step) -> None:
    if step.what == "truncate":
        del content[step.offset :]
        content.extend(bytes(step.offset - len(content)))
        return
    content.extend(bytes(max(0, step.offset - len(content))))
    content[step.offset : step.offset + len(step.data)] = step.data


def _sectors(write: Step) -> Iterator[Step]:
    if write.what == "truncate":
        yield write
        return
    at, data = write.offset, write.data
    while data:
        room = SECTOR - at % SECTOR
        yield Step("write", write.file, at, data[:room])
        at, data = at + room, data[room:]


def put(files: dict[str, bytes], folder: Path) -> None:
    """Make a folder with these files."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
