"""The `files` capability: read, write, edit, list, search and delete the session's workspace files.

Its tools work on whatever `FILES` the session lends, on the log or on a disk. On the log a writer's facts are
recorded with its outcome, so that running a cut-off call again starts from the state before it. On a disk the effect
may already be there: writing and deleting again changes nothing, and an edit recognises what it has done.

What the workspace refuses (`WorkspaceError`) goes to the model as it is: its message says what to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from holdfast.capabilities.grep import MAX_FILE_BYTES, MAX_FILES, MAX_SCAN_BYTES, MOUNT, Found, grep
from holdfast.capability import Capability
from holdfast.errors import ConfigError, ToolError, WorkspaceError
from holdfast.services import FILES, FileInfo
from holdfast.store import digest_of
from holdfast.tool import Context, tool

MAX_READ_LINES = 2_000
MAX_READ_CHARACTERS = 60_000
MAX_LISTED = 1_000
MAX_MATCHES = 200
MAX_NAMED = 10
"""Of places or files that a note names."""
LANE = "workspace"

_OFF_LOOP_BYTES = 262_144


class FilesConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configuration of the `files` capability."""

    read_only: bool = False
    """Offer only the tools that change nothing."""


def files(config: Mapping[str, Any]) -> Capability:
    """The capability. Raises `ConfigError` for anything but `{"read_only": bool}`."""
    try:
        read_only = msgspec.convert(config, FilesConfig).read_only
    except msgspec.ValidationError as error:
        raise ConfigError(f'capability "files": {error}; it takes {{"read_only": true or false}}') from error
    return Capability(
        name="files",
        description="Files in the session's workspace.",
        instructions=_READING if read_only else f"{_READING} {_WRITING}",
        tools=_READERS if read_only else _READERS + _WRITERS,
        needs=(FILES,),
    )


_READING = (
    "You have a workspace of files under /workspace. Paths are absolute below it or relative to it; '..' and symbolic "
    "links are refused. Use list_files and grep_files to find your way, and read_file before you rely on a file."
)
_WRITING = (
    "Change an existing file with edit_file, which replaces one exact passage; use write_file for new files and whole "
    "rewrites. Directories are made as needed."
)

FilePath = Annotated[str, Meta(description="Path of a file, such as /workspace/src/app.py or src/app.py.")]
Directory = Annotated[str, Meta(description="Path of a directory.")]
Lines = Annotated[int, Meta(ge=1, le=MAX_READ_LINES, description="The most lines to return.")]
Skipped = Annotated[
    int, Meta(ge=0, description="Lines to skip; a cut-off result names the offset to go on with.")
]


@tool(effect="pure", needs=(FILES,))
async def read_file(ctx: Context, path: FilePath, offset: Skipped = 0, limit: Lines = MAX_READ_LINES) -> str:
    """Read a text file. A long one comes in parts; the last line then says how to get the next."""
    data = await ctx.scope[FILES].read(path)
    if len(data) > _OFF_LOOP_BYTES:
        return await asyncio.to_thread(_page, data, offset, limit)
    return _page(data, offset, limit)


@tool(effect="pure", needs=(FILES,))
async def list_files(ctx: Context, path: Directory = "/", recursive: bool = False) -> str:
    """List a directory: one path per line, directories ending in "/". Recursive leaves out what version control and
    package managers keep."""
    infos = await ctx.scope[FILES].list(path, recursive=recursive)
    if not infos:
        return "[the directory is empty]"
    lines = [_listed(info) for info in infos[:MAX_LISTED]]
    if len(infos) > MAX_LISTED:
        lines.append(f"[{MAX_LISTED:,} of {len(infos):,} entries shown; list a directory further down]")
    return "\n".join(lines)


@tool(effect="pure", needs=(FILES,))
async def grep_files(
    ctx: Context,
    pattern: Annotated[str, Meta(description="Regular expression (RE2 syntax), applied to each line.")],
    path: Annotated[str, Meta(description="Directory or file to search.")] = "/",
    glob: Annotated[
        str, Meta(description="Only files whose path matches, such as *.py or src/**/*.ts.")
    ] = "",
    ignore_case: bool = False,
) -> str:
    """Search text files. Returns path:line: text for each matching line."""
    found = await grep(
        ctx.scope[FILES], pattern, path=path, glob=glob, ignore_case=ignore_case, limit=MAX_MATCHES
    )
    lines = [f"{_shown(match.path)}:{match.line}: {match.text}" for match in found.matches]
    return "\n".join([*(lines or ["[no match]"]), *_gaps(found)])


@tool(effect="idempotent", lane=LANE, needs=(FILES,))
async def write_file(ctx: Context, path: FilePath, content: str) -> str:
    """Create a file or replace its whole content."""
    info = await ctx.scope[FILES].write(path, content.encode())
    return f"wrote {info.size:,} bytes to {_shown(info.path)}"


@tool(effect="idempotent", lane=LANE, needs=(FILES,))
async def edit_file(
    ctx: Context,
    path: FilePath,
    old: Annotated[
        str, Meta(min_length=1, description="The passage to replace, exactly as it stands in the file.")
    ],
    new: Annotated[str, Meta(description="What to put in its place.")],
    replace_all: Annotated[
        bool, Meta(description="Replace every occurrence, not just a single one.")
    ] = False,
) -> str:
    """Replace a passage of a text file. It must occur exactly once, unless replace_all is set."""
    if old == new:
        raise ToolError("`old` and `new` are the same text; nothing would change")
    workspace = ctx.scope[FILES]
    data = await workspace.read(path)
    text = _decoded(data)
    if ctx.call.attempt > 1 and _is_done(text, old, new):
        return "this call was cut off before; the file now reads as if its edit was made, so it was left as it is"
    count = text.count(old)
    if count == 0:
        raise ToolError(_not_there(text, old))
    if count > 1 and not replace_all:
        raise ToolError(
            f"the passage occurs {count} times, at lines {_places(text, old)}; add surrounding text to `old` "
            "until it is unique, or set replace_all"
        )
    info = await workspace.write(path, text.replace(old, new).encode(), expect=digest_of(data))
    return f"replaced {count} occurrence{'s' if count > 1 else ''} in {_shown(info.path)}"


@tool(effect="idempotent", lane=LANE, needs=(FILES,))
async def delete_file(
    ctx: Context,
    path: Annotated[str, Meta(description="File or directory to delete.")],
    recursive: Annotated[bool, Meta(description="Delete a directory with everything in it.")] = False,
) -> str:
    """Delete a file or a directory."""
    deleted = await ctx.scope[FILES].delete(path, recursive=recursive)
    return "deleted" if deleted else "there was nothing to delete at this path"


_READERS = (read_file, list_files, grep_files)
_WRITERS = (write_file, edit_file, delete_file)


def _shown(path: str) -> str:
    """A path from a `FileInfo` as the model writes it; one that begins with the mount point is that already."""
    if path == MOUNT or path.startswith(f"{MOUNT}/"):
        return path
    return MOUNT if path == "/" else MOUNT + path


def _listed(info: FileInfo) -> str:
    if info.is_directory:
        return f"{_shown(info.path)}/"
    return f"{_shown(info.path)} ({info.size:,} bytes{', read-only' if info.read_only else ''})"


def _decoded(data: bytes) -> str:
    try:
        if b"\0" not in data:
            return data.decode()
    except UnicodeDecodeError:
        pass
    raise WorkspaceError("not-text", f"the file is not UTF-8 text ({len(data):,} bytes)")


def _page(data: bytes, offset: int, limit: int) -> str:
    lines = _decoded(data).split("\n")
    if not lines[-1]:
        lines.pop()
    if not lines:
        return "[the file is empty]"
    if offset >= len(lines):
        return f"[the file has {len(lines)} lines; offset {offset} is behind its end]"
    shown: list[str] = []
    room = MAX_READ_CHARACTERS
    for line in lines[offset : offset + limit]:
        room -= len(line) + 1
        if room < 0 and shown:
            break
        shown.append(line)
    end = offset + len(shown)
    text = "\n".join(shown)
    notes = []
    if len(text) > MAX_READ_CHARACTERS:
        notes.append(
            f"[line {end} is {len(text):,} characters long; the first {MAX_READ_CHARACTERS:,} are shown]"
        )
    if end < len(lines):
        notes.append(f"[lines {offset + 1}-{end} of {len(lines)}; go on with offset={end}]")
    elif offset:
        notes.append(f"[lines {offset + 1}-{end} of {len(lines)}; this is the end]")
    return "\n".join([text[:MAX_READ_CHARACTERS], *notes])


def _gaps(found: Found) -> list[str]:
    """What the search did not look at, one note each."""
    stops = {
        "matches": f"[stopped at {MAX_MATCHES} matches; narrow the pattern, path or glob]",
        "bytes": f"[stopped after {MAX_SCAN_BYTES // 1024 // 1024} MiB of files; narrow the path or glob]",
        "files": f"[stopped after {MAX_FILES:,} files; narrow the path or glob]",
    }
    notes = [stops[found.stopped]] if found.stopped else []
    if found.too_large:
        names = ", ".join(map(_shown, found.too_large[:MAX_NAMED]))
        more = f" and {len(found.too_large) - MAX_NAMED} more" if len(found.too_large) > MAX_NAMED else ""
        notes.append(f"[not searched, larger than {MAX_FILE_BYTES // 1024} KiB: {names}{more}]")
    for count, what in (
        (found.binary, "not searched because not text"),
        (found.unreadable, "that could not be read"),
    ):
        if count:
            notes.append(f"[{count} file{'s' if count > 1 else ''} {what}]")
    if found.cut_lines:
        notes.append(
            f"[{found.cut_lines} very long line{'s' if found.cut_lines > 1 else ''} searched in part]"
        )
    return notes


def _is_done(text: str, old: str, new: str) -> bool:
    """Whether the edit was made already: `new` is there, and what is left of `old` stands inside it."""
    return old not in text.replace(new, "\0") and new in text if new else old not in text


def _not_there(text: str, old: str) -> str:
    first = next((line.strip() for line in old.splitlines() if line.strip()), "")
    near = [str(number) for number, line in enumerate(text.split("\n"), 1) if first and first in line]
    if near:
        return (
            f"the passage is not in the file, though its first line is, at {', '.join(near[:MAX_NAMED])}: white space "
            "or what follows differs; read the file there and copy the passage exactly"
        )
    return "the passage is not in the file; read the file and copy the passage exactly as it stands"


def _places(text: str, old: str) -> str:
    """The lines at which the first few occurrences begin."""
    lines: list[str] = []
    at = -1
    while len(lines) < MAX_NAMED and (at := text.find(old, at + 1)) >= 0:
        lines.append(str(text.count("\n", 0, at) + 1))
    return ", ".join(lines)
