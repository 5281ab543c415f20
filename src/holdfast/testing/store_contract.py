"""What every store promises, as tests that anybody's store can run.

    import pytest
    from holdfast.testing.store_contract import StoreContract

    class TestMyStore(StoreContract):
        @pytest.fixture(autouse=True)
        def place(self, tmp_path):
            self.path = tmp_path / "my.log"

        @asynccontextmanager
        async def store(self):
            store = MyStore(self.path)
            await store.open()
            try:
                yield store
            finally:
                await store.close()

Needs a pytest that runs `async def` tests on asyncio: the anyio plugin or pytest-asyncio in auto mode. For readable
failures, call `pytest.register_assert_rewrite("holdfast.testing")` before the import.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta, timezone

from holdfast.errors import (
    NotEncodable,
    SequenceConflict,
    StaleEpoch,
    StoreClosed,
    UnknownBlob,
    UnknownSession,
    UsageError,
)
from holdfast.events import UnknownFact
from holdfast.store import Snapshot, Store, digest_of
from holdfast.testing.letter_contract import letter
from holdfast.testing.roster_contract import RosterContract
from holdfast.testing.said import START, event, refused, said, said_in, texts

TEXTS = {
    "line separators": "a\u2028b\u2029c\u0085d\x0be",
    "nul and controls": "a\x00b\x01c\x1fd\x7f",
    "emoji, combined": "👩‍👩‍👧 e\u0301 \U0010ffff",
    "right to left": "שלום مرحبا",
    "non-characters": "\ufffe\uffff\ufeff",
    "quotes": "\"'\\ \r\n\t; DROP TABLE events; --",
    "empty": "",
}


class StoreContract(RosterContract):
    """Subclass it in a test file, name the subclass `Test…`, and say how to open a store: override `store`."""

    async def test_events_come_back_in_order_and_as_they_were(self) -> None:
        written = said("session_a", 1, "one", "two", "three")
        async with self.store() as store:
            await store.append("session_a", written[:1], expected=0, epoch=1)
            await store.append("session_a", written[1:], expected=1, epoch=1)
            assert await store.read("session_a") == written

    async def test_an_append_at_the_wrong_sequence_is_refused_and_writes_nothing(self) -> None:
        async with self.store() as store:
            await store.append("session_a", said("session_a", 1, "one", "two"), expected=0, epoch=1)
            for expected in (0, 1, 3, 70_000):
                late = store.append(
                    "session_a", said("session_a", expected + 1, "no"), expected=expected, epoch=1
                )
                with refused(SequenceConflict):
                    await late
            with refused(SequenceConflict):
                await store.append("session_b", said("session_b", 4, "no"), expected=3, epoch=1)
            assert await texts(store, "session_a") == ["one", "two"]
            assert await store.head("session_b") is None

    async def test_an_older_writer_is_refused_and_writes_nothing(self) -> None:
        async with self.store() as store:
            await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
            epoch = await store.claim("session_a")
            with refused(StaleEpoch):
                await store.append("session_a", said("session_a", 2, "no"), expected=1, epoch=1)
            with refused(StaleEpoch):
                await store.append("session_a", said("session_a", 1, "no"), expected=0, epoch=1)
            await store.append("session_a", said("session_a", 2, "two"), expected=1, epoch=epoch)
            assert await texts(store, "session_a") == ["one", "two"]

    async def test_an_epoch_that_nobody_claimed_is_refused(self) -> None:
        async with self.store() as store:
            with refused(StaleEpoch):
                await store.append("session_a", said("session_a", 1, "no"), expected=0, epoch=2)
            await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
            with refused(StaleEpoch):
                await store.append("session_a", said("session_a", 2, "no"), expected=1, epoch=2)
            assert await texts(store, "session_a") == ["one"]

    async def test_events_that_do_not_follow_on_are_refused_before_anything_is_accepted(self) -> None:
        gap = [*said("session_a", 1, "one"), *said("session_a", 3, "three")]
        wrong = {
            "none": [],
            "a gap": gap,
            "too high": said("session_a", 2, "two"),
            "another session": said("session_b", 1, "one"),
            "a time without a zone": said("session_a", 1, "one", at=datetime(2026, 1, 1)),  # noqa: DTZ001
        }
        async with self.store() as store:
            for events in wrong.values():
                with refused(UsageError):
                    store.append("session_a", events, expected=0, epoch=1)
            assert await store.head("session_a") is None

    async def test_appends_under_way_together_are_carried_out_in_the_order_of_the_calls(self) -> None:
        async with self.store() as store:
            under_way = [
                store.append("session_a", said("session_a", n + 1, f"{n}"), expected=n, epoch=1)
                for n in range(100)
            ]
            await asyncio.gather(*under_way)
            assert await texts(store, "session_a") == [f"{n}" for n in range(100)]

    async def test_what_was_sent_after_a_refused_append_is_refused_with_it(self) -> None:
        async with self.store() as store:
            await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
            under_way = [
                store.append("session_a", said("session_a", 2, "two"), expected=1, epoch=1),
                store.append("session_a", said("session_a", 4, "no"), expected=3, epoch=1),
                store.append("session_a", said("session_a", 5, "no"), expected=4, epoch=1),
                store.append("session_b", said("session_b", 1, "hello"), expected=0, epoch=1),
            ]
            results = await asyncio.gather(*under_way, return_exceptions=True)
            assert [type(result) for result in results] == [
                type(None),
                SequenceConflict,
                SequenceConflict,
                type(None),
            ]
            assert await texts(store, "session_a") == ["one", "two"]
            assert await texts(store, "session_b") == ["hello"]

    async def test_of_many_writers_at_one_sequence_exactly_one_wins(self) -> None:
        async with self.store() as store:
            rivals = [
                store.append("session_a", said("session_a", 1, f"{n}"), expected=0, epoch=1)
                for n in range(20)
            ]
            results = await asyncio.gather(*rivals, return_exceptions=True)
            assert sum(result is None for result in results) == 1
            assert sum(isinstance(result, SequenceConflict) for result in results) == 19
            assert len(await store.read("session_a")) == 1

    async def test_sessions_written_at_once_keep_their_own_numbers(self) -> None:
        names = [f"session_{n}" for n in range(30)]

        async def write(store: Store, name: str) -> None:
            for n in range(10):
                await store.append(name, said(name, n + 1, f"{name} {n}"), expected=n, epoch=1)

        async with self.store() as store:
            await asyncio.gather(*[write(store, name) for name in names])
            for name in names:
                events = await store.read(name)
                assert [event.sequence for event in events] == list(range(1, 11))
                assert [said_in(event) for event in events] == [f"{name} {n}" for n in range(10)]

    async def test_reading_starts_after_a_sequence_and_stops_at_a_limit(self) -> None:
        async with self.store() as store:
            await store.append("session_a", said("session_a", 1, *"abcdefg"), expected=0, epoch=1)
            await store.append("session_b", said("session_b", 1, *"xyz"), expected=0, epoch=1)
            pages = {(0, 3): "abc", (3, 3): "def", (6, 3): "g", (7, 3): "", (2**40, 3): "", (0, 0): ""}
            pages |= {(-5, 2): "ab", (0, -1): "", (0, 2**70): "abcdefg", (2**70, 1): ""}
            for (after, limit), expected in pages.items():
                assert "".join(await texts(store, "session_a", after=after, limit=limit)) == expected, (
                    after,
                    limit,
                )

    async def test_every_page_of_a_log_is_that_part_of_the_whole_however_it_was_written(self) -> None:
        written = said("session_a", 1, *"abcdef", "g" * 100_000, "h")
        async with self.store() as store:
            one = store.append("session_a", written[:1], expected=0, epoch=1)
            two = store.append("session_a", written[1:4], expected=1, epoch=1)
            await asyncio.gather(
                one, two, store.append("session_b", said("session_b", 1, "x"), expected=0, epoch=1)
            )
            epoch = await store.claim("session_a")
            late = store.append("session_a", said("session_a", 5, "no", "no"), expected=4, epoch=1)
            last = store.append("session_a", written[4:], expected=4, epoch=epoch)
            results = await asyncio.gather(late, last, return_exceptions=True)
            assert [type(result) for result in results] == [StaleEpoch, type(None)]
            for after in range(9):
                for limit in range(9):
                    page = await store.read("session_a", after=after, limit=limit)
                    assert page == written[after : after + limit], (after, limit)

    async def test_a_session_that_does_not_exist_has_no_events_and_no_head(self) -> None:
        async with self.store() as store:
            for name in ("session_a", "", "\udc80", "a\x00b"):
                assert await store.read(name) == []
                assert await store.head(name) is None
                with refused(UnknownSession):
                    await store.claim(name)

    async def test_the_head_says_where_a_session_stands(self) -> None:
        async with self.store() as store:
            await store.append("session_a", said("session_a", 1, "one", "two"), expected=0, epoch=1)
            later = START + timedelta(hours=1)
            await store.append("session_a", said("session_a", 3, "three", at=later), expected=2, epoch=1)
            await store.claim("session_a")
            head = await store.head("session_a")
            assert head is not None
            assert (head.session_id, head.sequence, head.epoch) == ("session_a", 3, 2)
            assert (head.created_at, head.updated_at) == (START, later)

    async def test_sessions_are_listed_the_most_recently_written_first(self) -> None:
        async with self.store() as store:
            for n, name in enumerate("abcd"):
                at = START + timedelta(microseconds=n)
                await store.append(name, said(name, 1, "hello", at=at), expected=0, epoch=1)
            latest = START + timedelta(seconds=1)
            await store.append("b", said("b", 2, "again", at=latest), expected=1, epoch=1)
            await store.append("e", said("e", 1, "same time", at=latest), expected=0, epoch=1)
            await store.claim("a")
            assert [head.session_id for head in await store.sessions()] == ["e", "b", "d", "c", "a"]
            assert [head.session_id for head in await store.sessions(limit=2, offset=1)] == ["b", "d"]
            assert await store.sessions(offset=5) == []
            assert await store.sessions(limit=0) == []

    async def test_claims_always_increase(self) -> None:
        async with self.store() as store:
            await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
            epochs = await asyncio.gather(*[store.claim("session_a") for _ in range(10)])
            assert len(set(epochs)) == 10
            assert min(epochs) > 1
            assert await store.claim("session_a") > max(epochs)

    async def test_a_claim_in_the_middle_of_appends_cuts_them_off_at_one_place(self) -> None:
        async with self.store() as store:
            await store.append("session_a", said("session_a", 1, "0"), expected=0, epoch=1)
            under_way = [
                store.append("session_a", said("session_a", n + 1, f"{n}"), expected=n, epoch=1)
                for n in range(1, 50)
            ]
            epoch = await store.claim("session_a")
            results = await asyncio.gather(*under_way, return_exceptions=True)
            kept = 1 + results.count(None)
            assert results[: kept - 1] == [None] * (kept - 1)
            assert all(isinstance(result, StaleEpoch) for result in results[kept - 1 :])
            await store.append("session_a", said("session_a", kept + 1, "mine"), expected=kept, epoch=epoch)
            assert await texts(store, "session_a") == [*[f"{n}" for n in range(kept)], "mine"]

    async def test_the_same_bytes_are_one_blob(self) -> None:
        async with self.store() as store:
            values = [b"", b"\x00\xff", b"x" * 3_000_000, "👩‍👩‍👧".encode()]
            for value in values:
                digest = await store.put_blob(value)
                assert digest == digest_of(value)
                assert await store.put_blob(value) == digest
                assert await store.get_blob(digest) == value

    async def test_a_blob_nobody_put_is_unknown(self) -> None:
        async with self.store() as store:
            for digest in (digest_of(b"nobody put this"), "", "sha256:", "\udc80"):
                with refused(UnknownBlob):
                    await store.get_blob(digest)

    async def test_any_valid_text_comes_back_unchanged(self) -> None:
        async with self.store() as store:
            for name, text in TEXTS.items():
                await store.append(name, said(name, 1, text), expected=0, epoch=1)
                assert await texts(store, name) == [text], name
            odd = said("s\x00\u2028👩", 1, "hello")
            await store.append("s\x00\u2028👩", odd, expected=0, epoch=1)
            assert await store.read("s\x00\u2028👩") == odd

    async def test_a_large_event_comes_back_unchanged(self) -> None:
        text = "Ünïcödé " * 300_000
        async with self.store() as store:
            await store.append("session_a", said("session_a", 1, text), expected=0, epoch=1)
            assert await texts(store, "session_a") == [text]

    async def test_what_cannot_be_written_is_refused_before_anything_is_accepted(self) -> None:
        deep: list[object] = []
        for _ in range(100_000):
            deep = [deep]
        async with self.store() as store:
            for fact in (UnknownFact(data="\ud800"), UnknownFact(data=object()), UnknownFact(data=deep)):
                bad = event("session_a", 2, fact)
                with refused(NotEncodable):
                    store.append("session_a", [*said("session_a", 1, "one"), bad], expected=0, epoch=1)
            assert await store.head("session_a") is None

    async def test_a_fact_of_an_unknown_kind_comes_back_as_it_was(self) -> None:
        fact = UnknownFact(data={"text": "from the future", "n": [1, 2.5, None, {"deep": True}]})
        strange = event("session_a", 1, fact, kind="future.thing")
        async with self.store() as store:
            await store.append("session_a", [strange], expected=0, epoch=1)
            assert await store.read("session_a") == [strange]
            assert await store.read("session_a") == [strange]

    async def test_times_keep_every_microsecond(self) -> None:
        times = [
            datetime(1970, 1, 1, tzinfo=UTC),
            datetime(2026, 3, 29, 1, 0, 0, 1, tzinfo=UTC),
            datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
            datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
            datetime(2026, 6, 1, 12, 0, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        ]
        async with self.store() as store:
            for n, at in enumerate(times):
                await store.append(f"s{n}", said(f"s{n}", 1, "hello", at=at), expected=0, epoch=1)
                head = await store.head(f"s{n}")
                assert head is not None
                assert head.created_at == head.updated_at == at
                assert [event.ts for event in await store.read(f"s{n}")] == [at]

    async def test_cancelling_whoever_waits_does_not_undo_the_append(self) -> None:
        async with self.store() as store:

            async def write() -> None:
                await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)

            writer = asyncio.ensure_future(write())
            await asyncio.sleep(0)
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            await store.append("session_a", said("session_a", 2, "two"), expected=1, epoch=1)
            assert await texts(store, "session_a") == ["one", "two"]

    async def test_closing_finishes_what_was_accepted(self) -> None:
        async with self.store() as store:
            under_way = [
                store.append("session_a", said("session_a", n + 1, f"{n}"), expected=n, epoch=1)
                for n in range(50)
            ]
            await asyncio.gather(store.close(), store.close())
            assert await asyncio.gather(*under_way) == [None] * 50
            await store.close()
        async with self.store() as store:
            assert await texts(store, "session_a") == [f"{n}" for n in range(50)]

    async def test_a_closed_store_refuses_everything_and_can_be_opened_again(self) -> None:
        async with self.store() as store:
            await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
            digest = await store.put_blob(b"bytes")
            await store.close()
            with refused(StoreClosed):
                await store.append("session_a", said("session_a", 2, "no"), expected=1, epoch=1)
            snapshot = Snapshot(sequence=1, version=1, body=b"")
            asks: list[Awaitable[object]] = [
                store.read("session_a"),
                store.head("session_a"),
                store.claim("session_a"),
                store.renew("ann", 1),
                store.due(START),
                store.post("session_a", letter("session_a", "no")),
                store.letters("session_a"),
                store.posted("ann"),
                store.discard("session_a", [1], epoch=1),
                store.woken(0),
                store.owners(),
                store.save_snapshot("session_a", snapshot),
                store.load_snapshot("session_a"),
                store.sessions(),
                store.put_blob(b"no"),
                store.get_blob(digest),
            ]
            for ask in asks:
                with refused(StoreClosed):
                    await ask
            await store.open()
            await store.open()
            assert await texts(store, "session_a") == ["one"]

    async def test_opening_the_place_again_finds_everything(self) -> None:
        async with self.store() as store:
            await store.append("session_a", said("session_a", 1, "one"), expected=0, epoch=1)
            epoch = await store.claim("session_a")
            digest = await store.put_blob(b"bytes")
            before = await store.read("session_a"), await store.head("session_a"), await store.sessions()
        async with self.store() as store:
            assert (
                await store.read("session_a"),
                await store.head("session_a"),
                await store.sessions(),
            ) == before
            assert await store.get_blob(digest) == b"bytes"
            with refused(StaleEpoch):
                await store.append("session_a", said("session_a", 2, "no"), expected=1, epoch=1)
            await store.append("session_a", said("session_a", 2, "two"), expected=1, epoch=epoch)
            assert await texts(store, "session_a") == ["one", "two"]
