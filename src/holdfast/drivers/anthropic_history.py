"""The transcript as Anthropic takes it: content blocks in turns that alternate.

What one speaker says one after the other becomes one turn, so that the results of parallel calls are together and
come first. Thoughts go back as they came, signed, to who signed them; a message never ends with one. What the
protocol refuses (blank text, a call that is no object, a picture in the model's mouth) is put into words or left out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from holdfast.driver import Request, Transcript
from holdfast.drivers.anthropic_wire import Block, NativeBlock
from holdfast.drivers.tools import as_object
from holdfast.media import PICTURES, UNKNOWN, Inline, has_blob, in_words, inline, picture_size
from holdfast.messages import Document, Image, Message, Native, Part, Text, Thinking, ToolCall, ToolResult

IMAGE_BYTES = 5 * 2**20
"""Bytes of one image in base64 at most."""
IMAGE_SIDE = 8_000
"""Pixels of one image at most, in width and in height."""
BREAKPOINT = b',"cache_control":{"type":"ephemeral"}}'
"""What the closing brace of a block becomes where the provider is to keep what leads up to it."""

_ENCODER = msgspec.json.Encoder()
_NATIVES = msgspec.json.Decoder(NativeBlock)
_BLOCKS = msgspec.json.Decoder(Block)
_TEXT_TYPES = frozenset({"application/json", "application/xml", "application/yaml", "application/x-yaml"})
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
_NO_BLOBS: Mapping[str, bytes] = {}
_NO_WORDS = "(blank)"
_NO_OUTPUT = "(no output)"
_EARLIER = _ENCODER.encode({"type": "text", "text": "(what was said before is left out)"})
_MARKED_TURNS = 2
_CLOSING = b"]},"
_USERS_TURN = _CLOSING + b'{"role":"user","content":['
_MODELS_TURN = _CLOSING + b'{"role":"assistant","content":['
_RESULT_BEGINS = b'{"type":"tool_result"'
_THOUGHT_BEGINS = (b'{"type":"thinking"', b'{"type":"redacted_thinking"')


class Turns:
    """Turns that alternate, the user's first, as pieces of JSON: each turn's opening, its blocks, commas between."""

    __slots__ = ("_pieces", "_starts")

    def __init__(self, pieces: list[bytes], starts: list[int]) -> None:
        self._pieces = pieces
        self._starts = starts
        """Where each turn's opening is."""

    def begun_with_thoughts(self) -> bool:
        """Whether the model's open turn, up to the last words of the user's without a result, began with thoughts.

        It did not when another provider began it, or when thinking was off. True when there is no open turn.
        """
        first = b""
        for start in reversed(self._starts):
            block = self._pieces[start + 1]
            if self._pieces[start] is _MODELS_TURN:
                first = block
            elif not block.startswith(_RESULT_BEGINS):
                break
        return not first or first.startswith(_THOUGHT_BEGINS)

    def go_on(self, blocks: bytes) -> None:
        """Let the model go on from these blocks of its own."""
        last = self._pieces[self._starts[-1]]
        if last is not _MODELS_TURN:
            self._starts.append(len(self._pieces))
        self._pieces += [b"," if last is _MODELS_TURN else _MODELS_TURN, blocks]

    def mark(self) -> None:
        """Set breakpoints at the end of the user's last two turns: what was sent before, and what is sent now."""
        ends = [start - 1 for start in self._starts[1:]] + [len(self._pieces) - 1]
        for end in ends[::2][-_MARKED_TURNS:]:
            self._pieces[end] = self._pieces[end][:-1] + BREAKPOINT

    def json(self) -> bytes:
        """The array of messages."""
        body = b"".join(self._pieces)
        return b"[" + body.removeprefix(_CLOSING) + b"]}]"


class History:
    """Writes transcripts for one vendor; a message is written once."""

    def __init__(self, wire: str, vendor: str) -> None:
        self._key = f"{wire}:{vendor}"
        self._vendor = vendor

    def turns(self, request: Request) -> Turns:
        """The turns of the transcript; the first is the user's."""
        written = request.messages.encoded(self._key, self._early)
        pieces: list[bytes] = []
        starts: list[int] = []
        models = True  # whose turn it is; nobody's yet, which looks like the model's: the user begins
        for message, item in zip(request.messages, written, strict=True):
            if not item:  # it says nothing, or has blobs
                item = self._message(request.blobs, message)
                if not item:
                    continue
            if (message.role == "assistant") is not models:
                models = not models
                starts.append(len(pieces))
                pieces.append(_MODELS_TURN if models else _USERS_TURN)
            elif pieces:
                pieces.append(b",")
            else:
                starts += [0, 2]
                pieces += [_USERS_TURN, _EARLIER, _MODELS_TURN]
            pieces.append(item)
        if not pieces:
            starts, pieces = [0], [_USERS_TURN, _EARLIER]
        return Turns(pieces, starts)

    def spoken(self, message: Message) -> bytes:
        """The blocks of a message of the model's that is to go on, its open ends included."""
        return b",".join([block for _, block in self._said(message)])

    def _early(self, message: Message) -> bytes:
        """The blocks of a message for good: nothing where there are blobs, whose bytes come with each request."""
        return b"" if has_blob(message.content) else self._message(_NO_BLOBS, message)

    def _message(self, blobs: Mapping[str, bytes], message: Message) -> bytes:
        """The blocks of a message with commas between; empty when there is nothing that may be sent."""
        if message.role == "assistant":
            return b",".join(self._assistant(message))
        if message.role == "tool":
            results = [part for part in message.content if isinstance(part, ToolResult)]
            return b",".join([_ENCODER.encode(_result(result, blobs)) for result in results])
        blocks = [block for part in message.content if (block := _shown(part, blobs))]
        if not blocks and message.content:
            blocks = [{"type": "text", "text": _NO_WORDS}]
        return b",".join([_ENCODER.encode(block) for block in blocks])

    def _assistant(self, message: Message) -> list[bytes]:
        """The blocks of a message that is done: nothing in it waits, and it does not end with a thought."""
        blocks: list[bytes] = []
        complete = 0
        unanswered = self._unanswered(message)
        for part, block in self._said(message):
            if part not in unanswered:
                blocks.append(block)
                if not isinstance(part, Thinking):
                    complete = len(blocks)
        return blocks[:complete]

    def _said(self, message: Message) -> Iterator[tuple[Part, bytes]]:
        """Each part that may be sent and its block. Text with citations is a part behind its words, in their place."""
        parts = message.content
        for place, part in enumerate(parts):
            block = self._own(part)
            if isinstance(part, Text) and place + 1 < len(parts):
                block = self._cited(part, parts[place + 1]) or block
            if block:
                yield part, block

    def _cited(self, words: Text, part: Part) -> bytes:
        if not isinstance(part, Native) or part.provider != self._vendor or not _is_text(part):
            return b""
        block = _BLOCKS.decode(part.data)
        return part.data.encode() if block.text == words.text and words.text.strip() else b""

    def _own(self, part: Part) -> bytes:
        """A part of the model's message as a block; empty when it may not be sent."""
        if isinstance(part, ToolCall):
            return _ENCODER.encode(_call(part))
        if isinstance(part, Thinking):
            return _ENCODER.encode(_thought(part)) if self._signed(part) else b""
        if isinstance(part, Native) and part.provider == self._vendor:
            return part.data.encode() if _native(part) and not _is_text(part) else b""
        if isinstance(part, Native):
            part = Text(text=part.text)
        elif isinstance(part, Image | Document):
            part = Text(text=in_words(part))
        block = _shown(part, {})
        return _ENCODER.encode(block) if block else b""

    def _signed(self, part: Thinking) -> bool:
        return part.provider == self._vendor and bool(part.signature or part.encrypted)

    def _unanswered(self, message: Message) -> list[Part]:
        """Tools that were to run at the provider, and of which it said no more. Beside calls they may still run."""
        natives = [
            (part, head)
            for part in message.content
            if isinstance(part, Native) and part.provider == self._vendor and (head := _native(part))
        ]
        if not natives or message.calls:
            return []
        answered = {head.tool_use_id for _, head in natives}
        return [part for part, head in natives if head.type.endswith("tool_use") and head.id not in answered]


def called(messages: Transcript) -> list[str]:
    """The names of all tools that the model has called, each once; a message is looked at once."""
    listed = dict.fromkeys(messages.encoded("anthropic:called", _names))
    return [name for name in dict.fromkeys(b"\n".join(listed).decode().split("\n")) if name]


def _names(message: Message) -> bytes:
    return "\n".join([_name(call.name) for call in message.calls]).encode()


def _native(part: Native) -> NativeBlock | None:
    """What this block is; None when it is none."""
    try:
        return _NATIVES.decode(part.data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _is_text(part: Native) -> bool:
    """Whether this is text with citations."""
    head = _native(part)
    return head is not None and head.type == "text"


def _thought(part: Thinking) -> dict[str, Any]:
    if part.encrypted:
        return {"type": "redacted_thinking", "data": part.encrypted}
    return {"type": "thinking", "thinking": part.text, "signature": part.signature}


def _call(call: ToolCall) -> dict[str, Any]:
    call_id = _call_id(call.provider_id or call.id)
    return {
        "type": "tool_use",
        "id": call_id,
        "name": _name(call.name),
        "input": msgspec.Raw(as_object(call.arguments).encode()),
    }


def _result(result: ToolResult, blobs: Mapping[str, bytes]) -> dict[str, Any]:
    call_id = _call_id(result.provider_id or result.call_id)
    entry = {"type": "tool_result", "tool_use_id": call_id}
    failed = result.status != "ok"
    if failed or all(isinstance(part, Text) for part in result.content):
        # An error may hold nothing but text.
        words = [part.text if isinstance(part, Text) else in_words(part) for part in result.content]
        text = "".join(words)
        return (
            entry | {"content": text if text.strip() else _NO_OUTPUT} | ({"is_error": True} if failed else {})
        )
    return entry | {"content": [block for part in result.content if (block := _shown(part, blobs))]}


def _shown(part: Part, blobs: Mapping[str, bytes]) -> dict[str, Any] | None:
    """Text, an image or a document as a block."""
    if isinstance(part, Text):
        return {"type": "text", "text": part.text} if part.text.strip() else None
    if isinstance(part, Native):
        return {"type": "text", "text": part.text} if part.text.strip() else None
    if not isinstance(part, Image | Document):
        return None
    if isinstance(part, Image):
        return _image(part, blobs)
    source = _document(part, blobs)
    if source is None:
        return {"type": "text", "text": in_words(part)}
    return {"type": "document", "source": source} | ({"title": part.name} if part.name else {})


def _image(part: Image, blobs: Mapping[str, bytes]) -> dict[str, Any]:
    """The picture; where Anthropic would refuse the whole request for it, words that say what it is and why."""
    if part.url and not part.url.startswith("data:"):
        return {"type": "image", "source": {"type": "url", "url": part.url}}
    content = inline(part, blobs)
    if content is None or content.media_type == UNKNOWN:
        return {"type": "text", "text": in_words(part)}
    if why := _too_much(content):
        return {"type": "text", "text": in_words(part, why)}
    source = {"type": "base64", "media_type": content.media_type, "data": content.base64}
    return {"type": "image", "source": source}


def _too_much(content: Inline) -> str:
    """Why Anthropic would not take this picture; empty when it does."""
    if content.media_type not in PICTURES:
        return f"{content.media_type} is none of PNG, JPEG, GIF and WebP"
    if (len(content.data) + 2) // 3 * 4 > IMAGE_BYTES:
        return f"it has more than {IMAGE_BYTES * 3 // 4:,} bytes"
    size = picture_size(content.data)
    return f"it has more than {IMAGE_SIDE:,} pixels a side" if size and max(size) > IMAGE_SIDE else ""


def _document(part: Document, blobs: Mapping[str, bytes]) -> dict[str, Any] | None:
    """A PDF, or text of any kind; other files cannot be shown."""
    if part.blob is None and not part.url.startswith("data:"):
        return {"type": "url", "url": part.url} if part.url else None
    content = inline(part, blobs)
    if content is None:
        return None
    if content.media_type == "application/pdf":
        return {"type": "base64", "media_type": "application/pdf", "data": content.base64}
    if not (content.media_type.startswith("text/") or content.media_type in _TEXT_TYPES):
        return None
    try:
        text = content.data.decode()
    except UnicodeDecodeError:
        return None
    return {"type": "text", "media_type": "text/plain", "data": text} if text.strip() else None


def _call_id(call_id: str) -> str:
    """The id as it is, or, where the protocol would refuse it, one made from it: the same for call and result."""
    if _ID.fullmatch(call_id):
        return call_id
    return "call_" + hashlib.sha256(call_id.encode(errors="replace")).hexdigest()[:24]


def _name(name: str) -> str:
    return name if _NAME.fullmatch(name) else re.sub(r"[^A-Za-z0-9_-]", "_", name)[:128] or "tool"
