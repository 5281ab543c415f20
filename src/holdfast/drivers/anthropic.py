"""The Anthropic Messages protocol: Claude, and servers that speak it too.

Anthropic()                                                         # the key from ANTHROPIC_API_KEY
Anthropic(options=Options(tools=({"type": "web_search_20250305", "name": "web_search"},)))  # a tool that runs there
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import msgspec
from msgspec import structs

from holdfast.driver import AnswersBy, Emit, Reply, Request, ToolSpec
from holdfast.drivers.anthropic_history import (
    BREAKPOINT,
    History,
    called,
)
from holdfast.drivers.anthropic_reply import ReplyAssembler
from holdfast.drivers.anthropic_settings import settings_of
from holdfast.drivers.remote import RemoteDriver, RemoteOptions
from holdfast.drivers.tools import PLAIN, checked
from holdfast.drivers.transport import Call
from holdfast.messages import Message

VERSION = "2023-06-01"
"""The version of the protocol."""
MAX_PAUSES = 10
"""How often one reply goes on after the provider paused it among its own tools."""

_ENCODER = msgspec.json.Encoder()


class Options(RemoteOptions, frozen=True, kw_only=True, omit_defaults=True):
    """What is asked of this protocol beyond what every request says: `tools` that run at Anthropic, and `extra` fields
    such as `{"mcp_servers": [...]}` or `{"service_tier": "standard_only"}`."""


class Anthropic(RemoteDriver[Options]):
    """A driver for one server that speaks Anthropic Messages. See `RemoteDriver` for what it is given.

    `base_url` may end in `/v1` or not. `headers` may have `anthropic-beta`. Tools of the options are put before those
    of the request. Of `request.metadata` only `user_id` is sent; `request.previous` is not, as the protocol has nothing
    like it. A `reasoning_effort` that the model cannot be told is an `invalid_request`.

    An answer that the provider pauses among its own tools (`pause_turn`) is gone on with, at most `MAX_PAUSES` times,
    and returned as one reply with the usage of all; one that is still not done then has the stop reason `max_tokens`.
    """

    wire = "anthropic"
    answers_by: AnswersBy = "schema"
    """How the model is told the shape of a typed answer."""
    credentials = ("ANTHROPIC_API_KEY",)
    default_url = "https://api.anthropic.com"
    _options_type = Options
    _url_variable = "ANTHROPIC_BASE_URL"
    _key_header = ("x-api-key", "")
    _headers_of_protocol: ClassVar[Mapping[str, str]] = {"anthropic-version": VERSION}
    _ours = frozenset({"model", "messages", "system", "stream", "max_tokens", "tools"})

    @cached_property
    def _history(self) -> History:
        return History(self.wire, self._vendor)

    def _path(self, base_url: str) -> str:
        versioned = base_url.partition("?")[0].rstrip("/").endswith("/v1")
        return "/messages" if versioned else "/v1/messages"

    def _assembler(self, call: Call, emit: Emit) -> ReplyAssembler:
        return ReplyAssembler(self._vendor, call.peer, emit)

    async def _answer(self, request: Request, call: Call, emit: Emit) -> Reply:
        so_far: Reply | None = None
        for pause in range(MAX_PAUSES + 1):
            assembler = await self._heard(call, self._assembler(call, emit))
            so_far = _joined(so_far, assembler.reply())
            if not assembler.paused or pause == MAX_PAUSES:
                break
            call = structs.replace(call, body=self._resumed(request, so_far.message, assembler.container))
        assert so_far is not None
        return so_far

    def _resumed(self, request: Request, paused: Message, container: str) -> bytes:
        try:
            return self._body(request, paused, container)
        except UnicodeEncodeError as error:
            raise self._not_unicode(error) from error

    def _body(self, request: Request, paused: Message | None = None, container: str = "") -> bytes:
        """The body; with `paused`, one that lets the model go on from there."""
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

    def _fields(self, request: Request, tools: bool, begun: bool) -> dict[str, Any]:
        """Everything but the model, the instructions, the tools and the messages."""
        settings = settings_of(request, tools=tools, begun=begun)
        extra = self._options.extra
        if "output_config" in settings:
            settings["output_config"] = extra.get("output_config", {}) | settings["output_config"]
        if tools and not request.tools and not self._options.tools:
            settings["tool_choice"] = {"type": "none"}
        return extra | settings

    def _tool_list(self, request: Request) -> bytes:
        """The tools with commas between.

        A transcript with calls needs tools: where the request has none, those that were called are named.
        """
        if not request.tools and not self._options.tools:
            return b",".join([_ENCODER.encode(_bare(name)) for name in called(request.messages)])
        return self._encoded.of(request.tools, lambda: self._listed(request.tools))[1:-1]

    def _listed(self, tools: tuple[ToolSpec, ...]) -> list[dict[str, Any]]:
        return [*self._options.tools, *[_tool(tool) for tool in tools]]


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
    schema = checked(spec, "Anthropic", PLAIN)
    return {"name": spec.name, "description": spec.description, "input_schema": schema}


def _bare(name: str) -> dict[str, Any]:
    return {"name": name, "description": "No longer there.", "input_schema": {"type": "object"}}
