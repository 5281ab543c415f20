"""What the wire drivers share: one httpx2 client, a POST that is bounded in time and size, and server-sent events.

Nothing here knows a protocol. A driver hands over a `Call` and a `Sink`; events go to the sink as they arrive, a
whole body is returned, and everything that can go wrong is a `DriverError`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Protocol, Self

import httpx2
from msgspec import Struct

from holdfast.drivers.address import public_address
from holdfast.drivers.failures import Peer
from holdfast.drivers.sse import EventSplitter
from holdfast.errors import ConfigError, DriverError, MissingCredential

KeySource = str | Callable[[], str] | None
"""A credential, a function that fetches one for each call, or None for the environment."""

MAX_BODY = 64 * 2**20
"""Bytes of a whole body at most."""
MAX_STREAM = 256 * 2**20
"""Bytes of one stream at most."""
MAX_REFUSAL = 64 * 2**10
"""Bytes that are read of a body that explains an error status."""
TAIL = 5.0
"""Seconds that a stream may stay silent between the model's last word and its own end (usage comes here)."""
DRAIN = 0.25
"""Seconds to wait, after the stream said it is over, for the connection to become reusable."""

_KEEPALIVE = 60.0


class Sink(Protocol):
    """Where the events of one stream go."""

    answered: bool
    """The model has said its last word: whatever goes wrong from here on costs nothing that matters."""
    over: bool
    """The stream has said that nothing follows; nothing is fed after that."""

    def feed(self, data: bytes) -> bool:
        """Take one event's data; True when it was real progress. May raise `DriverError`."""
        ...


class Call(Struct, frozen=True, kw_only=True):
    """One POST."""

    url: httpx2.URL
    headers: dict[str, str]
    body: bytes
    peer: Peer
    stream: bool
    """Whether events were asked for; what comes is told by its content type."""

    def __repr__(self) -> str:
        return f"Call({self.peer.host}, {len(self.body)} bytes)"


class Body(Struct, frozen=True, kw_only=True):
    """A whole response body."""

    content: bytes
    content_type: str


class Transport:
    """One connection pool for one driver. The client is made on first use, or is the caller's.

    `connect_timeout` and `stall_timeout` are seconds; the stall timer runs from sending to the end and is set back
    only by real progress, so it also bounds the wait for an answer that does not stream. Without `private` a host is
    looked up before each request, which goes to the public address that was found, or nowhere.
    """

    def __init__(
        self,
        *,
        connect_timeout: float,
        stall_timeout: float,
        http: httpx2.AsyncClient | None = None,
        private: bool = True,
    ) -> None:
        self._timeout = httpx2.Timeout(None, connect=connect_timeout)
        self._connect_timeout = connect_timeout
        self._stall_timeout = stall_timeout
        self._private = private
        self._lent = http is not None
        self._client = http
        self._opening = asyncio.Lock()

    async def post(self, call: Call, sink: Sink) -> Body | None:
        """Send, and feed the events of the answer to `sink`; a body that is not a stream is returned instead.

        Raises `DriverError`. Cancelling closes the connection at once.
        """
        client = self._client or await self._open()
        stall = StallTimer(self._stall_timeout)
        try:
            async with stall:
                request = await self._request(client, call)
                response = await client.send(request, stream=True, follow_redirects=False)
                try:
                    stall.touch()
                    return await _receive(call, response, sink, stall)
                finally:
                    await response.aclose()
        except TimeoutError as error:
            if not stall.expired:
                raise
            if sink.answered:
                return None
            raise _too_slow(call.peer.host, stall) from error
        except httpx2.HTTPError as error:
            if sink.answered:
                return None
            raise self._failed(call.peer, error) from error

    async def close(self) -> None:
        """Close the client and its connections, unless it is the caller's."""
        if self._client is not None and not self._lent:
            client, self._client = self._client, None
            await client.aclose()

    async def _open(self) -> httpx2.AsyncClient:
        """Make the client off the loop: reading the certificates takes tens of milliseconds."""
        async with self._opening:
            if self._client is None:
                self._client = await asyncio.to_thread(_new_client)
            return self._client

    async def _request(self, client: httpx2.AsyncClient, call: Call) -> httpx2.Request:
        url, headers, extensions = call.url, call.headers, {}
        if not self._private:
            address = await public_address(url.host, url.port)
            headers = {**headers, "host": url.netloc.decode()}
            extensions = {"sni_hostname": url.raw_host.decode()}
            url = url.copy_with(host=address)
        return client.build_request(
            "POST", url, headers=headers, content=call.body, timeout=self._timeout, extensions=extensions
        )

    def _failed(self, peer: Peer, error: httpx2.HTTPError) -> DriverError:
        name = type(error).__name__
        if isinstance(error, httpx2.ConnectTimeout):
            return DriverError("timeout", f"no connection to {peer.host} within {self._connect_timeout:g} s")
        if isinstance(error, httpx2.TimeoutException):
            return DriverError("timeout", f"{peer.host} was too slow ({name})")
        if isinstance(error, httpx2.DecodingError):
            return peer.broken("cannot be decompressed")
        if isinstance(error, httpx2.ConnectError | httpx2.ProxyError | httpx2.UnsupportedProtocol):
            return DriverError(
                "connection", f"no connection to {peer.host}: {peer.quote(str(error)) or name}"
            )
        return DriverError("connection", f"the connection to {peer.host} broke off ({name})")


def _new_client() -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=_KEEPALIVE)
    return httpx2.AsyncClient(limits=limits)


def _too_slow(host: str, stall: StallTimer) -> DriverError:
    if stall.moved:
        return DriverError("stalled", f"{host} went silent for {stall.limit:g} s in the middle of its answer")
    return DriverError("timeout", f"{host} did not begin to answer within {stall.limit:g} s")


async def _receive(call: Call, response: httpx2.Response, sink: Sink, stall: StallTimer) -> Body | None:
    content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not response.is_success:
        raise call.peer.refused(response.status_code, response.headers, await _explanation(response))
    if content_type == "text/event-stream" or (call.stream and not content_type):
        await _read_events(call.peer, response, sink, stall)
        return None
    body = bytearray()
    await _read(response, body, MAX_BODY + 1, stall.touch)
    if len(body) > MAX_BODY:
        raise call.peer.broken(f"is larger than {MAX_BODY >> 20} MiB")
    return Body(content=bytes(body), content_type=content_type)


async def _explanation(response: httpx2.Response) -> bytes:
    """What the body of an error status says, as far as it comes in good time: the status alone is enough."""
    body = bytearray()
    with suppress(TimeoutError, httpx2.HTTPError):
        async with asyncio.timeout(TAIL):
            await _read(response, body, MAX_REFUSAL, lambda: None)
    return bytes(body)


async def _read(response: httpx2.Response, body: bytearray, limit: int, moved: Callable[[], None]) -> None:
    """Append the response's bytes to `body`, `limit` at most. White space that keeps a line open moves nothing."""
    async with aclosing(_chunks(response)) as chunks:
        async for chunk in chunks:
            body += chunk[: limit - len(body)]
            if len(body) >= limit:
                return
            if not chunk.isspace():
                moved()


async def _read_events(peer: Peer, response: httpx2.Response, sink: Sink, stall: StallTimer) -> None:
    splitter = EventSplitter(peer)
    size = 0
    async with aclosing(_chunks(response)) as chunks:
        async for chunk in chunks:
            size += len(chunk)
            if size > MAX_STREAM:
                raise peer.broken(f"is a stream of more than {MAX_STREAM >> 20} MiB")
            _feed(splitter.feed(chunk), sink, stall)
    try:
        _feed(splitter.end(), sink, stall)
    except DriverError as error:
        if not (sink.answered and error.kind == "broken_stream"):
            raise


def _chunks(response: httpx2.Response) -> AsyncGenerator[bytes]:
    """The bytes as they arrive; the decoder is left out where there is nothing to decode."""
    return response.aiter_bytes() if "content-encoding" in response.headers else response.aiter_raw()


def _feed(events: list[bytes], sink: Sink, stall: StallTimer) -> None:
    moved = False
    for data in events:
        if not sink.over:
            moved = sink.feed(data) or moved
    if moved:
        stall.touch()
    if sink.answered:
        stall.shorten(DRAIN if sink.over else TAIL)


class StallTimer:
    """Ends its block with `TimeoutError` when nothing has moved for `limit` seconds.

    A touch costs one clock reading: the timer looks at the last one when it fires, and sets itself again.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.moved = False
        """Whether anything has moved at all."""
        self._last = 0.0

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._scope = asyncio.timeout(None)
        await self._scope.__aenter__()
        self._last = self._loop.time()
        self._handle = self._loop.call_later(self.limit, self._check)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.cancel()
        await self._scope.__aexit__(kind, error, trace)

    @property
    def expired(self) -> bool:
        """Whether it was this timer that ended the block."""
        return self._scope.expired()

    def touch(self) -> None:
        """Something moved."""
        self.moved = True
        self._last = self._loop.time()

    def shorten(self, limit: float) -> None:
        """From now on wait at most `limit` seconds; a longer limit than the present one changes nothing."""
        if limit < self.limit:
            self.limit = limit
            self._handle.cancel()
            self._check()

    def _check(self) -> None:
        due = self._last + self.limit
        if due <= self._loop.time():
            self._scope.reschedule(due)
        else:
            self._handle = self._loop.call_at(due, self._check)


def check_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers, when all can be sent; raises `ConfigError` naming the first that cannot (never its value)."""
    for name, value in headers.items():
        if not sendable(value) or not sendable(name) or " " in name or ":" in name:
            raise ConfigError(f"the header {name!r} cannot be sent: names and values are printable ASCII")
    return dict(headers)


def sendable(text: str) -> bool:
    """Whether a header may carry this text."""
    return bool(text) and text.isascii() and text.isprintable() and text == text.strip()


class Credential:
    """Where a driver's key comes from: given, fetched by a function for each call, or read from `variable`, or from
    the first of `others` that is set.

    An empty string that was given means that the server needs none. The value appears in no repr.
    """

    __slots__ = ("_fetched", "_others", "_source", "variable")

    def __init__(self, source: KeySource, variable: str, *others: str) -> None:
        self._source = source
        self._fetched = ""
        self.variable = variable
        self._others = others

    def known(self) -> tuple[str, ...]:
        """The key, as far as it is known without fetching it."""
        if callable(self._source):
            return (self._fetched,) if self._fetched else ()
        try:
            return (self.read(),)
        except MissingCredential:
            return ()

    def read(self) -> str:
        """The key, read now. Raises `MissingCredential` when there is none or it cannot be sent."""
        if self._source == "":
            return ""
        if self._source is None:
            names = (self.variable, *self._others)
            name = next((name for name in names if os.environ.get(name, "").strip()), self.variable)
            origin, key = f"the environment variable {name}", os.environ.get(name, "")
        elif callable(self._source):
            origin, key = "the function given as api_key", _fetched(self._source)
            self._fetched = key.strip()
        else:
            origin, key = "the api_key given", self._source
        key = key.strip()
        if not key:
            raise MissingCredential(f"no key: {origin} is empty; set {self.variable} or pass api_key")
        if not sendable(key):
            raise MissingCredential(f"{origin} holds characters that no key has; copy the key again")
        return key


def _fetched(source: Callable[[], str]) -> str:
    try:
        return str(source() or "")
    except Exception as error:
        raise MissingCredential(f"the function given as api_key failed ({type(error).__name__})") from error
