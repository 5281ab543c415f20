"""The Gemini protocol, `generateContent`: Google's Gemini API, and Vertex AI with a key.

Gemini()                                                      # the key from GEMINI_API_KEY or GOOGLE_API_KEY
Gemini(options=Options(tools=({"googleSearch": {}},)))        # with a tool that runs at Google
"""

from __future__ import annotations

import os
import re
from functools import cached_property
from typing import Any

import httpx2
import msgspec
from msgspec import Raw, field

from holdfast.driver import AnswersBy, Emit, OutputSpec, Request, Settings, ToolSpec
from holdfast.drivers.gemini_contents import SIGNING, ContentEncoder, Signing
from holdfast.drivers.gemini_reply import ReplyAssembler
from holdfast.drivers.gemini_schema import translated
from holdfast.drivers.remote import KEPT, RemoteDriver, RemoteOptions
from holdfast.drivers.tools import ANY, checked, in_words
from holdfast.drivers.transport import Call
from holdfast.errors import DriverError

_ENCODER = msgspec.json.Encoder()
_MODEL = re.compile(r"(?!\.)[\w.-]+(?:/(?!\.)[\w.-]+)*", re.ASCII)
_EARLIER = re.compile(r"(?:.*/)?(?:gemini-[12][.-]|gemma|learnlm)")
"""Models before Gemini 3: they count thinking in tokens, want no signatures, and take no media inside results."""
_NO_SIGNATURES = re.compile(r"(?:.*/)?(?:gemini-1[.-]|gemini-2[.]0|gemma|learnlm)")
"""Models that do not sign, and refuse requests with the signatures of others."""
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


class Options(RemoteOptions, frozen=True, kw_only=True, omit_defaults=True):
    """What is asked of this protocol beyond what every request says: `tools` that run at Google, such as
    `{"googleSearch": {}}` or `{"codeExecution": {}}`, `extra` fields such as `{"cachedContent": "…"}`, and these."""

    safety: tuple[dict[str, Any], ...] = ()
    """`safetySettings`: what is blocked, by category and threshold."""
    generation: dict[str, Any] = field(default_factory=dict)
    """Fields of `generationConfig` that settings do not have, such as `{"responseModalities": ["TEXT", "IMAGE"]}`."""


class Gemini(RemoteDriver[Options]):
    """A driver for one server that speaks `generateContent`. See `RemoteDriver` for what it is given.

    `base_url` goes up to the version (`https://host/v1beta`); the environment's names a host only. The model and
    whether it streams are in the address; a model's name that no address can hold is an `invalid_request`.
    `request.previous` is not sent, as the protocol has nothing to go on from. An output schema or a reasoning effort
    that Gemini cannot take is `unsupported`.
    """

    wire = "gemini"
    answers_by: AnswersBy = "schema"
    """How the model is told the shape of a typed answer."""
    credentials = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
    default_url = "https://generativelanguage.googleapis.com/v1beta"
    _options_type = Options
    _url_variable = "GOOGLE_GEMINI_BASE_URL"
    _key_header = ("x-goog-api-key", "")
    _ours = frozenset({"contents", "tools", "systemInstruction", "generationConfig", "safetySettings"})

    @cached_property
    def _addresses(self) -> dict[tuple[str, bool], httpx2.URL]:
        return {}

    @cached_property
    def _encoders(self) -> dict[Signing, ContentEncoder]:
        return {signing: ContentEncoder(self._vendor, signing=signing) for signing in SIGNING}

    def _from_environment(self) -> str:
        # The vendor's variable names a host; the version is ours to add.
        host = os.environ.get(self._url_variable, "").rstrip("/")
        return f"{host}/v1beta" if host else self.default_url

    def _path(self, base_url: str) -> str:
        return "/"

    def _assembler(self, call: Call, emit: Emit) -> ReplyAssembler:
        return ReplyAssembler(self._vendor, call.peer, emit)

    def _body(self, request: Request) -> bytes:
        self._address(request)
        signing = _signing(request.model)
        contents = self._encoders[signing].contents(request.messages, request.blobs)
        fields = _ENCODER.encode(self._fields(request, modern=signing == "wanted"))
        return b"".join((b'{"contents":', contents, b"," if len(fields) > 2 else b"", fields[1:]))

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
        if len(self._addresses) >= KEPT:
            self._addresses.clear()
        self._addresses[request.model, request.stream] = url
        return url

    def _fields(self, request: Request, *, modern: bool) -> dict[str, Any]:
        """Everything but the contents."""
        held = request.output is not None and (modern or not (request.tools or self._options.tools))
        instructions = request.instructions
        if request.output is not None and not held:
            # Models before Gemini 3 cannot be held to a shape and have tools at once.
            instructions = f"{instructions}\n\n{in_words(request.output)}".strip()
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
        return self._options.extra | {name: value for name, value in fields.items() if value is not None}

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
        return self._encoded.of(tools, lambda: [_declaration(tool) for tool in tools])

    def _shape(self, output: OutputSpec) -> bytes:
        return self._encoded.of(output, lambda: translated(output.schema, strict=output.strict))


def _signing(model: str) -> Signing:
    if _NO_SIGNATURES.match(model):
        return "refused"
    return "taken" if _EARLIER.match(model) else "wanted"


def _declaration(tool: ToolSpec) -> dict[str, Any]:
    schema = translated(checked(tool, "Gemini", ANY), strict=False)
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
