"""A turn that was begun under one manifest, and is gone on with where its layers make another one."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast import Agent, Limits, ManifestDrifted, Runtime, Session, SQLiteStore, Store, Tool, tool
from holdfast.config import Config
from holdfast.drift import DriftReport, OnDrift
from holdfast.drivers.sim import Sim, call, say
from holdfast.errors import CannotPin, UsageError
from holdfast.events import Drifted, Event, TurnStarted
from holdfast.stores.memory import MemoryStore
from tests.conftest import ROOT


class Desk:
    """A program that is changed between its starts."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def pay(self, version: str = "1") -> Tool:
        """A tool that needs an approval, in one of its versions."""

        if version == "1":

            @tool(effect="once", ask=True)
            async def pay(cents: int) -> str:
                """Pay."""
                self.ran.append(f"v1 {cents}")
                return "paid"

            return pay

        @tool(name="pay", effect="once", ask=True)
        async def pay_in(cents: int, currency: str = "EUR") -> str:
            """Pay."""
            self.ran.append(f"v2 {cents} {currency}")
            return "paid"

        return pay_in

    def agent(self, instructions: str = "You pay.", pay: str = "1", **config: Any) -> Agent:
        """One version of the agent; without `pay` it cannot."""
        return Agent(
            instructions,
            name="desk",
            model=Sim.storyboard(call("pay", cents=5), say("Done."), say("Again.")),
            tools=[self.pay(pay)] if pay else [],
            config=Config(**config),
        )


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "log.db")


async def begun(store: Store, agent: Agent, **send: Any) -> str:
    """A session whose turn waits for an approval; its program has ended."""
    async with Runtime(store) as runtime:
        session = await runtime.session(agent)
        result = await (await session.send("Pay 5 cents.", **send))
        assert result.status == "waiting"
        return session.id


@asynccontextmanager
async def later(
    store: Store, agent: Agent, session_id: str, on_drift: OnDrift = "continue"
) -> AsyncIterator[Session]:
    """The session in a program that was changed and started again."""
    async with Runtime(store, agents=[agent], on_drift=on_drift, drain=5) as runtime:
        yield await runtime.open(session_id)


async def approved(session: Session) -> Any:
    """Approve what waits, and wait for the turn."""
    turn = session.turn
    assert turn is not None
    for ask in session.asks:
        await session.approve(ask.ask_id, by="ann")
    return await turn


def drifts(events: list[Event]) -> list[Drifted]:
    return [it.data for it in events if isinstance(it.data, Drifted)]


async def test_a_turn_goes_on_under_todays_manifest_and_the_log_says_so(store: Store, desk: Desk) -> None:
    session_id = await begun(store, desk.agent())
    async with later(store, desk.agent("You pay, and say thanks."), session_id) as session:
        assert (await approved(session)).status == "completed"
        (fact,) = drifts(await session.events())
        (started,) = [it.data for it in await session.events() if isinstance(it.data, TurnStarted)]
        assert (fact.before, fact.choice, fact.by) == (started.manifest, "continue", "")
        assert fact.changes == ("instructions changed",)
        assert (await session.inspect("Next?")).manifest.digest == fact.after
        for digest in (fact.before, fact.after, fact.layers):
            await store.get_blob(digest)


async def test_nothing_is_recorded_where_nothing_changed(store: Store, desk: Desk) -> None:
    session_id = await begun(store, desk.agent())
    for choice in ("continue", "pin", "refuse"):
        async with later(store, desk.agent(), session_id, choice) as session:
            assert session.turn is not None
            await session.resume()
    async with later(store, desk.agent(), session_id, "refuse") as session:
        assert (await approved(session)).status == "completed"
        assert drifts(await session.events()) == []


async def test_a_pinned_turn_goes_on_under_the_manifest_it_was_begun_with(store: Store, desk: Desk) -> None:
    session_id = await begun(store, desk.agent("You pay.", limits=Limits(max_iterations=7)))
    changed = desk.agent("You refuse to pay.", limits=Limits(max_iterations=1))
    async with later(store, changed, session_id, "pin") as session:
        result = await approved(session)
        assert (result.status, result.text) == ("completed", "Done."), (
            "one iteration would not have been enough"
        )
        (fact,) = drifts(await session.events())
        assert fact.choice == "pin"
        assert set(fact.changes) == {"instructions changed", "limits.max_iterations changed"}


async def test_what_cannot_be_pinned_is_named_and_the_turn_stays_owed(store: Store, desk: Desk) -> None:
    session_id = await begun(store, desk.agent())
    async with later(store, desk.agent(pay="2"), session_id, "pin") as session:
        with pytest.raises(CannotPin, match=r"tools\.pay\.parameters\.properties\.currency") as caught:
            await approved(session)
        report = caught.value.report
        assert isinstance(report, DriftReport)
        assert {it.field for it in report.changes} >= {"tools.pay.parameters.properties.currency"}
        assert desk.ran == []
    async with later(store, desk.agent(pay=""), session_id, "pin") as session:
        with pytest.raises(CannotPin, match=r"tools\.pay: removed"):
            await session.resume()
    async with later(store, desk.agent(), session_id, "pin") as session:
        assert session.turn is not None
        assert (await session.turn).status == "completed"
    assert desk.ran == ["v1 5"]


async def test_a_refused_turn_stays_owed_until_a_person_says_so(store: Store, desk: Desk) -> None:
    session_id = await begun(store, desk.agent())
    async with later(store, desk.agent("You pay more."), session_id, "refuse") as session:
        with pytest.raises(ManifestDrifted, match="instructions") as caught:
            await approved(session)
        report = caught.value.report
        assert [it.field for it in report.changes] == ["instructions"]
        assert session.turn is not None
        assert (report.session_id, report.turn_id) == (session_id, session.turn.id)
        with pytest.raises(ManifestDrifted):
            await session.resume()
        assert desk.ran == []
        assert drifts(await session.events()) == []
        with pytest.raises(UsageError, match="by="):
            await session.resume(on_drift="continue")
        turn = await session.resume(by="ann", on_drift="continue")
        assert turn is not None
        assert (await turn).status == "completed"
        assert [it.by for it in drifts(await session.events())] == ["ann"]
    assert desk.ran == ["v1 5"]


async def test_a_refused_turn_can_still_be_cancelled_and_the_next_one_runs(store: Store, desk: Desk) -> None:
    session_id = await begun(store, desk.agent())
    async with later(store, desk.agent("You pay more."), session_id, "refuse") as session:
        assert session.turn is not None
        assert (await session.turn.cancel("not any more")).status == "cancelled"
        assert (await session.run("Again.")).status == "completed"


async def test_a_refused_session_is_free_for_whoever_can_go_on_with_it(tmp_path: Path, desk: Desk) -> None:
    old, new = desk.agent(), desk.agent("You pay more.")
    session_id = await begun(SQLiteStore(tmp_path / "log.db"), old)
    async with (
        Runtime(tmp_path / "log.db", agents=[new], on_drift="refuse") as one,
        Runtime(tmp_path / "log.db", agents=[old], on_drift="refuse") as other,
    ):
        refusing = await one.open(session_id)
        with pytest.raises(ManifestDrifted):
            await approved(refusing)
        assert await other.drive(session_id) == "completed"
        assert desk.ran == ["v1 5"]
        assert drifts(await refusing.events()) == []


async def test_one_session_can_have_its_own_choice(store: Store, desk: Desk) -> None:
    session_id = await begun(store, desk.agent())
    changed = desk.agent("You pay more.")
    async with Runtime(store, agents=[changed]) as runtime:
        session = await runtime.open(session_id, on_drift="refuse")
        with pytest.raises(ManifestDrifted):
            await approved(session)
        session = await runtime.open(session_id, on_drift="pin")
        await session.resume()
        assert session.turn is not None
        assert (await session.turn).status == "completed"
        assert [it.choice for it in drifts(await session.events())] == ["pin"]


async def test_a_worker_of_another_version_leaves_a_refused_turn_and_says_so(
    tmp_path: Path, desk: Desk
) -> None:
    session_id = await begun(SQLiteStore(tmp_path / "log.db"), desk.agent())
    left: list[tuple[str, Exception]] = []
    stop = asyncio.Event()

    def report(name: str, why: Exception) -> None:
        left.append((name, why))
        stop.set()

    async with Runtime(tmp_path / "log.db", drain=0) as one:  # records the answer, and drives nothing
        session = await one.open(session_id, desk.agent(), drive=False)
        await session.approve(session.asks[0].ask_id, by="ann")
    new, old = desk.agent("You pay more."), desk.agent()
    async with Runtime(tmp_path / "log.db", agents=[new], on_drift="refuse") as worker:
        await asyncio.wait_for(worker.work(stop=stop, report=report), 20)
    ((name, why),) = left
    assert (name, type(why)) == (session_id, ManifestDrifted)
    async with Runtime(tmp_path / "log.db", agents=[old], on_drift="refuse") as worker:
        assert await worker.drive(session_id) == "completed"
    assert desk.ran == ["v1 5"]


class Receipt(msgspec.Struct):
    """A receipt."""

    cents: int


async def test_a_typed_turn_drifts_like_any_other(store: Store, desk: Desk) -> None:
    session_id = await begun(store, desk.agent(), output=Receipt)
    async with later(store, desk.agent("You pay more."), session_id, "refuse") as session:
        with pytest.raises(ManifestDrifted) as caught:
            await approved(session)
        assert [it.field for it in caught.value.report.changes] == ["instructions"]
    async with later(store, desk.agent(), session_id, "refuse") as session:
        await session.resume()
        assert drifts(await session.events()) == []


async def test_two_runtimes_of_different_versions_take_turns_on_one_session(
    tmp_path: Path, desk: Desk
) -> None:
    old, new = desk.agent(), desk.agent("You pay more.")
    session_id = await begun(SQLiteStore(tmp_path / "log.db"), old)
    async with (
        Runtime(tmp_path / "log.db", agents=[new]) as one,
        Runtime(tmp_path / "log.db", agents=[old]) as other,
    ):
        session = await one.open(session_id)
        assert (await approved(session)).status == "completed"
        theirs = await other.open(session_id)
        assert (await theirs.run("Again.")).text == "Again."
        digests = [it.data.manifest for it in await theirs.events() if isinstance(it.data, TurnStarted)]
        assert digests[0] == digests[1], "each turn begins under the manifest of whoever begins it"
        assert [it.choice for it in drifts(await theirs.events())] == ["continue"]


async def test_a_choice_that_is_none_is_refused(store: Store, desk: Desk) -> None:
    with pytest.raises(UsageError, match="continue, pin, refuse"):
        Runtime(store, on_drift="ignore")  # type: ignore[arg-type]
    session_id = await begun(store, desk.agent())
    async with later(store, desk.agent(), session_id) as session:
        with pytest.raises(UsageError, match="continue, pin, refuse"):
            await session.resume(by="ann", on_drift="ignore")  # type: ignore[arg-type]


async def test_without_the_old_document_it_goes_on_and_cannot_be_pinned(desk: Desk) -> None:
    whole, store = MemoryStore(), MemoryStore()
    session_id = await begun(whole, desk.agent())
    await whole.open()
    await store.open()
    events = await whole.read(session_id)
    await store.append(session_id, events, expected=0, epoch=1)
    changed = desk.agent("You pay more.")
    async with Runtime(store) as runtime:
        session = await runtime.open(session_id, changed, on_drift="pin")
        with pytest.raises(CannotPin, match="the store does not know"):
            await approved(session)
        turn = await session.resume(by="ann", on_drift="continue")
        assert turn is not None
        assert (await turn).status == "completed"


def ran(database: Path, version: int, what: str, die: str = "", on_drift: str = "continue") -> str:
    """What a process of this version said; it must have been killed where it was to die."""
    arguments = [
        sys.executable,
        "-m",
        "tests.drifting_process",
        str(database),
        str(version),
        what,
        die,
        on_drift,
    ]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == (-signal.SIGKILL if die else 0), done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "place", ["turn.started", "output.message.completed", "tool.started", "tool.completed"]
)
async def test_a_killed_turn_is_gone_on_with_by_another_version(tmp_path: Path, place: str) -> None:
    database = tmp_path / "log.db"
    await asyncio.to_thread(ran, database, 1, "begin", place)
    assert await asyncio.to_thread(ran, database, 2, "drive", "", "refuse") == "ManifestDrifted"
    assert await asyncio.to_thread(ran, database, 4, "drive", "", "pin") == "CannotPin"
    await asyncio.to_thread(ran, database, 2, "drive", "manifest.drifted", "pin")
    assert await asyncio.to_thread(ran, database, 2, "drive", "", "continue") == "completed"
    store = SQLiteStore(database)
    await store.open()
    (head,) = await store.sessions()
    events = await store.read(head.session_id)
    await store.close()
    assert [it.choice for it in drifts(events)] == ["pin", "continue"]
    assert sum(it.type == "turn.completed" for it in events) == 1
