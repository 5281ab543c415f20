"""What every driver of a server over HTTP has: an address, a credential, headers, options, a connection pool.

A protocol adds how a request is written (`_body`), where it goes (`_path`), what its answer is put together by
(`_assembler`), and the options of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import httpx2
import msgspec
from msgspec import Struct, field

from holdfast.driver import Emit, Reply, Request
from holdfast.drivers.address import check_public, endpoint
from holdfast.drivers.described import told
from holdfast.drivers.failures import Peer
from holdfast.drivers.transport import Call, Credential, KeySource, Sink, Transport, check_headers
from holdfast.errors import ConfigError, DriverError

KEPT = 64
"""Encoded tool lists and schemas that one driver keeps."""

_ENCODER = msgspec.json.Encoder()


class RemoteOptions(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is asked of a server beyond what every request says. Each protocol adds its own."""

    tools: tuple[dict[str, Any], ...] = ()
    """Tools that run at the provider, in the protocol's own words."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Further fields of every body. What a request says counts before them."""
    private: bool = True
    """Whether the server may be at a private address: this machine, a private network. Say False where the base URL
    comes from somebody you do not trust."""


class Assembler(Sink, Protocol):
    """Puts a reply together from events or from a whole body."""

    def whole(self, body: bytes, content_type: str, /) -> None: ...
    def reply(self) -> Reply: ...


Said = TypeVar("Said", bound=RemoteOptions)
Heard = TypeVar("Heard", bound=Assembler)


class Encoded:
    """JSON of objects that stay the same throughout a turn, such as its tools: made once for each."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[object, bytes]] = {}

    def of(self, source: object, value: Callable[[], Any]) -> bytes:
        """The JSON of the value that belongs to this object."""
        known = self._kept.get(id(source))
        if known is None:
            data = _ENCODER.encode(value())
            if len(self._kept) >= KEPT:
                self._kept.clear()
            # The object is kept too, so that no other can have its id.
            known = self._kept[id(source)] = (source, data)
        return known[1]


class RemoteDriver(Generic[Said]):
    """A driver for one server. One serves any number of turns at once.

    `base_url` is the server's address; None reads the vendor's own environment variable, else goes to the vendor.
    `api_key` is the key, a function that fetches one for each call, or None for the first of `credentials` that is set
    in the environment, read at each call; `""` says that the server wants none. Without a key `reply` raises
    `MissingCredential` before anything is sent. `vendor` marks reasoning and what ran at the provider, which go back
    only to the vendor they came from. `connect_timeout` (10 s) bounds connecting; `stall_timeout` (120 s) bounds
    silence, so raise it for models that think long without telling. `headers` are sent with every request. `options`
    are the protocol's own. With `http` the client is the caller's to configure and to close.

    Raises `ConfigError` for a base URL that is not http(s), holds a user name or a password, or is private where that
    is not allowed; for headers that cannot be sent; and for `extra` fields that the request itself says.
    """

    wire: str
    """The name of the protocol."""
    credentials: ClassVar[tuple[str, ...]]
    """The environment variables that may hold the key, in the order in which they are read."""
    default_url: ClassVar[str]
    """Where requests go when neither the program nor the environment says otherwise."""

    _options_type: type[Said]
    _url_variable: ClassVar[str]
    _key_header: ClassVar[tuple[str, str]] = ("authorization", "Bearer ")
    """The header that carries the key, and what stands before the key in it."""
    _headers_of_protocol: ClassVar[Mapping[str, str]] = {}
    _ours: ClassVar[frozenset[str]]
    """Fields of a body that no `extra` may hold."""

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: KeySource = None,
        vendor: str | None = None,
        connect_timeout: float = 10.0,
        stall_timeout: float = 120.0,
        headers: Mapping[str, str] | None = None,
        options: Said | None = None,
        http: httpx2.AsyncClient | None = None,
    ) -> None:
        base_url = self._from_environment() if base_url is None else base_url
        self._url = endpoint(base_url, self._path(base_url))
        self._options: Said = self._options_type() if options is None else options
        if taken := self._ours & self._options.extra.keys():
            raise ConfigError(f"extra holds {', '.join(sorted(taken))}, which the request itself says")
        if not self._options.private:
            check_public(self._url.host)
        self._credential = Credential(api_key, *self.credentials)
        self._vendor = vendor or self.wire
        self._added = check_headers({name.lower(): value for name, value in (headers or {}).items()})
        self._headers = {
            "content-type": "application/json",
            "user-agent": "holdfast",
            **self._headers_of_protocol,
            **self._added,
        }
        self._timeouts = {"connect": connect_timeout, "stall": stall_timeout}
        self._transport = Transport(
            connect_timeout=connect_timeout,
            stall_timeout=stall_timeout,
            http=http,
            private=self._options.private,
        )
        self._encoded = Encoded()

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be recorded or shown: its key."""
        return self._credential.known()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._url.scheme}://{self._url.host}, vendor={self._vendor!r})"

    @property
    def host(self) -> str:
        """Where requests go; it tells whose prices count."""
        return self._url.host

    def describe(self) -> dict[str, Any]:
        """What of this driver changes behaviour, as plain data: part of the digest of a manifest that names it.

        Holds no credential: of headers and of a query there are only names, except where the value is known to be no
        secret; fields of options that are named like secrets are left out, as is what follows the path in addresses.
        """
        return self._description

    @cached_property
    def _description(self) -> dict[str, Any]:
        return told(self.wire, self._vendor, self._url, self._added, self._timeouts, self._options)

    async def reply(self, request: Request, emit: Emit) -> Reply:
        """Send the request and return the whole answer. See `holdfast.driver.Driver`."""
        body = self.encode(request)
        key = self._credential.read()
        headers = self._headers | {"accept": "text/event-stream" if request.stream else "application/json"}
        if key:
            name, before = self._key_header
            headers[name] = before + key
        peer = Peer(self._url.host, key)
        call = Call(url=self._address(request), headers=headers, body=body, peer=peer, stream=request.stream)
        return await self._answer(request, call, emit)

    def encode(self, request: Request) -> bytes:
        """The body of the request.

        Raises `DriverError`: `invalid_request` for text that is not valid Unicode; `unsupported` for what the protocol
        does not have, and for a schema that it cannot take, with the keyword and, where it is one's, the tool.
        """
        try:
            return self._body(request)
        except UnicodeEncodeError as error:
            raise self._not_unicode(error) from error

    async def close(self) -> None:
        """Let go of connections; a client that was given stays open."""
        await self._transport.close()

    # -- what a protocol says

    def _from_environment(self) -> str:
        return os.environ.get(self._url_variable) or self.default_url

    def _path(self, base_url: str) -> str:
        """What follows the base URL."""
        raise NotImplementedError

    def _address(self, request: Request) -> httpx2.URL:
        return self._url

    def _body(self, request: Request) -> bytes:
        raise NotImplementedError

    def _assembler(self, call: Call, emit: Emit) -> Assembler:
        raise NotImplementedError

    async def _answer(self, request: Request, call: Call, emit: Emit) -> Reply:
        """The answer. One call has it, where the protocol does not say otherwise."""
        return (await self._heard(call, self._assembler(call, emit))).reply()

    # -- what it is said with

    async def _heard(self, call: Call, assembler: Heard) -> Heard:
        whole = await self._transport.post(call, assembler)
        if whole is not None:
            assembler.whole(whole.content, whole.content_type)
        return assembler

    def _not_unicode(self, error: UnicodeEncodeError) -> DriverError:
        return DriverError(
            "invalid_request",
            f"the request to {self._url.host} holds a lone surrogate: {error.reason}; remove it",
        )
