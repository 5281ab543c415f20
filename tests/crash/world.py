"""The world outside: what a process does to it stays done, whatever becomes of the process.

Lines in files that are only appended to. A run and an effect are written by tools, an acknowledgement and the end of a
turn by the client that was told of them. An effect is synced; SIGKILL takes nothing of the rest.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from holdfast import Context


class Line(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened to the world."""

    what: str
    """`run`, `effect`, `accepted`, `told`."""
    session: str = ""
    """The title of the session."""
    label: str = ""
    """Of an effect: one name for what must happen once at most. Of an input: its key."""
    call: str = ""
    key: str = ""
    turn: str = ""
    status: str = ""
    text: str = ""


_decoder = msgspec.json.Decoder(Line)


class Fuse:
    """Ends this process with SIGKILL when it comes by a place for the `number`-th time.

    At a place in the middle of something (`in …`, `any`) it says so on `poke`, and whoever hears that does the killing
    after a while.
    """

    def __init__(self, at: str = "", number: int = 0, poke: Callable[[], object] = lambda: None) -> None:
        self._at = at
        self._left = number
        self._poke = poke

    def passes(self, place: str) -> None:
        """This process is at that place now."""
        if place != self._at:
            return
        self._left -= 1
        if self._left == 0:
            if place == "any" or place.startswith("in "):
                self._poke()
            else:
                os.kill(os.getpid(), signal.SIGKILL)


class World:
    """The files of one case, as one process sees them."""

    def __init__(self, place: Path, fuse: Fuse | None = None) -> None:
        self.place = place
        self.fuse = fuse or Fuse()
        self._path = place / "ledger"

    def lines(self, what: str) -> list[Line]:
        """Everything of this kind that happened so far, in order."""
        if not self._path.exists():
            return []
        found = [_decoder.decode(line) for line in self._path.read_bytes().splitlines()]
        return [line for line in found if line.what == what]

    def length(self) -> int:
        """How many things happened so far."""
        return self._path.read_bytes().count(b"\n") if self._path.exists() else 0

    def note(self, line: Line, *, sync: bool = False) -> None:
        """Append a line."""
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, msgspec.json.encode(line) + b"\n")
            if sync:
                os.fsync(handle)
        finally:
            os.close(handle)

    def run(self, ctx: Context) -> None:
        """A tool begins to run."""
        call = ctx.call
        self.note(Line(what="run", session=ctx.session.title, label=call.name, call=call.id, key=call.key))
        self.fuse.passes("in tool")

    def effect(self, ctx: Context, label: str) -> None:
        """Something takes effect, for good."""
        line = Line(what="effect", session=ctx.session.title, label=label, call=ctx.call.id, key=ctx.call.key)
        self.fuse.passes("before effect")
        self.note(line, sync=True)
        self.fuse.passes("after effect")

    def has(self, key: str) -> bool:
        """Whether something took effect under this key."""
        return any(line.key == key for line in self.lines("effect"))
