"""The way to the server, in our hands: cut it before a request gets there, or before the answer gets back."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

Loss = Literal["", "request", "answer", "silence"]


class Wire:
    """Forwards to a server. `lose` says what happens once somebody sends `marker`, and then applies to everybody:

    `request`: it and all connections are cut before it is passed on; `answer`: it is passed on, and what comes back
    is not; `silence`: the same, but nobody is told that the connection is dead.
    """

    def __init__(self, host: str, port: int) -> None:
        self._where = host, port
        self._open: set[StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._lost = False
        self.marker = b""
        self.lose: Loss = ""
        self.cut = asyncio.Event()
        """That it has happened."""
        self.refuses = False
        """Whether nobody can connect any more."""

    def lose_next(self, lose: Loss, marker: bytes, *, refuses: bool = False) -> None:
        self.lose, self.marker, self._refuses_then = lose, marker, refuses
        self.cut.clear()

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        if self.refuses:
            writer.close()
            return
        there, back = await asyncio.open_connection(*self._where)
        self._open |= {writer, back}
        lost = asyncio.Event()
        up = asyncio.create_task(self._up(reader, back, lost))
        down = asyncio.create_task(self._down(there, writer, lost))
        self._tasks |= {up, down}
        await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
        if not (lost.is_set() and self.lose == "silence"):
            for end in (writer, back):
                end.close()

    async def _up(self, reader: StreamReader, back: StreamWriter, lost: asyncio.Event) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(1 << 20):
                if self.lose and self.marker in data and not self.cut.is_set():
                    lost.set()
                    self.refuses = self._refuses_then
                    if self.lose == "request":
                        self.cut.set()
                        return
                back.write(data)
                await back.drain()

    async def _down(self, there: StreamReader, writer: StreamWriter, lost: asyncio.Event) -> None:
        with suppress(ConnectionError):
            while data := await there.read(1 << 20):
                if lost.is_set():
                    self.cut.set()
                    return
                writer.write(data)
                await writer.drain()

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._open:
            writer.close()


@asynccontextmanager
async def wire_to(url: str) -> AsyncIterator[tuple[Wire, str]]:
    """A wire to the server at `url`, and the URL that leads through it."""
    parts = urlsplit(url)
    wire = Wire(parts.hostname or "127.0.0.1", parts.port or 5432)
    server = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    who = parts.netloc.rpartition("@")[0]
    try:
        yield wire, urlunsplit(parts._replace(netloc=f"{who}@127.0.0.1:{port}"))
    finally:
        server.close()
        await wire.end()
