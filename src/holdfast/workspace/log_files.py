"""Files that live in a session's log: a file is what its last `file.written` says, until `file.deleted`.

Small text stands in the fact itself; anything else is a blob that is durable before the fact that names it.
Directories are not stored: one exists while a file lies below it.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from weakref import ref

from holdfast.errors import WorkspaceError
from holdfast.events import Fact, FileDeleted, FileWritten
from holdfast.journal import Journal
from holdfast.messages import BlobRef
from holdfast.services import FileInfo
from holdfast.store import digest_of
from holdfast.workspace.paths import CanonicalPath, check_delete, check_write, normalise, refusal, spelled

MAX_INLINE_BYTES = 8_192
"""Text up to this size stands in the fact; reading it costs no blob."""
MAX_FILE_BYTES = 100 * 1024 * 1024
QUOTA_BYTES = 500 * 1024 * 1024
PREVIEW_CHARACTERS = 200

_OFF_LOOP_BYTES = 262_144

Index = Mapping[str, FileWritten]


class LogFiles:
    """`services.Files` over one session's log.

    `index` gives the present files by canonical path (the fold of the log); `record` makes facts durable and folds
    them before it returns. `max_file_bytes` bounds one file (100 MiB), `quota_bytes` the sum of all (500 MiB).

    Check and write happen under one lock, so that `expect` and the quota hold among all writers of this object.
    Inside a tool call the facts wait in the call's outbox: reads of that call see them, other calls do not, and
    they are recorded with the call's outcome or not at all. Calls that may run at the same time and write the same
    files therefore share a lane.

    `expect` compares content. A file that was changed and changed back in between counts as unchanged.
    """

    def __init__(
        self,
        *,
        index: Callable[[], Index],
        record: Callable[..., Awaitable[object]],
        put_blob: Callable[[bytes], Awaitable[str]],
        get_blob: Callable[[str], Awaitable[bytes]],
        clean: Callable[[bytes], bytes] = bytes,
        max_file_bytes: int = MAX_FILE_BYTES,
        quota_bytes: int = QUOTA_BYTES,
    ) -> None:
        self._recorded = index
        self._record = record
        self._put_blob = put_blob
        self._get_blob = get_blob
        self._clean = clean
        self._max_file_bytes = max_file_bytes
        self._quota_bytes = quota_bytes
        self._lock = asyncio.Lock()
        self._call_id = ""
        self._outbox: list[Fact] | None = None

    def for_call(self, call_id: str, outbox: list[Fact]) -> LogFiles:
        """The same files as one tool call sees them: what it writes goes to `outbox`."""
        view = copy.copy(self)
        view._call_id, view._outbox = call_id, outbox
        return view

    async def read(self, path: str) -> bytes:
        """The whole content. `not-found`, `is-directory`, `not-directory`; a lost blob raises `StoreError`."""
        key = normalise(path)
        files = self._files()
        fact = files.get(key)
        if fact is None:
            raise refusal("is-directory", key) if _is_directory(key, files) else _missing(key, files)
        if fact.blob is not None:
            return await self._get_blob(fact.blob.digest)
        return (fact.text or "").encode()

    async def write(self, path: str, data: bytes, *, expect: str | None = None) -> FileInfo:
        """Make the file hold `data`. With `expect`, a digest or "" for none, only if that is what stands there.

        Raises `is-directory`, `not-directory`, `reserved`, `read-only`, `too-large`, `quota-exceeded`, `conflict`.
        """
        key = normalise(path)
        check_write(key)
        self._check_room(key, len(data), expect)
        fact = await self._fact(key, data)
        async with self._lock:
            self._check_room(key, len(data), expect)
            await self._emit([fact])
        return _info(fact)

    async def seed(self, path: str, data: bytes, *, read_only: bool = False) -> bool:
        """Put a file in place that the session starts with, the only way to a read-only or a reserved one.

        A file that is there already stays as it is: False. Seeding again after a crash is therefore safe.
        """
        key = normalise(path)
        if key in self._files():
            return False
        self._check_room(key, len(data), "")
        fact = await self._fact(key, data, read_only=read_only)
        async with self._lock:
            self._check_room(key, len(data), "")
            await self._emit([fact])
        return True

    async def delete(self, path: str, *, recursive: bool = False) -> bool:
        """Remove a file, or with `recursive` all files below a directory at once; False when there is nothing.

        Raises `root-protected`, `reserved`, `not-empty`, and `read-only` when any file to be removed is.
        """
        key = normalise(path)
        check_delete(key)
        async with self._lock:
            files = self._files()
            doomed = [key] if key in files else sorted(name for name in files if name.startswith(key.prefix))
            if doomed and doomed != [key] and not recursive:
                raise refusal("not-empty", key)
            for name in doomed:
                if files[name].read_only:
                    raise refusal("read-only", name)
            await self._emit([FileDeleted(path=str(name), call_id=self._call_id) for name in doomed])
        return bool(doomed)

    async def list(self, path: str = "/", *, recursive: bool = False) -> list[FileInfo]:
        """The entries below a directory, sorted by path; `recursive` goes all the way down."""
        key = normalise(path)
        files = self._files()
        if key in files:
            raise refusal("not-directory", key)
        below = [name for name in files if name.startswith(key.prefix)]
        if not below and key != "/":
            raise _missing(key, files)
        entries: dict[str, FileInfo] = {}
        for name in below:
            for parent in CanonicalPath(name).parents:
                if parent in entries or not parent.startswith(key.prefix):
                    break
                entries[parent] = FileInfo(path=spelled(parent), is_directory=True)
            entries[name] = _info(files[name])
        if not recursive:
            depth = len(key.names) + 1
            entries = {name: info for name, info in entries.items() if name.count("/") == depth}
        return [entries[name] for name in sorted(entries)]

    async def stat(self, path: str) -> FileInfo:
        """What stands at this path; `not-found` when nothing does."""
        key = normalise(path)
        files = self._files()
        if key in files:
            return _info(files[key])
        if _is_directory(key, files):
            return FileInfo(path=spelled(key), is_directory=True)
        raise _missing(key, files)

    def _files(self) -> Index:
        files = self._recorded()
        waiting = [fact for fact in self._outbox or () if isinstance(fact, FileWritten | FileDeleted)]
        if not waiting:
            return files
        seen = dict(files)
        for fact in waiting:
            if isinstance(fact, FileWritten):
                seen[fact.path] = fact
            else:
                seen.pop(fact.path, None)
        return seen

    def _check_room(self, key: CanonicalPath, size: int, expect: str | None) -> None:
        files = self._files()
        present = files.get(key)
        if present is None:
            if _is_directory(key, files):
                raise refusal("is-directory", key)
            if blocking := _file_above(key, files):
                raise refusal("not-directory", blocking)
        elif present.read_only:
            raise refusal("read-only", key)
        if expect is not None and expect != (present.digest if present else ""):
            raise refusal("conflict", key)
        if size > self._max_file_bytes:
            raise refusal("too-large", key, f"{size:,} bytes; the limit is {self._max_file_bytes:,}")
        total = sum([fact.size for fact in files.values()]) - (present.size if present else 0) + size
        if total > self._quota_bytes:
            raise refusal(
                "quota-exceeded", key, f"{total:,} bytes in all; the quota is {self._quota_bytes:,}"
            )

    async def _fact(self, key: str, data: bytes, *, read_only: bool = False) -> FileWritten:
        data = self._clean(data)
        if len(data) > _OFF_LOOP_BYTES:
            digest, text = await asyncio.to_thread(_examined, data)
        else:
            digest, text = _examined(data)
        blob = None
        if text is None or len(data) > MAX_INLINE_BYTES:
            media_type = "application/octet-stream" if text is None else "text/plain"
            preview = text[:PREVIEW_CHARACTERS] if text else ""
            blob = BlobRef(
                digest=await self._put_blob(data), size=len(data), media_type=media_type, preview=preview
            )
        return FileWritten(
            path=str(key),
            size=len(data),
            digest=digest,
            text=None if blob else text,
            blob=blob,
            read_only=read_only,
            call_id=self._call_id,
        )

    async def _emit(self, facts: Sequence[Fact]) -> None:
        if self._outbox is not None:
            self._outbox.extend(facts)
        elif facts:
            await self._record(*facts)


def _examined(data: bytes) -> tuple[str, str | None]:
    """The digest, and the text where the bytes are text."""
    try:
        text = None if b"\0" in data else data.decode()
    except UnicodeDecodeError:
        text = None
    return digest_of(data), text


def _info(fact: FileWritten) -> FileInfo:
    return FileInfo(path=spelled(fact.path), size=fact.size, digest=fact.digest, read_only=fact.read_only)


def _is_directory(key: CanonicalPath, files: Index) -> bool:
    return key == "/" or any(name.startswith(key.prefix) for name in files)


def _file_above(key: CanonicalPath, files: Index) -> CanonicalPath | None:
    return next((parent for parent in key.parents if parent in files), None)


def _missing(key: CanonicalPath, files: Index) -> WorkspaceError:
    if blocking := _file_above(key, files):
        return refusal("not-directory", blocking)
    return refusal("not-found", key)


def files_of(session: ref[Journal]) -> LogFiles:
    """A session's files. It is taken weakly, so that a session whose files nobody touches holds no circle."""
    journal = session()
    assert journal is not None
    store = journal.store
    return LogFiles(
        index=lambda: journal.state.files,
        record=partial(_record, journal),
        put_blob=store.put_blob,
        clean=journal.audience.blob,
        get_blob=store.get_blob,
    )


async def _record(journal: Journal, *facts: Fact) -> None:
    await journal.own()
    await journal.record(*facts)
