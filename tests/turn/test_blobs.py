"""Images and documents: their bytes are in the store, never in the log, and reach the model with each request."""

import base64
import hashlib
import json
import logging
from typing import Any

import pytest
from msgspec import structs

from holdfast import (
    Agent,
    BlobRef,
    Document,
    Image,
    InputRejected,
    Message,
    Reply,
    Request,
    Runtime,
    Session,
    SQLiteStore,
    Text,
    ToolResult,
    UsageError,
    tool,
)
from holdfast.driver import Emit
from holdfast.drivers.anthropic import Anthropic
from holdfast.drivers.gemini import Gemini
from holdfast.drivers.openai import OpenAI
from holdfast.drivers.openai_chat import OpenAIChat
from holdfast.drivers.sim import Sim, Step, call, say
from holdfast.errors import StoreFull
from holdfast.events import encode_event
from holdfast.stores.memory import MemoryStore
from holdfast.turn import blobs
from tests.test_media import PICTURES, png
from tests.turn.scenes import agent_of, reopened, session_with

PNG = png(30, 20) + b"pixels" * 1_000
PDF = b"%PDF-1.7 " + b"page" * 1_000


def data_url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


async def log_of(session: Session) -> bytes:
    return b"".join([encode_event(event) for event in await session.events()])


def seeing(*steps: Step | str) -> tuple[Agent, Sim]:
    sim = Sim.storyboard(*steps, *["ok"] * 5)
    return Agent(model=sim), sim


async def test_what_is_attached_is_an_image_or_a_document_by_its_bytes() -> None:
    async with session_with(agent_of("ok")) as session:
        image = await session.attach(PNG, name="cat.png", media_type="image/jpeg")
        paper = await session.attach(PDF, name="paper.pdf")
        notes = await session.attach("Zürich".encode(), name="notes.md", media_type="text/markdown")
        assert image == Image(blob=BlobRef(digest=digest(PNG), size=len(PNG), media_type="image/png"))
        assert isinstance(paper, Document)
        assert isinstance(notes, Document)
        assert (paper.name, paper.blob and paper.blob.media_type) == ("paper.pdf", "application/pdf")
        assert (notes.name, notes.blob and notes.blob.media_type) == ("notes.md", "text/markdown")
        assert await session.events() == [], "attaching says nothing"


@pytest.mark.parametrize(
    ("data", "options", "why"),
    [
        (b"not one", {"media_type": "image/png"}, "an image is not one"),
        (b"", {}, "no bytes"),
        (png(9_000, 1), {}, "9,000 x 1 pixels"),
        ("text", {}, "is bytes, not str"),
        (b"text", {"name": 3}, "name is 3"),
    ],
)
async def test_what_cannot_be_attached_is_refused(data: Any, options: dict[str, Any], why: str) -> None:
    async with session_with(agent_of("ok")) as session:
        with pytest.raises(InputRejected, match=why):
            await session.attach(data, **options)


async def test_who_may_only_read_attaches_nothing() -> None:
    store = MemoryStore()
    async with session_with(agent_of("ok"), store) as session:
        await session.run("hello")
    async with Runtime(store) as runtime:
        reader = await runtime.open(session.id, read_only=True)
        with pytest.raises(UsageError, match="read-only"):
            await reader.attach(PNG)


async def test_the_bytes_reach_the_model_with_each_request_and_never_the_log() -> None:
    agent, sim = seeing()
    async with session_with(agent) as session:
        image = await session.attach(PNG)
        await session.run((Text(text="What is this?"), image, Document(url=data_url(PDF, "text/plain"))))
        await session.run("And again?")
        assert [request.blobs for request in sim.requests] == [{digest(PNG): PNG, digest(PDF): PDF}] * 2
        assert len(await log_of(session)) < 5_000
        paper = (await session.messages())[0].content[2]
        assert isinstance(paper, Document)
        assert (paper.url, paper.blob and paper.blob.media_type) == ("", "application/pdf")


async def test_bytes_come_back_after_a_restart() -> None:
    store, (agent, sim) = MemoryStore(), seeing()
    async with session_with(agent, store) as session:
        await session.run((Image(url=data_url(PNG)),))
    async with reopened(store, agent, session.id) as again:
        await again.run("And now?")
        assert sim.requests[-1].blobs == {digest(PNG): PNG}


@pytest.mark.parametrize("url", ["data:image/png;base64,!!!", "data:image/png", data_url(b"words"), "data:,"])
async def test_an_input_with_an_image_that_is_none_is_refused_before_anything_is_recorded(url: str) -> None:
    agent, sim = seeing()
    async with session_with(agent) as session:
        for refused in (session.send, session.steer, session.inspect):
            with pytest.raises(InputRejected):
                await refused((Text(text="Look:"), Image(url=url)))  # type: ignore[operator]
        assert await session.events() == []
        assert sim.requests == []


async def test_pictures_of_a_tool_are_kept_and_shown() -> None:
    @tool(effect="pure")
    async def look(what: str) -> list[Text | Image]:
        """Look."""
        return [Text(text=what), Image(url=data_url(PNG if what == "cat" else b"no picture"))]

    sim = Sim.storyboard(call("look", what="cat"), call("look", what="fog"), say("I see."))
    async with session_with(Agent(model=sim, tools=[look])) as session:
        assert (await session.run("Look!")).text == "I see."
        messages = await session.messages()
        cat, fog = (it.content[0] for it in messages if it.role == "tool")
        assert isinstance(cat, ToolResult)
        assert isinstance(fog, ToolResult)
        assert isinstance(cat.content[1], Image)
        assert cat.content[1].blob is not None
        assert fog.status == "ok"
        assert fog.text.startswith("fog[image that cannot be shown: an image is not one")
        assert [digest(PNG) in request.blobs for request in sim.requests] == [False, True, True]
        assert len(await log_of(session)) < 10_000


class Painter(Sim):
    """A model that answers with a picture."""

    picture = data_url(PNG)

    async def reply(self, request: Request, emit: Emit) -> Reply:
        reply = await super().reply(request, emit)
        content = (*reply.message.content, Image(url=self.picture))
        return Reply(message=Message(id="", role="assistant", content=content), stop="end_turn")


async def test_a_picture_that_the_model_made_is_kept_as_a_blob() -> None:
    sim = Painter(lambda request: "Here:")
    async with session_with(Agent(model=sim)) as session:
        await session.run("Paint!")
        image = (await session.messages())[1].content[1]
        assert isinstance(image, Image)
        assert image.blob is not None
        assert await session._journal.store.get_blob(image.blob.digest) == PNG
        assert len(await log_of(session)) < 5_000
        await session.run("Another!")
        assert sim.requests[-1].blobs == {digest(PNG): PNG}
        sim.picture = "data:image/png;base64,?"
        await session.run("A broken one!")
        assert (await session.messages())[-1].text == "Here:[image: its content cannot be shown here]"


async def test_a_store_that_cannot_keep_the_picture_is_not_the_models_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MemoryStore()
    async with session_with(Agent(model=Painter(lambda request: "Here:")), store) as session:
        turn = await session.send("Paint!")

        async def full(data: bytes) -> str:
            raise StoreFull("no room")

        monkeypatch.setattr(store, "put_blob", full)
        with pytest.raises(StoreFull):
            await turn
        assert [event.type for event in await store.read(session.id)][-1] == "turn.started"


async def test_missing_and_rotten_bytes_are_left_out_and_the_model_is_told(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    agent, sim = seeing()
    async with Runtime(SQLiteStore(tmp_path / "log.db")) as runtime:
        session = await runtime.session(agent)
        missing = Image(blob=BlobRef(digest="sha256:" + "0" * 64, size=9, media_type="image/png"))
        with caplog.at_level(logging.WARNING, "holdfast"):
            await session.run((missing, Image(url=data_url(PNG))))
        assert sim.requests[-1].blobs == {digest(PNG): PNG}
        assert "left out of a request" in caplog.text
        body = OpenAIChat(api_key="").encode(sim.requests[-1])
        assert b"[image, image/png, 9 bytes: its content cannot be shown here]" in body
        assert data_url(PNG).encode() in body


async def test_the_newest_bytes_go_first_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "REQUEST_BYTES", 2 * len(PNG))
    agent, sim = seeing()
    pictures = [PNG[:-1] + bytes([number]) for number in range(4)]
    async with session_with(agent) as session:
        for picture in pictures:
            await session.run((Image(url=data_url(picture)),))
        assert sim.requests[-1].blobs == {digest(it): it for it in reversed(pictures[2:])}


@pytest.mark.parametrize("driver", [Anthropic, OpenAI, OpenAIChat, Gemini], ids=lambda it: it.wire)
async def test_every_driver_shows_a_blob_as_it_shows_its_bytes(driver: Any) -> None:
    """In an input, under any driver in turn, and only as long as the bytes are there."""
    encoder = driver(api_key="")
    agent, sim = seeing()
    async with session_with(agent) as session:
        await session.run((Text(text="What is this?"), await session.attach(PNG)))
        request = structs.replace(sim.requests[-1], model="gemini-3-pro")
    shown = base64.b64encode(PNG)
    with_bytes = encoder.encode(request)
    assert shown in with_bytes
    without = encoder.encode(structs.replace(request, blobs={}))
    assert shown not in without
    assert b"cannot be shown here" in without
    assert encoder.encode(request) == with_bytes, "what is missing once may be there the next time"
    assert shown not in b"".join(data for kept in request.messages._encoded.values() for data in kept), (
        "what is kept of a message does not hold its bytes"
    )


async def test_chat_completions_takes_text_as_text() -> None:
    agent, sim = seeing()
    async with session_with(agent) as session:
        await session.run((await session.attach(b"Mind the gap.", name="notes.txt"), Text(text="So?")))
        await session.run(
            (await session.attach(PDF, name="a.pdf"), await session.attach(b"{", media_type="a/b"))
        )
    body = json.loads(OpenAIChat(api_key="").encode(sim.requests[-1]))
    said = [it["content"] for it in body["messages"] if it["role"] == "user"]
    assert said[0][0] == {"type": "text", "text": "notes.txt:\nMind the gap."}
    assert said[1][0]["file"] == {"filename": "a.pdf", "file_data": data_url(PDF, "application/pdf")}


async def test_inspect_shows_bytes_and_keeps_none() -> None:
    store = MemoryStore()
    async with session_with(Agent(model=OpenAIChat(api_key="")), store) as session:
        shown = await session.inspect((Image(url=data_url(PNG)),))
        assert data_url(PNG).encode() in shown.body
        with pytest.raises(Exception, match=digest(PNG)):
            await store.get_blob(digest(PNG))


async def test_each_kind_of_picture_can_be_attached() -> None:
    async with session_with(agent_of("ok")) as session:
        for data in PICTURES.values():
            assert isinstance(await session.attach(data), Image)


async def test_a_result_that_a_person_gives_may_show_a_picture() -> None:
    assert (await blobs.kept_as(_CALL, Image(url=data_url(PNG)), _digest)).content[0] == Image(
        blob=BlobRef(digest=digest(PNG), size=len(PNG), media_type="image/png")
    )


async def _digest(data: bytes) -> str:
    return digest(data)


_CALL = call("look").calls[0]
