"""The Gemini protocol, `generateContent`: Google's Gemini API, and Vertex AI with a key.

Gemini()                                                      # the key from GEMINI_API_KEY or GOOGLE_API_KEY
Gemini(options=Options(tools=({"googleSearch": {}},)))        # with a tool that runs at Google
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import httpx2
import msgspec
from msgspec import Raw, Struct, field

from holdfast.driver import Emit, OutputSpec, Reply, Request, Settings, ToolSpec
from holdfast.drivers.failures import Peer
from holdfast.drivers.gemini_contents import ContentEncoder
from holdfast.drivers.gemini_reply import ReplyAssembler
from holdfast.drivers.gemini_schema import translated
from holdfast.drivers.transport import Call, Credential, KeySource, Transport, check_headers, endpoint
from holdfast.errors import DriverError

DEFAULT_URL = "https://generativelanguage.googleapis.com/v1beta"
"""Where requests go when neither the program nor `$GOOGLE_GEMINI_BASE_URL` says otherwise."""

_ENCODER = msgspec.json.Encoder()
_KEPT = 64
"""Addresses, and encoded tool lists and output schemas, that one driver keeps."""
_MODEL = re.compile(r"(?!\.)[\w.-]+(?:/(?!\.)[\w.-]+)*", re.ASCII)
_EARLIER = re.compile(r"(?:.*/)?(?:gemini-[12][.-]|gemma|learnlm)")
"""Models before Gemini 3: they count thinking in tokens, want no signatures, and take no media inside results."""
_VERTEX = "aiplatform.googleapis.com"
"""The host that takes labels; the Gemini API does not."""
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")

_BUDGETS = {
    "none": 0,
    "minimal": 1024,
    "low": 1024,
    "medium": 8192,
    "high": 24576,
    "xhigh": 24576,
    "max": 24576,
}
"""Tokens to think with, for models that count them; Google's own equivalents of the words."""
_LEVELS = {word: word.upper() for word in _BUDGETS} | {"none": "MINIMAL", "max": "XHIGH"}
"""For models that think by levels. These cannot be told not to think at all."""
_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY"}


class Options(Struct, frozen=True, kw_only=True):
    """What is asked of this protocol beyond what every request says, in the protocol's own words."""

    tools: tuple[dict[str, Any], ...] = ()
    """Tools that run at the provider, such as `{"googleSearch": {}}` or `{"codeExecution": {}}`."""
    safety: tuple[dict[str, Any], ...] = ()
    """`safetySettings`: what is blocked, by category and threshold."""
    generation: dict[str, Any] = field(default_factory=dict)
    """Fields of `generationConfig` that settings do not have, such as `{"responseModalities": ["TEXT", "IMAGE"]}`."""


class Gemini:
    """A driver for one server that speaks `generateContent`. One serves any number of turns at once.

    `base_url` goes up to the version (`https://host/v1beta`). `api_key` is the key, a function that fetches one for
    each call, or None for the environment variable `GEMINI_API_KEY`, else `GOOGLE_API_KEY`, read at each call; `""`
    says that the server wants none. Without a key `reply` raises `MissingCredential` before anything is sent. `vendor`
    marks signatures and what ran at the provider, which go back only to the vendor they came from. `connect_timeout`
    (10 s) bounds connecting; `stall_timeout` (120 s) bounds silence, so raise it for models that think long without
    telling. `headers` are sent with every request. With `http` the client is the caller's to configure and to close.

    Raises `ConfigError` for a base URL that is not http(s) or holds a user name, and for headers that cannot be
    sent.
    """

    wire = "gemini"

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: KeySource = None,
        vendor: str = "gemini",
        connect_timeout: float = 10.0,
        stall_timeout: float = 120.0,
        headers: Mapping[str, str] | None = None,
        options: Options | None = None,
        http: httpx2.AsyncClient | None = None,
    ) -> None:
        if base_url is None:
            # The vendor's variable names a host; the version is ours to add.
            host = os.environ.get("GOOGLE_GEMINI_BASE_URL", "").rstrip("/")
            base_url = f"{host}/v1beta" if host else DEFAULT_URL
        self._url = endpoint(base_url, "/")
        self.host = self._url.host
        self._credential = Credential(api_key, "GEMINI_API_KEY", "GOOGLE_API_KEY")
        self._vendor = vendor
        self._headers = {"content-type": "application/json", "user-agent": "holdfast"} | check_headers(
            headers or {}
        )
        self._options = options or Options()
        self._transport = Transport(connect_timeout=connect_timeout, stall_timeout=stall_timeout, http=http)
        self._addresses: dict[tuple[str, bool], httpx2.URL] = {}
        self._kept: dict[int, tuple[object, bytes]] = {}
        self._encoders = {modern: ContentEncoder(vendor, modern=modern) for modern in (True, False)}

    def __repr__(self) -> str:
        return f"Gemini({self._url.scheme}://{self._url.host}, vendor={self._vendor!r})"

    async def reply(self, request: Request, emit: Emit) -> Reply:
        """Send the request and return the whole answer. See `holdfast.driver.Driver`."""
        url = self._address(request)
        body = self.encode(request)
        key = self._credential.read()
        peer = Peer(self._url.host, key)
        headers = self._headers | {"accept": "text/event-stream" if request.stream else "application/json"}
        if key:
            headers["x-goog-api-key"] = key
        call = Call(url=url, headers=headers, body=body, peer=peer, stream=request.stream)
        assembler = ReplyAssembler(self._vendor, peer, emit)
        whole = await self._transport.post(call, assembler)
        if whole is not None:
            assembler.whole(whole.content, whole.content_type)
        return assembler.reply()

    def encode(self, request: Request) -> bytes:
        """The body of the request. The model and whether it streams are in the address.

        `request.previous` is not part of it: the protocol has nothing to go on from. Raises `DriverError`:
        `invalid_request` for text that is not valid Unicode or a model's name that no address can hold, `unsupported`
        for an output schema or a reasoning effort that Gemini cannot take.
        """
        self._address(request)
        modern = not _EARLIER.match(request.model)
        try:
            contents = self._encoders[modern].contents(request.messages, request.blobs)
            fields = _ENCODER.encode(self._fields(request, modern=modern))
            return b"".join((b'{"contents":', contents, b"," if len(fields) > 2 else b"", fields[1:]))
        except UnicodeEncodeError as error:
            raise DriverError(
                "invalid_request",
                f"the request to {self._url.host} holds a lone surrogate: {error.reason}; remove it",
            ) from error

    async def close(self) -> None:
        """Let go of connections; a client that was given stays open."""
        await self._transport.close()

    def _address(self, request: Request) -> httpx2.URL:
        known = self._addresses.get((request.model, request.stream))
        if known is not None:
            return known
        name = request.model if "/" in request.model else f"models/{request.model}"
        if not _MODEL.fullmatch(name):
            raise DriverError("invalid_request", f"{request.model!r} cannot be the name of a Gemini model")
        path, _, query = self._url.raw_path.partition(b"?")
        method = b":streamGenerateContent" if request.stream else b":generateContent"
        query = b"&".join([it for it in (query, b"alt=sse" if request.stream else b"") if it])
        url = self._url.copy_with(raw_path=path + name.encode() + method + (b"?" + query if query else b""))
        if len(self._addresses) >= _KEPT:
            self._addresses.clear()
        self._addresses[request.model, request.stream] = url
        return url

    def _fields(self, request: Request, *, modern: bool) -> dict[str, Any]:
        """Everything but the contents."""
        held = request.output is not None and (modern or not (request.tools or self._options.tools))
        instructions = request.instructions
        if request.output is not None and not held:
            # Models before Gemini 3 cannot be held to a shape and have tools at once.
            instructions = f"{instructions}\n\n{_in_words(request.output)}".strip()
        functions = {"functionDeclarations": Raw(self._functions(request.tools))} if request.tools else None
        tools = [it for it in (functions, *self._options.tools) if it]
        fields: dict[str, Any] = {
            "systemInstruction": {"parts": [{"text": instructions}]} if instructions else None,
            "tools": tools or None,
            "toolConfig": _tool_config(request.settings) if request.tools else None,
            "safetySettings": self._options.safety or None,
            "generationConfig": self._generation(request, held=held, modern=modern) or None,
            "labels": _labels(request.metadata) if self._url.host.endswith(_VERTEX) else None,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def _generation(self, request: Request, *, held: bool, modern: bool) -> dict[str, Any]:
        settings = request.settings
        fields: dict[str, Any] = {
            "temperature": settings.temperature,
            "topP": settings.top_p,
            "maxOutputTokens": settings.max_tokens,
            "stopSequences": settings.stop or None,
            "thinkingConfig": _thinking(settings.reasoning_effort, modern=modern),
        }
        if held and request.output is not None:
            fields["responseMimeType"] = "application/json"
            fields["responseJsonSchema"] = Raw(self._shape(request.output))
        given = {name: value for name, value in fields.items() if value is not None}
        return {**self._options.generation, **given}

    def _functions(self, tools: tuple[ToolSpec, ...]) -> bytes:
        """The declarations, encoded once per tuple: a turn's tools are the same object throughout."""
        known = self._kept.get(id(tools))
        return known[1] if known else self._keep(tools, [_declaration(tool) for tool in tools])

    def _shape(self, output: OutputSpec) -> bytes:
        known = self._kept.get(id(output))
        return known[1] if known else self._keep(output, translated(output.schema, strict=output.strict))

    def _keep(self, source: object, value: Any) -> bytes:
        if len(self._kept) >= _KEPT:
            self._kept.clear()
        data = _ENCODER.encode(value)
        self._kept[id(source)] = (source, data)  # the source is kept too, so that no other can have its id
        return data


def _declaration(tool: ToolSpec) -> dict[str, Any]:
    schema = translated(tool.parameters, strict=False)
    return {"name": tool.name, "description": tool.description, "parametersJsonSchema": schema}


def _tool_config(settings: Settings) -> dict[str, Any] | None:
    choice = settings.tool_choice
    if choice is None:
        return None
    config: dict[str, Any] = {"mode": _MODES.get(choice, "ANY")}
    if choice not in _MODES:
        config["allowedFunctionNames"] = [choice]
    return {"functionCallingConfig": config}


def _thinking(effort: str | None, *, modern: bool) -> dict[str, Any] | None:
    """How much the model thinks: a word, or a number of tokens. What it thinks is told, unless it is not to think."""
    if effort is None:
        return None
    word = effort.lower()
    if word.isascii() and word.isdigit():
        return {"thinkingBudget": int(word[:9]), "includeThoughts": True}
    if word not in _BUDGETS:
        raise DriverError(
            "unsupported",
            f"Gemini knows no reasoning effort {effort!r}; use {', '.join(_BUDGETS)} or a number of tokens",
        )
    config: dict[str, Any] = (
        {"thinkingLevel": _LEVELS[word]} if modern else {"thinkingBudget": _BUDGETS[word]}
    )
    return config if word == "none" else {**config, "includeThoughts": True}


def _in_words(output: OutputSpec) -> str:
    schema = _ENCODER.encode(output.schema).decode()
    return (
        f"Your final answer must be JSON, and nothing else, that is valid under this JSON Schema:\n{schema}"
    )


def _labels(metadata: dict[str, str]) -> dict[str, str] | None:
    """The metadata that labels can hold; the rest is left out rather than refused, and the session too:
    there are too many."""
    fitting = {
        name: value
        for name, value in metadata.items()
        if name != "session_id" and _LABEL.fullmatch(name) and name[0].isalpha()
        if not value or _LABEL.fullmatch(value)
    }
    return dict(list(fitting.items())[:64]) or None
