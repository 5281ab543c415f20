"""OpenAI Responses, the way back: events or one whole body, put together into a `Reply`.

An answer is a list of items, and each becomes parts of the message in the same order: a message item one `Text`, a
reasoning item one `Thinking` with the item as it came, a call a `ToolCall`, and everything that ran at the provider a
`Native` with the item as it came. A picture that was made there leaves its item and is the `Image` after it.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar, Literal, TypeVar

import msgspec

from holdfast.driver import Emit, Reply
from holdfast.drivers.failures import Peer
from holdfast.drivers.openai_wire import (
    CUSTOM,
    CallItem,
    ContentPart,
    Event,
    Kind,
    MessageItem,
    ReasoningItem,
    Response,
    WireUsage,
)
from holdfast.drivers.sse import UNREADABLE, mended
from holdfast.messages import Image, Message, Native, Part, StopReason, Text, Thinking, ToolCall, Usage

_BETWEEN = "\n\n"
"""What stands between the sections of one reasoning item, whose borders the item itself keeps."""
_MAX_SUMMARY = 2000
"""Characters of the words about a native item, which holds all of it itself."""
_CALLS = frozenset({"function_call", "custom_tool_call"})

Phase = Literal["", "commentary", "final_answer"]
_PHASES: dict[str, Phase] = {"commentary": "commentary", "final_answer": "final_answer"}

T = TypeVar("T")


class _Place:
    """One place in the output: the item, or the pieces of it that have come."""

    __slots__ = ("begun", "index", "kind", "parts", "pieces", "section")

    def __init__(self, kind: str, index: int) -> None:
        self.kind = kind
        self.index = index
        """Of a call: which one it is."""
        self.begun = b"{}"
        """The item as it was announced."""
        self.pieces: list[str] = []
        self.section: tuple[str, int | None] | None = None
        self.parts: list[Part] | None = None
        """What the finished item came to."""


class ReplyAssembler:
    """Takes events as they come, tells `emit` every piece, and has the `Reply` in the end."""

    _events: ClassVar[msgspec.json.Decoder[Event]] = msgspec.json.Decoder(Event)

    def __init__(self, vendor: str, peer: Peer, emit: Emit) -> None:
        self.answered = False
        self.over = False
        self._vendor = vendor
        self._peer = peer
        self._emit = emit
        self._places: dict[int, _Place] = {}
        self._calls = 0
        self._phase: Phase = ""
        self._refused = False
        self._cut_short: str | None = None
        """Why the answer ended early, if it did."""
        self._usage: WireUsage | None = None
        self._model = ""
        self._id = ""
        self._takes = {
            "response.output_text.delta": self._say,
            "response.refusal.delta": self._say,
            "response.reasoning_summary_text.delta": self._think,
            "response.reasoning_text.delta": self._think,
            "response.function_call_arguments.delta": self._argue,
            "response.output_item.added": self._open,
            "response.output_item.done": self._close,
            "response.created": self._begin,
            "response.completed": self._end,
            "response.incomplete": self._end,
            "response.failed": self._end,
            "response.cancelled": self._end,
            "error": self._fail,
        }

    def feed(self, data: bytes) -> bool:
        """One event of a stream. True when it brought something: a piece, an item, an end."""
        if data.startswith(b"[DONE]"):
            raise self._peer.broken("ended before the model had finished")
        try:
            event = self._events.decode(data)
        except UNREADABLE:
            event = mended(data, self._events, self._peer)
        take = self._takes.get(event.type)
        if take is not None:
            return take(event)
        if event.error:
            return self._fail(event)
        return "_call" in event.type  # a tool that is at work over there is progress, a sign of life is not

    def whole(self, body: bytes, content_type: str) -> None:
        """The body of an answer that was not streamed."""
        try:
            response = msgspec.json.decode(body, type=Response)
        except UNREADABLE as error:
            raise self._peer.unreadable(body, content_type) from error
        nothing = response.output is None and not response.error
        if nothing or response.object not in (None, "response"):
            raise self._peer.unreadable(body, content_type)
        if response.status in {"queued", "in_progress"}:
            raise self._peer.broken("is not finished: the model is still at work in the background")
        self._take(response)

    def reply(self) -> Reply:
        """The answer. Raises `DriverError` when the stream ended before it was one."""
        if not self.answered:
            raise self._peer.broken("ended before the model had finished")
        content = [part for _, place in sorted(self._places.items()) for part in place.parts or ()]
        message = Message(id="", role="assistant", content=tuple(content), phase=self._phase)
        return Reply(
            message=message,
            stop=self._stop(bool(message.calls)),
            usage=self._usage.counted() if self._usage else Usage(),
            model=self._model,
            response_id=self._id,
        )

    # -- events

    def _begin(self, event: Event) -> bool:
        response = self._read(event.response, Response)
        self._id, self._model = response.id or "", response.model or ""
        return False

    def _open(self, event: Event) -> bool:
        item = bytes(event.item)
        self._place(event, self._read(item, Kind).type).begun = item
        return True

    def _close(self, event: Event) -> bool:
        item = bytes(event.item)
        self._settle(self._place(event, self._read(item, Kind).type), item)
        return True

    def _say(self, event: Event) -> bool:
        return self._piece(self._place(event, "message"), "text", event.delta)

    def _argue(self, event: Event) -> bool:
        return self._piece(self._place(event, "function_call"), "arguments", event.delta)

    def _think(self, event: Event) -> bool:
        place = self._place(event, "reasoning")
        section = (event.type, event.summary_index if event.content_index is None else event.content_index)
        if event.delta and place.section != section:
            if place.section is not None:
                self._piece(place, "thinking", _BETWEEN)
            place.section = section
        return self._piece(place, "thinking", event.delta)

    def _end(self, event: Event) -> bool:
        response = self._read(event.response, Response)
        response.status = event.type.removeprefix("response.")
        self._take(response)
        return True

    def _fail(self, event: Event) -> bool:
        if isinstance(event.error, dict):
            raise self._peer.complained(event.error)
        raise self._peer.complained({"code": event.code, "message": event.message})

    # -- items

    def _place(self, event: Event, kind: str) -> _Place:
        at = event.output_index or 0
        place = self._places.get(at)
        if place is None:
            place = self._places[at] = _Place(kind, 0)
            if kind in _CALLS:
                place.index = self._calls
                self._calls += 1
        return place

    def _piece(self, place: _Place, kind: Any, piece: object) -> bool:
        if not piece or not isinstance(piece, str):
            return False
        place.pieces.append(piece)
        self._emit(kind, piece, place.index)
        return True

    def _take(self, response: Response) -> None:
        """The response at its end: what was not told on the way is told now."""
        if response.error or response.status in {"failed", "cancelled"}:
            ended = f"the response was {response.status}, and no reason was given"
            raise self._peer.complained(response.error or {"message": ended})
        self._id = response.id or self._id
        self._model = response.model or self._model
        self._usage = response.usage or self._usage
        for at, item in enumerate(response.output or ()):
            place = self._place(Event(output_index=at), self._read(item, Kind).type)
            if place.parts is None:
                self._settle(place, bytes(item))
        for place in self._places.values():
            if place.parts is None:
                self._settle(place, place.begun)
        if response.status == "incomplete":
            why = response.incomplete_details
            self._cut_short = (why and why.reason) or "unknown"
        self.answered = self.over = True

    def _settle(self, place: _Place, item: bytes) -> None:
        """The item is finished. Pieces that were not streamed are told, so that the pieces make up the parts."""
        if place.kind == "message":
            place.parts = self._message(place, item)
        elif place.kind == "reasoning":
            place.parts = self._reasoning(place, item)
        elif place.kind in _CALLS:
            place.parts = [self._call(place, item)]
        else:
            place.parts = self._native(item)

    def _message(self, place: _Place, item: bytes) -> list[Part]:
        message = self._read(item, MessageItem)
        self._phase = _PHASES.get(message.phase or "", self._phase)
        self._refused = self._refused or any(part.refusal for part in message.content or ())
        text = self._told(place, "text", _texts(message.content))
        return [Text(text=text)] if text else []

    def _reasoning(self, place: _Place, item: bytes) -> list[Part]:
        thought = self._read(item, ReasoningItem)
        texts = [text for text in (*_texts(thought.summary), *_texts(thought.content)) if text]
        text = self._told(place, "thinking", [_BETWEEN.join(texts)])
        return [Thinking(text=text, provider=self._vendor, encrypted=item.decode(errors="replace"))]

    def _call(self, place: _Place, item: bytes) -> ToolCall:
        call = self._read(item, CallItem)
        if not call.name:
            raise self._peer.broken("holds a tool call without a name")
        written, call_id = call.arguments or "", call.call_id or ""
        if place.kind == "custom_tool_call":
            written = json.dumps({"input": call.input or ""}, ensure_ascii=False)
            call_id = CUSTOM + call_id
        arguments = self._told(place, "arguments", [written]) or "{}"
        return ToolCall(id="", name=call.name, arguments=arguments, provider_id=call_id)

    def _native(self, item: bytes) -> list[Part]:
        fields = self._read(item, dict[str, Any])
        parts: list[Part] = []
        if fields.get("type") == "image_generation_call" and isinstance(fields.get("result"), str):
            made = f"data:image/{fields.get('output_format') or 'png'};base64,{fields.pop('result')}"
            parts.append(Image(url=made))
            item = msgspec.json.encode(fields)
        return [
            Native(provider=self._vendor, data=item.decode(errors="replace"), text=_summary(fields)),
            *parts,
        ]

    def _told(self, place: _Place, kind: Any, texts: list[str]) -> str:
        """The text of a finished item, after what was streamed of it has been made up to all of it."""
        text, said = "".join(texts), "".join(place.pieces)
        if text.startswith(said):
            self._piece(place, kind, text[len(said) :])
        return text or said

    def _read(self, item: bytes | msgspec.Raw, shape: type[T]) -> T:
        try:
            return msgspec.json.decode(item or b"{}", type=shape)
        except UNREADABLE as error:
            raise self._peer.broken("holds an item that cannot be read", bytes(item)) from error

    def _stop(self, calls: bool) -> StopReason:
        if self._cut_short is not None:
            return "refusal" if self._cut_short == "content_filter" else "max_tokens"
        if calls:
            return "tool_calls"
        return "refusal" if self._refused else "end_turn"


def _texts(parts: list[ContentPart] | None) -> list[str]:
    return [part.text or part.refusal or "" for part in parts or ()]


def _summary(item: dict[str, Any]) -> str:
    """What ran there, in words, for people and for other models."""
    kind = str(item.get("type"))
    action = item.get("action")
    asked = (action.get("query") or action.get("url")) if isinstance(action, dict) else None
    asked = asked or item.get("code") or item.get("queries")
    if kind == "mcp_call":
        asked = f"{item.get('name')} {item.get('arguments')}"
    if isinstance(asked, list):
        asked = ", ".join([query for query in asked if isinstance(query, str)])
    told = [kind.removesuffix("_call").replace("_", " ")]
    told += [text for text in (asked, item.get("output")) if isinstance(text, str) and text]
    words = ": ".join(told)
    cut = words if len(words) <= _MAX_SUMMARY else words[: _MAX_SUMMARY - 1] + "…"
    return f"[{cut}]" if len(told) > 1 else ""
