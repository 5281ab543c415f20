"""The OpenAI Responses protocol.

OpenAI()                                                   # OpenAI, the key from OPENAI_API_KEY
OpenAI(options=Options(tools=({"type": "web_search"},)))   # with a tool that runs at OpenAI
"""

from __future__ import annotations

import hashlib
import re
from functools import cached_property
from typing import Any, Literal

import msgspec
from msgspec import structs

from holdfast.driver import AnswersBy, Emit, OutputSpec, Reply, Request, Settings, ToolSpec
from holdfast.drivers.openai_items import ItemEncoder
from holdfast.drivers.openai_reply import ReplyAssembler
from holdfast.drivers.openai_schema import strict_format
from holdfast.drivers.remote import RemoteDriver, RemoteOptions
from holdfast.drivers.tools import OPENAI, checked
from holdfast.drivers.transport import Call
from holdfast.errors import DriverError

_ENCODER = msgspec.json.Encoder()
_REASONING_MODEL = re.compile(r"(?:o[1-9]|gpt-(?:[5-9]|[1-9]\d)(?![\w.-]*-chat)|gpt-oss|codex)")
"""The names of models that reason; they alone take reasoning items, and encrypt theirs for us."""
_VERSION = re.compile(r"gpt-(\d+)(?:\.(\d+))?")
_CACHE_IS_A_CHOICE = (5, 6)
"""The first version of the models whose prompt cache can be declined."""
_MAX_METADATA, _MAX_KEY, _MAX_VALUE = 16, 64, 512
"""Metadata that a response may have: entries, and characters of names and values."""


class Options(RemoteOptions, frozen=True, kw_only=True, omit_defaults=True):
    """What is asked of this protocol beyond what every request says: `tools` that run at OpenAI, such as
    `{"type": "web_search"}`, `extra` fields such as `{"service_tier": "flex"}`, and these."""

    store: bool = False
    """Whether the server keeps responses. `Request.previous` needs it; `Settings.continue_responses` asks for it."""
    summary: Literal["", "auto", "concise", "detailed"] = ""
    """Whether reasoning is summed up as it happens; without it, models that encrypt it show nothing."""
    reasons: bool | None = None
    """Whether the model reasons; None goes by its name, which a deployment of your own may not tell."""
    include: tuple[str, ...] = ()
    """What else an answer should bring along, such as `web_search_call.action.sources`."""


class OpenAI(RemoteDriver[Options]):
    """A driver for one server that speaks Responses. See `RemoteDriver` for what it is given.

    Stop sequences, which this protocol does not have, and an output schema that it cannot take are `unsupported`.
    """

    wire = "openai"
    answers_by: AnswersBy = "schema"
    """How the model is told the shape of a typed answer."""
    credentials = ("OPENAI_API_KEY",)
    default_url = "https://api.openai.com/v1"
    _options_type = Options
    _url_variable = "OPENAI_BASE_URL"
    _ours = frozenset({"model", "input", "tools"})

    @cached_property
    def _items(self) -> dict[bool, ItemEncoder]:
        stored = self._options.store
        return {kind: ItemEncoder(self._vendor, reasons=kind, stored=stored) for kind in (True, False)}

    def _path(self, base_url: str) -> str:
        return "/responses"

    def _assembler(self, call: Call, emit: Emit) -> ReplyAssembler:
        return ReplyAssembler(self._vendor, call.peer, emit)

    async def reply(self, request: Request, emit: Emit) -> Reply:
        """Send the request and return the whole answer. See `holdfast.driver.Driver`.

        A server that does not know the previous answer (any more) is sent everything, at once.
        """
        try:
            return await super().reply(request, emit)
        except DriverError as error:
            if request.previous is None or error.status is None or error.kind != "invalid_request":
                raise
        return await super().reply(structs.replace(request, previous=None), emit)

    def _body(self, request: Request) -> bytes:
        if request.settings.stop:
            raise DriverError(
                "unsupported",
                "OpenAI Responses has no stop sequences; unset Settings.stop, or use Chat Completions (openai-chat/…)",
            )
        reasons = self._reasons(request.model)
        items = self._items[reasons].items(request.messages, request.previous, request.blobs)
        head = b'{"model":' + _ENCODER.encode(request.model) + b',"input":['
        settings = _ENCODER.encode(self._settings(request, reasons=reasons))[1:]
        return b"".join((head, b",".join(items), b"],", self._tool_list(request.tools), settings))

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
            "store": self._options.store or bool(request.settings.continue_responses),
            "include": include or None,
            "previous_response_id": request.previous.response_id if request.previous else None,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "max_output_tokens": settings.max_tokens,
            "reasoning": {name: value for name, value in thinking.items() if value} or None,
            "text": _text(request.output) if request.output else None,
            "metadata": _metadata(request.metadata),
            **_cache(request),
        }
        if request.tools or self._options.tools:
            fields["tool_choice"] = _tool_choice(settings)
            fields["parallel_tool_calls"] = settings.parallel_calls
        said = {name: value for name, value in fields.items() if value is not None}
        return _merged(self._options.extra, said) if self._options.extra else said

    def _tool_list(self, tools: tuple[ToolSpec, ...]) -> bytes:
        """The tools' field with its comma."""
        if not tools and not self._options.tools:
            return b""
        own = self._options.tools
        listed = self._encoded.of(tools, lambda: [*map(_function, tools), *own])
        return b'"tools":' + listed + b","


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
        "parameters": checked(tool, "OpenAI", OPENAI),
        "strict": False,
    }


def _tool_choice(settings: Settings) -> str | dict[str, Any] | None:
    choice = settings.tool_choice
    if choice is None or choice in {"auto", "none", "required"}:
        return choice
    return {"type": "function", "name": choice}


def _text(output: OutputSpec) -> dict[str, Any]:
    return {"format": {"type": "json_schema", **strict_format(output)}}


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
