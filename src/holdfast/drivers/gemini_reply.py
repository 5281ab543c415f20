"""`generateContent`, the way back: chunks or one whole body, put together into a `Reply`.

Gemini signs parts: a thought, a text, a call, an image. The signature must go back on the very part it came with, so
parts with one are never joined to others, and it is kept as a `Thinking` before the part it belongs to.
`Thinking.provider` says how (`vendor/thought`, `vendor/next`, `vendor/text`).
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from holdfast.driver import Emit, Reply
from holdfast.drivers.failures import Peer
from holdfast.drivers.gemini_wire import (
    Candidate,
    Grounding,
    PromptFeedback,
    WireCall,
    WirePart,
    WireResponse,
    WireUsage,
)
from holdfast.drivers.sse import UNREADABLE, loosely
from holdfast.messages import (
    Document,
    Image,
    Message,
    Native,
    Part,
    StopReason,
    Text,
    Thinking,
    ToolCall,
    Usage,
)

THOUGHT = "thought"
"""A thought that the model told."""
NEXT = "next"
"""No thought, but the signature of the part that follows."""
ALONE = "text"
"""No thought, but a signature that came with an empty text."""
PART = "part"
"""A part that only Gemini understands; it goes back as it came."""
ANSWER = "answer"
"""What was found out about the whole answer, such as its sources; it is no part, and stays here."""

_STOPS: dict[str, StopReason] = {
    "STOP": "end_turn",
    "MAX_TOKENS": "max_tokens",
    "CONTINUATION": "max_tokens",
    "SAFETY": "refusal",
    "RECITATION": "refusal",
    "LANGUAGE": "refusal",
    "BLOCKLIST": "refusal",
    "PROHIBITED_CONTENT": "refusal",
    "SPII": "refusal",
    "MODEL_ARMOR": "refusal",
    "ESCALATION": "refusal",
    "IMAGE_SAFETY": "refusal",
    "IMAGE_PROHIBITED_CONTENT": "refusal",
    "IMAGE_RECITATION": "refusal",
}
"""What Gemini calls the reasons to stop; a word not listed here or below means that the model was done."""

_BROKE_OFF = {
    "MALFORMED_FUNCTION_CALL": "the model wrote a call that cannot be read",
    "UNEXPECTED_TOOL_CALL": "the model called a tool that it was not offered",
    "TOO_MANY_TOOL_CALLS": "the model called the provider's own tools too often",
    "MALFORMED_RESPONSE": "the model wrote an answer that cannot be read",
    "MISSING_THOUGHT_SIGNATURE": "the history lacks a signature",
    "PUP_LIMITED_DISABLED": "the account is limited or disabled",
    "NO_IMAGE": "the model made no image",
    "IMAGE_OTHER": "the image could not be made",
    "OTHER": "the model broke off for a reason that is not told",
    "FINISH_REASON_UNSPECIFIED": "the model broke off for a reason that is not told",
}
"""Reasons that are no end of an answer but its failure."""

_ABOUT_ANSWER = ("groundingMetadata", "urlContextMetadata")

_decoder = msgspec.json.Decoder(WireResponse)
_whole_decoder: msgspec.json.Decoder[WireResponse | list[WireResponse]] = msgspec.json.Decoder(
    WireResponse | list[WireResponse]
)
_part_decoder = msgspec.json.Decoder(WirePart)
_grounding = msgspec.json.Decoder(Grounding)


class Said(Struct, gc=False):
    """One event, read to its end before anything of it is told."""

    response: WireResponse
    candidate: Candidate | None
    parts: list[tuple[WirePart, Raw]]
    about: dict[str, str]


class ReplyAssembler:
    """Takes chunks as they come, tells `emit` every piece, and has the `Reply` in the end."""

    def __init__(self, vendor: str, peer: Peer, emit: Emit) -> None:
        self.answered = False
        self.over = False
        self._vendor = vendor
        self._peer = peer
        self._emit = emit
        self._parts: list[Part] = []
        self._pieces: list[str] = []
        """Of the unsigned text or thought that may go on."""
        self._thinking = False
        """Whether they are a thought."""
        self._calls = 0
        self._about: dict[str, str] = {}
        self._finish = ""
        self._usage: WireUsage | None = None
        self._model = ""
        self._id = ""

    def feed(self, data: bytes) -> bool:
        """One event of a stream. True when it brought something: a piece, or the end."""
        if data.startswith(b"[DONE]"):  # Gemini never says so; proxies do
            self.over = self.answered
            return True
        try:
            said = _read(_decoder.decode(_checked(data)))
        except UNREADABLE:
            try:
                said = _read(_decoder.decode(loosely(data)))
            except UNREADABLE as error:
                raise self._peer.broken("holds an event that cannot be read", data) from error
        return self._take(said)

    def whole(self, body: bytes, content_type: str) -> None:
        """The body of an answer that was not streamed: one response, or a list of chunks."""
        try:
            said = _read_whole(body)
        except UNREADABLE:
            try:
                said = _read_whole(loosely(body))
            except UNREADABLE as error:
                raise self._peer.unreadable(body, content_type) from error
        if not any(it.candidate or it.response.error or it.response.prompt_feedback for it in said):
            raise self._peer.unreadable(body, content_type)
        for it in said:
            self._take(it)
        self.over = self.answered

    def reply(self) -> Reply:
        """The answer. Raises `DriverError` when the stream ended before it was one."""
        if not self.answered:
            raise self._peer.broken("ended before the model had finished")
        self._close()
        about = [self._native(name) for name in _ABOUT_ANSWER if name in self._about]
        return Reply(
            message=Message(id="", role="assistant", content=(*self._parts, *about)),
            stop=self._stop(),
            usage=self._usage.counted() if self._usage else Usage(),
            model=self._model,
            response_id=self._id,
        )

    def _take(self, said: Said) -> bool:
        response, candidate = said.response, said.candidate
        if response.error:
            raise self._peer.complained(response.error)
        if response.prompt_feedback and response.prompt_feedback.block_reason and not candidate:
            raise self._peer.complained(_blocked(response.prompt_feedback))
        if response.model_version and not self._model:
            self._model = response.model_version
        if response.response_id and not self._id:
            self._id = response.response_id
        if response.usage_metadata is not None:
            self._usage = response.usage_metadata
        moved = False
        for part, raw in said.parts:
            moved = self._add(part, raw) or moved
        if candidate is None:
            return moved
        self._about.update(said.about)
        if candidate.finish_reason:
            self._end(candidate.finish_reason, candidate.finish_message)
            moved = True
        return moved

    def _end(self, reason: str, message: str | None) -> None:
        if reason in _BROKE_OFF:
            words = message or _BROKE_OFF[reason]
            raise self._peer.complained({"code": reason, "message": words})
        self._finish = reason
        self.answered = True

    def _add(self, part: WirePart, raw: Raw) -> bool:
        signature = part.thought_signature or ""
        if part.function_call is not None:
            return self._call(part.function_call, signature)
        if part.text is not None:
            return self._say(part.text, bool(part.thought), signature)
        media = None if part.thought else _media(part)
        if media is not None:
            self._sign(signature)
            self._parts.append(media)
        else:
            self._keep(part, raw)
        return True

    def _say(self, text: str, thinking: bool, signature: str) -> bool:
        if signature:
            self._close()
            if thinking:
                self._parts.append(
                    Thinking(text=text, signature=signature, provider=f"{self._vendor}/{THOUGHT}")
                )
            elif text:
                self._sign(signature)
                self._parts.append(Text(text=text))
            else:
                self._parts.append(Thinking(signature=signature, provider=f"{self._vendor}/{ALONE}"))
        elif text:
            if thinking is not self._thinking:
                self._close()
                self._thinking = thinking
            self._pieces.append(text)
        if text:
            self._emit("thinking" if thinking else "text", text, 0)
        return bool(text or signature)

    def _call(self, call: WireCall, signature: str) -> bool:
        if not call.name:
            raise self._peer.broken("holds a function call without a name")
        self._sign(signature)
        arguments = _compact(call.args)
        if arguments in {"", "null"}:  # how a call without arguments is written
            arguments = "{}"
        self._parts.append(ToolCall(id="", name=call.name, arguments=arguments, provider_id=call.id or ""))
        self._emit("arguments", arguments, self._calls)
        self._calls += 1
        return True

    def _keep(self, part: WirePart, raw: Raw) -> None:
        self._close()
        data = _compact(raw)
        if data != "{}":
            self._parts.append(Native(provider=f"{self._vendor}/{PART}", data=data, text=_shown(part)))

    def _sign(self, signature: str) -> None:
        """End what was going on, and keep the signature of the part that comes now."""
        self._close()
        if signature:
            self._parts.append(Thinking(signature=signature, provider=f"{self._vendor}/{NEXT}"))

    def _close(self) -> None:
        text = "".join(self._pieces)
        self._pieces.clear()
        if text:
            thought = Thinking(text=text, provider=f"{self._vendor}/{THOUGHT}")
            self._parts.append(thought if self._thinking else Text(text=text))

    def _native(self, name: str) -> Native:
        data = self._about[name]
        text = _sources(data) if name == "groundingMetadata" else ""
        return Native(provider=f"{self._vendor}/{ANSWER}", data=f'{{"{name}":{data}}}', text=text)

    def _stop(self) -> StopReason:
        stop = _STOPS.get(self._finish, "end_turn")
        return "tool_calls" if stop == "end_turn" and self._calls else stop


def _read(response: WireResponse) -> Said:
    for candidate in response.candidates or ():
        if not candidate.index:
            raws = (candidate.content.parts if candidate.content else None) or ()
            return Said(
                response=response,
                candidate=candidate,
                parts=[(_part_decoder.decode(raw), raw) for raw in raws],
                about=_told_about(candidate),
            )
    return Said(response=response, candidate=None, parts=[], about={})


def _told_about(candidate: Candidate) -> dict[str, str]:
    found = (candidate.grounding_metadata, candidate.url_context_metadata)
    if not any(found):
        return {}
    about = {name: _compact(raw) for name, raw in zip(_ABOUT_ANSWER, found, strict=True) if raw}
    return {name: data for name, data in about.items() if data not in {"null", "{}"}}


def _read_whole(body: bytes) -> list[Said]:
    told = _whole_decoder.decode(_checked(body))
    return [_read(response) for response in (told if isinstance(told, list) else [told])]


def _blocked(feedback: PromptFeedback) -> dict[str, str]:
    words = feedback.block_reason_message or "the prompt was blocked"
    return {"code": feedback.block_reason or "", "type": "prompt_blocked", "message": words}


def _media(part: WirePart) -> Image | Document | None:
    """What the model made: the bytes as a data URL, or the address."""
    if part.inline_data is not None and part.inline_data.data:
        kind = part.inline_data.mime_type or "application/octet-stream"
        url = f"data:{kind};base64,{part.inline_data.data}"
    elif part.file_data is not None and part.file_data.file_uri:
        kind, url = part.file_data.mime_type or "", part.file_data.file_uri
    else:
        return None
    return Image(url=url) if kind.startswith("image/") else Document(url=url)


def _shown(part: WirePart) -> str:
    """What people may read of a part that only Gemini understands."""
    if part.executable_code is not None and part.executable_code.code:
        language = (part.executable_code.language or "").lower()
        return f"```{language}\n{part.executable_code.code.rstrip()}\n```"
    if part.code_execution_result is not None and part.code_execution_result.output:
        return f"```\n{part.code_execution_result.output.rstrip()}\n```"
    return ""


def _sources(data: str) -> str:
    """The sources of an answer, one a line."""
    try:
        chunks = _grounding.decode(data).grounding_chunks or ()
    except UNREADABLE:
        return ""
    found = [chunk.web or chunk.retrieved_context or chunk.maps for chunk in chunks]
    return "\n".join([f"{place.title or ''} <{place.uri}>".strip() for place in found if place and place.uri])


def _compact(raw: Raw) -> str:
    """The JSON as it came, on one line."""
    return msgspec.json.format(bytes(raw), indent=-1).decode() if raw else ""


def _checked(data: bytes) -> bytes:
    """The same, if it is text all through: what is kept as it came is not looked into."""
    if not data.isascii():
        data.decode()
    return data
