"""Images and documents are told by their bytes, whatever is said of them."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.drivers.media import in_words, inline, lacks
from holdfast.messages import BlobRef, Document, Image, Text


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
    part, blobs = blob(b"x", "text/plain")
    assert inline(part, {}) is None
    assert [lacks(part, {}), lacks(part, blobs), lacks(Image(url="https://a.example"), {})] == [
        True,
        False,
        False,
    ]
    assert not lacks(Text(text="x"), {})


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
