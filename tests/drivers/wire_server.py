"""A real HTTP server on a loopback port that says exactly the bytes a test gives it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from holdfast.drivers.openai_chat import OpenAIChat


@dataclass
class Exchange:
    """One request that arrived, and the line to the client."""

    head: bytes
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode().split("\r\n")[1:]
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines) if name}

    async def send(self, *pieces: bytes) -> None:
        """Each piece in a write of its own."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)

    async def gone(self) -> None:
        """Until the client has closed its side."""
        while await self.reader.read(1000):
            pass


Script = Callable[[Exchange], Awaitable[None]]


@dataclass
class WireServer:
    """Plays one script per request, the last one for ever; a script that returns keeps the connection."""

    scripts: list[Script]
    exchanges: list[Exchange] = field(default_factory=list)
    asked: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    """Released when a request has arrived."""
    hang_ups: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    """Released when a client has gone."""
    open: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.url = f"http://{host}:{port}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        await self._server.wait_closed()
        for writer in self.open.values():
            writer.transport.abort()
        await asyncio.gather(*self.open)

    def driver(self, **options: object) -> OpenAIChat:
        return OpenAIChat(**({"base_url": self.url, "api_key": "sk-test-0123456789"} | options))  # type: ignore[arg-type]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.open[task] = writer
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                exchange = Exchange(head, b"", reader, writer)
                exchange.body = await reader.readexactly(int(exchange.headers.get("content-length", "0")))
                self.exchanges.append(exchange)
                self.asked.release()
                await self.scripts[min(len(self.exchanges), len(self.scripts)) - 1](exchange)
                if writer.is_closing():
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            del self.open[task]
            self.hang_ups.release()


def head(status: str = "200 OK", *headers: str) -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status}", *headers, "", "")).encode()


def in_chunks(pieces: Iterable[bytes]) -> list[bytes]:
    """HTTP chunks, without the one that ends the body."""
    return [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces if piece]


def says(
    body: bytes, *, status: str = "200 OK", content_type: str = "application/json", extra: str = ""
) -> Script:
    """A whole body with its length."""
    fields = [f"content-type: {content_type}", f"content-length: {len(body)}", *filter(None, [extra])]

    async def script(exchange: Exchange) -> None:
        await exchange.send(head(status, *fields) + body)

    return script


SSE = "content-type: text/event-stream"


def streams(*pieces: bytes, end: bool = True) -> Script:
    """Events in as many writes as there are pieces; without `end` the body never ends and the line stays open."""

    async def script(exchange: Exchange) -> None:
        await exchange.send(head("200 OK", SSE, "transfer-encoding: chunked"), *in_chunks(pieces))
        if end:
            await exchange.send(b"0\r\n\r\n")
        else:
            await exchange.gone()

    return script


def breaks_off(*pieces: bytes, abort: bool = False) -> Script:
    """Events, and then the connection is closed, or reset, in the middle of the body."""

    async def script(exchange: Exchange) -> None:
        await exchange.send(head("200 OK", SSE, "transfer-encoding: chunked"), *in_chunks(pieces))
        if abort:
            exchange.writer.transport.abort()
        exchange.writer.close()

    return script
