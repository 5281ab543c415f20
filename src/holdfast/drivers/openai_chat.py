"""The Chat Completions protocol: OpenAI's own, and the many servers that speak it.

OpenAIChat()                                                        # OpenAI, the key from OPENAI_API_KEY
OpenAIChat(base_url="http://localhost:11434/v1", api_key="")        # a local server that wants no key
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import httpx2
import msgspec
from msgspec import Struct

from holdfast.driver import Emit, Reply, Request, Settings, ToolSpec
from holdfast.drivers.failures import Peer
from holdfast.drivers.openai_chat_reply import ReplyAssembler
from holdfast.drivers.transport import Call, Credential, KeySource, Transport, check_headers, endpoint
from holdfast.errors import DriverError
from holdfast.media import UNKNOWN, has_blob, in_words, inline
from holdfast.messages import Document, Image, Message, Part, Text, Thinking, ToolCall, ToolResult

_ENCODER = msgspec.json.Encoder()
_OURS = re.compile(r"call_[0-9a-f]{32}(_[0-9]+)+")
"""Ids that we made: longer than the 40 characters that OpenAI accepts."""
_LATER = b" "
"""Stands for a message with blobs, which come with each request."""
_TOOL_SETS = 64
"""Encoded tool lists that one driver keeps."""


class Dialect(Struct, frozen=True, kw_only=True):
    """Where servers of this protocol refuse what others want."""

    output_limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """The name of the setting that limits output."""
    stream_usage: bool = True
    """Whether usage in a stream is asked for; a server that refuses the question sends it anyway."""
    fetches_files: bool = False
    """Whether the server fetches a document from a URL."""


_OPENAI = Dialect(output_limit="max_completion_tokens")
_DIALECTS = {
    "api.openai.com": _OPENAI,
    "openai.azure.com": _OPENAI,
    "api.mistral.ai": Dialect(stream_usage=False),
    "openrouter.ai": Dialect(fetches_files=True),
}


DEFAULT_URL = "https://api.openai.com/v1"
"""Where requests go when neither the program nor `$OPENAI_BASE_URL` says otherwise."""


class OpenAIChat:
    """A driver for one server that speaks Chat Completions. One serves any number of turns at once.

    `api_key` is the key, a function that fetches one for each call, or None for the environment variable
    `OPENAI_API_KEY`, read at each call; `""` says that the server wants none. Without a key `reply` raises
    `MissingCredential` before anything is sent. `vendor` marks reasoning, which goes back only to the vendor it
    came from. `connect_timeout` (10 s) bounds connecting; `stall_timeout` (120 s) bounds silence, so raise it for
    models that think long without streaming. `headers` are sent with every request. `dialect` is chosen by the
    host. With `http` the client is the caller's to configure and to close.

    Raises `ConfigError` for a base URL that is not http(s) or holds a user name, and for headers that cannot be
    sent.
    """

    wire = "openai-chat"

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: KeySource = None,
        vendor: str = "openai-chat",
        connect_timeout: float = 10.0,
        stall_timeout: float = 120.0,
        headers: Mapping[str, str] | None = None,
        dialect: Dialect | None = None,
        http: httpx2.AsyncClient | None = None,
    ) -> None:
        if base_url is None:
            base_url = os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL
        self._url = endpoint(base_url, "/chat/completions")
        self.host = self._url.host
        """Where requests go; it tells whose prices count."""
        self._credential = Credential(api_key, "OPENAI_API_KEY")
        self._vendor = vendor
        self._headers = {"content-type": "application/json", "user-agent": "holdfast"} | check_headers(
            headers or {}
        )
        self._dialect = dialect or _dialect(self._url.host)
        self._transport = Transport(connect_timeout=connect_timeout, stall_timeout=stall_timeout, http=http)
        self._tools: dict[int, tuple[tuple[ToolSpec, ...], bytes]] = {}

    def __repr__(self) -> str:
        return f"OpenAIChat({self._url.scheme}://{self._url.host}, vendor={self._vendor!r})"

    async def reply(self, request: Request, emit: Emit) -> Reply:
        """Send the request and return the whole answer. See `holdfast.driver.Driver`."""
        body = self.encode(request)
        key = self._credential.read()
        peer = Peer(self._url.host, key)
        headers = self._headers | {"accept": "text/event-stream" if request.stream else "application/json"}
        if key:
            headers["authorization"] = f"Bearer {key}"
        call = Call(url=self._url, headers=headers, body=body, peer=peer, stream=request.stream)
        assembler = ReplyAssembler(self._vendor, peer, emit)
        whole = await self._transport.post(call, assembler)
        if whole is not None:
            assembler.whole(whole.content, whole.content_type)
        return assembler.reply()

    def encode(self, request: Request) -> bytes:
        """The body of the request. Raises `DriverError` (`invalid_request`) for text that is not valid Unicode.

        `request.metadata` is not part of it: servers take metadata only with completions that they store.
        """
        try:
            items = self._items(request)
            if request.instructions:
                system = {"role": "system", "content": request.instructions}
                items = [_ENCODER.encode(system), *items]
            head = b'{"model":' + _ENCODER.encode(request.model) + b',"messages":['
            settings = _ENCODER.encode(self._settings(request))[1:]
            return b"".join((head, b",".join(items), b"],", self._tool_list(request.tools), settings))
        except UnicodeEncodeError as error:
            raise DriverError(
                "invalid_request",
                f"the request to {self._url.host} holds a lone surrogate: {error.reason}; remove it",
            ) from error

    async def close(self) -> None:
        """Let go of connections; a client that was given stays open."""
        await self._transport.close()

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
        if request.stream and self._dialect.stream_usage:
            fields["stream_options"] = {"include_usage": True}
        if request.tools:
            fields["tool_choice"] = _tool_choice(settings)
            fields["parallel_tool_calls"] = settings.parallel_calls
        return {name: value for name, value in fields.items() if value is not None}

    def _tool_list(self, tools: tuple[ToolSpec, ...]) -> bytes:
        """The tools' field with its comma, encoded once per tuple: a turn's tools are the same object throughout."""
        if not tools:
            return b""
        known = self._tools.get(id(tools))
        if known is None:  # the tuple is kept too, so that no other object can have its id
            if len(self._tools) >= _TOOL_SETS:
                self._tools.clear()
            listed = [{"type": "function", "function": tool} for tool in tools]
            known = self._tools[id(tools)] = (tools, b'"tools":' + _ENCODER.encode(listed) + b",")
        return known[1]

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
    if part.blob is None:
        return part.url
    file = inline(part, blobs)
    picture = file is not None and file.media_type.startswith("image/")
    if file is None or file.media_type == UNKNOWN or (isinstance(part, Image) and not picture):
        return ""
    return file.data_url


def _dialect(host: str) -> Dialect:
    known = (dialect for name, dialect in _DIALECTS.items() if host == name or host.endswith("." + name))
    return next(known, Dialect())


def _tool_choice(settings: Settings) -> str | dict[str, Any] | None:
    choice = settings.tool_choice
    if choice is None or choice in {"auto", "none", "required"}:
        return choice
    return {"type": "function", "function": {"name": choice}}


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call.name, "arguments": _arguments(call.arguments)}
    return {"id": _call_id(call.provider_id or call.id), "type": "function", "function": function}


def _result(result: ToolResult) -> dict[str, Any]:
    call_id = _call_id(result.provider_id or result.call_id)
    return {"role": "tool", "tool_call_id": call_id, "content": _words(result.content)}


def _call_id(call_id: str) -> str:
    """An id that the provider gave as it was given; one of ours in short, the same for call and result."""
    if not _OURS.fullmatch(call_id):
        return call_id
    return "call_" + hashlib.sha256(call_id.encode()).hexdigest()[:24]


def _arguments(text: str) -> str:
    """The arguments as they were written; wrapped when they are no JSON object, which some servers would refuse."""
    try:
        if isinstance(msgspec.json.decode(text), dict):
            return text
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    return _ENCODER.encode({"invalid_arguments": text}).decode() if text.strip() else "{}"


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
