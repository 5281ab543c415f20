"""A pooler: hands a few server connections around between many clients, a transaction at a time.

The server connection that a client gets is another one each time, so that whoever counts on the same one finds out.
"""

import asyncio
import struct
from asyncio import Queue, StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

READY, IDLE, BYE = b"Z", b"I", b"X"


class Pooler:
    """`servers` is how many server connections all clients share."""

    def __init__(self, host: str, port: int, servers: int) -> None:
        self._where = host, port
        self._servers = servers
        self._all: list[StreamWriter] = []
        self._free: Queue[tuple[StreamReader, StreamWriter]] = Queue()
        self._greeting = b""
        self._log_in = asyncio.Lock()
        self._clients: set[asyncio.Task[None]] = set()
        self.handed_out = 0

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        client = asyncio.create_task(self._serve(reader, writer))  # ends with its connection
        self._clients.add(client)
        await asyncio.wait((client,))
        writer.close()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        startup = await receive_startup(reader, writer)
        async with self._log_in:
            if not self._greeting:
                await self._connect(startup)
        writer.write(self._greeting)
        kind, message = await receive(reader)
        while kind != BYE:
            answers, server = await self._free.get()
            self.handed_out += 1
            answering = asyncio.create_task(pass_on(answers, writer))
            while True:
                server.write(message)
                receiving = asyncio.create_task(receive(reader))
                await asyncio.wait((receiving, answering), return_when=asyncio.FIRST_COMPLETED)
                if answering.done():
                    break
                kind, message = await receiving
            self._free.put_nowait((answers, server))
            kind, message = await receiving

    async def _connect(self, startup: bytes) -> None:
        """Log in as the first client does; what the server says then is said to every client."""
        for _ in range(self._servers):
            reader, writer = await asyncio.open_connection(*self._where)
            self._all.append(writer)
            writer.write(startup)
            self._greeting = kind = b""
            while kind != READY:
                kind, message = await receive(reader)
                self._greeting += message
            self._free.put_nowait((reader, writer))

    async def end(self) -> None:
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        for server in self._all:
            server.close()


async def pass_on(answers: StreamReader, writer: StreamWriter) -> None:
    """Until the server is ready, and not in a transaction."""
    message = b""
    while message[:1] + message[5:6] != READY + IDLE:
        _, message = await receive(answers)
        writer.write(message)


async def receive(reader: StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)


async def receive_startup(reader: StreamReader, writer: StreamWriter) -> bytes:
    while True:
        head = await reader.readexactly(4)
        message = head + await reader.readexactly(struct.unpack("!I", head)[0] - 4)
        if message[4:8] != struct.pack("!HH", 1234, 5679):
            return message
        writer.write(b"N")  # no TLS here


@asynccontextmanager
async def pooler_for(url: str, servers: int) -> AsyncIterator[tuple[Pooler, str]]:
    """A pooler before the server at `url`, and the URL that leads through it."""
    parts = urlsplit(url)
    pooler = Pooler(parts.hostname or "127.0.0.1", parts.port or 5432, servers)
    server = await asyncio.start_server(pooler.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    who = parts.netloc.rpartition("@")[0]
    try:
        yield pooler, urlunsplit(parts._replace(netloc=f"{who}@127.0.0.1:{port}"))
    finally:
        server.close()
        await pooler.end()
