"""What directories bring with them that a user trusts to run.

Hooks of a directory are run only when somebody has trusted exactly this content at exactly this place. What runs is a
copy of what was read then, under the user's own data directory: nobody who can write to the directory, such as an agent
that works in it, changes what its hooks do. Whoever changes them ends the trust, and with it the next turns there.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NoReturn

import msgspec
from msgspec import Struct

from holdfast.commands.brought import FILE, FOLDER, OPEN, FoundHooks, digest_of_files, find_hooks, tree
from holdfast.commands.hook import CommandHook
from holdfast.errors import ConfigError, HooksRefused

Standing = Literal["none", "new", "trusted", "changed"]
"""Of a directory: it brings no hooks; hooks that nobody trusts; trusted ones; or something else was trusted there."""


class Trusted(Struct, frozen=True, kw_only=True):
    """That this content at this place is trusted."""

    path: str
    digest: str
    at: datetime


class _Kept(Struct, kw_only=True):
    trusted: list[Trusted] = []
    version: int = 1


class Trust:
    """What a user trusts. Kept in `place`, by default under the user's data directory; nobody else may read it."""

    def __init__(self, place: str | os.PathLike[str] | None = None) -> None:
        self.place = Path(place) if place is not None else data_directory()
        self._file = self.place / "trust.json"

    def look(self, directory: str | os.PathLike[str]) -> tuple[Standing, FoundHooks | None]:
        """Where this directory stands, and what it brings. Raises `HooksRefused` as `find_hooks` does."""
        real, found = os.path.realpath(directory), find_hooks(directory)
        known = [it.digest for it in self.listed() if it.path == real]
        if not known:
            return ("none" if found is None else "new"), found
        return ("trusted" if found is not None and found.digest in known else "changed"), found

    def brought(self, directory: str | os.PathLike[str]) -> tuple[Standing, tuple[CommandHook, ...]]:
        """Where this directory stands, and its hooks where they are trusted: none where nobody ever trusted any there.

        Raises `HooksRefused` where others were trusted, so that nobody gets rid of a guard by changing or removing it.
        """
        standing, found = self.look(directory)
        if standing == "changed":
            real = os.path.realpath(directory)
            raise HooksRefused(
                f"the hooks of {real} are not those that were trusted there; look at {FOLDER}/ and what it names, "
                f"then: holdfast trust {real}; or do without: holdfast trust --revoke {real}"
            )
        return standing, (self.hooks(found) if standing == "trusted" and found is not None else ())

    def covers(self, directory: str | os.PathLike[str]) -> bool:
        """Whether anything is trusted there, whatever is there now."""
        real = os.path.realpath(directory)
        return any(it.path == real for it in self.listed())

    def listed(self) -> tuple[Trusted, ...]:
        """All that is trusted. Raises `HooksRefused` when others could have written what says so."""
        return tuple(self._read().trusted)

    def trust(self, found: FoundHooks) -> Trusted:
        """Trust this content at this place, instead of any other there. Raises `HooksRefused`."""
        self._hooks(found, Path(found.directory))  # hooks that could never run are not worth trusting
        added = Trusted(path=found.directory, digest=found.digest, at=datetime.now(UTC))
        with self._changing() as kept:
            kept.trusted = [it for it in kept.trusted if it.path != added.path] + [added]
        return added

    def revoke(self, directory: str | os.PathLike[str]) -> bool:
        """Trust nothing at this place any more; whether anything was."""
        real = os.path.realpath(directory)
        with self._changing() as kept:
            before = len(kept.trusted)
            kept.trusted = [it for it in kept.trusted if it.path != real]
            return len(kept.trusted) < before

    def hooks(self, found: FoundHooks) -> tuple[CommandHook, ...]:
        """The hooks, to be run from a copy of what was found. Raises `HooksRefused` when that is not trusted."""
        if not any((it.path, it.digest) == (found.directory, found.digest) for it in self.listed()):
            raise HooksRefused(
                f"the hooks of {found.directory} are not trusted; look at {FOLDER}/{FILE} and what it names, then: "
                f"holdfast trust {found.directory}"
            )
        return self._hooks(found, self._copy(found))

    def _hooks(self, found: FoundHooks, cwd: Path) -> tuple[CommandHook, ...]:
        own = {"HOLDFAST_WORKSPACE": found.directory, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            return tuple(
                [
                    CommandHook(
                        id=line.id,
                        point=line.point,
                        argv=line.command,
                        shell=line.shell,
                        cwd=str(cwd),
                        environment={**line.environment, **own},
                        guard=line.guard,
                        timeout=line.timeout,
                        keep_original=line.keep_original,
                    )
                    for line in found.lines
                ]
            )
        except ConfigError as error:
            raise HooksRefused(f"{found.directory}/{FOLDER}/{FILE}: {error}") from error

    def _copy(self, found: FoundHooks) -> Path:
        """Where the files are that were found. Made anew when they are not, or not as they were."""
        home = self.place / "hooks"
        place = home / found.digest.removeprefix("sha256:")
        if digest_of_files(tree(place)) == found.digest:
            return place
        self._make_private()
        home.mkdir(mode=0o700, exist_ok=True)
        fresh = home / f"new-{secrets.token_hex(8)}"
        for path, file in found.files.items():
            target = fresh / path
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            target.write_bytes(file.content)
            target.chmod(0o500 if file.executable else 0o400)
        shutil.rmtree(place, ignore_errors=True)
        try:
            fresh.rename(place)
        except OSError:  # somebody else was faster
            shutil.rmtree(fresh, ignore_errors=True)
            if digest_of_files(tree(place)) != found.digest:
                raise
        return place

    def _make_private(self) -> None:
        self.place.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check_private(os.stat(self.place), self.place)

    def _read(self) -> _Kept:
        try:
            fd = os.open(self._file, OPEN)
        except FileNotFoundError:
            return _Kept()
        except OSError as error:
            raise HooksRefused(f"{self._file} cannot be read: {error}") from error
        with os.fdopen(fd, "rb") as file:
            _check_private(os.stat(self.place), self.place)
            _check_private(os.fstat(fd), self._file)
            try:
                return msgspec.json.decode(file.read(), type=_Kept)
            except msgspec.MsgspecError as error:
                raise HooksRefused(f"{self._file} cannot be understood: {error}; remove it") from error

    @contextmanager
    def _changing(self) -> Iterator[_Kept]:
        """What is kept, to be changed; written when the block ends well. One process at a time."""
        self._make_private()
        lock = os.open(
            self.place / "trust.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            kept = self._read()
            yield kept
            self._write(msgspec.json.encode(kept))
        finally:
            os.close(lock)

    def _write(self, body: bytes) -> None:
        fresh = self.place / f"trust-{secrets.token_hex(8)}.json"
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(fd)
        os.replace(fresh, self._file)


def _check_private(found: os.stat_result, where: Path) -> None:
    """Raise `HooksRefused` when others may have written there."""
    if found.st_uid != os.geteuid():
        _not_private(where, "belongs to somebody else")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        _not_private(where, "may be written by others")


def _not_private(where: Path, why: str) -> NoReturn:
    raise HooksRefused(f"{where} {why}, so nothing in it is believed; make it yours alone (chmod go-w)")


def data_directory() -> Path:
    """Where the user's own data are: `$XDG_DATA_HOME/holdfast`, else `~/.local/share/holdfast`.

    Raises `HooksRefused` where there is no home directory.
    """
    given = os.environ.get("XDG_DATA_HOME", "")
    try:
        return (Path(given) if os.path.isabs(given) else Path.home() / ".local" / "share") / "holdfast"
    except RuntimeError as error:
        raise HooksRefused("there is no home directory to keep trust in; set XDG_DATA_HOME") from error
