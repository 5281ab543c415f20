"""Images and documents are told by their bytes, whatever is said of them."""

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import InputRejected
from holdfast.media import (
    MAX_DOCUMENT_BYTES,
    MAX_IMAGE_BYTES,
    checked,
    has_blob,
    in_words,
    inline,
    picture_size,
)
from holdfast.messages import BlobRef, Document, Image, Text, ToolResult


def blob(data: bytes, media_type: str) -> tuple[Document, dict[str, bytes]]:
    ref = BlobRef(digest="sha256:x", size=len(data), media_type=media_type)
    return Document(blob=ref, name="a"), {"sha256:x": data}


@pytest.mark.parametrize(
    ("data", "said", "found"),
    [
        (b"\x89PNG\r\n\x1a\n...", "image/jpeg", "image/png"),
        (b"\xff\xd8\xff\xe0", "application/octet-stream", "image/jpeg"),
        (b"GIF87a", "image/gif", "image/gif"),
        (b"GIF89a", "text/plain", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/png", "image/webp"),
        (b"RIFF\x00\x00\x00\x00WAVE", "audio/wav", "audio/wav"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "image/jpeg", "image/heic"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0", "application/octet-stream", "image/heif"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "image/heic", "application/octet-stream"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "video/mp4", "video/mp4"),
        (b"%PDF-1.7", "image/png", "application/pdf"),
        (b"words", "text/markdown", "text/markdown"),
        (b"words", "image/png", "application/octet-stream"),
        (b"words", "application/pdf", "application/octet-stream"),
        (b"", "image/png", "application/octet-stream"),
    ],
)
def test_the_type_is_what_the_bytes_say_and_only_else_what_is_said(
    data: bytes, said: str, found: str
) -> None:
    part, blobs = blob(data, said)
    content = inline(part, blobs)
    assert content is not None
    assert (content.media_type, content.data) == (found, data)
    assert base64.b64decode(content.base64) == data
    url = f"data:{said};base64,{base64.b64encode(data).decode()}"
    assert inline(Image(url=url), {}) == content


def test_bytes_that_are_missing_are_nothing() -> None:
    part, _ = blob(b"x", "text/plain")
    assert inline(part, {}) is None


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("data:,a%20b", (b"a b", "text/plain")),
        ("data:text/csv;charset=utf-8,a", (b"a", "text/csv")),
        ("data:text/plain;base64,YQ==", (b"a", "text/plain")),
        ("data:TEXT/Plain;BASE64,YQ==", (b"a", "text/plain")),
        ("data:image/png;base64,not base64", None),
        ("data:image/png;base64,YQ", None),
        ("data:image/png", None),
        ("https://a.example/b.png", None),
        ("", None),
    ],
)
def test_a_data_url_is_read_or_is_nothing(url: str, found: tuple[bytes, str] | None) -> None:
    content = inline(Document(url=url), {})
    assert (content and (content.data, content.media_type)) == found


@given(st.text(max_size=30))
def test_no_data_url_breaks_the_reader(rest: str) -> None:
    inline(Image(url="data:" + rest), {})


def test_what_cannot_be_shown_is_named_without_its_content() -> None:
    part, _ = blob(b"secret", "text/plain")
    assert in_words(part) == "[document a, text/plain, 6 bytes: its content cannot be shown here]"
    assert in_words(Image(url="https://a.example/b.png")) == "[image: https://a.example/b.png]"
    assert in_words(Image(url="data:image/png;base64,AAAA")) == "[image: its content cannot be shown here]"


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + b"\x08\x06\0\0\0"


def jpeg(width: int, height: int, before: bytes = b"") -> bytes:
    return b"\xff\xd8" + before + b"\xff\xc2\x00\x11\x08" + struct.pack(">HH", height, width) + b"\x03"


def webp(kind: bytes, body: bytes) -> bytes:
    return b"RIFF" + bytes(4) + b"WEBP" + kind + bytes(4) + body.ljust(20, b"\0")


PICTURES = {
    "png": png(300, 200),
    "gif": b"GIF89a" + struct.pack("<HH", 300, 200),
    "jpeg": jpeg(300, 200),
    "jpeg with segments before": jpeg(300, 200, b"\xff\xe0\x00\x04ab\xff\xff\xd0\xff\xdb\x00\x03x"),
    "webp lossy": webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 300, 200)),
    "webp lossless": webp(b"VP8L", b"\x2f" + struct.pack("<I", 299 | 199 << 14)),
    "webp extended": webp(b"VP8X", bytes(4) + b"\x2b\x01\x00\xc7\x00\x00"),
}


@pytest.mark.parametrize("name", PICTURES)
def test_width_and_height_are_read_from_the_first_bytes(name: str) -> None:
    assert picture_size(PICTURES[name]) == (300, 200)
    assert checked(PICTURES[name], "image/png", image=True).startswith("image/")


@given(st.binary(max_size=60), st.sampled_from(sorted(PICTURES.values())), st.integers(0, 40))
def test_no_bytes_confuse_the_reader_of_sizes(noise: bytes, picture: bytes, cut: int) -> None:
    for data in (noise, picture[:cut] + noise, picture[:cut], b"\xff\xd8" + noise):
        size = picture_size(data)
        assert size is None or min(size) > 0


def test_a_picture_that_is_nearly_all_padding_is_given_up() -> None:
    assert picture_size(jpeg(300, 200, b"\xff" * 5_000)) == (300, 200)
    assert picture_size(jpeg(300, 200, b"\xff" * 1_000_000)) is None


@pytest.mark.parametrize(
    ("data", "said", "image", "why"),
    [
        (b"words", "", True, "an image is not one"),
        (b"words", "image/png", False, "an image is not one"),
        (b"\x89PNG\r\n\x1a\n", "", False, "an image is not one"),
        (jpeg(300, 200)[:7], "", False, "an image is not one"),
        (b"%PDF-1.7", "", True, "an image is not one"),
        (b"", "", False, "has no bytes"),
        (png(8_001, 10), "", False, "8,001 x 10 pixels; the limit is 8,000"),
        (png(10, 10) + bytes(MAX_IMAGE_BYTES), "", False, "the limit is 20,971,520"),
        (b"%PDF-" + bytes(MAX_DOCUMENT_BYTES), "", False, "the limit is 33,554,432"),
        (b"words", "application/pdf", False, "its bytes are not one"),
        (b"\xff\x00", "", False, "say its media type"),
        (b"a\0b", "", False, "say its media type"),
        (b"\xff\x00", "text/plain", False, "is said to be text/plain, and is not text"),
        (b"words", "a picture", False, "is no media type"),
    ],
)
def test_what_no_model_can_be_shown_is_refused_with_what_to_do(
    data: bytes, said: str, image: bool, why: str
) -> None:
    with pytest.raises(InputRejected, match=why):
        checked(data, said, image=image)


@pytest.mark.parametrize(
    ("data", "said", "found"),
    [
        (b"words", "", "text/plain"),
        (b"# Words", "text/markdown; charset=utf-8", "text/markdown"),
        (b"%PDF-1.7", "text/plain", "application/pdf"),
        (b"\xff\x00", "audio/mpeg", "audio/mpeg"),
        (b"{}", "Application/JSON", "application/json"),
        (png(8_000, 8_000), "application/pdf", "image/png"),
    ],
)
def test_what_can_be_shown_is_told_by_its_bytes_or_by_what_is_said(
    data: bytes, said: str, found: str
) -> None:
    assert checked(data, said) == found


def test_a_blob_is_found_in_a_result_too() -> None:
    part, _ = blob(b"x", "text/plain")
    result = ToolResult(call_id="call_a", name="look", content=(Text(text="x"), part))
    assert has_blob((result,))
    assert has_blob((part,))
    assert not has_blob((Text(text="x"), Image(url="https://a.example")))
