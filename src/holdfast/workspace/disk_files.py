"""Files of a real directory, read-only unless asked otherwise.

Links, pipes, sockets and devices are refused; git's own settings are never written; writing replaces the whole
file or nothing. The work is done in threads: a slow disk does not stop the loop.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import threading
from collections.abc import Collection
from datetime import UTC, datetime

from holdfast.errors import UsageError, WorkspaceError
from holdfast.services import FileInfo
from holdfast.store import digest_of
from holdfast.workspace import beneath
from holdfast.workspace.paths import (
    HOOKS,
    CanonicalPath,
    check_delete,
    check_protected,
    check_windows,
    check_write,
    is_git,
    normalise,
    refusal,
    spelled,
)

MAX_FILE_BYTES = 100 * 1024 * 1024
MAX_ENTRIES = 100_000
"""A listing of more is refused: nobody reads it, and it would fill the memory."""

IGNORED = frozenset(
    {
        ".git",
        ".hg",
        ".svn",
        ".venv",
        "venv",
        "node_modules",
        "__pycache__",
        ".cache",
        ".hypothesis",
        ".mypy_cache",
        ".nox",
        ".pytest_cache",
        ".ruff_cache",
        ".tox",
    }
)
"""Directories that a recursive listing names but does not enter: other people's code, and what tools leave behind."""

Listing = list[FileInfo]


class DiskFiles:
    """`services.Files` over the directory `root`, which must exist; raises `UsageError` when it does not.

    `writable` (False) allows writing and deleting. `max_file_bytes` (100 MiB) bounds reads and writes. `ignore` names
    the directories that recursive listings stay out of unless they start inside one. `windows_names` (as the system
    is) refuses names that Windows would take for devices or streams; set it for a Windows share mounted elsewhere.

    `expect` and writes are atomic among users of this object. Another process may still write between the comparison
    and the replacement; the file is whole either way. A directory that was emptied stays.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        writable: bool = False,
        max_file_bytes: int = MAX_FILE_BYTES,
        ignore: Collection[str] = IGNORED,
        windows_names: bool = os.name == "nt",
    ) -> None:
        if not beneath.SUPPORTED:
            raise UsageError("a real directory cannot be opened safely on this system; use files on the log")
        self._root = os.path.realpath(root)
        if not os.path.isdir(self._root):
            raise UsageError(f"{os.fspath(root)!r} is not a directory; create it, or name another")
        self._writable = writable
        self._max_file_bytes = max_file_bytes
        self._ignore = frozenset(ignore)
        self._windows_names = windows_names
        self._lock = threading.Lock()

    @property
    def root(self) -> str:
        """The real directory."""
        return self._root

    @property
    def writable_root(self) -> str:
        """The real directory that may be written to through this; empty when none may."""
        return self._root if self._writable else ""

    async def read(self, path: str) -> bytes:
        """The whole content. `not-found`, `is-directory`, `not-directory`, `symlink`, `special-file`, `too-large`."""
        return await asyncio.to_thread(self._read, self._key(path))

    async def write(self, path: str, data: bytes, *, expect: str | None = None) -> FileInfo:
        """Replace the file, making its directories. With `expect`, a digest or "", only if that is what stands there.

        Refused as in `read`, and with `read-only`, `reserved`, `protected`, `conflict`.
        """
        key = self._key(path)
        check_write(key)
        self._check_change(key)
        if len(data) > self._max_file_bytes:
            raise self._too_large(key, len(data))
        return await asyncio.to_thread(self._write, key, data, expect)

    async def delete(self, path: str, *, recursive: bool = False) -> bool:
        """Remove a file, an empty directory, or with `recursive` a full one; False when there is nothing.

        A directory that holds a read-only file or a git repository is refused before anything is removed.
        """
        key = self._key(path)
        check_delete(key)
        self._check_change(key)
        return await asyncio.to_thread(self._delete, key, recursive)

    async def list(self, path: str = "/", *, recursive: bool = False) -> list[FileInfo]:
        """The entries below a directory, sorted by path. Links and special files are left out."""
        return await asyncio.to_thread(self._list, self._key(path), recursive)

    async def stat(self, path: str) -> FileInfo:
        """What stands at this path; `not-found` when nothing does."""
        return await asyncio.to_thread(self._stat, self._key(path))

    def _key(self, path: str) -> CanonicalPath:
        key = normalise(path, root=self._root)
        if self._windows_names:
            check_windows(key)
        return key

    def _check_change(self, key: CanonicalPath) -> None:
        check_protected(key)
        if not self._writable:
            raise refusal("read-only", key, "as is this whole workspace")

    def _too_large(self, key: str, size: int) -> WorkspaceError:
        return refusal("too-large", key, f"{size:,} bytes; the limit is {self._max_file_bytes:,}")

    def _read(self, key: CanonicalPath) -> bytes:
        if key == "/":
            raise refusal("is-directory", key)
        *above, name = key.names
        with beneath.directory(self._root, above) as parent, beneath.reading(parent, name, key) as file:
            data = file.read(self._max_file_bytes + 1)
            if len(data) > self._max_file_bytes:
                raise self._too_large(key, os.fstat(file.fileno()).st_size)
            return data

    def _write(self, key: CanonicalPath, data: bytes, expect: str | None) -> FileInfo:
        *above, name = key.names
        with self._lock:
            if expect is not None and expect != self._digest(key):
                raise refusal("conflict", key)
            with beneath.directory(self._root, above, create=True, exact=True) as parent:
                beneath.replace(parent, name, data, key)
        return FileInfo(
            path=spelled(key), size=len(data), digest=digest_of(data), updated_at=datetime.now(UTC)
        )

    def _digest(self, key: CanonicalPath) -> str:
        """The digest of what stands there; empty when nothing does."""
        *above, name = key.names
        try:
            with beneath.directory(self._root, above) as parent, beneath.reading(parent, name, key) as file:
                return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
        except WorkspaceError as error:
            if error.code == "not-found":
                return ""
            raise

    def _delete(self, key: CanonicalPath, recursive: bool) -> bool:
        *above, name = key.names
        try:
            with self._lock, beneath.directory(self._root, above, exact=True) as parent:
                found = beneath.look(parent, name, key)
                if found is None:
                    return False
                beneath.refuse_twin(parent, name, found, key)
                if not stat.S_ISDIR(found.st_mode) and not beneath.is_writable(found):
                    raise refusal("read-only", key)
                if recursive and stat.S_ISDIR(found.st_mode):
                    self._check_tree(key)
                beneath.remove(parent, name, found, key, tree=recursive)
        except WorkspaceError as error:
            if error.code in ("not-found", "not-directory"):
                return False
            raise
        return True

    def _check_tree(self, key: CanonicalPath) -> None:
        with beneath.directory(self._root, key.names) as fd:
            for path, found in beneath.entries(fd, key, limit=MAX_ENTRIES, skip=()):
                if is_git(path.names[-1]) or path.names[-1].casefold() == HOOKS:
                    raise refusal("protected", path)
                if not stat.S_ISDIR(found.st_mode) and not beneath.is_writable(found):
                    raise refusal("read-only", path)

    def _list(self, key: CanonicalPath, recursive: bool) -> Listing:
        with beneath.directory(self._root, key.names) as fd:
            found = beneath.entries(fd, key, limit=MAX_ENTRIES, skip=self._ignore if recursive else None)
        return [self._info(path, status) for path, status in sorted(found, key=lambda entry: entry[0])]

    def _stat(self, key: CanonicalPath) -> FileInfo:
        if key == "/":
            with beneath.directory(self._root, ()) as fd:
                return self._info(key, os.fstat(fd))
        *above, name = key.names
        with beneath.directory(self._root, above) as parent:
            found = beneath.look(parent, name, key)
        if found is None:
            raise refusal("not-found", key)
        return self._info(key, found)

    def _info(self, key: CanonicalPath, found: os.stat_result) -> FileInfo:
        is_directory = stat.S_ISDIR(found.st_mode)
        return FileInfo(
            path=spelled(key),
            size=0 if is_directory else found.st_size,
            is_directory=is_directory,
            read_only=not self._writable or not beneath.is_writable(found),
            updated_at=datetime.fromtimestamp(found.st_mtime, UTC),
        )
