"""Anthropic Messages, the way back: events or one whole body, put together into a `Reply`.

Blocks become parts in their order. A block that is neither text, thinking nor a call is the provider's own and kept as
it came; so is text with citations, behind its words.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from holdfast.driver import Emit, Reply
from holdfast.drivers.anthropic_wire import Block, Delta, Event, Kind, NativeBlock, WireMessage, WireUsage
from holdfast.drivers.failures import Peer
from holdfast.drivers.sse import UNREADABLE, mended
from holdfast.messages import Message, Native, Part, StopReason, Text, Thinking, ToolCall

_STOPS: dict[str, StopReason] = {
    "end_turn": "end_turn",
    "stop_sequence": "end_turn",
    "tool_use": "tool_calls",
    "max_tokens": "max_tokens",
    "model_context_window_exceeded": "max_tokens",
    "refusal": "refusal",
    # A pause is gone on with; this is what is left when it was not the last of too many.
    "pause_turn": "max_tokens",
}
"""The reasons to stop in our words; one not listed here means that the model was done."""

_CUT = frozenset({"max_tokens", "model_context_window_exceeded", "refusal"})
"""Reasons that stand even beside calls."""

_UNDERSTOOD = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})
_SHOWN = 300
"""Characters of a native call's input that others are told."""


class _Open:
    """A block that may still grow."""

    __slots__ = ("block", "citations", "pieces", "position", "raw", "signature")

    def __init__(self, block: Block, raw: bytes, position: int) -> None:
        self.block = block
        self.raw = raw
        self.position = position
        """Of a call: its place among the calls."""
        self.pieces: list[str] = []
        self.signature = block.signature or ""
        self.citations = block.citations or []


class ReplyAssembler:
    """Takes events as they come, tells `emit` every piece, and has the `Reply` in the end."""

    _events: ClassVar[msgspec.json.Decoder[Event]] = msgspec.json.Decoder(Event)
    _messages: ClassVar[msgspec.json.Decoder[WireMessage]] = msgspec.json.Decoder(WireMessage)
    _kinds: ClassVar[msgspec.json.Decoder[Kind]] = msgspec.json.Decoder(Kind)
    _blocks: ClassVar[msgspec.json.Decoder[Block]] = msgspec.json.Decoder(Block)
    _natives: ClassVar[msgspec.json.Decoder[NativeBlock]] = msgspec.json.Decoder(NativeBlock)

    def __init__(self, vendor: str, peer: Peer, emit: Emit) -> None:
        self.answered = False
        self.over = False
        self.container = ""
        """Where the provider ran code for this answer."""
        self._vendor = vendor
        self._peer = peer
        self._emit = emit
        self._begun = False
        self._open: dict[int, _Open] = {}
        self._calls = 0
        self._finish = ""
        self._usage = WireUsage()
        self._model = ""
        self._id = ""

    @property
    def paused(self) -> bool:
        """Whether the model was interrupted among its provider's tools, and goes on when it is asked to."""
        return self._finish == "pause_turn" and not self._calls

    def feed(self, data: bytes) -> bool:
        """One event of a stream. True when it brought something: a piece, an end, a count."""
        try:
            event = self._events.decode(data)
        except UNREADABLE:
            event = mended(data, self._events, self._peer)
        if event.type == "content_block_delta":
            return self._grow(event)
        if event.type == "content_block_start":
            self._begin(event.index, event.content_block)
            return True
        if event.type == "message_start" and event.message:
            self._note(event.message)
            return True
        if event.type == "message_delta":
            return self._finishing(event)
        if event.type == "message_stop":
            self.answered = self.over = True
            return True
        if event.type == "error" or event.error:
            raise self._peer.complained(event.error or {"message": "an error without a word"})
        return False

    def whole(self, body: bytes, content_type: str) -> None:
        """The body of an answer that was not streamed."""
        try:
            message = self._messages.decode(body)
        except UNREADABLE as error:
            raise self._peer.unreadable(body, content_type) from error
        if message.error:
            raise self._peer.complained(message.error)
        if message.content is None:
            raise self._peer.unreadable(body, content_type)
        self._note(message)
        for index, raw in enumerate(message.content):
            self._begin(index, raw)
        self._finish = message.stop_reason or ""
        self.answered = self.over = True

    def reply(self) -> Reply:
        """The answer. Raises `DriverError` when the stream ended before it was one."""
        if not self.answered or not self._begun:
            raise self._peer.broken("ended before the model had finished")
        parts = [part for open_ in self._open.values() for part in self._closed(open_)]
        return Reply(
            message=Message(id="", role="assistant", content=tuple(parts)),
            stop=self._stop(),
            usage=self._usage.counted(),
            model=self._model,
            response_id=self._id,
        )

    def _note(self, message: WireMessage) -> None:
        """What a message says about itself; a beginning that is repeated changes nothing."""
        self._begun = True
        self._model = self._model or message.model or ""
        self._id = self._id or message.id or ""
        if message.usage:
            self._usage = self._usage.then(message.usage)
        if message.container:
            self.container = message.container.id

    def _finishing(self, event: Event) -> bool:
        if event.usage:
            self._usage = self._usage.then(event.usage)
        if event.delta and event.delta.stop_reason:
            self._finish = event.delta.stop_reason
        if event.delta and event.delta.container:
            self.container = event.delta.container.id
        return True

    def _begin(self, index: int, raw: msgspec.Raw) -> None:
        """A block with all that it has so far; what it brings already is told at once."""
        self._begun = True
        try:
            kind = self._kinds.decode(raw).type
            block = self._blocks.decode(raw) if kind in _UNDERSTOOD else Block(type=kind)
        except UNREADABLE as error:
            raise self._peer.broken("holds a block that cannot be read", bytes(raw)) from error
        open_ = self._open[index] = _Open(block, bytes(raw), self._calls)
        if kind == "text" and block.text:
            self._add(open_, "text", block.text)
        elif kind == "thinking" and block.thinking:
            self._add(open_, "thinking", block.thinking)
        elif kind == "tool_use":
            self._calls += 1

    def _grow(self, event: Event) -> bool:
        delta = event.delta or Delta()
        open_ = self._open.get(event.index) or self._missing(event.index, delta)
        kind = open_.block.type
        if delta.text and kind == "text":
            self._add(open_, "text", delta.text)
        elif delta.thinking and kind == "thinking":
            self._add(open_, "thinking", delta.thinking)
        elif delta.partial_json:
            if kind == "tool_use":
                self._add(open_, "arguments", delta.partial_json)
            else:
                open_.pieces.append(delta.partial_json)
        elif delta.signature:
            open_.signature = delta.signature
        elif delta.citation:
            open_.citations.append(delta.citation)
        else:
            return False
        return True

    def _missing(self, index: int, delta: Delta) -> _Open:
        """A block whose beginning did not come: words and thoughts need none."""
        kind = {"text_delta": "text", "thinking_delta": "thinking"}.get(delta.type)
        if kind is None:
            raise self._peer.broken("goes on with a block that was never begun")
        self._begun = True
        open_ = self._open[index] = _Open(Block(type=kind), b"", 0)
        return open_

    def _add(self, open_: _Open, kind: Any, piece: str) -> None:
        open_.pieces.append(piece)
        self._emit(kind, piece, open_.position if kind == "arguments" else 0)

    def _closed(self, open_: _Open) -> list[Part]:
        block = open_.block
        text = "".join(open_.pieces)
        if block.type == "text":
            return self._words(text, open_.citations)
        if block.type == "thinking":
            return [Thinking(text=text, signature=open_.signature, provider=self._vendor)]
        if block.type == "redacted_thinking":
            return [Thinking(provider=self._vendor, encrypted=block.data or "")]
        if block.type == "tool_use":
            return [self._call(open_, text)]
        return [self._native(open_, text)]

    def _words(self, text: str, citations: list[msgspec.Raw]) -> list[Part]:
        if not text:
            return []
        if not citations:
            return [Text(text=text)]
        block = {"type": "text", "text": text, "citations": citations}
        return [
            Text(text=text),
            Native(provider=self._vendor, data=msgspec.json.encode(block).decode(errors="replace")),
        ]

    def _call(self, open_: _Open, text: str) -> ToolCall:
        block = open_.block
        if not block.name:
            raise self._peer.broken("holds a tool call without a name")
        if not text:
            # A call that did not stream has its arguments with it; one without any has an empty object.
            text = bytes(block.input).decode(errors="replace") or "{}"
            if text != "{}":
                self._emit("arguments", text, open_.position)
        return ToolCall(id="", name=block.name, arguments=text, provider_id=block.id or "")

    def _native(self, open_: _Open, text: str) -> Native:
        """The block as it came; input that streamed is put in its place."""
        data = open_.raw
        try:
            if text:
                fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
                msgspec.json.decode(text)  # half an input is none
                data = msgspec.json.encode(fields | {"input": msgspec.Raw(text.encode())})
            head = self._natives.decode(data)
        except UNREADABLE as error:
            raise self._peer.broken("holds a block that cannot be read", open_.raw) from error
        told = ""
        if head.type.endswith("tool_use"):
            shown = bytes(head.input).decode(errors="replace")
            shown = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"
            told = f"[{head.name} ran at the provider: {shown or '{}'}]"
        return Native(provider=self._vendor, data=data.decode(errors="replace"), text=told)

    def _stop(self) -> StopReason:
        if self._calls and self._finish not in _CUT:
            return "tool_calls"
        stop = _STOPS.get(self._finish, "end_turn")
        return "end_turn" if stop == "tool_calls" else stop
