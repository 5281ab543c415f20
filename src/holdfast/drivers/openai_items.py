"""OpenAI Responses, the way there: messages as input items.

Items go without the ids that the server gave them, so that nothing needs to be stored there; reasoning and what ran at
the provider go back as they came. A reasoning item stands only before the item that it led to, a call only with its
result, and what cannot be shown is named, so that the model knows that it is there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from holdfast.driver import Previous, Transcript
from holdfast.drivers.openai_wire import CUSTOM, ReasoningItem
from holdfast.drivers.tools import as_object
from holdfast.media import data_url, has_blob, in_words
from holdfast.messages import (
    Document,
    Image,
    Message,
    Native,
    Part,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
)

MAX_CALL_ID = 64
"""Characters of a call's id at most."""
MAX_NAME = 64
"""Characters of a function's name at most."""

_ENCODER = msgspec.json.Encoder()
_NO_NAME = re.compile(r"[^a-zA-Z0-9_-]")
"""What a model may make up as a function's name, and the server does not take back."""
_LATER = b" "
"""Stands for a message with blobs, which come with each request."""
_NO_BLOBS: Mapping[str, bytes] = {}
_AWAITING = frozenset(
    {"computer_call", "local_shell_call", "shell_call", "apply_patch_call", "mcp_approval_request"}
)
"""Items that ask us for something that we do not do. Without their answer, they may not go back."""

_PICTURE = "image_generation_call"

Blobs = Mapping[str, bytes]


class ItemEncoder:
    """Turns messages into input items for one kind of model.

    `vendor` says whose reasoning and native items may go back, `reasons` whether this model takes reasoning and phases,
    `stored` whether the server keeps responses, so that it knows reasoning by its id alone.
    """

    def __init__(self, vendor: str, *, reasons: bool, stored: bool) -> None:
        self._vendor = vendor
        self._reasons = reasons
        self._stored = stored
        self._wire = f"openai:{vendor}:{reasons:d}{stored:d}"

    def items(self, transcript: Transcript, previous: Previous | None, blobs: Blobs) -> list[bytes]:
        """The items of each message that is to be sent. Only new messages, and those with blobs, are encoded."""
        items = transcript.encoded(self._wire, self._early)
        first = 0
        if previous is not None:
            first = previous.covers
            items = items[first:]
        if _LATER in items:
            items = [
                self._encode(transcript[place], blobs) if item == _LATER else item
                for place, item in enumerate(items, first)
            ]
        return [item for item in items if item]

    def _early(self, message: Message) -> bytes:
        return _LATER if has_blob(message.content) else self._encode(message, _NO_BLOBS)

    def _encode(self, message: Message, blobs: Blobs) -> bytes:
        """The message's items with commas between them; nothing when there is nothing to say."""
        if message.role == "assistant":
            return b",".join(self._assistant(message, blobs))
        if message.role == "tool":
            results = [part for part in message.content if isinstance(part, ToolResult)]
            return b",".join([_ENCODER.encode(_result(result, blobs)) for result in results])
        return _ENCODER.encode({"role": "user", "content": _content(message.content, blobs)})

    def _assistant(self, message: Message, blobs: Blobs) -> list[bytes]:
        parts = message.content
        last_words = max([place for place, part in enumerate(parts) if isinstance(part, Text)], default=0)
        answered = self._answered(parts)
        items: list[bytes] = []
        thoughts: list[bytes] = []
        for place, part in enumerate(parts):
            if isinstance(part, Thinking):
                thoughts += self._thought(part)
                continue
            item, words = b"", _words(part)
            if isinstance(part, ToolCall):
                item = _ENCODER.encode(_call(part))
            elif isinstance(part, Native) and part.provider == self._vendor:
                item, words = _native(part, answered), ""
            elif isinstance(part, Image) and self._made_by(parts[:place]):
                item = _with_picture(parts[place - 1], data_url(part, blobs))
            if words and not item:
                item = self._said(words, message, final=place >= last_words)
            if item:
                items += (*thoughts, item)
                thoughts.clear()
        return items

    def _said(self, words: str, message: Message, *, final: bool) -> bytes:
        """Words of the model. Of several, only the last can be the answer."""
        item = {"role": "assistant", "content": words}
        if message.phase and self._reasons:
            item["phase"] = message.phase if final else "commentary"
        return _ENCODER.encode(item)

    def _thought(self, part: Thinking) -> list[bytes]:
        """The reasoning item as it came, where the server takes it back."""
        if not self._reasons or part.provider != self._vendor:
            return []
        try:
            item = msgspec.json.decode(part.encrypted, type=ReasoningItem)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return []
        known = self._stored or item.encrypted_content or item.content
        return [part.encrypted.encode()] if known else []

    def _answered(self, parts: Iterable[Part]) -> set[Any]:
        """The ids of calls that the provider itself answered."""
        own = [_fields(part) for part in parts if isinstance(part, Native) and part.provider == self._vendor]
        return {
            item["call_id"] for item in own if "call_id" in item and str(item["type"]).endswith("_output")
        }

    def _made_by(self, before: tuple[Part, ...]) -> bool:
        """Whether the part after these is the picture of the item that they end with."""
        last = before[-1] if before else None
        return (
            isinstance(last, Native)
            and last.provider == self._vendor
            and _fields(last).get("type") == _PICTURE
        )


def _native(part: Native, answered: set[Any]) -> bytes:
    """The item as it came; nothing when it would stand there without its answer, or without its picture."""
    item = _fields(part)
    kind = item.get("type")
    if not kind or (kind in _AWAITING and item.get("call_id") not in answered):
        return b""
    if kind == _PICTURE and "result" not in item:
        return b""
    return part.data.encode()


def _with_picture(part: Part, url: str) -> bytes:
    if not isinstance(part, Native) or not url:
        return b""
    return _ENCODER.encode(_fields(part) | {"result": url.partition(",")[2]})


def _fields(part: Native) -> dict[str, Any]:
    try:
        item = msgspec.json.decode(part.data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}
    return item if isinstance(item, dict) and "type" in item else {}


def _call(call: ToolCall) -> dict[str, Any]:
    kind, call_id = _kind_and_id(call.provider_id or call.id)
    name = _NO_NAME.sub("_", call.name)[:MAX_NAME] or "_"
    item = {"type": f"{kind}_call", "call_id": call_id, "name": name}
    arguments = as_object(call.arguments)
    if kind == "function":
        return item | {"arguments": arguments}
    written = msgspec.json.decode(arguments).get("input")
    return item | {"input": written if isinstance(written, str) else arguments}


def _result(result: ToolResult, blobs: Blobs) -> dict[str, Any]:
    kind, call_id = _kind_and_id(result.provider_id or result.call_id)
    return {"type": f"{kind}_call_output", "call_id": call_id, "output": _content(result.content, blobs)}


def _kind_and_id(call_id: str) -> tuple[str, str]:
    if call_id.startswith(CUSTOM) and len(call_id) > len(CUSTOM):
        return "custom_tool", _call_id(call_id.removeprefix(CUSTOM))
    return "function", _call_id(call_id)


def _call_id(call_id: str) -> str:
    """The id, in short when it is longer than the server takes; the same for call and result."""
    if len(call_id) <= MAX_CALL_ID:
        return call_id
    return "call_" + hashlib.sha256(call_id.encode()).hexdigest()[:24]


def _content(parts: tuple[Part, ...], blobs: Blobs) -> str | list[dict[str, Any]]:
    if len(parts) <= 1 and all(isinstance(part, Text) for part in parts):
        return "".join([part.text for part in parts if isinstance(part, Text)])
    return [_piece(part, blobs) for part in parts]


def _piece(part: Part, blobs: Blobs) -> dict[str, Any]:
    if isinstance(part, Image | Document):
        data = data_url(part, blobs)
        url = data or ("" if part.url.startswith("data:") else part.url)
        if url and isinstance(part, Image):
            return {"type": "input_image", "image_url": url, "detail": "auto"}
        if data and isinstance(part, Document):
            name = part.name or (
                "document.pdf" if data.startswith("data:application/pdf") else "document.txt"
            )
            return {"type": "input_file", "filename": name, "file_data": data}
        if url:
            return {"type": "input_file", "file_url": url}
    return {"type": "input_text", "text": _words(part)}


def _words(part: Part) -> str:
    if isinstance(part, Text | Native):
        return part.text
    return in_words(part) if isinstance(part, Image | Document) else ""
