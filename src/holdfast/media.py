"""Images and documents: what bytes are, how large a picture is, and words where something cannot be shown.

The type is read from the bytes; what is said of them counts only where they do not tell. Nothing is decoded: width and
height stand in the first bytes of a PNG, GIF or WebP, in a segment of a JPEG, and in a box of an HEIC or HEIF.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from holdfast.errors import InputRejected
from holdfast.messages import Document, Image, Part, ToolResult

MAX_IMAGE_BYTES = 20 * 2**20
"""Bytes of one image that is taken in, at most."""
MAX_IMAGE_SIDE = 8_000
"""Pixels of an image that is taken in, at most, in width and in height."""
MAX_DOCUMENT_BYTES = 32 * 2**20
"""Bytes of one document that is taken in, at most."""

PICTURES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""The types that every provider that looks at pictures takes."""

UNKNOWN = "application/octet-stream"
"""The type of bytes of which nothing is known."""

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
)
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis"), "image/heic"),
    **dict.fromkeys((b"mif1", b"msf1", b"hevc", b"hevx"), "image/heif"),
}
"""What the first brand of a file of boxes says: phones write `heic`; AVIF, which begins alike, has others."""
_BOXES = 64 * 2**10
"""Bytes at the beginning of such a file in which its sizes are looked for."""
_TYPE = re.compile(r"[a-z0-9][a-z0-9.+_-]*/[a-z0-9][a-z0-9.+_-]*")
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of the segments that hold a JPEG's size."""
_JPEG_STEPS = 10_000
"""Markers and bytes of padding of a JPEG that are passed over to find its size."""
_JPEG_ALONE = frozenset(range(0xD0, 0xD8)) | {0x01}
"""Markers that no length follows."""


class Inline(Struct, frozen=True, kw_only=True, gc=False):
    """Bytes that go into the request itself."""

    media_type: str
    data: bytes

    @property
    def base64(self) -> str:
        """The bytes as base64."""
        return base64.b64encode(self.data).decode()

    @property
    def data_url(self) -> str:
        """The bytes as a `data:` URL."""
        return f"data:{self.media_type};base64,{self.base64}"


def inline(part: Image | Document, blobs: Mapping[str, bytes]) -> Inline | None:
    """The bytes of a blob or a `data:` URL. None for any other URL, and for bytes that are missing or unreadable."""
    if part.blob is not None:
        data = blobs.get(part.blob.digest)
        return data if data is None else _typed(data, part.blob.media_type)
    return read_data_url(part.url) if part.url.startswith("data:") else None


def data_url(part: Image | Document, blobs: Mapping[str, bytes]) -> str:
    """The part's own bytes as a `data:` URL, for providers that take `PICTURES` and files; empty when they are missing,
    or are nothing that such a provider looks at."""
    file = inline(part, blobs)
    if file is None or file.media_type == UNKNOWN:
        return ""
    if file.media_type not in PICTURES and (isinstance(part, Image) or file.media_type.startswith("image/")):
        return ""
    return file.data_url


def has_blob(parts: Iterable[Part]) -> bool:
    """Whether any of these is, or holds, an image or document that is kept as a blob."""
    for part in parts:
        if isinstance(part, ToolResult):
            if has_blob(part.content):
                return True
        elif isinstance(part, Image | Document) and part.blob is not None:
            return True
    return False


def in_words(part: Image | Document, why: str = "") -> str:
    """What the model reads where an image or document cannot be shown, and why, where that is known."""
    what = f"document {part.name}".rstrip() if isinstance(part, Document) else "image"
    if part.url and not part.url.startswith("data:"):
        return f"[{what}: {part.url}]"
    size = f", {part.blob.media_type}, {part.blob.size} bytes" if part.blob else ""
    return f"[{what}{size}: its content cannot be shown here{f', as {why}' if why else ''}]"


def checked(data: bytes, said: str = "", *, image: bool = False) -> str:
    """The type of these bytes: of what they are, else what is said of them, else `text/plain`.

    `image` says that they must be a picture. Raises `InputRejected` for bytes that are not what is said of them, of
    which nothing is known, or that are too many, and for a picture with too many pixels.
    """
    said = said.partition(";")[0].strip().lower()
    if said and not _TYPE.fullmatch(said):
        raise InputRejected(f"{said!r} is no media type; write one such as image/png or text/plain")
    if not data:
        raise InputRejected("an image or document has no bytes; leave it out")
    found = _typed(data, said).media_type
    if image or said.startswith("image/") or found.startswith("image/"):
        _check_picture(data, found)
    elif len(data) > MAX_DOCUMENT_BYTES:
        raise InputRejected(
            f"a document is {len(data):,} bytes; the limit is {MAX_DOCUMENT_BYTES:,}. Split it, or give it to a tool "
            "to read"
        )
    elif said == "application/pdf" != found:
        raise InputRejected("a document is said to be a PDF, and its bytes are not one: send the file itself")
    return _of_words(data, found) if not found or found.startswith("text/") else found


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels of a PNG, JPEG, GIF, WebP, HEIC or HEIF; None when the bytes do not tell."""
    width = height = 0
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR" and len(data) >= 24:
        width, height = _big(data[16:20]), _big(data[20:24])
    elif data.startswith((b"GIF87a", b"GIF89a")) and len(data) >= 10:
        width, height = _little(data[6:8]), _little(data[8:10])
    elif data.startswith(b"\xff\xd8"):
        width, height = _jpeg_size(data)
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP" and len(data) >= 30:
        width, height = _webp_size(data)
    elif _brand(data):
        width, height = _heif_size(data)
    return (width, height) if width and height else None


def read_data_url(url: str) -> Inline | None:
    """What a `data:` URL holds; None when it cannot be read."""
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


def _typed(data: bytes, said: str) -> Inline:
    for signature, media_type in _SIGNATURES:
        if data.startswith(signature):
            return Inline(media_type=media_type, data=data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return Inline(media_type="image/webp", data=data)
    if brand := _brand(data):
        return Inline(media_type=brand, data=data)
    # What says that it is one of these, and is not, is nothing that can be named.
    known = said.startswith("image/") or said == "application/pdf"
    return Inline(media_type=UNKNOWN if known else said, data=data)


def _check_picture(data: bytes, found: str) -> None:
    size = picture_size(data) if found.startswith("image/") else None
    if size is None:
        raise InputRejected("an image is not one: send the bytes of a PNG, JPEG, GIF, WebP or HEIC, whole")
    if len(data) > MAX_IMAGE_BYTES:
        raise InputRejected(
            f"an image is {len(data):,} bytes; the limit is {MAX_IMAGE_BYTES:,}. Send a smaller one"
        )
    if max(size) > MAX_IMAGE_SIDE:
        raise InputRejected(
            f"an image is {size[0]:,} x {size[1]:,} pixels; the limit is {MAX_IMAGE_SIDE:,} a side. Send a smaller one"
        )


def _of_words(data: bytes, found: str) -> str:
    try:
        words = data.decode()
    except UnicodeDecodeError as error:
        what = f"is said to be {found}" if found else "is of no type that its bytes tell"
        raise InputRejected(
            f"a document {what}, and is not text in UTF-8 ({error.reason} at byte {error.start}); say its media type"
        ) from None
    if not found and "\0" in words:
        raise InputRejected("a document is of no type that its bytes tell; say its media type")
    return found or "text/plain"


def _brand(data: bytes) -> str:
    """The type of a file of boxes that is a picture; empty for any other."""
    return _BRANDS.get(data[8:12], "") if data[4:8] == b"ftyp" else ""


def _heif_size(data: bytes) -> tuple[int, int]:
    """The largest of the sizes that are told: the others are those of its tiles and of a small copy."""
    sizes = [(0, 0)]
    place = data.find(b"ispe", 0, _BOXES)
    while place >= 0:
        sizes.append((_big(data[place + 8 : place + 12]), _big(data[place + 12 : place + 16])))
        place = data.find(b"ispe", place + 4, _BOXES)
    return max(sizes, key=lambda size: size[0] * size[1])


def _big(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    place = 2
    for _ in range(_JPEG_STEPS):
        if place + 4 > len(data) or data[place] != 0xFF:
            break
        marker = data[place + 1]
        if marker == 0xFF:
            place += 1
        elif marker in _JPEG_ALONE:
            place += 2
        elif marker in _JPEG_SIZES:
            return _big(data[place + 7 : place + 9]), _big(data[place + 5 : place + 7])
        else:
            place += 2 + max(_big(data[place + 2 : place + 4]), 2)
    return 0, 0


def _webp_size(data: bytes) -> tuple[int, int]:
    match data[12:16]:
        case b"VP8X":
            return _little(data[24:27]) + 1, _little(data[27:30]) + 1
        case b"VP8L" if data[20] == 0x2F:
            bits = _little(data[21:25])
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 " if data[23:26] == b"\x9d\x01\x2a":
            return _little(data[26:28]) & 0x3FFF, _little(data[28:30]) & 0x3FFF
    return 0, 0
