"""Server-sent events out of bytes: one small incremental splitter, for every protocol that streams."""

from __future__ import annotations

import json
from typing import TypeVar

import msgspec

from holdfast.drivers.failures import Peer

MAX_EVENT = 64 * 2**20
"""Bytes of one event at most. A picture that a model made is one event."""

_BOM = b"\xef\xbb\xbf"


UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
"""What decoding bytes that are not what they should be raises."""

Shape = TypeVar("Shape")


def mended(data: bytes, decoder: msgspec.json.Decoder[Shape], peer: Peer) -> Shape:
    """An event that no strict reader takes, read as far as it can be. Raises `DriverError` where it cannot."""
    try:
        return decoder.decode(loosely(data))
    except UNREADABLE as error:
        raise peer.broken("holds an event that cannot be read", data) from error


def loosely(data: bytes) -> bytes:
    """The JSON of servers that cut text between the halves of a surrogate pair, or write NaN, as JSON."""
    loose = json.loads(data.decode(errors="replace"), parse_constant=lambda _: None)
    return json.dumps(loose, ensure_ascii=False).encode(errors="replace")


def _one_event(chunk: bytes) -> bytes | None:
    """The data of a chunk that is one event and nothing else, as nearly every server writes them, named or not."""
    if not chunk.endswith(b"\n\n") or b"\r" in chunk:
        return None
    start = chunk.find(b"\n") + 1 if chunk.startswith(b"event: ") else 0
    if not chunk.startswith(b"data: ", start):
        return None
    end = chunk.find(b"\n", start)
    return chunk[start + 6 : end] if end == len(chunk) - 2 else None


class EventSplitter:
    """Cuts a byte stream into the data of its server-sent events, however the bytes were split on the way.

    Lines end at CR, LF or CRLF and nothing else. Comments, names, ids and retry hints are dropped, an event's
    data lines are joined by LF, and an event without data is no event.
    """

    def __init__(self, peer: Peer, limit: int = MAX_EVENT) -> None:
        self._peer = peer
        self._limit = limit
        self._open: list[bytes] = []
        """The pieces of the line that has not ended yet."""
        self._data: list[bytes] = []
        """The data lines of the event that has not ended yet."""
        self._held = 0
        """Their bytes."""
        self._size = 0
        """Bytes in both."""
        self._after_cr = False
        self._first = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that end in this chunk. Raises `DriverError` when one grows beyond the limit."""
        idle = not (self._size or self._after_cr)
        if idle and (only := _one_event(chunk)) is not None:
            self._first = False
            return [only]
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        self._size += len(chunk)
        events: list[bytes] = []
        if b"\n" in chunk:
            lines = chunk.split(b"\n")
            if self._open:
                lines[0] = b"".join(self._open) + lines[0]
            rest = lines.pop()
            self._open = [rest] if rest else []
            self._take(lines, events)
            self._size = len(rest) + self._held
        elif chunk:
            self._open.append(chunk)
        if self._size > self._limit:
            raise self._peer.broken(f"has an event of more than {self._limit} bytes")
        return events

    def end(self) -> list[bytes]:
        """What is left when the stream ends: the last event may lack its closing blank line."""
        events: list[bytes] = []
        self._take([b"".join(self._open), b""], events)
        self._open = []
        return events

    def _take(self, lines: list[bytes], events: list[bytes]) -> None:
        if self._first:
            self._first = False
            lines[0] = lines[0].removeprefix(_BOM)
        data = self._data
        for line in lines:
            if line.startswith(b"data:"):
                data.append(line[6:] if line.startswith(b"data: ") else line[5:])
                self._held += len(line)
            elif not line:
                if data:
                    events.append(data[0] if len(data) == 1 else b"\n".join(data))
                    data.clear()
                    self._held = 0
            elif line == b"data":
                data.append(b"")
                self._held += len(line)
