"""What the processes of a race believe, each in a file of its own: a line of JSON for each thing, synced to the disk
before the next is done. Times are on the clock that all processes of a machine share."""

import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import msgspec
from msgspec import Struct

from holdfast.events import Event, encode_event


class Claimed(Struct, frozen=True, kw_only=True, tag="claimed"):
    """A claim that went well: asked for at `before`, answered by `after`."""

    session: str
    epoch: int
    owner: str
    hold: float
    before: float
    after: float


class Meant(Struct, frozen=True, kw_only=True, tag="meant"):
    """An append that is about to be asked for; what comes after `expected`."""

    session: str
    epoch: int
    expected: int
    events: tuple[str, ...]
    """Digests, see `digest`."""
    hold: float
    before: float


class Wrote(Struct, frozen=True, kw_only=True, tag="wrote"):
    """The append meant last in this session was acknowledged."""

    session: str
    epoch: int
    expected: int


class Refused(Struct, frozen=True, kw_only=True, tag="refused"):
    """It was refused, which means that nothing of it was written."""

    session: str
    epoch: int
    expected: int


class Renewed(Struct, frozen=True, kw_only=True, tag="renewed"):
    """Whatever this owner held was held anew."""

    session: str
    epoch: int
    hold: float
    before: float
    after: float


class Posting(Struct, frozen=True, kw_only=True, tag="posting"):
    """A letter is about to be left."""

    session: str
    letter: str


class Posted(Struct, frozen=True, kw_only=True, tag="posted"):
    """It was: somebody will take it."""

    session: str
    letter: str


class Saw(Struct, frozen=True, kw_only=True, tag="saw"):
    """A reader read on, and got these after what it had."""

    session: str
    events: tuple[tuple[int, str], ...]
    """Sequence and digest of each."""


Line = Claimed | Meant | Wrote | Refused | Renewed | Posting | Posted | Saw

_LINE = msgspec.json.Decoder(Line)


class RaceJournal:
    """Of one process; another one that takes its place may go on with it."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)

    def note(self, line: Line) -> None:
        """Keep it, whatever happens to this process from here on."""
        os.write(self._file, msgspec.json.encode(line) + b"\n")
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def noted(path: Path) -> list[Line]:
    """All lines of a journal. One that its process was killed in the middle of is cut off."""
    body = path.read_bytes()
    whole = body.rpartition(b"\n")[0]
    if len(whole) + 1 < len(body):
        os.truncate(path, len(whole) + 1 if whole else 0)
    return [_LINE.decode(line) for line in whole.splitlines()]


def meant(events: Iterable[Event], *, session: str, epoch: int, expected: int, hold: float) -> Meant:
    """The line for an append that begins now."""
    digests = tuple(digest(event) for event in events)
    return Meant(
        session=session, epoch=epoch, expected=expected, events=digests, hold=hold, before=time.monotonic()
    )


def digest(event: Event) -> str:
    """Of the whole of an event, its number included."""
    return hashlib.sha256(encode_event(event)).hexdigest()[:24]
