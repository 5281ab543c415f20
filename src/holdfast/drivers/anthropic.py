"""The Anthropic Messages protocol: Claude, and servers that speak it too.

Anthropic()                                                         # the key from ANTHROPIC_API_KEY
Anthropic(extra={"tools": [{"type": "web_search_20250305", "name": "web_search"}]})     # a tool that runs there
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import httpx2
import msgspec
from msgspec import structs

from holdfast.driver import Emit, Reply, Request, ToolSpec
from holdfast.drivers.anthropic_history import (
    BREAKPOINT,
    History,
    called,
)
from holdfast.drivers.anthropic_reply import ReplyAssembler
from holdfast.drivers.anthropic_settings import settings_of
from holdfast.drivers.failures import Peer
from holdfast.drivers.transport import Call, Credential, KeySource, Transport, check_headers, endpoint
from holdfast.errors import ConfigError, DriverError
from holdfast.messages import Message

DEFAULT_URL = "https://api.anthropic.com"
"""Where requests go when neither the program nor `$ANTHROPIC_BASE_URL` says otherwise."""
VERSION = "2023-06-01"
"""The version of the protocol."""
MAX_PAUSES = 10
"""How often one reply goes on after the provider paused it among its own tools."""

_ENCODER = msgspec.json.Encoder()
_OURS = frozenset({"model", "messages", "system", "stream", "max_tokens"})
_TOOL_SETS = 64
"""Encoded tool lists that one driver keeps."""


class Anthropic:
    """A driver for one server that speaks Anthropic Messages. One serves any number of turns at once.

    `base_url` may end in `/v1` or not. `api_key` is the key, a function that fetches one for each call, or None for the
    environment variable `ANTHROPIC_API_KEY`, read at each call; `""` says that the server wants none. Without a key
    `reply` raises `MissingCredential` before anything is sent. `vendor` marks thinking and what ran at the provider,
    which go back only to the vendor they came from. `connect_timeout` (10 s) bounds connecting; `stall_timeout` (120 s)
    bounds silence, so raise it for long runs of the provider's own tools. `headers` are sent with every request,
    such as `anthropic-beta`. `extra` holds further fields of every body (`mcp_servers`, `service_tier`, …); its `tools`
    are put before those of the request. With `http` the client is the caller's to configure and to close.

    An answer that the provider pauses among its own tools (`pause_turn`) is gone on with, at most `MAX_PAUSES` times,
    and returned as one reply with the usage of all; one that is still not done then has the stop reason `max_tokens`.

    Raises `ConfigError` for a base URL that is not http(s) or holds a user name, for headers that cannot be sent, and
    for `extra` fields that the request itself says.
    """

    wire = "anthropic"

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: KeySource = None,
        vendor: str = "anthropic",
        connect_timeout: float = 10.0,
        stall_timeout: float = 120.0,
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
        http: httpx2.AsyncClient | None = None,
    ) -> None:
        if base_url is None:
            base_url = os.environ.get("ANTHROPIC_BASE_URL") or DEFAULT_URL
        versioned = base_url.partition("?")[0].rstrip("/").endswith("/v1")
        self._url = endpoint(base_url, "/messages" if versioned else "/v1/messages")
        self.host = self._url.host
        """Where requests go; it tells whose prices count."""
        self._credential = Credential(api_key, "ANTHROPIC_API_KEY")
        self._vendor = vendor
        self._headers = {
            "content-type": "application/json",
            "user-agent": "holdfast",
            "anthropic-version": VERSION,
        } | check_headers({name.lower(): value for name, value in (headers or {}).items()})
        self._extra = dict(extra or {})
        if taken := _OURS & self._extra.keys():
            raise ConfigError(f"extra holds {', '.join(sorted(taken))}, which the request itself says")
        self._transport = Transport(connect_timeout=connect_timeout, stall_timeout=stall_timeout, http=http)
        self._history = History(self.wire, vendor)
        self._tools: dict[int, tuple[tuple[ToolSpec, ...], bytes]] = {}

    def __repr__(self) -> str:
        return f"Anthropic({self._url.scheme}://{self._url.host}, vendor={self._vendor!r})"

    async def reply(self, request: Request, emit: Emit) -> Reply:
        """Send the request and return the whole answer. See `holdfast.driver.Driver`."""
        body = self.encode(request)
        key = self._credential.read()
        peer = Peer(self._url.host, key)
        headers = self._headers | {"accept": "text/event-stream" if request.stream else "application/json"}
        if key:
            headers["x-api-key"] = key
        call = Call(url=self._url, headers=headers, body=body, peer=peer, stream=request.stream)
        so_far: Reply | None = None
        for pause in range(MAX_PAUSES + 1):
            assembler = ReplyAssembler(self._vendor, peer, emit)
            whole = await self._transport.post(call, assembler)
            if whole is not None:
                assembler.whole(whole.content, whole.content_type)
            so_far = _joined(so_far, assembler.reply())
            if not assembler.paused or pause == MAX_PAUSES:
                break
            body = self._body(request, so_far.message, assembler.container)
            call = structs.replace(call, body=body)
        assert so_far is not None
        return so_far

    def encode(self, request: Request) -> bytes:
        """The body of the request.

        `request.previous` is not part of it, as the protocol has nothing like it, and of `request.metadata` only
        `user_id`. Raises `DriverError`: `invalid_request` for text that is not valid Unicode and for a
        `reasoning_effort` that the model cannot be told; `unsupported` for an output schema that cannot be held to.
        """
        return self._body(request)

    async def close(self) -> None:
        """Let go of connections; a client that was given stays open."""
        await self._transport.close()

    def _body(self, request: Request, paused: Message | None = None, container: str = "") -> bytes:
        """The body; with `paused`, one that lets the model go on from there."""
        try:
            turns = self._history.turns(request)
            tools = self._tool_list(request)
            fields = self._fields(request, bool(tools), turns.begun_with_thoughts())
            if paused is not None and (spoken := self._history.spoken(paused)):
                turns.go_on(spoken)
            if container:
                fields["container"] = container
            cache = bool(request.settings.cache)
            if cache:
                turns.mark()
            parts = [
                b'{"model":' + _ENCODER.encode(request.model),
                _system(request.instructions, cache),
                _tool_field(tools, cache),
                b',"messages":' + turns.json(),
                b"," + _ENCODER.encode(fields)[1:],
            ]
            return b"".join(parts)
        except UnicodeEncodeError as error:
            raise DriverError(
                "invalid_request",
                f"the request to {self._url.host} holds a lone surrogate: {error.reason}; remove it",
            ) from error

    def _fields(self, request: Request, tools: bool, begun: bool) -> dict[str, Any]:
        """Everything but the model, the instructions, the tools and the messages."""
        settings = settings_of(request, tools=tools, begun=begun)
        if "output_config" in settings:
            settings["output_config"] = self._extra.get("output_config", {}) | settings["output_config"]
        if tools and not request.tools and "tools" not in self._extra:
            settings["tool_choice"] = {"type": "none"}
        fields = self._extra | settings
        fields.pop("tools", None)
        return fields

    def _tool_list(self, request: Request) -> bytes:
        """The tools with commas between; encoded once per tuple: a turn's tools are the same object throughout.

        A transcript with calls needs tools: where the request has none, those that were called are named.
        """
        tools = request.tools
        known = self._tools.get(id(tools))
        if known is None:
            listed = [_ENCODER.encode(tool) for tool in self._extra.get("tools", ())]
            listed += [_ENCODER.encode(_tool(tool)) for tool in tools]
            if not listed:
                return b",".join([_ENCODER.encode(_bare(name)) for name in called(request.messages)])
            if len(self._tools) >= _TOOL_SETS:
                self._tools.clear()
            # The tuple is kept too, so that no other object can have its id.
            known = self._tools[id(tools)] = (tools, b",".join(listed))
        return known[1]


def _joined(before: Reply | None, after: Reply) -> Reply:
    """One reply out of an answer and what it was gone on with."""
    if before is None:
        return after
    content = before.message.content + after.message.content
    message = structs.replace(after.message, content=content)
    return structs.replace(after, message=message, usage=before.usage + after.usage)


def _system(instructions: str, cache: bool) -> bytes:
    if not instructions.strip():
        return b""
    block = _ENCODER.encode({"type": "text", "text": instructions})
    if cache:
        return b',"system":[' + block[:-1] + BREAKPOINT + b"]"
    return b',"system":' + _ENCODER.encode(instructions)


def _tool_field(tools: bytes, cache: bool) -> bytes:
    if not tools:
        return b""
    return b',"tools":[' + (tools[:-1] + BREAKPOINT if cache else tools) + b"]"


def _tool(spec: ToolSpec) -> dict[str, Any]:
    return {"name": spec.name, "description": spec.description, "input_schema": spec.parameters}


def _bare(name: str) -> dict[str, Any]:
    return {"name": name, "description": "No longer there.", "input_schema": {"type": "object"}}
