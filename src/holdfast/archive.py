"""Archives: one session in one file, to keep it, to move it, or to show it to somebody.

An archive is a file of JSON lines: a header, the events 1..n, the blobs that they refer to, and a trailer that counts
them and holds the digest of every byte before it. What is missing or changed is therefore noticed, and nothing is
imported from an archive that is not whole. It holds everything that was said: keep it as private as the store.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

import msgspec
from msgspec import Struct

from holdfast.errors import StoreCorrupt, UnknownBlob, UnknownSession, UsageError
from holdfast.events import (
    Drifted,
    Event,
    SessionCreated,
    ToolCompleted,
    TurnStarted,
    UnknownFact,
    decode_event,
    encode_event,
)
from holdfast.fold import fold
from holdfast.ids import check_id
from holdfast.messages import BlobRef, Text
from holdfast.store import Store, digest_of

FORMAT, VERSION = "holdfast.session", 1
"""What the header says, so that a file of another kind, or of a newer Holdfast, is recognised."""

PAGE = 1_000
"""Events that are read at a time."""

_CUT = re.compile(r"\[cut here: [^]]* kept as (sha256:[0-9a-f]{64})\]\Z")
"""How a result that was too long for the model ends."""

T = TypeVar("T")


class Header(Struct, frozen=True, kw_only=True):
    """The first line."""

    format: str
    version: int
    session_id: str
    blobs: tuple[str, ...]
    """The digests of the blobs, in the order of their lines."""


class BlobLine(Struct, frozen=True, kw_only=True):
    """The line of a blob; `data` is written as base64."""

    digest: str
    data: bytes


class Trailer(Struct, frozen=True, kw_only=True):
    """The last line."""

    events: int
    blobs: int
    sha256: str
    """Of all lines before this one, in hex."""


class Archive(Struct, frozen=True, kw_only=True):
    """An archive that was read and found whole."""

    session_id: str
    events: list[Event]
    blobs: dict[str, bytes]


async def export_session(store: Store, session_id: str) -> AsyncIterator[bytes]:
    """The lines of this session's archive, each with its end of line; as it stands now, also while others write.

    Raises `UnknownSession`, and `StoreError` when an event or a blob that belongs to it is missing or damaged.
    """
    head = await store.head(session_id)
    if head is None:
        raise UnknownSession(f"this store has no session {session_id}")
    blobs: dict[str, None] = {}
    async for event in _events(store, session_id, head.sequence):
        blobs.update(dict.fromkeys(blobs_of(event)))
        for digest in _cut(event):
            with suppress(UnknownBlob):  # a tool may say the same of something that was never here
                await store.get_blob(digest)
                blobs[digest] = None
    header = Header(format=FORMAT, version=VERSION, session_id=session_id, blobs=tuple(blobs))
    seen = hashlib.sha256()

    def line(body: bytes) -> bytes:
        seen.update(body + b"\n")
        return body + b"\n"

    yield line(msgspec.json.encode(header))
    async for event in _events(store, session_id, head.sequence):
        yield line(encode_event(event))
    for digest in blobs:
        yield line(msgspec.json.encode(BlobLine(digest=digest, data=await store.get_blob(digest))))
    yield line(msgspec.json.encode(Trailer(events=head.sequence, blobs=len(blobs), sha256=seen.hexdigest())))


async def _events(store: Store, session_id: str, last: int) -> AsyncIterator[Event]:
    after = 0
    while after < last:
        page = await store.read(session_id, after=after, limit=min(PAGE, last - after))
        if not page:
            raise StoreCorrupt(f"events {after + 1} to {last} of {session_id} are missing; restore a backup")
        for event in page:
            yield event
        after = page[-1].sequence


async def import_session(store: Store, lines: Iterable[bytes]) -> str:
    """Bring an archive into this store, exactly as it was; the session's id. All of it is durable on return.

    Nothing becomes due by that: what the session owes goes on when somebody opens it. Raises `UsageError` for an
    archive that is not whole or not ours, or a session that is here already; then nothing of it can be seen here.
    """
    archive = read_archive(lines)
    session_id = archive.session_id
    if await store.head(session_id) is not None:
        raise UsageError(f"session {session_id} is in this store already; nothing was imported")
    for data in archive.blobs.values():
        await store.put_blob(data)
    await store.append(session_id, archive.events, expected=0, epoch=1)
    return session_id


def read_archive(lines: Iterable[bytes]) -> Archive:
    """The archive in these lines. Raises `UsageError` saying what is wrong with it."""
    content = list(lines)
    header, trailer = _frame(content)
    body = content[1:-1]
    if len(body) != trailer.events + trailer.blobs or trailer.blobs != len(header.blobs):
        raise _broken(
            f"it should hold {trailer.events} events and {trailer.blobs} blobs, and has {len(body)} lines"
        )
    events = [_event(line, number, header) for number, line in enumerate(body[: trailer.events], 1)]
    blobs = dict(_blob(*pair) for pair in zip(header.blobs, body[trailer.events :], strict=True))
    if missing := {digest for event in events for digest in blobs_of(event)} - blobs.keys():
        raise _broken(f"blob {min(missing)} is missing")
    if not events:
        raise _broken("it holds no event")
    try:
        fold(header.session_id, events)
    except Exception as error:  # whatever the rules stumble over, the session could not be opened
        raise _broken(f"its events do not make a session ({error!r})") from error
    return Archive(session_id=header.session_id, events=events, blobs=blobs)


def _frame(content: list[bytes]) -> tuple[Header, Trailer]:
    """The first and the last line, which must belong to each other and to all between them."""
    header = _line(content[0], Header) if content else None
    if header is None or header.format != FORMAT:
        raise _broken("its first line is not the header of a session; nothing like that was exported here")
    if header.version != VERSION:
        raise UsageError(
            f"the archive has version {header.version}, and this Holdfast reads version {VERSION}; import it with "
            "a newer Holdfast"
        )
    if not _is_session(header.session_id):
        raise _broken(f"{header.session_id!r} is no session's id")
    trailer = _line(content[-1], Trailer)
    if trailer is None or not content[-1].endswith(b"\n"):
        raise _broken("its last line is not a trailer: it was truncated")
    seen = hashlib.sha256()
    for line in content[:-1]:
        seen.update(line)
    if seen.hexdigest() != trailer.sha256:
        raise _broken("its lines are not those that were exported: their digest differs")
    return header, trailer


def _is_session(session_id: str) -> bool:
    try:
        return check_id("session", session_id) == session_id
    except UsageError:
        return False


def _event(line: bytes, number: int, header: Header) -> Event:
    try:
        event = decode_event(line)
    except StoreCorrupt as error:
        raise _broken(f"event {number} cannot be read") from error
    if event.sequence != number:
        raise _broken(f"event {event.sequence} stands where event {number} belongs")
    if event.session_id != header.session_id:
        raise _broken(f"event {number} is of session {event.session_id}")
    return event


def _blob(digest: str, line: bytes) -> tuple[str, bytes]:
    blob = _line(line, BlobLine)
    if blob is None or blob.digest != digest or digest_of(blob.data) != digest:
        raise _broken(f"the bytes of blob {digest} are not those it is named after")
    return digest, blob.data


def _line(line: bytes, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _broken(what: str) -> UsageError:
    return UsageError(f"the archive is broken: {what}; nothing was imported, export the session again")


def blobs_of(event: Event) -> Iterator[str]:
    """The digests of the blobs without which this event is not whole."""
    match event.data:
        case SessionCreated(layers=digest) if digest:
            yield digest
        case TurnStarted(manifest=manifest, layers=layers) | Drifted(after=manifest, layers=layers):
            yield from filter(None, (manifest, layers))
        case UnknownFact(data=data):
            yield from _in_data(data)
        case _:
            yield from _in_value(event.data)


def _cut(event: Event) -> Iterator[str]:
    """The blobs in which long results are kept, as their texts say."""
    if isinstance(event.data, ToolCompleted):
        for part in event.data.result.content:
            if isinstance(part, Text) and (found := _CUT.search(part.text[-200:])):
                yield found[1]


def _in_value(value: object) -> Iterator[str]:
    """The blobs that a fact of ours refers to, however deep."""
    if isinstance(value, BlobRef):
        yield value.digest
    elif isinstance(value, Struct):
        for name in value.__struct_fields__:
            yield from _in_value(getattr(value, name))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _in_value(item)


def _in_data(value: object) -> Iterator[str]:
    """The same in a fact whose kind a newer Holdfast made: whatever is written as a reference to a blob."""
    if isinstance(value, dict):
        try:
            yield msgspec.convert(value, BlobRef).digest
        except msgspec.ValidationError:
            for item in value.values():
                yield from _in_data(item)
    elif isinstance(value, list):
        for item in value:
            yield from _in_data(item)
