"""Hooks that a directory brings with it: what they are, and everything they consist of.

A cloned repository may hold `.holdfast/hooks.toml`. Its hooks consist of that file, all that stands beside it, and
every file of the directory that a command names. It is read once, and nothing of it is run here.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tomllib
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from holdfast.commands.hook import shell_words
from holdfast.errors import HooksRefused
from holdfast.hook import Point

FOLDER, FILE = ".holdfast", "hooks.toml"

MAX_FILES = 256
"""Files and directories that hooks of one directory may consist of."""
MAX_BYTES = 4_194_304
"""Of all of them."""
MAX_HOOKS = 64

OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ENTER = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC


class HookLine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One hook, as the file says it."""

    id: str
    point: Point
    command: tuple[str, ...] = ()
    shell: str = ""
    guard: bool = False
    timeout: float = 5.0
    environment: dict[str, str] = {}
    keep_original: bool = False


class _Lines(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    hooks: tuple[HookLine, ...] = ()


class FoundFile(Struct, frozen=True):
    """What a file was when it was read."""

    content: bytes
    executable: bool


class FoundHooks(Struct, frozen=True, kw_only=True):
    """The hooks of a directory, and everything they consist of, as it was read once."""

    directory: str
    """The real path."""
    lines: tuple[HookLine, ...]
    files: dict[str, FoundFile]
    """By path, as seen from the directory."""

    @property
    def digest(self) -> str:
        """Of all of it. Another name, content or permission to execute is another digest."""
        return digest_of_files(self.files)


def find_hooks(directory: str | os.PathLike[str]) -> FoundHooks | None:
    """The hooks of this directory; None when it has none. Runs nothing. Raises `HooksRefused` for links and whatever
    else is no plain file, for too much, and for a file that cannot be understood."""
    real = os.path.realpath(directory)
    try:
        root = os.open(real, _ENTER)
        try:
            return _hooks_in(root, real)
        finally:
            os.close(root)
    except OSError as error:
        raise HooksRefused(f"{real} cannot be looked into: {error}") from error


def _hooks_in(root: int, real: str) -> FoundHooks | None:
    gathered = _Gathered(real)
    try:
        folder = os.open(FOLDER, _ENTER, dir_fd=root)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HooksRefused(
            f"{real}/{FOLDER} is a link, or no directory ({error.strerror}); neither is followed"
        ) from error
    try:
        _collect(folder, FOLDER, gathered)
    finally:
        os.close(folder)
    files = gathered.files
    if f"{FOLDER}/{FILE}" not in files:
        return None
    lines = _lines_in(files[f"{FOLDER}/{FILE}"].content, f"{real}/{FOLDER}/{FILE}")
    for line in lines:
        _add_named(line, root, gathered)
    return FoundHooks(directory=real, lines=lines, files=files)


class _Gathered:
    """What was found so far, within bounds."""

    def __init__(self, real: str, most: int = MAX_FILES) -> None:
        self.real, self._most = real, most
        self.files: dict[str, FoundFile] = {}
        self._places = self._bytes = 0

    def come_to(self, place: str) -> None:
        """One more file or directory. Raises `HooksRefused` for one too many, or a name that is no text."""
        self._places += 1
        try:
            place.encode()
        except UnicodeEncodeError:
            raise HooksRefused(f"{self.real} holds {place!a}, a name that is no text; rename it") from None
        self._check()

    def add(self, place: str, file: FoundFile) -> None:
        """Take in this file. Raises `HooksRefused` when that is too much."""
        self.files[place] = file
        self._bytes += len(file.content)
        self._check()

    def _check(self) -> None:
        if self._places > self._most or self._bytes > MAX_BYTES:
            raise HooksRefused(
                f"the hooks of {self.real} consist of more than {self._most} files and directories, or {MAX_BYTES:,} "
                f"bytes; keep {FOLDER}/ for hooks only"
            )


def _collect(folder: int, place: str, gathered: _Gathered) -> None:
    """All files of a directory that is open, and of those in it."""
    for name in sorted(os.listdir(folder)):
        where = f"{place}/{name}" if place else name
        gathered.come_to(where)
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            gathered.add(where, _read(folder, name, f"{gathered.real}/{where}"))
            continue
        inner = _opened(name, _ENTER, folder, f"{gathered.real}/{where}")
        try:
            _collect(inner, where, gathered)
        finally:
            os.close(inner)


def _opened(name: str, flags: int, folder: int, where: str) -> int:
    try:
        return os.open(name, flags, dir_fd=folder)
    except OSError as error:
        raise HooksRefused(
            f"{where} is a link or cannot be read ({error.strerror}); hooks consist of plain files"
        ) from error


def _read(folder: int, name: str, where: str) -> FoundFile:
    """A plain file: what is looked at and what is read is one and the same."""
    fd = _opened(name, OPEN, folder, where)
    with os.fdopen(fd, "rb") as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise HooksRefused(f"{where} is no plain file; hooks consist of plain files")
        content = file.read(MAX_BYTES + 1)
    return FoundFile(content, bool(found.st_mode & stat.S_IXUSR))


def _lines_in(body: bytes, where: str) -> tuple[HookLine, ...]:
    try:
        lines = msgspec.convert(tomllib.loads(body.decode()), _Lines).hooks
    except (ValueError, RecursionError) as error:
        raise HooksRefused(f"{where} cannot be understood: {error}") from error
    if len(lines) > MAX_HOOKS:
        raise HooksRefused(f"{where} has more than {MAX_HOOKS} hooks")
    if len({line.id for line in lines}) < len(lines) or not all(line.id for line in lines):
        raise HooksRefused(f"{where}: each hook needs an id of its own")
    return lines


def _add_named(line: HookLine, root: int, gathered: _Gathered) -> None:
    """Add the files of the directory that this hook's command names."""
    real = gathered.real
    for word in (*line.command, line.shell):
        if real in word and real != "/":
            raise HooksRefused(
                f"hook {line.id!r} of {real} names a file there by its whole path; name it as seen from {real}"
            )
        if "\0" in word:
            raise HooksRefused(f"hook {line.id!r} of {real} has a NUL in its command")
    for word in (*line.command, *shell_words(line.shell)):
        parts = [it for it in word.split("/") if it not in ("", ".")]
        if not parts or word.startswith(("/", "-")):
            continue
        if ".." in parts:
            if word in line.command:
                raise HooksRefused(f"hook {line.id!r} of {real} names {word!r}, which leads out of it")
            continue
        where = "/".join(parts)
        if where not in gathered.files and (it := _read_below(root, parts, f"{real}/{where}")) is not None:
            gathered.come_to(where)
            gathered.add(where, it)


def _read_below(root: int, parts: list[str], where: str) -> FoundFile | None:
    """The file, reached without following any link; None where there is none."""
    above = os.dup(root)
    try:
        for name in parts[:-1]:
            if not _is_there(name, above, stat.S_IFDIR):
                return None
            inner = _opened(name, _ENTER, above, where)
            os.close(above)
            above = inner
        return _read(above, parts[-1], where) if _is_there(parts[-1], above, stat.S_IFREG) else None
    finally:
        os.close(above)


def _is_there(name: str, folder: int, kind: int) -> bool:
    """Whether there is one of this kind under this name; a link is there as well, and will be refused."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return False
    return stat.S_IFMT(found.st_mode) in (kind, stat.S_IFLNK)


def digest_of_files(files: dict[str, FoundFile]) -> str:
    told = [
        (path, files[path].executable, hashlib.sha256(files[path].content).hexdigest())
        for path in sorted(files)
    ]
    return f"sha256:{hashlib.sha256(msgspec.json.encode(told)).hexdigest()}"


def tree(place: Path) -> dict[str, FoundFile]:
    """All files below this directory; none when it cannot be read, or holds what it should not."""
    gathered = _Gathered(str(place), most=MAX_FILES * MAX_HOOKS)  # directories of named files are there, too
    with suppress(OSError, HooksRefused):
        root = os.open(place, _ENTER)
        try:
            _collect(root, "", gathered)
        finally:
            os.close(root)
        return gathered.files
    return {}
