"""Just enough of HTTP/1.1 for a server that is made to misbehave: a request in, and bytes out as they are told."""

from __future__ import annotations

import asyncio
import socket
import struct
import zlib
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Literal

import msgspec
from msgspec import Struct

Ending = Literal["end", "close", "reset", "hang"]
"""How an answer ends: as it should; with its connection, closed or reset; or not at all."""

MAX_REQUEST = 256 * 2**20
"""Bytes of a request's body at most."""


class Received(Struct, frozen=True, kw_only=True):
    """A request that a fake got."""

    method: str
    path: str
    """With its query."""
    headers: dict[str, str]
    """By names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded. Raises `msgspec.DecodeError` when it is not JSON."""
        return msgspec.json.decode(self.body)


class Answering(Struct, frozen=True, kw_only=True):
    """One answer as bytes, and how they are sent."""

    status: int
    headers: dict[str, str]
    pieces: list[bytes]
    """The body, in writes."""
    length: int | None
    """Bytes of the body as it is announced; None sends chunks."""
    then: Ending = "end"
    head: bool = True
    """Whether so much as a status line is sent."""
    pace: float = 0.0
    """Seconds between writes."""


async def receive(reader: StreamReader) -> Received:
    """The next request. Raises `IncompleteReadError` when the client is gone."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (it.partition(":") for it in lines) if name}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = await _chunks(reader)
    else:
        body = await reader.readexactly(min(int(headers.get("content-length", "0")), MAX_REQUEST))
    return Received(method=method, path=path, headers=headers, body=body)


async def _chunks(reader: StreamReader) -> bytes:
    body = bytearray()
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        if len(body) + size > MAX_REQUEST:
            raise ConnectionError("the request is too large")
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
    return bytes(body)


async def answer(said: Answering, reader: StreamReader, writer: StreamWriter) -> None:
    """Send it; a connection that ends with its answer is closing afterwards."""
    if said.head:
        await _write(writer, _head(said))
        for piece in said.pieces:
            await _write(writer, b"%x\r\n%s\r\n" % (len(piece), piece) if said.length is None else piece)
            await asyncio.sleep(said.pace)
        if said.then == "end" and said.length is None:
            await _write(writer, b"0\r\n\r\n")
    if said.then == "hang":
        while await reader.read(2**16):
            pass
    if said.then == "reset":
        reset(writer)
    elif said.then != "end":
        writer.close()


def reset(writer: StreamWriter) -> None:
    """End the connection the hard way: the other side sees a reset."""
    line: socket.socket = writer.get_extra_info("socket")
    if not writer.transport.is_closing():
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _head(said: Answering) -> bytes:
    try:
        reason = HTTPStatus(said.status).phrase
    except ValueError:
        reason = "Status"
    framing = (
        {"transfer-encoding": "chunked"} if said.length is None else {"content-length": str(said.length)}
    )
    lines = [f"{name}: {value}" for name, value in (said.headers | framing).items()]
    return "\r\n".join((f"HTTP/1.1 {said.status} {reason}", *lines, "", "")).encode("latin-1")


async def _write(writer: StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


def compressed(pieces: Iterable[bytes]) -> list[bytes]:
    """The same body in gzip; what is in a piece can be read as soon as the piece has come."""
    packer = zlib.compressobj(wbits=31)
    done = [packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH) for piece in pieces]
    return [*done, packer.flush()]


def bomb(size: int) -> bytes:
    """So many blanks in gzip, a thousandth of that."""
    block = b" " * 2**20
    times, rest = divmod(size, len(block))
    total = 0
    for _ in range(times):
        total = zlib.crc32(block, total)
    total = zlib.crc32(block[:rest], total)
    body = _stretch(block) * times + _stretch(block[:rest]) + b"\x03\x00"
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + body + struct.pack("<II", total, size % 2**32)


def _stretch(data: bytes) -> bytes:
    """A piece of a deflated body that refers to nothing before it, so that it can be repeated."""
    packer = zlib.compressobj(level=9, wbits=-15)
    return packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH)
