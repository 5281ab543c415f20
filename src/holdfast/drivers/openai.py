"""The OpenAI Responses protocol.

OpenAI()                                                   # OpenAI, the key from OPENAI_API_KEY
OpenAI(options=Options(tools=({"type": "web_search"},)))   # with a tool that runs at OpenAI
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from typing import Any, Literal

import httpx2
import msgspec
from msgspec import Struct, field

from holdfast.driver import Emit, OutputSpec, Reply, Request, Settings, ToolSpec
from holdfast.drivers.failures import Peer
from holdfast.drivers.openai_items import ItemEncoder
from holdfast.drivers.openai_reply import ReplyAssembler
from holdfast.drivers.openai_schema import strict_schema
from holdfast.drivers.transport import Call, Credential, KeySource, Transport, check_headers, endpoint
from holdfast.errors import ConfigError, DriverError

DEFAULT_URL = "https://api.openai.com/v1"
"""Where requests go when neither the program nor `$OPENAI_BASE_URL` says otherwise."""

_ENCODER = msgspec.json.Encoder()
_OURS = frozenset({"model", "input", "tools"})
_TOOL_SETS = 64
"""Encoded tool lists that one driver keeps."""
_REASONING_MODEL = re.compile(r"(?:o[1-9]|gpt-(?:[5-9]|[1-9]\d)(?![\w.-]*-chat)|gpt-oss|codex)")
"""The names of models that reason; they alone take reasoning items, and encrypt theirs for us."""
_VERSION = re.compile(r"gpt-(\d+)(?:\.(\d+))?")
_CACHE_IS_A_CHOICE = (5, 6)
"""The first version of the models whose prompt cache can be declined."""
_MAX_METADATA, _MAX_KEY, _MAX_VALUE = 16, 64, 512
"""Metadata that a response may have: entries, and characters of names and values."""
_NAME = re.compile(r"[^a-zA-Z0-9_-]")


class Options(Struct, frozen=True, kw_only=True):
    """What is asked of this protocol beyond what every request says."""

    store: bool = False
    """Whether the server keeps responses. `Request.previous` needs it."""
    tools: tuple[dict[str, Any], ...] = ()
    """Tools that run at the provider, as it describes them, such as `{"type": "web_search"}`."""
    summary: Literal["", "auto", "concise", "detailed"] = ""
    """Whether reasoning is summed up as it happens; without it, models that encrypt it show nothing."""
    reasons: bool | None = None
    """Whether the model reasons; None goes by its name, which a deployment of your own may not tell."""
    include: tuple[str, ...] = ()
    """What else an answer should bring along, such as `web_search_call.action.sources`."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Further fields of every body, such as `{"service_tier": "flex"}`. What a request says counts before them."""


class OpenAI:
    """A driver for one server that speaks Responses. One serves any number of turns at once.

    `api_key` is the key, a function that fetches one for each call, or None for the environment variable
    `OPENAI_API_KEY`, read at each call; `""` says that the server wants none. Without a key `reply` raises
    `MissingCredential` before anything is sent. `vendor` marks reasoning and what ran at the provider, which go back
    only to the vendor they came from. `connect_timeout` (10 s) bounds connecting; `stall_timeout` (120 s) bounds
    silence, so raise it for models that think long without a summary. `headers` are sent with every request. With
    `http` the client is the caller's to configure and to close.

    Raises `ConfigError` for a base URL that is not http(s) or holds a user name, for headers that cannot be sent, and
    for `extra` fields that the request itself says.
    """

    wire = "openai"

    def __init__(
        self,
        *,
        base_url: str | None = None,
        api_key: KeySource = None,
        vendor: str = "openai",
        connect_timeout: float = 10.0,
        stall_timeout: float = 120.0,
        headers: Mapping[str, str] | None = None,
        options: Options | None = None,
        http: httpx2.AsyncClient | None = None,
    ) -> None:
        if base_url is None:
            base_url = os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL
        self._url = endpoint(base_url, "/responses")
        self.host = self._url.host
        """Where requests go; it tells whose prices count."""
        self._credential = Credential(api_key, "OPENAI_API_KEY")
        self._vendor = vendor
        self._headers = {"content-type": "application/json", "user-agent": "holdfast"} | check_headers(
            headers or {}
        )
        self._options = options or Options()
        if taken := _OURS & self._options.extra.keys():
            raise ConfigError(f"extra holds {', '.join(sorted(taken))}, which the request itself says")
        self._transport = Transport(connect_timeout=connect_timeout, stall_timeout=stall_timeout, http=http)
        self._tools: dict[int, tuple[tuple[ToolSpec, ...], bytes]] = {}
        stored = self._options.store
        self._items = {kind: ItemEncoder(vendor, reasons=kind, stored=stored) for kind in (True, False)}

    def __repr__(self) -> str:
        return f"OpenAI({self._url.scheme}://{self._url.host}, vendor={self._vendor!r})"

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
        """The body of the request.

        Raises `DriverError`: `invalid_request` for text that is not valid Unicode, `unsupported` for stop sequences,
        which this protocol does not have, and for an output schema that it cannot take.
        """
        if request.settings.stop:
            raise DriverError(
                "unsupported",
                "OpenAI Responses has no stop sequences; unset Settings.stop, or use Chat Completions (openai-chat/…)",
            )
        reasons = self._reasons(request.model)
        try:
            items = self._items[reasons].items(request.messages, request.previous, request.blobs)
            head = b'{"model":' + _ENCODER.encode(request.model) + b',"input":['
            settings = _ENCODER.encode(self._settings(request, reasons=reasons))[1:]
            return b"".join((head, b",".join(items), b"],", self._tool_list(request.tools), settings))
        except UnicodeEncodeError as error:
            raise DriverError(
                "invalid_request",
                f"the request to {self._url.host} holds a lone surrogate: {error.reason}; remove it",
            ) from error

    async def close(self) -> None:
        """Let go of connections; a client that was given stays open."""
        await self._transport.close()

    def _reasons(self, model: str) -> bool:
        known = self._options.reasons
        name = model.removeprefix("ft:").rpartition("/")[2]
        return bool(_REASONING_MODEL.match(name)) if known is None else known

    def _settings(self, request: Request, *, reasons: bool) -> dict[str, Any]:
        settings = request.settings
        thinking = {
            "effort": settings.reasoning_effort,
            "summary": self._options.summary if reasons else None,
        }
        include = [*(("reasoning.encrypted_content",) if reasons else ()), *self._options.include]
        fields: dict[str, Any] = {
            "instructions": request.instructions or None,
            "stream": request.stream,
            "store": self._options.store,
            "include": include or None,
            "previous_response_id": request.previous.response_id if request.previous else None,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "max_output_tokens": settings.max_tokens,
            "reasoning": {name: value for name, value in thinking.items() if value} or None,
            "text": {"format": _format(request.output)} if request.output else None,
            "metadata": _metadata(request.metadata),
            **_cache(request),
        }
        if request.tools or self._options.tools:
            fields["tool_choice"] = _tool_choice(settings)
            fields["parallel_tool_calls"] = settings.parallel_calls
        said = {name: value for name, value in fields.items() if value is not None}
        return _merged(self._options.extra, said) if self._options.extra else said

    def _tool_list(self, tools: tuple[ToolSpec, ...]) -> bytes:
        """The tools' field with its comma, encoded once per tuple: a turn's tools are the same object throughout."""
        if not tools and not self._options.tools:
            return b""
        known = self._tools.get(id(tools))
        if known is None:  # the tuple is kept too, so that no other object can have its id
            if len(self._tools) >= _TOOL_SETS:
                self._tools.clear()
            listed = [*map(_function, tools), *self._options.tools]
            known = self._tools[id(tools)] = (tools, b'"tools":' + _ENCODER.encode(listed) + b",")
        return known[1]


def _merged(extra: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """Both, where fields that are objects in both (`text`, `reasoning`) are put together."""
    joined = {
        name: {**value, **said[name]}
        for name, value in extra.items()
        if isinstance(value, dict) and isinstance(said.get(name), dict)
    }
    return extra | said | joined


def _function(tool: ToolSpec) -> dict[str, Any]:
    # Without the word, the server would hold every schema to the rules of strict output.
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": False,
    }


def _tool_choice(settings: Settings) -> str | dict[str, Any] | None:
    choice = settings.tool_choice
    if choice is None or choice in {"auto", "none", "required"}:
        return choice
    return {"type": "function", "name": choice}


def _format(output: OutputSpec) -> dict[str, Any]:
    return {
        "type": "json_schema",
        "name": _NAME.sub("_", output.name)[:_MAX_KEY] or "output",
        "schema": strict_schema(output.schema) if output.strict else output.schema,
        "strict": output.strict,
    }


def _metadata(metadata: dict[str, str]) -> dict[str, str] | None:
    """As much as a response may have; the rest is left out rather than refused. A session is a cache key only."""
    kept = [entry for entry in metadata.items() if entry[0] != "session_id"][:_MAX_METADATA]
    return {name[:_MAX_KEY]: value[:_MAX_VALUE] for name, value in kept} or None


def _cache(request: Request) -> dict[str, Any]:
    """Prompts are cached by themselves; a key keeps those with the same beginning together."""
    if request.settings.cache:
        same = request.metadata.get("session_id") or f"{request.model}\n{request.instructions}"
        return {"prompt_cache_key": hashlib.sha256(same.encode()).hexdigest()[:32]}
    version = _VERSION.match(request.model)
    if (
        request.settings.cache is False
        and version
        and tuple(map(int, version.groups("0"))) >= _CACHE_IS_A_CHOICE
    ):
        return {"prompt_cache_options": {"mode": "explicit"}}
    return {}
