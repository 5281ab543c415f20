"""Sinks: finished output arrives once for each key, whatever is cut off, and never again without proof."""

import asyncio
import json
import resource
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx2
import pytest

from holdfast import Agent, Allow, Deny, Runtime
from holdfast.config import Config
from holdfast.drivers.sim import Sim, fail, say
from holdfast.drivers.webhook import WebhookSink
from holdfast.errors import UsageError
from holdfast.facts.deliveries import SinkDelivered
from holdfast.policy import Action, Policy
from holdfast.session import Session
from holdfast.sink import SINKS, CallbackSink, Delivery, FileSink, NotDelivered, Sink, Sinks
from holdfast.store import Store
from holdfast.stores.memory import MemoryStore
from holdfast.stores.sqlite import SQLiteStore
from holdfast.testing import crashtest
from holdfast.testing.sink_contract import SinkContract

AGENT = Agent("You answer.", name="clerk", model=Sim.rule(lambda request: f"re: {request.messages[-1].text}"))


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store of each kind."""
    return MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "log.db")


class Box:
    """A receiver. `lies` are what happens at each attempt: taken, refused, or taken and not said."""

    def __init__(self, *what: str) -> None:
        self.what = list(what)
        self.got: list[Delivery] = []
        self.calls = 0

    async def deliver(self, delivery: Delivery) -> str:
        self.calls += 1
        what = self.what.pop(0) if self.what else "takes"
        if what == "refuses":
            raise NotDelivered("not now")
        if what == "refuses for good":
            raise NotDelivered("never", final=True)
        if what != "loses":
            self.got.append(delivery)
        if what in ("breaks", "loses"):
            raise ConnectionResetError("gone")
        if what == "ends the program":
            raise SystemExit(3)
        if what == "hangs":
            await asyncio.sleep(3_600)
        return f"receipt {len(self.got)}"


class KnowingBox(Box):
    """One that can be asked."""

    async def look_up(self, key: str) -> str | None:
        found = [it for it in self.got if it.key == key]
        return "found" if found else None


async def until(session: Session, true: Callable[[], bool]) -> None:
    """Wait for it."""
    seen: int | None = None
    async with asyncio.timeout(20):
        while not true():
            seen = await session._journal.store.woken(0.05, seen)


async def settled(session: Session) -> list[SinkDelivered]:
    """What became of deliveries, once there is nothing that could be done now."""
    await until(
        session,
        lambda: not any(it.status == "owed" and it.retry_at is None for it in session.deliveries),
    )
    await session.messages()  # what is folded is on the log then
    return [event.data for event in await session.events() if isinstance(event.data, SinkDelivered)]


@pytest.fixture
async def runtime(store: Store) -> AsyncIterator[Runtime]:
    async with Runtime(store, agents=[AGENT], drain=2) as runtime:
        yield runtime


async def test_output_is_delivered_once_with_a_receipt_and_in_order(runtime: Runtime) -> None:
    box = Box()
    runtime.sink("box", box)
    session = await runtime.session(AGENT)
    for text in ("one", "two"):
        await session.run(text)
        await settled(session)
    assert [it.text for it in box.got] == ["re: one", "re: two"]
    assert len({it.key for it in box.got}) == 2
    kinds = [event.type for event in await session.events() if event.type.startswith("sink.")]
    assert kinds == ["sink.owed", "sink.started", "sink.delivered"] * 2
    assert [it.receipt for it in await settled(session)] == ["receipt 1", "receipt 2"]
    assert session.deliveries == ()


async def test_what_is_owed_is_on_the_log_with_the_end_of_its_turn_and_begun_before_it_is_sent(
    runtime: Runtime,
) -> None:
    seen: list[list[str]] = []

    async def look(delivery: Delivery) -> str:
        seen.append([event.type for event in await runtime.store.read(delivery.session_id)])
        return ""

    runtime.sink("look", CallbackSink(look))
    session = await runtime.session(AGENT)
    await session.run("one")
    await settled(session)
    assert seen[0][-3:] == ["turn.completed", "sink.owed", "sink.started"]


async def test_only_the_output_that_was_asked_for_is_delivered(runtime: Runtime) -> None:
    all_of, failures, others = Box(), Box(), Box()
    runtime.sink("all", all_of)
    runtime.sink("failures", failures, ends=("failed",))
    runtime.sink("others", others, agents=["nobody"])
    bad = Agent("x", name="bad", model=Sim.script(fail("invalid_request", "no"), say("ok")))
    session, other = await runtime.session(AGENT), await runtime.session(bad)
    await session.run("one")
    await other.run("two")
    await settled(session)
    await settled(other)
    assert ([it.agent for it in all_of.got], [it.status for it in failures.got]) == (["clerk"], ["failed"])
    assert others.got == []


async def test_what_did_not_arrive_is_tried_again_and_given_up_in_the_end(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.turn.deliver.FIRST_WAIT", 0.001)
    box, closed = Box("refuses", "refuses"), Box(*["refuses"] * 9)
    runtime.sink("box", box)
    runtime.sink("closed", closed)
    runtime.sink("never", never := Box("refuses for good"))
    session = await runtime.session(AGENT)
    await session.run("one")
    await until(
        session,
        lambda: [it.status for it in session.deliveries] == ["failed", "failed"] and box.calls >= 3,
    )
    assert (box.calls, len(box.got), closed.calls, never.calls) == (3, 1, 5, 1)
    assert {it.sink: it.status for it in session.deliveries} == {"closed": "failed", "never": "failed"}


@pytest.mark.parametrize(
    ("sink", "what", "calls", "status"),
    [
        (Box, "breaks", 1, "in_doubt"),
        (Box, "ends the program", 1, "in_doubt"),
        (Box, "loses", 1, "in_doubt"),
        (Box, "hangs", 1, "in_doubt"),
        (KnowingBox, "breaks", 1, "delivered"),
        (KnowingBox, "hangs", 1, "delivered"),
        (KnowingBox, "loses", 2, "delivered"),
    ],
)
async def test_what_nobody_knows_of_is_looked_up_or_in_doubt_and_never_sent_again_blindly(
    runtime: Runtime,
    monkeypatch: pytest.MonkeyPatch,
    sink: type[Box],
    what: str,
    calls: int,
    status: str,
) -> None:
    monkeypatch.setattr("holdfast.turn.deliver.FIRST_WAIT", 0.001)
    box = sink(what)
    runtime.sink("box", box, timeout=0.2)
    session = await runtime.session(AGENT)
    await session.run("one")
    await until(session, lambda: all(it.status != "owed" for it in session.deliveries))
    assert (await settled(session))[-1].status == status
    assert box.calls == calls
    assert [it.status for it in session.deliveries] == (["in_doubt"] if status == "in_doubt" else [])
    await session.run("two")
    await settled(session)
    assert box.calls == calls + 1, "the next one goes on, the one in doubt stays"


@pytest.mark.parametrize("kind", [Box, KnowingBox])
@pytest.mark.parametrize("arrived", [True, False])
async def test_a_delivery_that_was_cut_off_with_its_process_is_proven_or_in_doubt(
    tmp_path: Path, kind: type[Box], arrived: bool
) -> None:
    box, entered = kind(), asyncio.Event()

    async def hang(delivery: Delivery) -> str:
        if arrived:
            box.got.append(delivery)
        entered.set()
        await asyncio.sleep(3_600)
        return ""

    async with Runtime(tmp_path / "log.db", agents=[AGENT], drain=0) as runtime:
        runtime.sink("box", CallbackSink(hang))
        session = await runtime.session(AGENT)
        await session.run("one")
        await entered.wait()
    async with Runtime(tmp_path / "log.db", agents=[AGENT]) as runtime:
        runtime.sink("box", box)
        (again,) = await runtime.recover()
        assert again.id == session.id
        last = (await settled(again))[-1]
    knows = kind is KnowingBox
    assert last.status == ("delivered" if knows else "in_doubt")
    assert box.calls == (1 if knows and not arrived else 0)
    assert len(box.got) == (1 if knows or arrived else 0)


async def test_what_is_owed_survives_a_restart_and_waits_for_a_sink_of_that_name(tmp_path: Path) -> None:
    async with Runtime(tmp_path / "log.db", agents=[AGENT], drain=0) as runtime:
        runtime.sink("box", Box("refuses"))
        session = await runtime.session(AGENT)
        await session.run("one")
        await settled(session)
        assert session.deliveries[0].attempt == 1
    async with Runtime(tmp_path / "log.db", agents=[AGENT]) as runtime:
        again = await runtime.open(session.id)
        await asyncio.sleep(0.05)
        assert [it.status for it in again.deliveries] == ["owed"]
    async with Runtime(tmp_path / "log.db", agents=[AGENT]) as runtime:
        box = Box()
        runtime.sink("box", box)
        again = await runtime.open(session.id)
        await until(again, lambda: not again.deliveries)
    assert [it.text for it in box.got] == ["re: one"]


async def test_output_of_a_turn_that_just_ended_is_delivered_before_the_runtime_is_left(store: Store) -> None:
    box = Box()
    async with Runtime(store) as runtime:
        runtime.sink("box", box)
        await (await runtime.session(AGENT)).run("one")
    assert len(box.got) == 1


async def test_a_policy_is_asked_and_its_refusal_is_final(runtime: Runtime) -> None:
    asked: list[Action] = []

    async def decide(action: Action) -> Deny:
        asked.append(action)
        return Deny(reason="nothing leaves the house")

    async def decide_deliveries(action: Action) -> Allow | Deny:
        return await decide(action) if action.kind == "delivery" else Allow()

    box = Box()
    runtime.sink("box", box)
    agent = Agent(
        "x",
        name="kept",
        model=Sim.always("secret plans"),
        config=Config(policies=(Policy(name="house", decide=decide_deliveries),)),
    )
    session = await runtime.session(agent)
    await session.run("one")
    (fact,) = await settled(session)
    assert (fact.status, fact.reason, box.calls) == ("denied", "nothing leaves the house", 0)
    assert [(action.kind, action.name) for action in asked] == [("delivery", "box")]


async def test_a_sink_that_makes_no_sense_is_refused() -> None:
    async with Runtime() as runtime:
        runtime.sink("box", Box())
        for name, sink, ends in (
            ("box", Box(), ("completed",)),
            ("", Box(), ("completed",)),
            ("other", object(), ("completed",)),
            ("other", Box(), ()),
            ("other", Box(), ("done",)),
        ):
            with pytest.raises(UsageError):
                runtime.sink(name, sink, ends=ends)  # type: ignore[arg-type]


@pytest.mark.parametrize("agents", ["clerk", ()])
async def test_a_sink_that_no_agent_would_deliver_to_is_refused(agents: str | tuple[str, ...]) -> None:
    async with Runtime() as runtime:
        with pytest.raises(UsageError, match="box"):
            runtime.sink("box", Box(), agents=agents)


def one(key: str) -> Delivery:
    """Something to deliver."""
    return Delivery(
        key=key,
        sink="file",
        session_id="s",
        turn_id="t",
        agent="a",
        status="completed",
        stop="end_turn",
        text="",
        attempt=1,
    )


class SlowDisk(FileSink):
    """A file on a disk that takes its time."""

    def _append(self, line: bytes) -> str:
        time.sleep(0.2)
        return super()._append(line)


async def test_a_line_that_is_still_being_written_when_nobody_waits_any_more_is_found(tmp_path: Path) -> None:
    sink = SlowDisk(tmp_path / "out.jsonl")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await sink.deliver(one("a:1"))
    assert await sink.look_up("a:1") == "byte 0"


async def test_a_line_for_which_the_disk_has_no_room_does_not_count(tmp_path: Path) -> None:
    path, before = tmp_path / "out.jsonl", resource.getrlimit(resource.RLIMIT_FSIZE)
    sink = FileSink(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        with pytest.raises(OSError, match="no room"):
            await sink.deliver(one("a:1"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert await sink.look_up("a:1") is None
    assert await sink.deliver(one("a:1")) == await sink.look_up("a:1") == "byte 11"


async def test_a_file_has_a_line_for_each_delivery(runtime: Runtime, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    runtime.sink("file", FileSink(path))
    session = await runtime.session(AGENT)
    await session.run("one")
    await settled(session)
    (line,) = path.read_text().splitlines()
    assert json.loads(line)["text"] == "re: one"


@pytest.mark.parametrize(
    ("status", "outcome"), [(200, "delivered"), (302, "failed"), (404, "failed"), (500, "in_doubt")]
)
async def test_a_webhook_is_taken_at_its_word(runtime: Runtime, status: int, outcome: str) -> None:
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(status)

    http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    hook = WebhookSink("https://example.com/x", headers={"Authorization": "Bearer canary-9f8e7d"}, http=http)
    runtime.sink("hook", hook)
    session = await runtime.session(AGENT)
    await session.run("one")
    last = (await settled(session))[-1]
    assert last.status == outcome
    assert (str(status) in last.reason) == (status != 200)
    assert len(seen) == 1
    assert seen[0].headers["idempotency-key"].startswith("hook:turn_")
    assert "canary" not in repr(hook) + repr(await session.events())


def test_a_webhook_keeps_its_credentials_secret_and_not_the_words_that_everybody_uses() -> None:
    headers = {"X-Api-Key": "canary-9f8e7d", "content-type": "application/json", "User-Agent": "refund desk"}
    assert WebhookSink("https://example.com/x", headers=headers).secrets == ("canary-9f8e7d",)


@pytest.mark.parametrize(
    ("header", "bare"),
    [
        ({"Authorization": "Bearer canary-9f8e7d"}, "canary-9f8e7d"),
        ({"proxy-authorization": "Basic bWlhOmNhbmFyeS05Zjg="}, "bWlhOmNhbmFyeS05Zjg="),
        ({"authorization": "basic bWlhOmNhbmFyeS05Zjg="}, "canary-9f8"),
        ({"authorization": "Basic canary-9f8"}, "canary-9f8"),
    ],
)
async def test_the_credential_of_a_webhook_is_kept_secret_without_its_scheme_too(
    header: dict[str, str], bare: str
) -> None:
    async with Runtime() as runtime:
        runtime.sink("hook", WebhookSink("https://example.com/x", headers=header), agents=["nobody"])
        session = await runtime.session(AGENT)
        assert (await session.run(f"Is it {bare}?")).text == "re: Is it [secret]?"
        assert bare not in repr(await session.events())


async def test_a_webhook_that_never_stops_talking_has_taken_it_all_the_same() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"and another thing, " * 1000
            await asyncio.sleep(0)

    talker = httpx2.MockTransport(lambda _: httpx2.Response(200, content=endless()))
    async with httpx2.AsyncClient(transport=talker) as http, asyncio.timeout(30):
        assert await WebhookSink("https://example.com/x", http=http).deliver(one("a:1")) == "status 200"


class TestFileSink(SinkContract):
    """The file keeps the contract."""

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.path = tmp_path / "out.jsonl"

    def sink(self) -> Sink:
        return FileSink(self.path)

    async def arrived(self) -> list[str]:
        if not self.path.exists():
            return []
        lines = self.path.read_bytes().split(b"\n")
        return [json.loads(line)["key"] for line in lines if line.endswith(b"}")]

    async def test_a_line_that_was_torn_is_no_delivery(self) -> None:
        sink = FileSink(self.path)
        self.path.write_bytes(b'{"key":"box:turn_1","te')
        assert await sink.look_up("box:turn_1") is None
        await sink.deliver(self.delivery("box:turn_2"))
        assert await sink.look_up("box:turn_2") is not None


def storyteller() -> Agent:
    return Agent("x", name="clerk", model=Sim.storyboard("Done."))


@pytest.mark.parametrize("kind", [Box, KnowingBox])
def test_a_kill_at_every_step_of_a_delivery_never_makes_it_arrive_twice(kind: type[Box]) -> None:
    box, sinks = kind(), Sinks()
    sinks.add("box", box, agents=None, ends=("completed",), timeout=5.0)
    report = crashtest(storyteller, "go", services={SINKS: sinks})
    report.check()
    keys = [it.key for it in box.got]
    assert len(keys) == len(set(keys)) > 5
    assert report.kills > 20
