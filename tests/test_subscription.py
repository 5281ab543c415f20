"""Subscriptions: every event once and in order, from any cursor, in any process; and what is refused."""

import asyncio
import base64
import hashlib
import random
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import structs

from holdfast import Agent, Event, Lagged, Runtime, TextDelta, tool
from holdfast.driver import Emit, Reply, Request
from holdfast.drivers.sim import Sim, call, say
from holdfast.errors import CursorRefused, RuntimeClosed, StoreError, UnknownSession, UsageError
from holdfast.events import TURN_ENDS
from holdfast.follow import Signal
from holdfast.ids import new_id
from holdfast.store import Head, Store
from holdfast.stores.memory import MemoryStore
from holdfast.stores.postgres import PostgresStore
from holdfast.stores.sqlite import SQLiteStore
from holdfast.watching import gallery
from holdfast.watching.filters import NOW, Compiled, Cursor, Filter, written
from holdfast.watching.subscription import Subscription, Watchable
from tests.conftest import ROOT
from tests.talking_process import AGENT

OTHER = Agent("You hum.", name="hummer", model=Sim.always(say(pieces=("hm", "m", "m"), text="")))


@tool(client=True)
async def look() -> str:
    """Look with the user's own eyes."""
    raise NotImplementedError  # the user does it


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store of each kind."""
    if request.param == "memory":
        return MemoryStore()
    if request.param == "sqlite":
        return SQLiteStore(tmp_path / "log.db")
    return PostgresStore(
        request.getfixturevalue("postgres_url"), schema=request.getfixturevalue("schema"), pool_size=2
    )


@pytest.fixture
async def runtime(store: Store) -> AsyncIterator[Runtime]:
    """A runtime that is open."""
    async with Runtime(store, drain=0) as runtime:
        yield runtime


async def take(subscription: Subscription, until: int) -> list[Event]:
    """The next so many events."""
    seen: list[Event] = []
    async with asyncio.timeout(30):
        while len(seen) < until:
            item = await anext(subscription)
            if isinstance(item, Event):
                seen.append(item)
    return seen


async def nothing_more(subscription: Subscription) -> None:
    """Nothing comes for a moment."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await anext(subscription)


async def logs(runtime: Runtime) -> list[list[Event]]:
    """All events of each session."""
    return [await runtime.store.read(head.session_id) for head in await runtime.sessions()]


def by_session(events: list[Event]) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = {}
    for event in events:
        found.setdefault(event.session_id, []).append(event)
    return found


async def assert_whole(seen: list[Event], runtime: Runtime) -> None:
    """It is every event of the store once, those of each session in their order."""
    assert by_session(seen) == {log[0].session_id: log for log in await logs(runtime)}


async def test_everything_is_replayed_and_then_goes_on_live(runtime: Runtime) -> None:
    first, second = await runtime.session(AGENT), await runtime.session(OTHER)
    await first.run("one")
    async with runtime.subscribe() as subscription:
        seen = await take(subscription, 5)
        await second.run("two")
        await first.run("three")
        seen += await take(subscription, 9)
        await assert_whole(seen, runtime)
        await nothing_more(subscription)


async def test_a_session_is_replayed_and_goes_on_live_with_its_signals(runtime: Runtime) -> None:
    session, other = await runtime.session(OTHER), await runtime.session(OTHER)
    await session.run("one")
    async with runtime.subscribe(session) as subscription:
        seen = await take(subscription, 5)
        await other.run("elsewhere")
        await session.run("two")
        items: list[Event | Signal] = []
        async with asyncio.timeout(30):
            async for item in subscription:
                items.append(item)
                if isinstance(item, Event) and item.type == "turn.completed":
                    break
    assert [item.text for item in items if isinstance(item, TextDelta)] == ["hm", "m", "m"]
    assert seen + [item for item in items if isinstance(item, Event)] == await session.events()


async def test_signals_can_be_left_out(runtime: Runtime) -> None:
    session = await runtime.session(OTHER)
    async with runtime.subscribe(session, signals=False) as subscription:
        await session.run("one")
        assert [type(await anext(subscription)) for _ in range(5)] == [Event] * 5


async def test_a_subscription_to_a_turn_ends_with_it_and_so_does_its_cursor(runtime: Runtime) -> None:
    session = await runtime.session(OTHER)
    await session.run("before")
    turn = await session.send("this one")
    async with runtime.subscribe(turn) as subscription:
        seen = [item async for item in subscription if isinstance(item, Event)]
        cursor = subscription.cursor
    assert {event.context.turn_id for event in seen} == {turn.id}
    assert seen[-1].type in TURN_ENDS
    await session.run("after")
    assert [item async for item in runtime.subscribe(turn, after=cursor)] == []


async def test_a_turn_that_has_ended_gives_nothing_from_now_on_and_ends_at_once(runtime: Runtime) -> None:
    session = await runtime.session(AGENT)
    turn = await session.send("one")
    await turn
    await session.run("two")
    for to in (turn, Filter(sessions=(session.id,), turns=(turn.id,), agents=(AGENT.name,))):
        async with asyncio.timeout(30), runtime.subscribe(to, after=NOW) as subscription:
            assert [item async for item in subscription] == []
            cursor = subscription.cursor
        assert runtime._gallery._feeds == {}
        async with asyncio.timeout(30), runtime.subscribe(to, after=cursor) as subscription:
            assert [item async for item in subscription] == []


async def test_a_turn_that_has_not_ended_is_watched_from_now_on_to_its_end(runtime: Runtime) -> None:
    session = await runtime.session(
        Agent("Ask.", name="asker", model=Sim.script(call("look"), "Done."), tools=[look])
    )
    waits = await session.send("one")
    (ask,) = (await waits).asks
    queued = await session.send("two")
    async with asyncio.timeout(30), runtime.subscribe(queued, after=NOW, signals=False) as subscription:
        await queued.cancel()
        assert [item.type async for item in subscription if isinstance(item, Event)] == ["turn.cancelled"]
    async with asyncio.timeout(30), runtime.subscribe(waits, after=NOW, signals=False) as subscription:
        await session.submit(ask.ask_id, "seen", by="me")
        assert [item.type async for item in subscription if isinstance(item, Event)][-1] == "turn.completed"


async def test_an_agent_is_watched_in_all_its_sessions_and_no_other(runtime: Runtime) -> None:
    sessions = [await runtime.session(agent) for agent in (AGENT, OTHER, AGENT)]
    for session in sessions:
        await session.run("hello")
    async with runtime.subscribe(AGENT) as subscription:
        seen = by_session(await take(subscription, 10))
        assert set(seen) == {sessions[0].id, sessions[2].id}
        later = await runtime.session(AGENT)
        await sessions[1].run("unseen")
        await later.run("seen")
        assert {event.session_id for event in await take(subscription, 5)} == {later.id}
        cursor = subscription.cursor
    assert sessions[1].id not in Compiled(Filter(agents=("parrot",))).digest
    async with runtime.subscribe(Filter(agents=("parrot",)), after=cursor) as subscription:
        await nothing_more(subscription)


@pytest.mark.parametrize(
    ("given", "kinds"),
    [
        (Filter(kinds=("turn.*",)), {"turn.started", "turn.completed"}),
        (Filter(kinds=("input.message", "turn.completed")), {"input.message", "turn.completed"}),
    ],
)
async def test_a_filter_gives_what_matches_it_and_its_cursor_goes_past_the_rest(
    runtime: Runtime, given: Filter, kinds: set[str]
) -> None:
    session = await runtime.session(AGENT)
    await session.run("one")
    async with runtime.subscribe(given) as subscription:
        assert {event.type for event in await take(subscription, 2)} == kinds
        cursor = subscription.cursor
    await session.run("two")
    async with runtime.subscribe(given, after=cursor) as subscription:
        seen = await take(subscription, 2)
        assert {event.type for event in seen} == kinds
        assert all(event.sequence > 5 for event in seen)


async def test_now_leaves_out_what_was_before(runtime: Runtime) -> None:
    session = await runtime.session(AGENT)
    await session.run("one")
    for scope in (None, session, AGENT):
        async with runtime.subscribe(scope, after=NOW) as subscription:
            last = (await session.events())[-1].sequence
            await session.run("more")
            assert (await take(subscription, 4))[0].sequence == last + 1


@pytest.mark.parametrize("scope", ["all", "session", "agent"])
async def test_from_the_cursor_after_each_item_the_rest_comes_without_skip_or_repeat(
    runtime: Runtime, scope: str
) -> None:
    sessions = [await runtime.session(AGENT) for _ in range(3)]
    for session in sessions:
        await session.run("one")
    to: Watchable = {"all": None, "session": sessions[1], "agent": AGENT}[scope]
    total = 5 if scope == "session" else 15
    cursors, seen = [""], list[Event]()
    async with runtime.subscribe(to) as subscription:
        for _ in range(total):
            seen += await take(subscription, 1)
            cursors.append(subscription.cursor)
    for number, cursor in enumerate(cursors):
        async with runtime.subscribe(to, after=cursor) as subscription:
            rest = await take(subscription, total - number)
        assert by_session([*seen[:number], *rest]) == by_session(seen)


async def test_readers_that_come_go_and_are_slow_each_see_everything_once(runtime: Runtime) -> None:
    sessions = [await runtime.session(AGENT) for _ in range(4)]
    chance = random.Random(7)

    async def read() -> list[Event]:
        seen: list[Event] = []
        cursor = ""
        while len(seen) < 4 * 41:
            async with runtime.subscribe(after=cursor, signals=False) as subscription:
                for _ in range(chance.randint(1, 60)):
                    if len(seen) < 4 * 41:
                        seen += await take(subscription, 1)
                    if chance.random() < 0.1:
                        await asyncio.sleep(chance.random() / 50)
                cursor = subscription.cursor
        return seen

    async def talk(number: int) -> None:
        for text in range(10):
            await sessions[number].run(f"{text}")
            await asyncio.sleep(chance.random() / 100)

    readers = [asyncio.create_task(read()) for _ in range(3)]
    await asyncio.gather(*[talk(number) for number in range(4)])
    for seen in await asyncio.gather(*readers):
        await assert_whole(seen, runtime)


async def test_a_reader_that_stands_still_is_told_and_misses_no_event() -> None:
    novel = Agent("You talk.", name="talker", model=Sim.always(say("word " * 3_000)))
    async with Runtime() as runtime:
        session = await runtime.session(novel)
        for scope in (session, None):
            async with runtime.subscribe(scope, after=NOW) as subscription:
                first = await session.send("go")
                seen = [await anext(subscription)]
                await first
                for _ in range(200):
                    await session.update(title="busy")
                await session.update(title="at last")
                last = (await session.events(limit=10_000))[-1].sequence
                async with asyncio.timeout(30):
                    while getattr(seen[-1], "sequence", 0) != last:
                        seen.append(await anext(subscription))
            lagged = [item for item in seen if isinstance(item, Lagged)]
            assert len(lagged) == 1
            assert lagged[0].missed + sum(isinstance(item, TextDelta) for item in seen) >= 3_000
            sequences = [item.sequence for item in seen if isinstance(item, Event)]
            assert sequences == list(range(sequences[0], last + 1))


async def test_what_another_process_writes_comes_too(tmp_path: Path) -> None:
    database = tmp_path / "log.db"
    async with Runtime(database) as runtime:
        mine = await runtime.session(AGENT)
        await mine.run("mine")
        command = [sys.executable, "-m", "tests.talking_process", str(database), "new", "one", "two"]
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other:
            async with runtime.subscribe() as everything:
                seen = await take(everything, 5)
                out, _ = await asyncio.to_thread(other.communicate, "\n\n")
                seen += await take(everything, 9)
                await assert_whole(seen, runtime)
                session_id = out.split()[0]
                async with runtime.subscribe(Filter(sessions=(session_id,))) as one:
                    assert await take(one, 9) == await runtime.store.read(session_id)


async def test_a_session_that_another_runtime_drives_is_watched_live(store: Store) -> None:
    if isinstance(store, MemoryStore):
        store_b: Store = store
    elif isinstance(store, SQLiteStore):
        store_b = SQLiteStore(store.path)
    else:
        assert isinstance(store, PostgresStore)
        store_b = PostgresStore(store._server._dsn, schema=store._server.schema, pool_size=2)
    async with Runtime(store) as here:
        session = await here.session(AGENT)
        await session.run("zero")
        other = await Runtime(store_b).__aenter__()
        async with other.subscribe(session) as watching, other.subscribe() as everything:
            assert len(await take(watching, 5)) == 5
            assert len(await take(everything, 5)) == 5
            for number in range(3):
                await session.run(f"{number}")
                assert [event.sequence for event in await take(watching, 4)] == [
                    event.sequence for event in await take(everything, 4)
                ]
        if store_b is not store:
            await other.close()


# --- refused -------------------------------------------------------------------------------------------------------


async def cursor_of(runtime: Runtime, to: Watchable, count: int) -> str:
    async with runtime.subscribe(to) as subscription:
        await take(subscription, count)
        return subscription.cursor


class Hiccup(MemoryStore):
    """A store that cannot be asked once, and that takes its time to say where a session stands."""

    def __init__(self) -> None:
        super().__init__()
        self.fails = 0
        self.asked = asyncio.Event()
        self.answers: asyncio.Event | None = None

    async def woken(self, seconds: float, since: int | None = None) -> int:
        if self.fails:
            self.fails -= 1
            raise StoreError("not now")
        return await super().woken(seconds, since)

    async def head(self, session_id: str) -> Head | None:
        found = await super().head(session_id)
        if (answers := self.answers) is not None:
            self.answers = None
            self.asked.set()
            await answers.wait()
        return found


async def test_who_watches_sees_again_what_others_write_soon_after_the_store_failed_once() -> None:
    store = Hiccup()
    async with Runtime(store) as here, Runtime(store) as there:
        session = await there.session(AGENT)
        await session.run("one")
        store.fails = 1
        async with here.subscribe(session) as subscription, asyncio.timeout(30):
            await take(subscription, 5)
            await session.run("two")
            await take(subscription, 4)


async def test_what_is_written_while_somebody_comes_to_watch_reaches_him_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gallery, "SWEEP", 3_600.0)  # not only when everything is looked through again
    store = Hiccup()
    async with Runtime(store) as runtime:
        session, other = await runtime.session(AGENT), await runtime.session(AGENT)
        await session.run("one")
        await other.run("one")
        cursor = await cursor_of(runtime, session, 5)
        async with runtime.subscribe(other) as elsewhere:
            await take(elsewhere, 5)
            store.answers = answers = asyncio.Event()
            late = runtime.subscribe(session, after=cursor)
            opening = asyncio.create_task(late.open())
            await store.asked.wait()
            await session.run("two")
            await nothing_more(elsewhere)  # whoever looks out has seen that something was written
            answers.set()
            await opening
            async with asyncio.timeout(30):
                assert [event.sequence for event in await take(late, 4)] == [6, 7, 8, 9]
            late.close()


async def test_a_cursor_of_one_scope_is_refused_in_every_other(runtime: Runtime) -> None:
    session = await runtime.session(AGENT)
    turn = await session.send("one")
    await turn
    scopes: list[Watchable] = [None, session, turn, AGENT, Filter(kinds=("turn.*",))]
    counts = [5, 5, 4, 5, 2]
    for made, count in zip(scopes, counts, strict=True):
        cursor = await cursor_of(runtime, made, count)
        for used in scopes:
            if used is not made:
                with pytest.raises(CursorRefused, match="another filter") as caught:
                    runtime.subscribe(used, after=cursor)
                assert caught.value.why == "scope"


@pytest.mark.parametrize("text", ["x", "hc1.", "hc1.AAAA", "12", "hc1.####", "hc1." + "A" * 400])
async def test_what_is_no_cursor_is_refused(text: str) -> None:
    async with Runtime() as runtime:
        with pytest.raises(CursorRefused) as caught:
            runtime.subscribe(after=text)
        assert caught.value.why == "damaged"


async def test_every_cursor_of_which_a_character_changed_is_refused(runtime: Runtime) -> None:
    session = await runtime.session(AGENT)
    await session.run("one")
    cursor = await cursor_of(runtime, session, 3)
    for place in range(len(cursor)):
        changed = cursor[:place] + ("A" if cursor[place] != "A" else "B") + cursor[place + 1 :]
        with pytest.raises(CursorRefused):
            await runtime.subscribe(session, after=changed).open()


async def test_a_cursor_that_another_compression_wrote_is_as_good(runtime: Runtime) -> None:
    session = await runtime.session(AGENT)
    await session.run("one")
    cursor = await cursor_of(runtime, session, 3)
    packed = base64.urlsafe_b64decode(cursor.removeprefix("hc1.") + "===")[:-6]

    def sealed(data: bytes) -> str:
        whole = data + hashlib.sha256(data).digest()[:6]
        return f"hc1.{base64.urlsafe_b64encode(whole).rstrip(b'=').decode()}"

    other = sealed(zlib.compress(zlib.decompress(packed), 0))
    assert sealed(packed) == cursor != other
    async with runtime.subscribe(session, after=other) as subscription:
        assert [event.sequence for event in await take(subscription, 2)] == [4, 5]
    with pytest.raises(CursorRefused):
        runtime.subscribe(session, after=sealed(packed + b"more"))


async def test_signals_come_at_once_where_a_subscription_goes_on(runtime: Runtime) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    class Slow(Sim):
        async def reply(self, request: Request, emit: Emit) -> Reply:
            begun.set()
            await release.wait()
            return await super().reply(request, emit)

    session = await runtime.session(Agent("You talk.", name="talker", model=Slow.always(say("some words"))))
    turn = await session.send("go")
    await begun.wait()
    cursor = await cursor_of(runtime, None, 3)
    async with asyncio.timeout(30), runtime.subscribe(after=cursor) as subscription:
        release.set()
        assert isinstance(await anext(subscription), TextDelta)
        await turn


@pytest.mark.parametrize("scope", ["all", "session"])
async def test_a_cursor_from_the_future_is_refused(runtime: Runtime, scope: str) -> None:
    session = await runtime.session(AGENT)
    await session.run("one")
    to: Watchable = session if scope == "session" else None
    given = Filter(sessions=(session.id,)) if scope == "session" else Filter()
    ahead = written(Cursor(digest=Compiled(given).digest, places={session.id: 6}))
    with pytest.raises(CursorRefused, match="does not have") as caught:
        await runtime.subscribe(to, after=ahead).open()
    assert caught.value.why == "future"
    await session.run("the future comes")
    async with runtime.subscribe(to, after=ahead) as subscription:
        assert (await take(subscription, 1))[0].sequence == 7


async def test_a_cursor_of_another_store_is_refused(runtime: Runtime) -> None:
    async with Runtime() as elsewhere:
        session = await elsewhere.session(AGENT)
        await session.run("one")
        for to in (None, session):
            cursor = await cursor_of(elsewhere, to, 5)
            with pytest.raises(CursorRefused) as caught:
                await runtime.subscribe(to, after=cursor).open()
            assert caught.value.why == "store"


async def test_a_cursor_of_a_log_that_was_written_anew_is_refused() -> None:
    stores = MemoryStore(), MemoryStore()
    logs: list[list[Event]] = []
    async with Runtime(stores[0]) as runtime:
        session = await runtime.session(AGENT)
        await session.run("one")
        cursor = await cursor_of(runtime, session, 5)
        logs.append(await session.events())
    await stores[1].open()
    other = [structs.replace(event, id=new_id("event")) for event in logs[0]]
    await stores[1].append(session.id, other, expected=0, epoch=1)
    async with Runtime(stores[1]) as runtime:
        with pytest.raises(CursorRefused) as caught:
            await runtime.subscribe(Filter(sessions=(session.id,)), after=cursor).open()
        assert caught.value.why == "store"


@pytest.mark.parametrize(
    "given",
    [
        Filter(sessions=()),
        Filter(sessions=("nonsense",)),
        Filter(turns=("session_" + "0" * 32,)),
        Filter(kinds=("turn.complete",)),
        Filter(kinds=("nothing.*",)),
        Filter(agents=("",)),
        Filter(agents="parrot"),  # type: ignore[arg-type]
        Filter(sessions=5),  # type: ignore[arg-type]
        Filter(turns={new_id("turn")}),  # type: ignore[arg-type]
        Filter(agents=(None,)),  # type: ignore[arg-type]
    ],
)
async def test_a_filter_that_can_match_nothing_is_refused(given: Filter) -> None:
    async with Runtime() as runtime:
        with pytest.raises(UsageError):
            runtime.subscribe(given)


async def test_what_is_not_there_cannot_be_watched() -> None:
    async with Runtime() as runtime:
        with pytest.raises(UnknownSession):
            await runtime.subscribe(Filter(sessions=(new_id("session"),))).open()
        with pytest.raises(UsageError, match="cannot be subscribed to"):
            runtime.subscribe(42)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="'canonical' or 'reviewed'"):
            runtime.subscribe(view="all")  # type: ignore[arg-type]


async def test_those_who_watch_are_told_when_the_runtime_closes(store: Store) -> None:
    async with Runtime(store) as runtime:
        session = await runtime.session(AGENT)
        await session.run("one")
        waiting = []
        for to in (None, session):
            subscription = runtime.subscribe(to, after=NOW)
            await subscription.open()
            waiting.append(asyncio.ensure_future(anext(subscription)))
        await asyncio.sleep(0)
    for task in waiting:
        with pytest.raises(RuntimeClosed):
            await task


async def test_nothing_of_a_subscription_is_left_when_it_is_closed(runtime: Runtime) -> None:
    session = await runtime.session(AGENT)
    await session.run("one")
    for to in (None, session, AGENT):
        async with runtime.subscribe(to) as subscription:
            await take(subscription, 5)
    seen = runtime._gallery
    assert (seen.overview.readers, seen._feeds, seen.overview.known) == (0, {}, {})
    assert [item async for item in subscription] == []
