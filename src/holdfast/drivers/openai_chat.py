"""The Chat Completions protocol: OpenAI's own, and the many servers that speak it.

OpenAIChat()                                                        # OpenAI, the key from OPENAI_API_KEY
OpenAIChat(base_url="http://localhost:11434/v1", api_key="")        # a local server that wants no key
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, Literal

import msgspec
from msgspec import Struct

from holdfast.driver import AnswersBy, Emit, Request, Settings, ToolSpec
from holdfast.drivers.openai_chat_reply import ReplyAssembler
from holdfast.drivers.openai_schema import strict_format
from holdfast.drivers.remote import RemoteDriver, RemoteOptions
from holdfast.drivers.tools import ANY, OPENAI, as_object, checked
from holdfast.drivers.tools import in_words as shape_in_words
from holdfast.drivers.transport import Call
from holdfast.media import data_url, has_blob, in_words, inline
from holdfast.messages import Document, Image, Message, Part, Text, Thinking, ToolCall, ToolResult

_ENCODER = msgspec.json.Encoder()
_OURS = re.compile(r"call_[0-9a-f]{32}(_[0-9]+)+")
"""Ids that we made: longer than the 40 characters that OpenAI accepts."""
_LATER = b" "
"""Stands for a message with blobs, which come with each request."""


class Dialect(Struct, frozen=True, kw_only=True):
    """Where servers of this protocol refuse what others want."""

    output_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The name of the setting that limits output."""
    stream_usage: bool = True
    """Whether usage in a stream is asked for; a server that refuses the question sends it anyway."""
    fetches_files: bool = False
    """Whether the server fetches a document from a URL."""
    holds_schemas: bool = False
    """Whether the server holds an answer to a schema; where it does not, the model is told the shape in words."""
    plain_tools: bool = False
    """Whether the parameters of tools must be plain at their root: no `anyOf`, `enum` and the like there."""


_OPENAI = Dialect(output_limit="max_completion_tokens", holds_schemas=True, plain_tools=True)
_DIALECTS = {
    "api.openai.com": _OPENAI,
    "openai.azure.com": _OPENAI,
    "api.mistral.ai": Dialect(stream_usage=False, holds_schemas=True),
    "openrouter.ai": Dialect(fetches_files=True),
}


class Options(RemoteOptions, frozen=True, kw_only=True, omit_defaults=True):
    """What is asked of this protocol beyond what every request says: `tools` that run at the server, `extra` fields
    such as `{"seed": 7}`, and how the server differs from others."""

    dialect: Dialect | None = None
    """What the server refuses or wants; None goes by the host."""


class OpenAIChat(RemoteDriver[Options]):
    """A driver for one server that speaks Chat Completions. See `RemoteDriver` for what it is given.

    `request.metadata` is not sent: servers take metadata only with completions that they store.
    """

    wire = "openai-chat"
    credentials = ("OPENAI_API_KEY",)
    default_url = "https://api.openai.com/v1"
    _options_type = Options
    _url_variable = "OPENAI_BASE_URL"
    _ours = frozenset({"model", "messages", "tools", "stream"})

    @cached_property
    def _dialect(self) -> Dialect:
        return self._options.dialect or _dialect(self._url.host)

    @property
    def answers_by(self) -> AnswersBy:
        """How the model is told the shape of a typed answer: a server that holds no schema is given a tool."""
        return "schema" if self._dialect.holds_schemas else "tool"

    def _path(self, base_url: str) -> str:
        return "/chat/completions"

    def _assembler(self, call: Call, emit: Emit) -> ReplyAssembler:
        return ReplyAssembler(self._vendor, call.peer, emit)

    def _body(self, request: Request) -> bytes:
        items = self._items(request)
        instructions = request.instructions
        if request.output is not None and not self._dialect.holds_schemas:
            instructions = f"{instructions}\n\n{shape_in_words(request.output)}".strip()
        if instructions:
            system = {"role": "system", "content": instructions}
            items = [_ENCODER.encode(system), *items]
        head = b'{"model":' + _ENCODER.encode(request.model) + b',"messages":['
        settings = _ENCODER.encode(self._settings(request))[1:]
        return b"".join((head, b",".join(items), b"],", self._tool_list(request.tools), settings))

    def _settings(self, request: Request) -> dict[str, Any]:
        settings = request.settings
        fields: dict[str, Any] = {
            "stream": request.stream,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            self._dialect.output_limit: settings.max_tokens,
            "reasoning_effort": settings.reasoning_effort,
            "stop": settings.stop or None,
        }
        if request.output is not None and self._dialect.holds_schemas:
            fields["response_format"] = {"type": "json_schema", "json_schema": strict_format(request.output)}
        if request.stream and self._dialect.stream_usage:
            fields["stream_options"] = {"include_usage": True}
        if request.tools or self._options.tools:
            fields["tool_choice"] = _tool_choice(settings)
            fields["parallel_tool_calls"] = settings.parallel_calls
        return self._options.extra | {name: value for name, value in fields.items() if value is not None}

    def _tool_list(self, tools: tuple[ToolSpec, ...]) -> bytes:
        """The tools' field with its comma."""
        if not tools and not self._options.tools:
            return b""
        return b'"tools":' + self._encoded.of(tools, lambda: self._listed(tools)) + b","

    def _listed(self, tools: tuple[ToolSpec, ...]) -> list[dict[str, Any]]:
        refused = OPENAI if self._dialect.plain_tools else ANY
        return [*[_function(tool, self._url.host, refused) for tool in tools], *self._options.tools]

    def _items(self, request: Request) -> list[bytes]:
        """The messages. Only new ones, and those of the user's with blobs, are encoded."""
        items = request.messages.encoded(f"{self.wire}:{self._vendor}", self._early)
        if _LATER not in items:
            return items
        return [
            self._message(message, request.blobs) if item == _LATER else item
            for message, item in zip(request.messages, items, strict=True)
        ]

    def _early(self, message: Message) -> bytes:
        later = message.role == "user" and has_blob(message.content)
        return _LATER if later else self._message(message, {})

    def _message(self, message: Message, blobs: Mapping[str, bytes]) -> bytes:
        """A message as the protocol has it; a `tool` message becomes one entry for each result in it."""
        if message.role == "assistant":
            return _ENCODER.encode(self._assistant(message.content))
        if message.role == "tool":
            results = [part for part in message.content if isinstance(part, ToolResult)]
            return b",".join([_ENCODER.encode(_result(result)) for result in results])
        return _ENCODER.encode({"role": "user", "content": self._user_content(message.content, blobs)})

    def _user_content(
        self, parts: tuple[Part, ...], blobs: Mapping[str, bytes]
    ) -> str | list[dict[str, Any]]:
        if all(isinstance(part, Text) for part in parts) and len(parts) <= 1:
            return _words(parts)
        return [_written(part, blobs) or self._user_part(part, blobs) for part in parts]

    def _user_part(self, part: Part, blobs: Mapping[str, bytes]) -> dict[str, Any]:
        if isinstance(part, Image) and (url := _url(part, blobs)):
            return {"type": "image_url", "image_url": {"url": url}}
        if isinstance(part, Document) and (
            (url := _url(part, blobs)).startswith("data:") or (url and self._dialect.fetches_files)
        ):
            return {"type": "file", "file": {"filename": part.name or "document", "file_data": url}}
        return {"type": "text", "text": _words([part])}

    def _assistant(self, parts: tuple[Part, ...]) -> dict[str, Any]:
        calls = [_call(part) for part in parts if isinstance(part, ToolCall)]
        text = _words([part for part in parts if not isinstance(part, Thinking | ToolCall)])
        entry: dict[str, Any] = {"role": "assistant", "content": text or (None if calls else "")}
        thoughts = [(part.provider.removeprefix(f"{self._vendor}/"), part) for part in self._own(parts)]
        for name in ("reasoning_content", "reasoning") if calls else ("reasoning_content",):
            told = "".join([part.text for where, part in thoughts if where == name])
            if told:
                entry[name] = told
        if calls:
            details = [_detail(part) for where, part in thoughts if where == "reasoning_details"]
            if details:
                entry["reasoning_details"] = details
            chunks = [_thinking_chunk(part) for where, part in thoughts if where == "thinking"]
            if chunks:
                entry["content"] = chunks + ([{"type": "text", "text": text}] if text else [])
            entry["tool_calls"] = calls
        return entry

    def _own(self, parts: Iterable[Part]) -> list[Thinking]:
        """The reasoning that this vendor gave and may be given back."""
        prefix = f"{self._vendor}/"
        return [part for part in parts if isinstance(part, Thinking) and part.provider.startswith(prefix)]


def _written(part: Part, blobs: Mapping[str, bytes]) -> dict[str, Any] | None:
    """A blob of text as text: as files, servers take PDF at most."""
    file = inline(part, blobs) if isinstance(part, Document) and part.blob is not None else None
    if file is None or not file.media_type.startswith("text/") or not isinstance(part, Document):
        return None
    text = file.data.decode(errors="replace")
    return {"type": "text", "text": f"{part.name}:\n{text}" if part.name else text}


def _url(part: Image | Document, blobs: Mapping[str, bytes]) -> str:
    """Where the part can be had: its own bytes, or an address; empty when they are missing, or are not a picture."""
    if part.url and not part.url.startswith("data:"):
        return part.url
    return data_url(part, blobs)


def _dialect(host: str) -> Dialect:
    known = (dialect for name, dialect in _DIALECTS.items() if host == name or host.endswith("." + name))
    return next(known, Dialect())


def _tool_choice(settings: Settings) -> str | dict[str, Any] | None:
    choice = settings.tool_choice
    if choice is None or choice in {"auto", "none", "required"}:
        return choice
    return {"type": "function", "function": {"name": choice}}


def _function(tool: ToolSpec, host: str, refused: frozenset[str]) -> dict[str, Any]:
    schema = checked(tool, host, refused)
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": schema},
    }


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": as_object(call.arguments)}
    return {"id": _call_id(call.provider_id or call.id), "type": "function", "function": function}


def _result(result: ToolResult) -> dict[str, Any]:
    call_id = _call_id(result.provider_id or result.call_id)
    return {"role": "tool", "tool_call_id": call_id, "content": _words(result.content)}


def _call_id(call_id: str) -> str:
    """An id that the provider gave as it was given; one of ours in short, the same for call and result."""
    if not _OURS.fullmatch(call_id):
        return call_id
    return "call_" + hashlib.sha256(call_id.encode()).hexdigest()[:24]


def _detail(part: Thinking) -> dict[str, Any]:
    """An entry of `reasoning_details` as it came: its text and signature are kept apart from the rest."""
    entry: dict[str, Any] = (
        msgspec.json.decode(part.encrypted) if part.encrypted else {"type": "reasoning.text"}
    )
    if part.text:
        entry["summary" if entry.get("type") == "reasoning.summary" else "text"] = part.text
    if part.signature:
        entry["signature"] = part.signature
    return entry


def _thinking_chunk(part: Thinking) -> dict[str, Any]:
    return {"type": "thinking", "thinking": [{"type": "text", "text": part.text}]}


def _words(parts: Iterable[Part]) -> str:
    """The parts as text; what cannot be shown is named, so that the model knows that it is there."""
    return "".join([part.text if isinstance(part, Text) else _placeholder(part) for part in parts])


def _placeholder(part: Part) -> str:
    if isinstance(part, ToolResult):
        return _words(part.content)
    return in_words(part) if isinstance(part, Image | Document) else ""
