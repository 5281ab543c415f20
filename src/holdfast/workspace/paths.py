"""Paths of a workspace: pure rules, no disk.

A path that a model or a person wrote becomes a `CanonicalPath` once, by `normalise`, and is never judged again:
normalising a second time returns it as it is, so that a directory that happens to be called `workspace` is not
taken for the mount point. The type stays inside this room; what leaves it is plain text, from `spelled`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from holdfast.errors import WorkspaceCode, WorkspaceError

MOUNT = "/workspace"
"""What the model and the reader are shown as the root."""
MAX_PATH_BYTES = 4_096
MAX_NAME_BYTES = 255
MAX_DEPTH = 100

RESERVED = frozenset({".hooks", ".tasks", ".background", ".runtime"})
"""Directories at the root that only the runtime writes: nobody forges hook input or task results."""

HOOKS = ".holdfast"
"""The directory of the hooks that a workspace brings with it."""

PROTECTED = frozenset({"hooks", "config", "config.worktree", "commondir", "modules", "worktrees"})
"""Entries of a `.git` directory that git obeys: what is written there runs on the host later."""


class CanonicalPath(str):
    """A path below the workspace root such as `/src/app.py`. Only `normalise` makes one of unchecked text."""

    __slots__ = ()

    @property
    def names(self) -> list[str]:
        """The segments; none for the root."""
        return self.split("/")[1:] if self != "/" else []

    @property
    def parents(self) -> Iterator[CanonicalPath]:
        """The directories above, from the nearest up, without the root."""
        end = self.rfind("/")
        while end > 0:
            yield CanonicalPath(self[:end])
            end = self.rfind("/", 0, end)

    @property
    def prefix(self) -> str:
        """What every path below this directory begins with."""
        return "/" if self == "/" else self + "/"


def normalise(path: str | bytes, *, root: str = "") -> CanonicalPath:
    """The canonical form of a path as somebody wrote it.

    `/workspace/a`, `/a`, `a` and `/a/./` are the same file. `root` is a host directory whose absolute paths are
    understood as well (the disk view's own). Raises `WorkspaceError`: `path-too-long`, `not-utf8`, `null-byte`,
    `control-char`, `unsafe-char`, `traversal`, `name-too-long`, `too-deep`. The work is bounded by the limits.
    """
    if isinstance(path, CanonicalPath):
        return path
    text = _decoded(path, MAX_PATH_BYTES + len(MOUNT) + len(root.encode()))
    shown = _shown(text, root)
    _check_characters(text, shown)
    text = text.strip(" ")
    names = _tidy(text.split("/"))
    if ".." in names:
        raise WorkspaceError("traversal", f"{shown} contains '..'; write the path from {MOUNT} without it")
    if text.startswith("/"):
        names = _below(names, root)
    return _within_limits(names, shown)


def display(key: str) -> str:
    """The path as the model and the reader are shown it: `/workspace/…`."""
    return MOUNT if key == "/" else MOUNT + key


def spelled(key: str) -> str:
    """Plain text that leads back to this key: the key itself, unless it looks like a path from the mount point."""
    return display(key) if key == MOUNT or key.startswith(f"{MOUNT}/") else str(key)


def _decoded(path: str | bytes, limit: int) -> str:
    if len(path) > limit:
        raise _too_long()
    try:
        text = path.decode() if isinstance(path, bytes) else path
        size = len(text.encode())
    except UnicodeError:
        raise WorkspaceError(
            "not-utf8", "the path is not valid UTF-8; file names here are Unicode text"
        ) from None
    if size > limit:
        raise _too_long()
    return text


def _too_long() -> WorkspaceError:
    return WorkspaceError(
        "path-too-long", f"the path is longer than {MAX_PATH_BYTES:,} bytes; use a shorter one"
    )


def _shown(text: str, root: str) -> str:
    if len(root) > 1:
        text = text.replace(root, MOUNT)
    return ascii(text[:120]) + ("..." if len(text) > 120 else "")


_CONTROL = r"[\x00-\x1f\x7f-\x9f]"
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
"""Letters and marks that show nothing. The other invisible ones are told by their category."""


def _check_characters(text: str, shown: str) -> None:
    if "\0" in text:
        raise WorkspaceError("null-byte", f"{shown} contains a null byte; remove it")
    if re.search(_CONTROL, text):
        raise WorkspaceError(
            "control-char", f"{shown} contains a control character such as a line break; remove it"
        )
    if not text.isascii() and any(map(_is_unsafe, text)):
        raise WorkspaceError(
            "unsafe-char", f"{shown} contains an invisible or direction-changing character; remove it"
        )


def _is_unsafe(character: str) -> bool:
    return unicodedata.category(character) in ("Cf", "Zl", "Zp") or character in _INVISIBLE


def _tidy(names: list[str]) -> list[str]:
    """Without empty and dot segments, nor spaces at the end: those would vanish when the path is read again."""
    names = [name for name in names if name not in ("", ".")]
    while names and names[-1].endswith(" "):
        last = names.pop().rstrip(" ")
        if last not in ("", "."):
            names.append(last)
    return names


def _below(names: list[str], root: str) -> list[str]:
    """Take the mount point off an absolute path, or else the host's own root: one of them, once."""
    if names[:1] == [MOUNT[1:]]:
        return names[1:]
    mine = [name for name in root.split("/") if name]
    return names[len(mine) :] if names[: len(mine)] == mine else names


def _within_limits(names: list[str], shown: str) -> CanonicalPath:
    if any(len(name.encode()) > MAX_NAME_BYTES for name in names):
        raise WorkspaceError(
            "name-too-long", f"a name in {shown} is longer than {MAX_NAME_BYTES} bytes; shorten it"
        )
    if len(names) > MAX_DEPTH:
        raise WorkspaceError("too-deep", f"{shown} lies more than {MAX_DEPTH} directories deep; use fewer")
    key = "/" + "/".join(names)
    if len(key.encode()) > MAX_PATH_BYTES:
        raise _too_long()
    return CanonicalPath(key)


def check_write(key: CanonicalPath) -> None:
    """Raise `WorkspaceError` when no tool may write here in any workspace: `is-directory`, `reserved`."""
    if key == "/":
        raise refusal("is-directory", key)
    if key.names[0].casefold() in RESERVED:
        raise refusal("reserved", key)


def check_delete(key: CanonicalPath) -> None:
    """Raise `WorkspaceError` when no tool may delete this in any workspace: `root-protected`, `reserved`."""
    if key == "/":
        raise refusal("root-protected", key)
    check_write(key)


def check_protected(key: CanonicalPath) -> None:
    """Raise `WorkspaceError("protected")` for what is obeyed later: a `.git` itself, its hooks and its settings, and
    the hooks that a directory brings (`.holdfast`)."""
    names = [name.casefold() for name in key.names]
    for index, name in enumerate(names):
        if name == HOOKS or (is_git(name) and (index + 1 == len(names) or names[index + 1] in PROTECTED)):
            raise refusal("protected", key)


def is_git(name: str) -> bool:
    """Whether git takes a directory of this name for a repository, on any disk."""
    return name.casefold() in (".git", "git~1")


_DEVICE = r"(?i)(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])"
_NOT_ON_WINDOWS = r'[<>:"|?*\\]'


def windows_problem(name: str) -> str:
    """Why Windows would take this name for something else than a plain file; empty when it would not."""
    if found := re.search(_NOT_ON_WINDOWS, name):
        return f"contains {found.group()}"
    if name.endswith((" ", ".")):
        return "ends in a space or a dot"
    if re.fullmatch(_DEVICE, name.partition(".")[0].rstrip(" ")):
        return "is the name of a device"
    return ""


def check_windows(key: CanonicalPath) -> None:
    """Raise `WorkspaceError("windows-name")` when a Windows disk cannot hold this path under its own name."""
    for name in key.names:
        if problem := windows_problem(name):
            raise WorkspaceError(
                "windows-name", f"{display(key)}: {name!r} {problem}, which Windows does not allow"
            )


_SAYS: dict[WorkspaceCode, str] = {
    "not-found": "does not exist; list its directory to see what does",
    "is-directory": "is a directory; name a file",
    "not-directory": "is a file, not a directory",
    "not-empty": "is a directory with something in it; delete it recursively to delete that too",
    "root-protected": "is the workspace itself and cannot be deleted; delete what is in it",
    "reserved": "belongs to the runtime; write somewhere else",
    "protected": "is obeyed by git or Holdfast on the host and cannot be changed from here",
    "read-only": "is read-only",
    "symlink": "is a symbolic link, or lies behind one, and links are not followed; use the real path",
    "special-file": "is not a plain file (a pipe, socket or device)",
    "conflict": "is not what was expected; read it again, then decide again",
    "quota-exceeded": "does not fit into this session's files; delete some first",
    "too-large": "is too large",
    "io-error": "could not be read or written",
}


def refusal(code: WorkspaceCode, key: str, detail: str = "") -> WorkspaceError:
    """The error for this path, in the same words for every workspace."""
    return WorkspaceError(code, f"{display(key)} {_SAYS[code]}" + (f" ({detail})" if detail else ""))
