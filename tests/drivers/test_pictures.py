"""Pictures that one provider takes and another refuses: shown, or named in words that the model can read."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import msgspec
import pytest

from holdfast.agent import Agent
from holdfast.driver import Transcript
from holdfast.drivers.sim import Sim
from holdfast.messages import BlobRef, Image, ToolResult, tool_message, user_message
from holdfast.runtime import Runtime
from tests.drivers.tongues import ANTHROPIC, TONGUES, Tongue, request

each_protocol = pytest.mark.parametrize("tongue", TONGUES, ids=[tongue.name for tongue in TONGUES])


def png(width: int, height: int, size: int = 0) -> bytes:
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height)
    return head + bytes(max(size - len(head), 0))


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


def heic(width: int, height: int, brand: bytes = b"heic") -> bytes:
    """A file as phones write it: its whole size, and that of the tiles it is made of."""
    sizes = [box(b"ispe", struct.pack(">III", 0, *size)) for size in ((512, 512), (width, height))]
    properties = box(b"iprp", box(b"ipco", b"".join(sizes)))
    return box(b"ftyp", brand + b"\0\0\0\0mif1heic") + box(b"meta", b"\0\0\0\0" + properties) + b"pixels"


def encoded(tongue: Tongue, data: bytes, *, in_result: bool = False) -> str:
    ref = BlobRef(digest="sha256:x", size=len(data), media_type="image/png")
    image = Image(blob=ref)
    said = [user_message((image,))]
    if in_result:
        said = [
            user_message("look"),
            tool_message(ToolResult(call_id="c1", name="camera", content=(image,))),
        ]
    driver = tongue.driver(api_key="k")
    asked = msgspec.structs.replace(request(), messages=Transcript(said), blobs={"sha256:x": data})
    body: bytes = driver.encode(asked)
    assert json.loads(body)
    return body.decode()


@each_protocol
@pytest.mark.parametrize(("brand", "kind"), [(b"heic", "image/heic"), (b"mif1", "image/heif")])
@pytest.mark.parametrize("in_result", [False, True])
def test_a_photograph_of_a_phone_is_shown_to_gemini_and_named_to_the_others(
    tongue: Tongue, brand: bytes, kind: str, in_result: bool
) -> None:
    body = encoded(tongue, heic(4032, 3024, brand), in_result=in_result)
    if tongue.name == "gemini":
        assert f'"mimeType":"{kind}"' in body
        assert "cannot be shown" not in body
    else:
        assert "[image" in body
        assert "its content cannot be shown here" in body
        assert "base64" not in body
        assert kind not in body or tongue is ANTHROPIC  # which is told what it is instead


@each_protocol
def test_a_data_url_is_judged_by_its_bytes_too(tongue: Tongue) -> None:
    url = "data:image/png;base64," + base64.b64encode(heic(10, 10)).decode()
    driver = tongue.driver(api_key="k")
    asked = msgspec.structs.replace(request(), messages=Transcript([user_message((Image(url=url),))]))
    body = driver.encode(asked).decode()
    assert ("cannot be shown" in body) is (tongue.name != "gemini")
    assert "data:image/png" not in body


@each_protocol
@pytest.mark.parametrize("kind", ["png", "too many bytes", "too many pixels"])
@pytest.mark.parametrize("in_result", [False, True])
def test_a_picture_above_anthropics_limits_is_named_with_the_reason_to_it_alone(
    tongue: Tongue, kind: str, in_result: bool
) -> None:
    most = 5 * 2**20 * 3 // 4
    data = {
        "png": png(8_000, 8_000, most),
        "too many bytes": png(10, 10, most + 1),
        "too many pixels": png(8_001, 10),
    }[kind]
    body = encoded(tongue, data, in_result=in_result)
    if tongue is not ANTHROPIC or kind == "png":
        shown = in_result and tongue.name == "openai-chat"  # takes nothing but text as a result
        assert ("cannot be shown" in body) is shown
        return
    why = "more than 3,932,160 bytes" if kind == "too many bytes" else "more than 8,000 pixels a side"
    assert f"its content cannot be shown here, as it has {why}]" in body
    assert "base64" not in body


async def test_a_photograph_of_a_phone_can_be_attached() -> None:
    async with Runtime() as runtime:
        session = await runtime.session(Agent(model=Sim.always("A cat.")))
        photo: Any = await session.attach(heic(4032, 3024))
        assert isinstance(photo, Image)
        assert photo.blob is not None
        assert photo.blob.media_type == "image/heic"
        assert (await session.run((photo,))).text == "A cat."
