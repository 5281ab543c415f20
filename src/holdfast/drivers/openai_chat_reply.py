"""Chat Completions, the way back: chunks or one whole body, put together into a `Reply`.

Servers that speak this protocol differ in what they leave out, repeat or rename; what is known of it is handled
here. Reasoning comes under four names, and `Thinking.provider` keeps which one (`vendor/name`), so that it can go
back the way it came.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

import msgspec

from holdfast.driver import Emit, Reply
from holdfast.drivers.failures import Peer
from holdfast.drivers.openai_chat_wire import (
    Choice,
    Completion,
    ContentPart,
    WireCall,
    WireMessage,
    WireUsage,
)
from holdfast.drivers.sse import mended
from holdfast.messages import Message, Part, StopReason, Text, Thinking, ToolCall, Usage

_STOPS: dict[str, StopReason] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "max_tokens": "max_tokens",
    "model_length": "max_tokens",
    "tool_calls": "tool_calls",
    "tool_use": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "refusal",
    "refusal": "refusal",
    "safety": "refusal",
    "sensitive": "refusal",
}
"""What servers call the reasons to stop; a word not listed here means that the model was done."""

_GROWING = {"reasoning.text": "text", "reasoning.summary": "summary"}
"""The `reasoning_details` that come in pieces, and the field that grows."""

_BROKE_OFF = frozenset({"error", "insufficient_system_resource"})
"""Reasons that are no end of an answer but its failure."""


class _OpenCall:
    __slots__ = ("arguments", "id", "name", "position")

    def __init__(self, position: int) -> None:
        self.position = position
        self.id = ""
        self.name = ""
        self.arguments: list[str] = []


class _OpenThinking:
    __slots__ = ("extra", "name", "opaque", "pieces", "signature")

    def __init__(self, name: str) -> None:
        self.name = name
        self.pieces: list[str] = []
        self.signature = ""
        self.extra: dict[str, Any] = {}
        self.opaque = False
        """Worth keeping without a text."""


class ReplyAssembler:
    """Takes chunks as they come, tells `emit` every piece, and has the `Reply` in the end."""

    _decoder: ClassVar[msgspec.json.Decoder[Completion]] = msgspec.json.Decoder(Completion)

    def __init__(self, vendor: str, peer: Peer, emit: Emit) -> None:
        self.answered = False
        self.over = False
        self._vendor = vendor
        self._peer = peer
        self._emit = emit
        self._begun = False
        self._text: list[str] = []
        self._thinking: dict[object, _OpenThinking] = {}
        self._calls: list[_OpenCall] = []
        self._by_index: dict[int, _OpenCall] = {}
        self._finish = ""
        self._refused = False
        self._usage: WireUsage | None = None
        self._model = ""
        self._id = ""

    def feed(self, data: bytes) -> bool:
        """One event of a stream. True when it brought something: a piece, an end, a count."""
        if data.startswith(b"[DONE]"):
            self.answered = self.over = True
            return True
        try:
            chunk = self._decoder.decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            chunk = mended(data, self._decoder, self._peer)
        return self._take(chunk)

    def whole(self, body: bytes, content_type: str) -> None:
        """The body of an answer that was not streamed."""
        try:
            completion = self._decoder.decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise self._peer.unreadable(body, content_type) from error
        if not completion.choices and not completion.error:
            raise self._peer.unreadable(body, content_type)
        for choice in completion.choices or ():
            for place, call in enumerate(choice.message.tool_calls or () if choice.message else ()):
                call.index = place
        self._take(completion)
        self.answered = self.over = True

    def reply(self) -> Reply:
        """The answer. Raises `DriverError` when the stream ended before it was one."""
        if not self.answered or not self._begun:
            raise self._peer.broken("ended before the model had finished")
        calls = [self._closed(call) for call in self._calls]
        text = "".join(self._text)
        thoughts = [
            open_ for open_ in self._thinking.values() if open_.pieces or open_.signature or open_.opaque
        ]
        parts: list[Part] = [self._thought(open_) for open_ in thoughts]
        if text:
            parts.append(Text(text=text))
        return Reply(
            message=Message(id="", role="assistant", content=(*parts, *calls)),
            stop=self._stop(bool(calls)),
            usage=self._usage.counted() if self._usage else Usage(),
            model=self._model,
            response_id=self._id,
        )

    def _take(self, chunk: Completion) -> bool:
        if chunk.error:
            raise self._peer.complained(chunk.error)
        if chunk.model and not self._model:
            self._model = chunk.model
        if chunk.id and not self._id:
            self._id = chunk.id
        moved = False
        if chunk.usage is not None:
            self._usage = chunk.usage
            moved = True
        for choice in chunk.choices or ():
            if not choice.index:
                moved = self._choose(choice) or moved
        return moved

    def _choose(self, choice: Choice) -> bool:
        self._begun = True
        message = choice.delta or choice.message
        moved = message is not None and self._add(message)
        if choice.error:
            raise self._peer.complained(choice.error)
        if choice.finish_reason:
            if choice.finish_reason in _BROKE_OFF:
                raise self._peer.complained({"code": choice.finish_reason})
            self._finish = choice.finish_reason
            self.answered = moved = True
        return moved

    def _add(self, message: WireMessage) -> bool:
        moved = False
        content = message.content
        if content:
            if isinstance(content, str):
                self._say(content)
                moved = True
            else:
                moved = self._mixed(content)
        if message.reasoning_content or message.reasoning or message.reasoning_details:
            self._reason(message)
            moved = True
        if message.refusal:
            self._refused = moved = True
            self._say(message.refusal)
        if message.tool_calls:
            for call in message.tool_calls:
                moved = self._call(call) or moved
        return moved

    def _say(self, text: str) -> None:
        self._text.append(text)
        self._emit("text", text, 0)

    def _mixed(self, content: list[ContentPart]) -> bool:
        moved = False
        for part in content:
            if part.text:
                self._say(part.text)
                moved = True
            inner = part.thinking
            thought = inner if isinstance(inner, str) else "".join([p.text or "" for p in inner or ()])
            if thought:
                self._think("thinking", "thinking", thought)
                moved = True
        return moved

    def _reason(self, message: WireMessage) -> None:
        """One thought may come under several names at once; the fullest is kept."""
        told = False
        for detail in message.reasoning_details or ():
            told = self._detail(detail) or told
        if told:
            return
        if message.reasoning_content:
            self._think("reasoning_content", "reasoning_content", message.reasoning_content)
        elif message.reasoning:
            self._think("reasoning", "reasoning", message.reasoning)

    def _detail(self, detail: dict[str, Any]) -> bool:
        """An entry of `reasoning_details`: texts grow over chunks, everything else stands for itself."""
        kind = detail.get("type")
        name = _GROWING.get(kind) if isinstance(kind, str) else None
        key = (kind, str(detail.get("index"))) if name else ("entry", len(self._thinking))
        open_ = self._opened(key, "reasoning_details")
        text = detail.pop(name, None) if name else None
        signature = detail.pop("signature", None) if name else None
        if isinstance(signature, str) and signature:
            open_.signature = signature
        open_.opaque = name is None
        open_.extra.update({field: value for field, value in detail.items() if value is not None})
        if isinstance(text, str) and text:
            self._think(key, "reasoning_details", text)
            return True
        return False

    def _opened(self, key: object, name: str) -> _OpenThinking:
        open_ = self._thinking.get(key)
        if open_ is None:
            open_ = self._thinking[key] = _OpenThinking(name)
        return open_

    def _think(self, key: object, name: str, text: str) -> None:
        self._opened(key, name).pieces.append(text)
        self._emit("thinking", text, 0)

    def _call(self, wire: WireCall) -> bool:
        call = self._open_call(wire)
        function = wire.function
        if wire.id and not call.id:
            call.id = wire.id
        if function is None:
            return False
        if function.name and function.name != call.name and not (call.name and call.arguments):
            call.name += function.name
        piece = function.arguments
        if isinstance(piece, dict):
            piece = self._json(piece)
        if not piece:
            return bool(function.name)
        call.arguments.append(piece)
        self._emit("arguments", piece, call.position)
        return True

    def _open_call(self, wire: WireCall) -> _OpenCall:
        """The call that this piece belongs to: by index, else by id, else the last one begun.

        Servers that give every parallel call the index 0 are told by a new id that comes with a name.
        """
        named = bool(wire.function and wire.function.name)
        if wire.index is None:
            known = next((call for call in self._calls if wire.id and call.id == wire.id), None)
            last = self._calls[-1] if self._calls else None
            fresh = bool(wire.id) or (named and last is not None and bool(last.name))
            call = known or (None if fresh else last)
        else:
            call = self._by_index.get(wire.index)
            if call is not None and named and wire.id and call.id and wire.id != call.id:
                call = None
        if call is None:
            call = _OpenCall(len(self._calls))
            self._calls.append(call)
        if wire.index is not None:
            self._by_index[wire.index] = call
        return call

    def _closed(self, call: _OpenCall) -> ToolCall:
        if not call.name:
            raise self._peer.broken("holds a tool call without a name")
        # No text at all is how servers write a call without arguments.
        arguments = "".join(call.arguments) or "{}"
        return ToolCall(id="", name=call.name, arguments=arguments, provider_id=call.id)

    def _thought(self, open_: _OpenThinking) -> Thinking:
        return Thinking(
            text="".join(open_.pieces),
            signature=open_.signature,
            provider=f"{self._vendor}/{open_.name}",
            encrypted=self._json(open_.extra) if open_.extra else "",
        )

    def _json(self, value: dict[str, Any]) -> str:
        try:
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        except RecursionError as error:
            raise self._peer.broken("holds a value that is nested too deeply") from error

    def _stop(self, calls: bool) -> StopReason:
        stop = _STOPS.get(self._finish, "end_turn")
        if stop in {"max_tokens", "refusal"}:
            return stop
        if calls:
            return "tool_calls"
        return "refusal" if self._refused else "end_turn"
