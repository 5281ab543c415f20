"""Secrets: planted in every place, in eight disguises, and found in none of what is kept, shown, logged or exported."""

import asyncio
import base64
import html
import json
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import httpx2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast import Agent, AgentUnavailable, Config, Context, Event, Runtime, TextDelta, tool
from holdfast.archive import export_session
from holdfast.capability import SeedFile
from holdfast.driver import Emit, Reply, Request
from holdfast.drivers.openai_chat import OpenAIChat
from holdfast.drivers.sim import Sim, call, say
from holdfast.errors import ConfigError, ForeignFile, ToolError, UsageError
from holdfast.events import (
    FileWritten,
    OutputMessageCompleted,
    OutputMessageReplaced,
    OutputMessageShown,
    ToolCompleted,
    encode_event,
)
from holdfast.follow import ArgumentsDelta, ToolOutput
from holdfast.messages import Message, Text, ToolResult
from holdfast.privacy.redact import MASK, STREAMS, Redactor, disguises
from holdfast.privacy.views import reviewed
from holdfast.services import FILES
from holdfast.store import digest_of
from holdfast.stores.sqlite import SQLiteStore
from tests.conftest import ROOT

SECRET = 'ck-CANARY/7f+3"ü<&\\9e2b41'

ENCODERS: dict[str, Callable[[str], str]] = {
    "plain": lambda text: text,
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64url": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "hex": lambda text: text.encode().hex(),
    "percent": lambda text: quote(text, safe=""),
    "json": lambda text: json.dumps(text)[1:-1],
    "html": html.escape,
    "backwards": lambda text: text[::-1],
}
"""The eight."""


def assert_clean(text: str, secret: str = SECRET) -> None:
    """No disguise of the secret is in the text."""
    for name, encode in ENCODERS.items():
        disguised = encode(secret)
        escaped = json.dumps(disguised)[1:-1], json.dumps(disguised, ensure_ascii=False)[1:-1]
        for form in (disguised, *escaped, repr(disguised)[1:-1], disguised.rstrip("=")):
            assert form not in text, f"{name} of the secret"


def message(name: str) -> Message:
    return Message(id=name, role="assistant", content=())


def redactor() -> Redactor:
    made = Redactor()
    made.learn([SECRET])
    return made


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("around", ["{}", "key={}&x=1", 'said "{}" twice {}', "\n{}\n"])
def test_a_secret_is_found_in_each_disguise(name: str, around: str) -> None:
    text = around.replace("{}", ENCODERS[name](SECRET))
    assert_clean(redactor().text(text))
    assert MASK in redactor().text(text)
    assert redactor().data(text.encode()) == redactor().text(text).encode()


@given(st.text(min_size=8, max_size=40), st.binary(max_size=9), st.binary(max_size=9))
def test_a_secret_inside_of_what_is_encoded_is_found_wherever_it_stands(
    secret: str, before: bytes, after: bytes
) -> None:
    found = Redactor()
    found.learn([secret])
    whole = base64.b64encode(before + secret.encode() + after).decode()
    assert found.text(whole) != whole
    assert found.text((before + secret.encode() + after).hex()).count(MASK) >= 1


@given(st.text(min_size=8, max_size=30), st.text(max_size=30), st.text(max_size=30), st.data())
def test_a_secret_that_is_streamed_in_pieces_is_never_shown(
    secret: str, before: str, after: str, data: st.DataObject
) -> None:
    found = Redactor()
    found.learn([secret])
    whole = before + secret + after
    shown, place = "", 0
    while place < len(whole):
        size = data.draw(st.integers(1, 12))
        piece = TextDelta(turn_id="turn_a", message_id="message_a", text=whole[place : place + size])
        shown += "".join([part.text for part in found.signals(piece) if isinstance(part, TextDelta)])
        place += size
    end = OutputMessageCompleted(message=message("message_a"), stop="end_turn", iteration=1)
    assert found.rest([OutputMessageReplaced(message_id="message_b")]) == []
    shown += "".join([part.text for part in found.rest([end]) if isinstance(part, TextDelta)])
    assert secret not in shown
    assert found.text(shown) == shown


@given(st.text(min_size=8, max_size=30), st.lists(st.integers(1, 20), min_size=1, max_size=9))
def test_a_secret_in_words_that_are_kept_in_pieces_is_in_none_of_them(secret: str, sizes: list[int]) -> None:
    found, whole, kept = Redactor(), f"It is {secret}.", ""
    found.learn([secret])
    for size in [*sizes, len(whole)]:
        (fact,) = found.facts((OutputMessageShown(message_id="message_a", text=whole[:size]),))
        assert isinstance(fact, OutputMessageShown)
        whole, kept = whole[size:], kept + fact.text
    assert found.text(kept) == kept
    assert secret not in kept


@given(st.lists(st.text(max_size=12), max_size=8))
def test_what_is_no_secret_is_streamed_unchanged(pieces: list[str]) -> None:
    found = redactor()
    shown = ""
    for piece in pieces:
        delta = ToolOutput(turn_id="turn_a", call_id="call_a", name="x", text=piece)
        shown += "".join([part.text for part in found.signals(delta) if isinstance(part, ToolOutput)])
    end = ToolCompleted(result=ToolResult(call_id="call_a", name="x", status="ok", content=()))
    shown += "".join([part.text for part in found.rest([end]) if isinstance(part, ToolOutput)])
    assert shown == "".join(pieces)


@given(st.text(min_size=8, max_size=30), st.sampled_from(sorted(ENCODERS)))
@example('8 "quotes" and \\', "html")
@example("a\n\t\"'\x00\x1f\\", "backwards")
def test_no_fact_holds_a_secret_in_any_disguise(secret: str, name: str) -> None:
    found, disguised = Redactor(), ENCODERS[name](secret)
    found.learn([secret])
    result = ToolResult(call_id="call_a", name="x", status="ok", content=(Text(text=f"it is {disguised}."),))
    (fact,) = found.facts((ToolCompleted(result=result),))
    assert isinstance(fact, ToolCompleted)
    assert disguised not in fact.result.text


def test_streams_that_lie_between_each_other_are_told_apart() -> None:
    found, shown = redactor(), dict[object, str]()
    for index, text in ((0, f"a{SECRET[:4]}"), (1, "b"), (0, "x")):
        stream: Literal["stdout", "stderr"] = "stderr" if index else "stdout"
        for piece in (
            ArgumentsDelta(turn_id="turn_a", message_id="message_a", text=text, index=index),
            ToolOutput(turn_id="turn_a", call_id="call_a", name="x", text=text, stream=stream),
        ):
            for part in found.signals(piece):
                place = part.index if isinstance(part, ArgumentsDelta) else getattr(part, "stream", "")
                shown[place] = shown.get(place, "") + getattr(part, "text", "")
    assert shown == {0: f"a{SECRET[:4]}x", 1: "b", "stdout": f"a{SECRET[:4]}x", "stderr": "b"}


def test_what_is_kept_back_of_streams_that_never_end_does_not_grow_for_ever() -> None:
    found = redactor()
    for number in range(STREAMS + 10):
        piece = TextDelta(turn_id="turn_a", message_id=f"message_{number}", text=SECRET[:6])
        assert list(found.signals(piece)) == []
        (fact,) = found.facts((OutputMessageShown(message_id=f"message_{number}", text=SECRET[:6]),))
        assert isinstance(fact, OutputMessageShown)
        assert fact.text == ""
    assert len(found._held) == len(found._unkept) == STREAMS


async def test_every_logger_of_the_package_says_no_secret() -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    by_name = set(re.findall(r'getLogger\("([a-z_.]+)"\)', source))
    by_module = {
        ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        for path in (ROOT / "src").rglob("*.py")
        if "getLogger(__name__)" in path.read_text()
    }
    known = (by_name | by_module) - {"holdfast.stores.postgres_server"}  # a store is there before its runtime
    assert len(known) > 5
    code = (
        "import asyncio, logging, holdfast\n"
        "async def main():\n"
        "    async with holdfast.Runtime() as runtime:\n"
        "        print(*[n for n in logging.root.manager.loggerDict if getattr(logging.getLogger(n), 'filters', ())])\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert known <= set(done.stdout.split())


def test_what_is_too_short_to_be_told_from_words_cannot_be_protected() -> None:
    runtime = Runtime()
    with pytest.raises(UsageError, match="8 characters or more") as caught:
        runtime.protect("hunter2")
    assert "hunter2" not in str(caught.value)
    found = Redactor()
    found.learn(["hunter2"])
    assert not found.active
    assert len(disguises(SECRET)) >= 8


class Leaky:
    """A model that says a secret in every way, and is called with one."""

    wire = "leaky"
    secrets = (SECRET,)

    def __init__(self) -> None:
        self.asked: list[Request] = []

    async def reply(self, request: Request, emit: Emit) -> Reply:
        self.asked.append(request)
        text = "; ".join(encode(SECRET) for encode in ENCODERS.values())
        for place in range(0, len(text), 5):
            emit("text", text[place : place + 5], 0)
        return Reply(message=Message(id="", role="assistant", content=(Text(text=text),)), stop="end_turn")

    def encode(self, request: Request) -> bytes:
        return b""

    async def close(self) -> None:
        return None


@tool
async def leak(ctx: Context, name: str) -> str:
    """Say it, write it down, and show it."""
    said = ENCODERS[name](SECRET)
    ctx.output(said[:7])
    ctx.output(said[7:])
    ctx.progress(f"at {said}")
    await ctx.scope[FILES].write(f"/{name}.txt", f"{name}={said}".encode())
    await ctx.scope[FILES].write(f"/{name}-large.txt", (f"{name}={said} " * 3_000).encode())
    logging.getLogger("holdfast.history").error("it is %s", said)
    if name == "html":
        raise ToolError(f"cannot reach https://user:{said}@example.com")
    if name == "backwards":
        raise RuntimeError(said)
    return f"{name}: {said}"


async def everything_of(session_id: str, runtime: Runtime) -> str:
    """All that can be had of a session, as one text."""
    session = await runtime.open(session_id)
    events = await session.events()
    assert session.state.outcome is not None
    turn = session.handle(session.state.outcome.turn_id)
    things: list[object] = [
        *events,
        *[reviewed(event) for event in events],
        await session.messages(),
        session.state,
        session,
        turn,
        await turn.snapshot(),
        await turn,
        await session.inspect(),
        runtime,
        runtime.registry,
        await session.files.read("/plain.txt"),
        await session.files.read("/plain-large.txt"),
    ]
    return "\n".join([repr(thing) for thing in things] + [encode_event(event).decode() for event in events])


async def test_canaries_are_in_nothing_that_is_kept_shown_logged_or_exported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    steps = [call("leak", name=name) for name in ENCODERS]
    sim = Sim.script(*steps, say(f"It is {SECRET}."))
    agent = Agent("Never say it.", name="leaky", model=sim, tools=[leak])
    database = tmp_path / "log.db"
    signals: list[str] = []
    async with Runtime(database) as runtime:
        runtime.protect(SECRET)
        session = await runtime.session(agent, title=f"about {SECRET}", metadata={"key": SECRET})
        async with runtime.subscribe(session) as watching:
            turn = await session.send(f"Use {SECRET}, please.", key=f"k-{SECRET}")
            async for item in turn:
                signals.append(repr(item))
            await session.update(metadata={SECRET: "x"})
            async with asyncio.timeout(10):
                seen = [repr(await anext(watching)) for _ in range(20)]
        whole = await everything_of(session.id, runtime)
        exported = b"".join([line async for line in export_session(runtime.store, session.id)])
    assert_clean(whole)
    assert_clean("\n".join(signals))
    assert_clean("\n".join(seen))
    assert_clean(repr(exported))
    assert_clean(caplog.text)
    for file in tmp_path.iterdir():
        assert_clean(file.read_bytes().decode(errors="replace"))
    assert whole.count(MASK) > 20


async def test_the_key_of_a_driver_is_protected_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    model = Leaky()
    async with Runtime() as runtime:
        session = await runtime.session(Agent("x", name="leaky", model=model))
        turn = await session.send("go")
        shown = "".join([item.text async for item in turn if isinstance(item, TextDelta)])
        await session.run("again")
        assert_clean(shown)
        assert_clean(repr(await session.events()))
        assert_clean(repr(model.asked[1].messages))


@pytest.mark.parametrize("status", [401, 500, 200])
async def test_a_key_that_a_server_echoes_is_nowhere(status: int, caplog: pytest.LogCaptureFixture) -> None:
    key = "sk-canary-0123456789abcdef"

    def answer(request: httpx2.Request) -> httpx2.Response:
        echoed = " ".join(encode(key) for encode in ENCODERS.values())
        body = {"error": {"message": f"bad key {echoed}"}, "choices": echoed}
        return httpx2.Response(status, json=body)

    http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    driver = OpenAIChat(base_url="http://example.invalid/v1", api_key=key, http=http)
    async with Runtime() as runtime:
        session = await runtime.session(Agent("x", model=driver))
        result = await session.run("go")
        assert_clean(repr(result) + repr(driver) + repr(await session.events()) + caplog.text, key)


@pytest.mark.parametrize(
    ("agent", "where"),
    [
        (Agent(f"Log in with {SECRET}.", name="a"), "instructions"),
        (Agent("x", name="a", config=Config(files=(SeedFile(path="/k", content=SECRET),))), "layers"),
        (Agent("x", name="a", config=Config(locale=base64.b64encode(SECRET.encode()).decode())), "locale"),
    ],
)
async def test_a_configuration_that_holds_a_secret_is_refused_and_nothing_of_it_kept(
    agent: Agent, where: str, tmp_path: Path
) -> None:
    async with Runtime(tmp_path / "log.db", model=Sim.always(say("Hi."))) as runtime:
        runtime.protect(SECRET)
        with pytest.raises(ConfigError, match=where) as caught:
            await runtime.session(agent)
        assert_clean(str(caught.value))
        assert await runtime.sessions() == []
        for file in tmp_path.iterdir():
            assert_clean(file.read_bytes().decode(errors="replace"))


async def test_why_an_agent_was_archived_is_kept_without_secrets() -> None:
    async with Runtime() as runtime:
        runtime.protect(SECRET)
        agent = Agent("x", name="a", model=Sim.always(say("Hi.")))
        await runtime.archive(agent, by=SECRET, reason=f"its key was {SECRET}")
        assert_clean(repr(await runtime.roster()))
        with pytest.raises(AgentUnavailable) as caught:
            await runtime.session(agent)
        assert_clean(repr(caught.value))
        await runtime.restore(agent, by=SECRET)
        assert_clean(repr(await runtime.roster()))


async def test_the_password_in_the_address_of_a_store_is_protected() -> None:
    runtime = Runtime("postgresql://somebody:pass-CANARY-word@localhost:1/none")
    assert runtime._redactor.text("x pass-CANARY-word") == f"x {MASK}"


async def test_a_file_whose_secret_was_taken_out_is_whole(tmp_path: Path) -> None:
    async with Runtime(SQLiteStore(tmp_path / "log.db")) as runtime:
        runtime.protect(SECRET)
        session = await runtime.session(Agent("x", model=Sim.always("ok")))
        await session.files.write("/a.txt", f"a {SECRET}".encode())
        content = await session.files.read("/a.txt")
        assert content == f"a {MASK}".encode()
        (fact,) = [it.data for it in await session.events() if isinstance(it.data, FileWritten)]
        assert (fact.size, fact.digest) == (len(content), digest_of(content))


def test_events_without_secrets_are_not_touched() -> None:
    async def main() -> None:
        async with Runtime() as runtime:
            runtime.protect(SECRET)
            session = await runtime.session(Agent("x", name="plain", model=Sim.always("ok")))
            await session.run("go")
            assert all(isinstance(event, Event) for event in await session.events())
            assert MASK not in repr(await session.events())

    asyncio.run(main())
    assert sys.version_info >= (3, 11)


async def test_a_runtime_that_could_not_be_opened_leaves_the_loggers_as_they_were(tmp_path: Path) -> None:
    logger, path = logging.getLogger("holdfast.history"), tmp_path / "notes.db"
    path.write_text("not a database, and long enough to be told from one" * 100)
    before = list(logger.filters)
    with pytest.raises(ForeignFile):
        await Runtime(path).__aenter__()
    assert logger.filters == before
