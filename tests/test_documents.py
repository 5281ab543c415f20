"""What a turn ran under can be read from the store, whatever became of the program."""

from pathlib import Path

import msgspec
import pytest

from holdfast import Agent, Config, Limits, Runtime, SQLiteStore, diff
from holdfast.agent import read_layers, read_origins
from holdfast.archive import export_session, import_session
from holdfast.drivers.sim import Sim, say
from holdfast.errors import UnknownBlob
from holdfast.events import TurnStarted
from holdfast.store import Store, digest_of
from holdfast.stores.memory import MemoryStore
from holdfast.testing import WrappedStore


class Receipt(msgspec.Struct):
    """A receipt."""

    cents: int


class Counting(WrappedStore):
    """Counts the blobs that are put into it."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.put: list[str] = []

    async def put_blob(self, data: bytes) -> str:
        """See `Store.put_blob`."""
        self.put.append(digest_of(data))
        return await super().put_blob(data)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Counting:
    return Counting(MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "log.db"))


def agent(*replies: str) -> Agent:
    return Agent("You keep books.", name="books", model=Sim.storyboard(*[say(it) for it in replies]))


async def digests(store: Store, session_id: str) -> list[str]:
    return [it.data.manifest for it in await store.read(session_id) if isinstance(it.data, TurnStarted)]


async def test_the_document_of_every_turn_is_a_blob_under_its_digest_a_typed_one_too(store: Counting) -> None:
    async with Runtime(store) as runtime:
        session = await runtime.session(agent("Hi.", '{"cents": 5}', "Bye."))
        await session.run("Hello.")
        assert (await session.run("How much?", output=Receipt)).status == "completed"
        await session.run("Bye.")
        plain, typed, again = await digests(store, session.id)
        assert plain == again != typed
        (change,) = diff(await store.get_blob(plain), await store.get_blob(typed))
        assert (change.field, change.kind) == ("output", "added")
        assert digest_of(await store.get_blob(typed)) == typed


async def test_a_runtime_keeps_each_document_once(store: Counting) -> None:
    async with Runtime(store) as runtime:
        books = agent("Hi.", '{"cents": 5}', '{"cents": 6}')
        session = await runtime.session(books)
        for wanted in (None, Receipt, Receipt):
            await session.run("Go on.", output=wanted)
        for _ in range(3):  # layers of their own, which come to the same
            await (await runtime.session(books, config=Config(limits=Limits(max_iterations=9)))).run("Hello.")
        assert len(store.put) == len(set(store.put))
        assert len(await digests(store, session.id)) == 3


async def test_a_typed_input_that_waited_in_line_has_its_document_too(store: Counting) -> None:
    async with Runtime(store) as runtime:
        session = await runtime.session(agent("Hi.", '{"cents": 5}', '{"cents": 6}'))
        first, second = await session.send("Hello."), await session.send("How much?", output=Receipt)
        assert [(await turn).status for turn in (first, second)] == ["completed"] * 2
        for digest in await digests(store, session.id):
            await store.get_blob(digest)


async def test_a_typed_input_that_was_left_in_a_letter_has_its_document_too(tmp_path: Path) -> None:
    books = agent('{"cents": 5}')
    async with Runtime(tmp_path / "log.db", agents=[books]) as one:
        session = await one.session(books, title="Books")
        await session.update(title="The books")
        other = await one.open(session.id)
        assert other.id == session.id
    async with Runtime(tmp_path / "log.db", agents=[books]) as teller:
        asking = await teller.open(session.id, drive=False)
        turn = await asking.send("How much?", output=Receipt)
        assert await digests(teller.store, session.id) == []
    async with Runtime(tmp_path / "log.db", agents=[books]) as worker:
        await worker.drive(session.id)
        (digest,) = await digests(worker.store, session.id)
        assert digest_of(await worker.store.get_blob(digest)) == digest
        assert (await (await worker.open(session.id)).handle(turn.id)).status == "completed"


async def test_a_turn_says_which_layers_it_ran_under_where_they_are_not_the_sessions(store: Counting) -> None:
    async with Runtime(store) as runtime:
        session = await runtime.session(agent("Hi.", "Ho."))
        await session.run("Hello.")
        session_id = session.id
    async with Runtime(store) as runtime:
        other = Agent("You keep other books.", name="books", model=Sim.storyboard(say("Hi."), say("Ho.")))
        await (await runtime.open(session_id, other)).run("Hello again.")
        first, second = [it.data for it in await store.read(session_id) if isinstance(it.data, TurnStarted)]
        assert first.layers == ""
        (layer,), missing = read_layers(await store.get_blob(second.layers))
        assert layer.config.instructions == "You keep other books."
        assert missing == ("driver sim",)
        origins = {it.field: it.layers for it in read_origins(await store.get_blob(second.layers))}
        assert origins["instructions"] == ("agent books",)


async def test_an_archive_brings_the_documents_along(store: Counting) -> None:
    async with Runtime(store) as runtime:
        session = await runtime.session(agent('{"cents": 5}'))
        await session.run("How much?", output=Receipt)
        (digest,) = await digests(store, session.id)
        lines = [line async for line in export_session(store, session.id)]
    elsewhere = MemoryStore()
    await elsewhere.open()
    with pytest.raises(UnknownBlob):
        await elsewhere.get_blob(digest)
    await import_session(elsewhere, lines)
    assert digest_of(await elsewhere.get_blob(digest)) == digest
