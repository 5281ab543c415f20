"""Blobs: the bytes of images and documents, on their way into the log and out to the model.

The log holds a digest; the bytes are in the store, put there before the fact that refers to them. A request gets them
back for as long as it is under way.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from msgspec import structs

from holdfast.errors import InputRejected, StoreCorrupt, UnknownBlob
from holdfast.media import checked, in_words, read_data_url
from holdfast.messages import BlobRef, Document, Image, Message, Part, Text, ToolCall, ToolResult
from holdfast.store import digest_of
from holdfast.turn.call import shown_as

Put = Callable[[bytes], Awaitable[str]]
"""Keeps bytes and returns their digest, as `Store.put_blob` does."""

Get = Callable[[str], Awaitable[bytes]]
"""The bytes with this digest, as `Store.get_blob` has them."""

REQUEST_BYTES = 50 * 2**20
"""Bytes of images and documents that one request gets, at most: the newest ones."""

_MEDIA = (Image, Document)
_LISTS = (tuple, list)

_log = logging.getLogger("holdfast.blobs")


class Held(dict[str, bytes]):
    """Bytes by digest that are kept in memory only."""

    async def put(self, data: bytes) -> str:
        """Keep these, as `Store.put_blob` does."""
        digest = digest_of(data)
        self[digest] = data
        return digest


def holds_data(parts: Any) -> bool:
    """Whether there is an image or document among these parts whose bytes are in its URL."""
    return isinstance(parts, _LISTS) and any(_has_data(part) for part in parts if type(part) is not Text)


async def put_part(data: bytes, media_type: str, put: Put, *, name: str = "") -> Image | Document:
    """The part that stands for these bytes, which are kept. Raises `InputRejected` for what no model can read."""
    kind = checked(data, media_type)
    blob = BlobRef(digest=await put(data), size=len(data), media_type=kind)
    return Image(blob=blob) if kind.startswith("image/") else Document(blob=blob, name=name)


async def taken_in(parts: Iterable[Any], put: Put) -> tuple[Any, ...]:
    """The parts of an input with the bytes in their URLs kept as blobs. Raises `InputRejected`."""
    return tuple([await _taken_in(part, put) if _has_data(part) else part for part in parts])


async def kept_result(result: ToolResult, put: Put) -> ToolResult:
    """The result with the bytes in its parts kept as blobs; the model is told in words of what it cannot be shown."""
    content: list[Text | Image | Document] = []
    for part in result.content:
        if isinstance(part, Image | Document) and _has_data(part):
            try:
                part = await _taken_in(part, put)
            except InputRejected as error:
                what = f"document {part.name}".rstrip() if isinstance(part, Document) else "image"
                part = Text(text=f"[{what} that cannot be shown: {error}]")
        content.append(part)
    return structs.replace(result, content=tuple(content))


async def kept_as(call: ToolCall, value: Any, put: Put) -> ToolResult:
    """The result that the model reads for this value."""
    return await kept_result(shown_as(call, value), put)


async def kept_reply(message: Message, put: Put) -> Message:
    """The model's message with the bytes that it made kept as blobs, whatever they are."""
    parts: list[Part] = []
    for part in message.content:
        if isinstance(part, Image | Document) and _has_data(part):
            file = read_data_url(part.url)
            if file is None:
                part = Text(text=in_words(part))
            else:
                digest = await put(file.data)
                blob = BlobRef(digest=digest, size=len(file.data), media_type=file.media_type)
                part = structs.replace(part, blob=blob, url="")
        parts.append(part)
    return structs.replace(message, content=tuple(parts))


def blobs_in(messages: Iterable[Message]) -> list[BlobRef]:
    """The blobs that these messages refer to, oldest first."""
    found: list[BlobRef] = []
    for message in messages:
        for part in message.content:
            if type(part) is Text or type(part) is ToolCall:
                continue
            inner = part.content if isinstance(part, ToolResult) else (part,)
            found += [it.blob for it in inner if isinstance(it, _MEDIA) and it.blob is not None]
    return found


async def fetched(blobs: Iterable[BlobRef], get: Get) -> dict[str, bytes]:
    """The bytes of these blobs by digest, the last ones first, as far as `REQUEST_BYTES` go.

    Those that are missing or damaged are left out, with a word to the program's log. Raises `StoreError`.
    """
    found: dict[str, bytes] = {}
    left = REQUEST_BYTES
    for blob in reversed({blob.digest: blob for blob in blobs}.values()):
        if blob.size > left:
            break
        try:
            data = found[blob.digest] = await get(blob.digest)
        except (UnknownBlob, StoreCorrupt) as error:
            _log.warning("an image or document is left out of a request: %s", error)
        else:
            left -= len(data)
    return found


def _has_data(part: Any) -> bool:
    return isinstance(part, _MEDIA) and str(part.url).startswith("data:")


async def _taken_in(part: Image | Document, put: Put) -> Image | Document:
    file = read_data_url(part.url)
    if file is None:
        raise InputRejected(
            "an image or document has a data: URL that cannot be read; write data:<type>;base64,…"
        )
    kind = checked(file.data, file.media_type, image=isinstance(part, Image))
    blob = BlobRef(digest=await put(file.data), size=len(file.data), media_type=kind)
    return structs.replace(part, blob=blob, url="")
