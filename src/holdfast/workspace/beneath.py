"""System calls below one directory, for code that trusts no path: blocking, relative, and never through a link.

Every name is opened relative to the directory above it with O_NOFOLLOW, and what was opened is judged by its own
descriptor. Nothing is checked by path and opened afterwards, so swapping a directory for a link gains nothing.
All failures are `WorkspaceError`s that name the virtual path.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import unicodedata
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BufferedReader
from typing import NoReturn

from holdfast.errors import WorkspaceCode, WorkspaceError
from holdfast.workspace.paths import CanonicalPath, display, normalise, refusal

SUPPORTED = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
"""Whether this system can open a name relative to a directory; Windows cannot."""

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | _NOFOLLOW
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW
_ANY_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH

_CODES: dict[int, WorkspaceCode] = {
    errno.ENOENT: "not-found",
    errno.ENOTDIR: "not-directory",
    errno.EISDIR: "is-directory",
    errno.ELOOP: "symlink",
    errno.ENXIO: "special-file",
    errno.ENOTEMPTY: "not-empty",
    errno.EROFS: "read-only",
}

Entry = tuple[CanonicalPath, os.stat_result]


@contextmanager
def directory(root: str, names: Sequence[str], *, create: bool = False, exact: bool = False) -> Iterator[int]:
    """A descriptor of the directory that `names` lead to below `root`; the root itself is trusted.

    `create` makes what is missing. `exact` refuses (`conflict`) a name that the disk takes for another's.
    """
    where = "/"
    with _naming(where):
        fd = os.open(root, _DIRECTORY)
    try:
        for name in names:
            where = where.rstrip("/") + "/" + name
            above, fd = fd, _enter(fd, name, where, create=create)
            try:
                if exact:
                    refuse_twin(above, name, os.fstat(fd), where)
            finally:
                os.close(above)
        yield fd
    finally:
        os.close(fd)


def _enter(parent: int, name: str, where: str, *, create: bool) -> int:
    try:
        return os.open(name, _DIRECTORY | _NOFOLLOW, dir_fd=parent)
    except FileNotFoundError:
        if not create:
            raise refusal("not-found", where) from None
    except OSError as error:
        _refuse_entry(parent, name, where, error)
    with _naming(where):
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=parent)
            os.fsync(parent)
        return os.open(name, _DIRECTORY | _NOFOLLOW, dir_fd=parent)


def _refuse_entry(parent: int, name: str, where: str, error: OSError) -> NoReturn:
    """Systems name a link, a file and a pipe differently when asked for a directory: look what it is."""
    with _naming(where):
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISREG(found.st_mode):
            raise refusal("not-directory", where) from None
        if not stat.S_ISDIR(found.st_mode):
            refuse_odd(found, where)
        raise error


@contextmanager
def reading(parent: int, name: str, where: str) -> Iterator[BufferedReader]:
    """The plain file `name`, open for reading."""
    with _naming(where):
        refuse_odd(os.stat(name, dir_fd=parent, follow_symlinks=False), where)
        fd = os.open(name, _READ, dir_fd=parent)
        with os.fdopen(fd, "rb") as file:
            refuse_odd(os.fstat(fd), where)
            yield file


def look(parent: int, name: str, where: str) -> os.stat_result | None:
    """What stands under this name: a plain file, a directory or nothing. Anything else is refused."""
    with _naming(where):
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return None
    if not stat.S_ISDIR(found.st_mode):
        refuse_odd(found, where)
    return found


def refuse_odd(found: os.stat_result, where: str) -> None:
    """Raise unless this is a plain file."""
    if stat.S_ISLNK(found.st_mode):
        raise refusal("symlink", where)
    if stat.S_ISDIR(found.st_mode):
        raise refusal("is-directory", where)
    if not stat.S_ISREG(found.st_mode):
        raise refusal("special-file", where)


def refuse_twin(parent: int, name: str, found: os.stat_result, where: str) -> None:
    """Raise `conflict` when `name` was found only because the disk takes it for another name.

    Disks may ignore case or the way accents are composed. One of them answers to the other spelling as well, and
    then the directory's own listing tells which spelling is real.
    """
    spellings = {name.swapcase(), unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)}
    for other in spellings - {name}:
        with suppress(OSError):
            same = os.path.samestat(os.stat(other, dir_fd=parent, follow_symlinks=False), found)
            if same and name not in os.listdir(parent):
                raise refusal("conflict", where, "this disk takes it for a file of another spelling")


def is_writable(found: os.stat_result) -> bool:
    """Whether anyone may write this file, going by its mode."""
    return bool(found.st_mode & _ANY_WRITE)


def replace(parent: int, name: str, data: bytes, where: str) -> None:
    """Make `name` hold `data`: after a crash at any point it holds the old content or the new, in full.

    A file that was there keeps its mode and, as far as permitted, its owner.
    """
    present = look(parent, name, where)
    if present is not None:
        refuse_odd(present, where)
        refuse_twin(parent, name, present, where)
        allowed = os.access(name, os.W_OK, dir_fd=parent, follow_symlinks=False)
        if not (allowed and is_writable(present)):
            raise refusal("read-only", where)
    temporary = f".holdfast-{secrets.token_hex(8)}.tmp"
    with _naming(where):
        fd = os.open(temporary, _CREATE, 0o666 if present is None else 0o600, dir_fd=parent)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                if present is not None:
                    _keep_mode(fd, present)
                os.fsync(fd)
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=parent)
            raise
        os.fsync(parent)


def is_temporary(name: str) -> bool:
    """Whether `replace` may have left this behind when the process was killed."""
    return name.startswith(".holdfast-") and name.endswith(".tmp")


def _keep_mode(fd: int, present: os.stat_result) -> None:
    mine = os.fstat(fd)
    if (mine.st_uid, mine.st_gid) != (present.st_uid, present.st_gid):
        with suppress(OSError):
            os.fchown(fd, present.st_uid, present.st_gid)
    os.fchmod(fd, stat.S_IMODE(present.st_mode) & 0o777)


def remove(parent: int, name: str, found: os.stat_result, where: str, *, tree: bool = False) -> None:
    """Remove a file or an empty directory; with `tree` all that is in it, where links are only unlinked."""
    with _naming(where):
        if not stat.S_ISDIR(found.st_mode):
            os.unlink(name, dir_fd=parent)
        elif tree:
            shutil.rmtree(name, dir_fd=parent)
        else:
            os.rmdir(name, dir_fd=parent)
        os.fsync(parent)


def entries(fd: int, where: CanonicalPath, *, limit: int, skip: Container[str] | None = None) -> list[Entry]:
    """Files and directories in a directory, unsorted; with `skip` all the way down, except into those names.

    What no path can name (odd characters, too deep) and what is neither file nor directory is left out. More than
    `limit` entries raise `too-large`.
    """
    found: list[Entry] = []
    with _naming(where):
        _collect(fd, where, found, limit, skip)
    return found


def _collect(
    fd: int, where: CanonicalPath, found: list[Entry], limit: int, skip: Container[str] | None
) -> None:
    inner: list[CanonicalPath] = []
    with os.scandir(fd) as listing:
        for entry in listing:
            path = _addressed(where, entry.name)
            status = _status(entry)
            if path is None or status is None:
                continue
            if len(found) >= limit:
                raise refusal("too-large", where, f"more than {limit:,} entries; take a smaller directory")
            found.append((path, status))
            if skip is not None and stat.S_ISDIR(status.st_mode) and entry.name not in skip:
                inner.append(path)
    for path in inner:
        with suppress(OSError):  # gone or closed to us: it is listed, its content is not
            below = os.open(path.names[-1], _DIRECTORY | _NOFOLLOW, dir_fd=fd)
            try:
                _collect(below, path, found, limit, skip)
            finally:
                os.close(below)


def _addressed(where: CanonicalPath, name: str) -> CanonicalPath | None:
    path = where.prefix + name
    try:
        key = normalise(display(path))
    except WorkspaceError:
        return None
    return key if key == path and not is_temporary(name) else None


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        status = entry.stat(follow_symlinks=False)
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) else None


@contextmanager
def _naming(where: str) -> Iterator[None]:
    """Turn an `OSError` into the error for this virtual path; the system's own text may name the host's."""
    try:
        yield
    except OSError as error:
        code = _CODES.get(error.errno or 0, "io-error")
        detail = os.strerror(error.errno) if code == "io-error" and error.errno else ""
        raise refusal(code, where, detail) from None
