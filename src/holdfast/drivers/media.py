"""Images and documents for a request: their bytes with the type that the bytes have, or words in their place."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from holdfast.messages import Document, Image

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
)


class Inline(Struct, frozen=True, kw_only=True, gc=False):
    """Bytes that go into the request itself."""

    media_type: str
    data: bytes

    @property
    def base64(self) -> str:
        """The bytes as base64."""
        return base64.b64encode(self.data).decode()


def inline(part: Image | Document, blobs: Mapping[str, bytes]) -> Inline | None:
    """The bytes of a blob or a `data:` URL. None for any other URL, and for bytes that are missing or unreadable."""
    if part.blob is not None:
        data = blobs.get(part.blob.digest)
        return data if data is None else _typed(data, part.blob.media_type)
    return _data_url(part.url) if part.url.startswith("data:") else None


def lacks(part: object, blobs: Mapping[str, bytes]) -> bool:
    """Whether this is an image or document whose bytes could not be had."""
    return isinstance(part, Image | Document) and part.blob is not None and part.blob.digest not in blobs


def in_words(part: Image | Document) -> str:
    """What the model reads where an image or document cannot be shown."""
    what = f"document {part.name}".rstrip() if isinstance(part, Document) else "image"
    if part.url and not part.url.startswith("data:"):
        return f"[{what}: {part.url}]"
    size = f", {part.blob.media_type}, {part.blob.size} bytes" if part.blob else ""
    return f"[{what}{size}: its content cannot be shown here]"


def _typed(data: bytes, said: str) -> Inline:
    for signature, media_type in _SIGNATURES:
        if data.startswith(signature):
            return Inline(media_type=media_type, data=data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return Inline(media_type="image/webp", data=data)
    # What says that it is one of these, and is not, is nothing that can be named.
    known = said.startswith("image/") or said == "application/pdf"
    return Inline(media_type="application/octet-stream" if known else said, data=data)


def _data_url(url: str) -> Inline | None:
    head, comma, content = url.removeprefix("data:").partition(",")
    media_type, *options = [word.strip().lower() for word in head.split(";")]
    if not comma:
        return None
    try:
        data = unquote_to_bytes(content)
        if "base64" in options:
            data = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return None
    return _typed(data, media_type or "text/plain")
