"""Search through a workspace, bounded whatever is asked: a pattern comes from a model, and the files from anywhere.

The engine (RE2) takes time linear in the text, but a large pattern makes the factor large. So the pattern's
compiled size is capped, a search is cut into blocks small enough that the clock is looked at in between, and the
processor time of all blocks together has a limit.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable
from typing import Any, Literal

import re2
from msgspec import Struct

from holdfast.errors import WorkspaceError
from holdfast.services import FileInfo, Files

MOUNT = "/workspace"
MAX_PATTERN_CHARACTERS = 1_000
MAX_PROGRAM = 1_500
"""Instructions of a compiled pattern."""
MAX_ENGINE_BYTES = 1_048_576
MAX_FILE_BYTES = 512 * 1024
"""Larger files are passed over, and named in the result."""
MAX_SCAN_BYTES = 5 * 1024 * 1024
MAX_FILES = 10_000
MAX_LINE_CHARACTERS = 300
"""Of a matching line, around the match."""
CPU_SECONDS = 0.04
"""Processor time inside the engine; together with the last block it stays below 100 ms."""
GLOB_SECONDS_PER_PATH = 5e-6

_BATCH_BYTES = 262_144
_BLOCK_BYTES = 65_536
_BLOCK_WORK = 3_000_000
"""Bytes times instructions that one call of the engine may cost: some 15 ms at worst."""
_SMALLEST_BLOCK = 4_096
_SNIFFED_BYTES = 8_192


class Match(Struct, frozen=True, kw_only=True):
    """One matching line."""

    path: str
    """As `FileInfo.path`."""
    line: int
    """From 1."""
    text: str


class Found(Struct, frozen=True, kw_only=True):
    """What a search found, and what it did not look at."""

    matches: list[Match]
    files: int
    """How many were searched."""
    too_large: list[str]
    """Paths of files above 512 KiB, passed over."""
    binary: int
    """Files that are not UTF-8 text, passed over."""
    unreadable: int
    """Files that could not be read."""
    cut_lines: int
    """Lines so long that only their beginning was searched."""
    stopped: Literal["", "matches", "bytes", "files"]
    """Which limit ended the search early, if one did."""


async def grep(
    files: Files,
    pattern: str,
    *,
    path: str = "/",
    glob: str = "",
    ignore_case: bool = False,
    limit: int = 200,
) -> Found:
    """The lines that match `pattern` in the file `path` or the files below it.

    `pattern` is an RE2 expression applied to each line; `glob` picks files (`*.py`, `src/**/*.ts`, `{a,b}.md`), at any
    depth unless it begins with `/`. `limit` bounds the matches. Raises `WorkspaceError`: `bad-pattern`, `too-slow`,
    `traversal`, and what the files raise for `path`.
    """
    search = _Search(_compiled(_line_pattern(pattern, ignore_case)), limit)
    wanted = _glob_regex(glob) if glob else None
    standing = await files.stat(path)
    infos = [standing]
    if standing.is_directory:
        infos = [info for info in await files.list(standing.path, recursive=True) if not info.is_directory]
    if wanted is not None:
        infos = await asyncio.to_thread(_picked, wanted, infos)
    await _search_all(files, infos, search)
    return search.found()


async def _search_all(files: Files, infos: Iterable[FileInfo], search: _Search) -> None:
    batch: list[tuple[str, bytes]] = []
    size = 0
    for info in infos:
        if search.passes_over(info):
            continue
        if not search.has_room(info):
            break
        try:
            data = await files.read(info.path)
        except WorkspaceError:
            search.unreadable += 1
            continue
        batch.append((info.path, data))
        size += len(data)
        if size >= _BATCH_BYTES:
            await asyncio.to_thread(search.scan, batch)
            batch, size = [], 0
    if batch:
        await asyncio.to_thread(search.scan, batch)


class _Search:
    def __init__(self, regex: Any, limit: int) -> None:
        self._find = _timed(regex, CPU_SECONDS)
        self._block = min(_BLOCK_BYTES, max(_SMALLEST_BLOCK, _BLOCK_WORK // max(1, regex.programsize)))
        self._limit = limit
        self._matches: list[Match] = []
        self._admitted = 0
        self._files = 0
        self._bytes = 0
        self._too_large: list[str] = []
        self._binary = 0
        self._cut_lines = 0
        self.unreadable = 0
        self.stopped: Literal["", "matches", "bytes", "files"] = ""

    def passes_over(self, info: FileInfo) -> bool:
        """Whether this file is too large to be looked at; the result will say so."""
        if info.size > MAX_FILE_BYTES:
            self._too_large.append(info.path)
        return info.size > MAX_FILE_BYTES

    def has_room(self, info: FileInfo) -> bool:
        """Whether one more file may be read; sets `stopped` when not."""
        self._admitted += 1
        self._bytes += info.size
        if not self.stopped and self._admitted > MAX_FILES:
            self.stopped = "files"
        elif not self.stopped and self._bytes > MAX_SCAN_BYTES:
            self.stopped = "bytes"
        return not self.stopped

    def scan(self, batch: Iterable[tuple[str, bytes]]) -> None:
        """Search these files; blocking."""
        for path, data in batch:
            if self.stopped == "matches":
                return
            if len(data) > MAX_FILE_BYTES:
                self._too_large.append(path)
            elif not _is_text(data):
                self._binary += 1
            else:
                self._files += 1
                self._scan_file(path, data.replace(b"\r\n", b"\n"))

    def _scan_file(self, path: str, data: bytes) -> None:
        if not data:
            return
        size = len(data) - data.endswith(b"\n")
        at = counted = 0
        line = 1
        while at <= size:
            stop = self._block_end(data, at, size)
            hit = self._find(data, at, stop)
            if hit is None:
                at = stop + 1 if stop == size or data[stop] == 10 else self._after_cut(data, stop)
                continue
            if len(self._matches) >= self._limit:
                self.stopped = "matches"
                return
            begin = data.rfind(b"\n", 0, hit.start()) + 1
            end = _line_end(data, hit.start())
            line += data.count(b"\n", counted, begin)
            counted = begin
            self._matches.append(
                Match(path=path, line=line, text=_excerpt(data[begin:end], hit.start() - begin))
            )
            at = end + 1

    def _block_end(self, data: bytes, at: int, size: int) -> int:
        """Where whole lines end that fit into a block; inside a line that does not fit."""
        if size - at <= self._block:
            return size
        stop = data.rfind(b"\n", at, at + self._block + 1)
        return stop if stop >= 0 else at + self._block

    def _after_cut(self, data: bytes, stop: int) -> int:
        self._cut_lines += 1
        return _line_end(data, stop) + 1

    def found(self) -> Found:
        """The result so far."""
        return Found(
            matches=self._matches,
            files=self._files,
            too_large=self._too_large,
            binary=self._binary,
            unreadable=self.unreadable,
            cut_lines=self._cut_lines,
            stopped=self.stopped,
        )


def _timed(regex: Any, seconds: float) -> Callable[[bytes, int, int], Any]:
    """The regex's `search`, which raises `too-slow` once all searches together took this much processor time."""
    left = seconds

    def search(data: bytes, start: int, stop: int) -> Any:
        nonlocal left
        begun = time.thread_time()
        hit = regex.search(data, start, stop)
        left -= time.thread_time() - begun
        if left < 0:
            raise WorkspaceError(
                "too-slow", "the pattern takes too long on these files; simplify it or narrow the search"
            )
        return hit

    return search


def _line_end(data: bytes, at: int) -> int:
    end = data.find(b"\n", at)
    return end if end >= 0 else len(data)


def _is_text(data: bytes) -> bool:
    if b"\0" in data[:_SNIFFED_BYTES]:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _excerpt(line: bytes, at: int) -> str:
    if len(line) <= MAX_LINE_CHARACTERS:
        return line.decode()
    begin = max(0, at - MAX_LINE_CHARACTERS // 3)
    text = line[begin : begin + MAX_LINE_CHARACTERS].decode(errors="ignore")
    return ("…" if begin else "") + text + ("…" if begin + MAX_LINE_CHARACTERS < len(line) else "")


_LINE_BREAK = re.compile(r"(?<!\\)(?:\\\\)*\\n|\n")


def _line_pattern(pattern: str, ignore_case: bool) -> str:
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        raise _bad(
            f"the pattern is {len(pattern):,} characters long; the limit is {MAX_PATTERN_CHARACTERS:,}"
        )
    if _LINE_BREAK.search(pattern):
        raise _bad("a pattern is applied to one line at a time and cannot contain a line break")
    return ("(?im)" if ignore_case else "(?m)") + pattern


def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.max_mem = MAX_ENGINE_BYTES
    options.never_nl = True
    options.never_capture = True
    options.log_errors = False
    try:
        regex = re2.compile(pattern, options)
    except UnicodeEncodeError:
        raise _bad("the pattern is not valid Unicode text") from None
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
        raise _bad(f"{reason[:200]} (the syntax is RE2's: no look-around, no back-references)") from None
    if regex.programsize > MAX_PROGRAM:
        raise _bad("the pattern is too complicated once its repetitions are written out; simplify it")
    return regex


def _bad(message: str) -> WorkspaceError:
    return WorkspaceError("bad-pattern", message)


def _picked(regex: Any, infos: list[FileInfo]) -> list[FileInfo]:
    find = _timed(regex, CPU_SECONDS + GLOB_SECONDS_PER_PATH * len(infos))
    paths = [_from_root(info.path).encode() for info in infos]
    return [info for info, path in zip(infos, paths, strict=True) if find(path, 0, len(path))]


def _glob_regex(glob: str) -> Any:
    if len(glob) > MAX_PATTERN_CHARACTERS:
        raise _bad(f"the glob is {len(glob):,} characters long; the limit is {MAX_PATTERN_CHARACTERS:,}")
    if ".." in glob.split("/"):
        raise WorkspaceError(
            "traversal", "the glob contains '..'; write it from the workspace's root without it"
        )
    absolute = glob.startswith("/")
    body = _from_root(glob).lstrip("/").removeprefix("./")
    if body.endswith("/"):
        body += "**"
    return _compiled("^/" + ("" if absolute else "(?:.*/)?") + _translated(body) + "$")


def _from_root(path: str) -> str:
    return path.removeprefix(MOUNT) if path.startswith(f"{MOUNT}/") else path


_GLOB_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|\[[!^]?\]?[^]/]*\]|[{},]|\\.|.", re.DOTALL)
_GLOB_PARTS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]", "{": "(?:", "}": ")"}


def _translated(glob: str) -> str:
    """A glob as an expression of the same size; alternatives are not multiplied out."""
    parts = []
    depth = 0
    for token in _GLOB_TOKEN.findall(glob):
        if token in _GLOB_PARTS:
            depth += (token == "{") - (token == "}")
            parts.append(_GLOB_PARTS[token])
        elif token == "," and depth:
            parts.append("|")
        elif len(token) > 2 and token[0] == "[":
            parts.append(_character_class(token[1:-1]))
        else:
            parts.append(re2.escape(token.removeprefix("\\") or token))
    return "".join(parts)


def _character_class(inside: str) -> str:
    negated = len(inside) > 1 and inside[0] in "!^"
    body = (inside[1:] if negated else inside).replace("\\", r"\\").replace("[", r"\[")
    if body[0] in "]^":
        body = "\\" + body
    return f"[^/{body}]" if negated else f"[{body}]"
