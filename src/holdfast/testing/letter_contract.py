"""What every store promises about letters: a part of `StoreContract`."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

from holdfast.errors import NotEncodable, SequenceConflict, StaleEpoch, UnknownSession, UsageError
from holdfast.events import Event, UnknownFact
from holdfast.store import Store, Terms
from holdfast.testing.lease_contract import LONG, PATIENCE, SHORT, LeaseContract, begin
from holdfast.testing.said import START, event, refused, said, said_in, texts


class LetterContract(LeaseContract):
    """What somebody else than the writer wants recorded, until the writer has dealt with it."""

    async def test_letters_come_back_as_they_were_the_oldest_first(self) -> None:
        words = ["one", "a\x00b\u2028👩‍👩‍👧", "", "x" * 300_000]
        left = [letter("session_a", text) for text in words]
        async with self.store() as store:
            await begin(store, "session_a")
            await begin(store, "session_b")
            assert await store.letters("session_a") == []
            for each in left:
                await store.post("session_a", each)
            found = await store.letters("session_a")
            assert [each.event for each in found] == left
            numbers = [each.number for each in found]
            assert numbers == sorted(set(numbers))
            assert min(numbers) > 0
            assert await store.letters("session_b") == await store.letters("nobody") == []

    async def test_a_letter_is_no_event_of_the_session(self) -> None:
        async with self.store() as store:
            await begin(store, "session_a")
            before = await store.head("session_a")
            await store.post("session_a", letter("session_a", "hello"))
            assert await texts(store, "session_a") == ["one"]
            assert await store.head("session_a") == before
            await store.append("session_a", said("session_a", 2, "two"), expected=1, epoch=1)
            assert await left_in(store, "session_a") == ["hello"]

    async def test_a_letter_can_be_left_whoever_holds_the_session(self) -> None:
        async with self.store() as one, self.store() as other:
            await begin(one, "session_a")
            epoch = await one.claim("session_a", owner="ann", hold=LONG)
            await other.post("session_a", letter("session_a", "hello"))
            assert await left_in(one, "session_a") == ["hello"]
            terms = Terms(owner="ann", hold=LONG)
            await one.append("session_a", said("session_a", 2, "2"), expected=1, epoch=epoch, terms=terms)
            assert await left_in(other, "session_a") == ["hello"]

    async def test_a_letter_to_nobody_is_refused(self) -> None:
        async with self.store() as store:
            for name in ("session_a", "", "a\x00b"):
                with refused(UnknownSession):
                    await store.post(name, letter(name, "hello"))
                assert await store.letters(name) == []
            assert await store.letters("\udc80") == []
            await begin(store, "session_a")
            assert await store.letters("session_a") == []

    async def test_what_cannot_be_a_letter_is_refused(self) -> None:
        naive = said("session_a", 0, "no", at=datetime(2026, 1, 1))  # noqa: DTZ001
        async with self.store() as store:
            await begin(store, "session_a")
            for wrong in (letter("session_b", "no"), *said("session_a", 2, "no"), *naive):
                with refused(UsageError):
                    await store.post("session_a", wrong)
            for fact in (UnknownFact(data="\ud800"), UnknownFact(data=object())):
                with refused(NotEncodable):
                    await store.post("session_a", event("session_a", 0, fact))
            assert await store.letters("session_a") == []

    async def test_an_append_takes_the_letters_it_says_and_no_others(self) -> None:
        async with self.store() as store:
            for name in ("session_a", "session_b"):
                await begin(store, name)
            for n in range(4):
                await store.post("session_a", letter("session_a", f"{n}"))
                await store.post("session_b", letter("session_b", f"{n}"))
            mine = [each.number for each in await store.letters("session_a")]
            others = [each.number for each in await store.letters("session_b")]
            taking = Terms(taken=(mine[0], mine[2], *others, 0, -1, 2**70))
            await store.append("session_a", said("session_a", 2, "2"), expected=1, epoch=1, terms=taking)
            assert await left_in(store, "session_a") == ["1", "3"]
            assert await left_in(store, "session_b") == ["0", "1", "2", "3"]
            again = Terms(taken=(mine[0], mine[1], mine[1]))
            await store.append("session_a", said("session_a", 3, "3"), expected=2, epoch=1, terms=again)
            assert await left_in(store, "session_a") == ["3"]
            assert await texts(store, "session_a") == ["one", "2", "3"]

    async def test_an_append_that_is_refused_takes_nothing(self) -> None:
        async with self.store() as store:
            await begin(store, "session_a")
            await store.claim("session_a")
            await store.post("session_a", letter("session_a", "hello"))
            (found,) = await store.letters("session_a")
            terms = Terms(taken=(found.number,))
            with refused(StaleEpoch):
                await store.append("session_a", said("session_a", 2, "no"), expected=1, epoch=1, terms=terms)
            with refused(SequenceConflict):
                await store.append("session_a", said("session_a", 3, "no"), expected=2, epoch=2, terms=terms)
            with refused(StaleEpoch):
                await store.append("session_a", said("session_a", 1, "no"), expected=0, epoch=1, terms=terms)
            assert await store.letters("session_a") == [found]

    async def test_of_appends_under_way_together_only_those_that_went_well_take_letters(self) -> None:
        names = ["a", "b", "c"]
        async with self.store() as store:
            for name in names:
                await begin(store, name)
                await store.post(name, letter(name, "hello"))
            numbers = {name: (await store.letters(name))[0].number for name in names}
            under_way = [
                store.append(
                    name, said(name, n, "x"), expected=n - 1, epoch=1, terms=Terms(taken=(numbers[name],))
                )
                for name, n in (("a", 2), ("b", 5), ("c", 2))
            ]
            _, wrong, _ = await asyncio.gather(*under_way, return_exceptions=True)
            assert isinstance(wrong, SequenceConflict)
            assert [await left_in(store, name) for name in names] == [[], ["hello"], []]

    async def test_no_number_is_given_twice(self) -> None:
        """Whoever takes a letter that is long gone must not take another one."""
        numbers = []
        for _ in range(3):
            async with self.store() as store:
                end = len(await store.read("session_a"))
                if not end:
                    await begin(store, "session_a")
                    end = 1
                await store.post("session_a", letter("session_a", "hello"))
                (found,) = await store.letters("session_a")
                numbers.append(found.number)
                terms = Terms(taken=(found.number,))
                events = said("session_a", end + 1, "x")
                await store.append("session_a", events, expected=end, epoch=1, terms=terms)
                assert await store.letters("session_a") == []
        assert numbers == sorted(set(numbers))

    async def test_the_writer_may_discard_letters_and_nobody_else(self) -> None:
        async with self.store() as store:
            await begin(store, "session_a")
            await begin(store, "session_b")
            epoch = await store.claim("session_a")
            for n in range(3):
                await store.post("session_a", letter("session_a", f"{n}"))
            numbers = [each.number for each in await store.letters("session_a")]
            for wrong in (epoch - 1, epoch + 1, 0, 2**70):
                with refused(StaleEpoch):
                    await store.discard("session_a", numbers, epoch=wrong)
            with refused(UnknownSession):
                await store.discard("nobody", numbers, epoch=1)
            await store.discard("session_b", numbers, epoch=1)
            assert await left_in(store, "session_a") == ["0", "1", "2"]
            for _ in range(2):
                await store.discard("session_a", [*numbers[:2], -1, 2**70], epoch=epoch)
                assert await left_in(store, "session_a") == ["2"]
            await store.discard("session_a", [], epoch=epoch)
            assert await texts(store, "session_a") == ["one"]

    async def test_letters_left_at_once_are_all_there_and_outlive_their_connection(self) -> None:
        async with self.store() as one, self.store() as other:
            await begin(one, "session_a")
            posts = [
                store.post("session_a", letter("session_a", f"{n}"))
                for n in range(20)
                for store in (one, other)
            ]
            await asyncio.gather(*posts)
        async with self.store() as later:
            assert sorted(await left_in(later, "session_a")) == sorted([f"{n}" for n in range(20)] * 2)

    async def test_an_owner_is_told_which_sessions_that_nobody_else_holds_have_letters(self) -> None:
        async with self.store() as store:
            for name in ("mine", "also mine", "quiet", "theirs", "over", "free"):
                await begin(store, name)
            assert await store.posted("ann") == []
            for name in ("mine", "also mine", "quiet"):
                await store.claim(name, owner="ann", hold=LONG)
            await store.claim("theirs", owner="bob", hold=LONG)
            await store.claim("over", owner="ann", hold=SHORT)
            for name in ("mine", "also mine", "theirs", "over", "free", "mine"):
                await store.post(name, letter(name, "hello"))
            await asyncio.sleep(2 * SHORT)
            assert sorted(await store.posted("ann")) == ["also mine", "free", "mine", "over"]
            assert sorted(await store.posted("bob")) == ["free", "over", "theirs"]
            assert sorted(await store.posted("")) == ["free", "over"]
            (first, second) = await store.letters("mine")
            await store.discard("mine", [first.number], epoch=2)
            assert sorted(await store.posted("ann")) == ["also mine", "free", "mine", "over"]
            terms = Terms(owner="ann", hold=LONG, taken=(second.number,))
            await store.append("mine", said("mine", 2, "two"), expected=1, epoch=2, terms=terms)
            assert sorted(await store.posted("ann")) == ["also mine", "free", "over"]
            await store.renew("ann", 0)
            assert sorted(await store.posted("bob")) == ["also mine", "free", "over", "theirs"]

    async def test_sessions_with_letters_that_nobody_holds_come_after_those_that_are_due(self) -> None:
        async with self.store() as store:
            hour = timedelta(hours=1)
            dues = {
                "rests": None,
                "later": START + hour,
                "due": START,
                "held": None,
                "quiet": None,
                "short": None,
            }
            for name, due in dues.items():
                await begin(store, name, Terms(due=due))
            assert await store.due(START) == ["due"]
            await store.claim("held", owner="ann", hold=LONG)
            await store.claim("short", owner="ann", hold=SHORT)
            for name in ("held", "short", "later", "rests", "rests", "due"):
                await store.post(name, letter(name, "hello"))
            assert (await store.due(START))[:3] == ["due", "later", "rests"]
            await asyncio.sleep(2 * SHORT)
            free = ["due", "later", "rests", "short"]
            assert await store.due(START) == await store.due(START + hour) == free
            assert await store.due(START - hour) == free
            assert await store.due(START, limit=2) == free[:2]
            assert await store.due(START, limit=0) == await store.due(START, limit=-1) == []
            (found, _) = await store.letters("rests")
            await store.discard("rests", [found.number], epoch=1)
            assert await store.due(START) == free
            await take_all(store, "rests")
            await take_all(store, "due")
            assert await store.due(START) == ["later", "short"]
            await store.renew("ann", 0)
            assert sorted(await store.due(START)) == ["held", "later", "short"]

    async def test_who_waits_is_woken_by_a_letter_of_anybody(self) -> None:
        async with self.store() as one, self.store() as other:
            await begin(one, "session_a")
            for n, sender in enumerate((other, one, other), 1):
                waiting = asyncio.ensure_future(received(one, n))
                await asyncio.sleep(SHORT)
                await sender.post("session_a", letter("session_a", f"{n}"))
                await waiting


def letter(session_id: str, text: str) -> Event:
    """An event that can be left in a session."""
    (left,) = said(session_id, 0, text)
    return left


async def left_in(store: Store, session_id: str) -> list[str]:
    """The words in the letters to a session."""
    return [said_in(each.event) for each in await store.letters(session_id)]


async def take_all(store: Store, session_id: str) -> None:
    """Answer all letters to a session with one event; from then on it is neither held nor due."""
    head = await store.head(session_id)
    assert head is not None
    taken = tuple([each.number for each in await store.letters(session_id)])
    answer = said(session_id, head.sequence + 1, "answer")
    await store.append(session_id, answer, expected=head.sequence, epoch=head.epoch, terms=Terms(taken=taken))


async def received(store: Store, letters: int) -> None:
    """Look and wait in turns until `session_a` has so many letters; be woken, rather than wait it out."""
    async with asyncio.timeout(PATIENCE):
        seen = await store.woken(0)
        while len(await store.letters("session_a")) < letters:
            seen = await store.woken(10 * PATIENCE, seen)
