"""What every store promises about leases, due times, waking and snapshots: a part of `StoreContract`."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta, timezone

from holdfast.errors import SessionHeld, StaleEpoch, UnknownSession, UsageError
from holdfast.store import FREE, Snapshot, Store, Terms
from holdfast.testing.said import START, refused, said, texts

LONG = 3_600.0
"""Seconds that no test lasts."""
SHORT = 0.1
PATIENCE = 20.0
"""Seconds until something that should have happened has not."""


class LeaseContract:
    """Who may write to a session, and who is told that there is something to do."""

    def store(self) -> AbstractAsyncContextManager[Store]:
        """An open store, closed on leaving. Override this.

        In one test every call opens the same place: empty the first time, later with what was written before. Two
        may be open at once.
        """
        raise NotImplementedError

    async def test_while_a_lease_runs_other_owners_are_refused_and_told_who_holds_it(self) -> None:
        async with self.store() as store:
            await begin(store, "session_a")
            epoch = await store.claim("session_a", owner="ann", hold=LONG)
            for hold in (0, SHORT, 2 * LONG):
                error = await claim_refused(store, "session_a", owner="bob", hold=hold)
                assert error.owner == "ann"
                assert LONG - PATIENCE < error.seconds <= LONG
                assert "session_a" in str(error)
                assert "ann" in str(error)
            await store.append("session_a", said("session_a", 2, "two"), expected=1, epoch=epoch)

    async def test_one_owner_may_claim_anew_what_it_holds(self) -> None:
        async with self.store() as store:
            await begin(store, "session_a")
            epochs = [await store.claim("session_a", owner="ann", hold=LONG) for _ in range(3)]
            assert epochs == sorted(set(epochs))
            with refused(StaleEpoch):
                await store.append("session_a", said("session_a", 2, "no"), expected=1, epoch=epochs[0])

    async def test_a_claim_without_hold_keeps_nobody_away_and_lets_go_of_an_own_lease(self) -> None:
        async with self.store() as store:
            await begin(store, "session_a")
            await store.claim("session_a", owner="ann")
            await store.claim("session_a", owner="bob", hold=LONG)
            await store.claim("session_a", owner="bob", hold=0)
            assert await store.claim("session_a", owner="ann", hold=LONG) == 5

    async def test_after_a_lease_ran_out_another_takes_over_and_the_old_writer_is_refused(self) -> None:
        async with self.store() as store:
            await begin(store, "session_a")
            old = await store.claim("session_a", owner="ann", hold=SHORT)
            new = await taken_over(store, "session_a", owner="bob")
            assert new > old
            with refused(StaleEpoch):
                terms = Terms(owner="ann", hold=LONG)
                await store.append(
                    "session_a", said("session_a", 2, "no"), expected=1, epoch=old, terms=terms
                )
            assert (await claim_refused(store, "session_a", owner="ann")).owner == "bob"
            await store.append("session_a", said("session_a", 2, "two"), expected=1, epoch=new)
            assert await texts(store, "session_a") == ["one", "two"]

    async def test_of_many_owners_that_claim_at_once_one_gets_it(self) -> None:
        async with self.store() as store:
            await begin(store, "session_a")
            rivals = [store.claim("session_a", owner=f"owner {n}", hold=LONG) for n in range(20)]
            results = await asyncio.gather(*rivals, return_exceptions=True)
            assert sum(isinstance(result, SessionHeld) for result in results) == 19
            assert sum(isinstance(result, int) for result in results) == 1

    async def test_a_lease_is_seen_through_every_connection_and_outlives_its_own(self) -> None:
        async with self.store() as one, self.store() as other:
            await begin(one, "session_a")
            await one.claim("session_a", owner="ann", hold=LONG)
            assert (await claim_refused(other, "session_a", owner="bob")).owner == "ann"
        async with self.store() as later:
            assert (await claim_refused(later, "session_a", owner="bob")).owner == "ann"

    async def test_an_append_holds_and_lets_go_as_its_terms_say(self) -> None:
        async with self.store() as store:
            terms = Terms(owner="ann", hold=LONG)
            await store.append("session_a", said("session_a", 1, "1"), expected=0, epoch=1, terms=terms)
            assert (await claim_refused(store, "session_a", owner="bob")).owner == "ann"
            await store.append("session_a", said("session_a", 2, "2"), expected=1, epoch=1, terms=FREE)
            assert await store.claim("session_a", owner="bob", hold=LONG) == 2
            for n, terms in enumerate((Terms(owner="bob"), Terms(owner="bob", hold=LONG), FREE), 3):
                events = said("session_a", n, f"{n}")
                await store.append("session_a", events, expected=n - 1, epoch=2, terms=terms)
            assert await store.claim("session_a", owner="ann", hold=LONG) == 3

    async def test_a_writer_whose_lease_ran_out_may_go_on_until_somebody_claims(self) -> None:
        async with self.store() as store:
            await begin(store, "session_a")
            epoch = await store.claim("session_a", owner="ann", hold=SHORT)
            await asyncio.sleep(2 * SHORT)
            terms = Terms(owner="ann", hold=LONG)
            await store.append("session_a", said("session_a", 2, "2"), expected=1, epoch=epoch, terms=terms)
            assert (await claim_refused(store, "session_a", owner="bob")).owner == "ann"

    async def test_a_refused_append_does_not_touch_the_lease(self) -> None:
        async with self.store() as store:
            await begin(store, "session_a")
            await store.claim("session_a", owner="ann", hold=LONG)
            with refused(StaleEpoch):
                await store.append("session_a", said("session_a", 2, "no"), expected=1, epoch=1)
            assert (await claim_refused(store, "session_a", owner="bob")).owner == "ann"

    async def test_renewing_prolongs_what_the_owner_still_holds_and_nothing_else(self) -> None:
        async with self.store() as store:
            for name in ("mine", "theirs", "over", "free"):
                await begin(store, name)
            await store.claim("over", owner="ann", hold=SHORT)
            await store.claim("mine", owner="ann", hold=LONG)
            await store.claim("theirs", owner="bob", hold=LONG)
            await asyncio.sleep(2 * SHORT)
            await store.renew("ann", 3 * LONG)
            assert (await claim_refused(store, "mine", owner="cid")).seconds > 2 * LONG
            assert (await claim_refused(store, "theirs", owner="cid")).seconds <= LONG
            await store.claim("over", owner="cid")
            await store.claim("free", owner="cid")
            await store.renew("nobody", LONG)

    async def test_renewing_for_no_time_lets_go_of_everything(self) -> None:
        async with self.store() as store:
            for name in ("a", "b"):
                await begin(store, name)
                await store.claim(name, owner="ann", hold=LONG)
            await store.renew("ann", 0)
            for name in ("a", "b"):
                await store.claim(name, owner="bob", hold=LONG)

    async def test_a_lease_or_a_time_that_cannot_be_is_refused(self) -> None:
        async with self.store() as store:
            await begin(store, "session_a")
            events = said("session_a", 2, "no")
            for hold in (-1, -0.001, float("nan"), float("-inf")):
                with refused(UsageError):
                    await store.claim("session_a", owner="ann", hold=hold)
                with refused(UsageError):
                    await store.renew("ann", hold)
                with refused(UsageError):
                    store.append("session_a", events, expected=1, epoch=1, terms=Terms(hold=hold))
            naive = datetime(2026, 1, 1)  # noqa: DTZ001
            with refused(UsageError):
                store.append("session_a", events, expected=1, epoch=1, terms=Terms(due=naive))
            with refused(UsageError):
                await store.due(naive)
            with refused(UsageError):
                await store.claim("session_a", owner="\udc80", hold=1)
            assert await texts(store, "session_a") == ["one"]
            assert await store.claim("session_a") == 2

    async def test_a_lease_for_ever_and_an_owner_with_any_name_are_kept(self) -> None:
        async with self.store() as store:
            await begin(store, "session_a")
            for owner in ("", "ann's; DROP TABLE", "Ünïcödé 👩‍👩‍👧"):
                await store.claim("session_a", owner=owner, hold=float("inf"))
                assert (await claim_refused(store, "session_a", owner="bob")).owner == owner
                await store.renew(owner, 1e300)
                await store.claim("session_a", owner=owner)

    async def test_a_session_that_does_not_exist_cannot_be_held(self) -> None:
        async with self.store() as store:
            with refused(UnknownSession):
                await store.claim("session_a", owner="ann", hold=LONG)
            await begin(store, "session_a")
            assert await store.claim("session_a", owner="bob", hold=LONG) == 2

    async def test_sessions_are_due_from_their_time_on_the_longest_due_first(self) -> None:
        async with self.store() as store:
            minute = timedelta(minutes=1)
            east = timezone(timedelta(hours=9))
            dues = {"b": START + minute, "a": START, "d": (START + 3 * minute).astimezone(east)}
            dues["c"] = START + 2 * minute
            for name, due in dues.items():
                await begin(store, name, Terms(due=due))
            await begin(store, "never")
            assert await store.due(START - timedelta(microseconds=1)) == []
            assert await store.due(START) == ["a"]
            assert await store.due(START + 2 * minute) == ["a", "b", "c"]
            later = (START + 3 * minute).astimezone(east)
            assert await store.due(later) == ["a", "b", "c", "d"]
            assert await store.due(later, limit=2) == ["a", "b"]
            assert await store.due(later, limit=0) == await store.due(later, limit=-1) == []
            assert await store.due(datetime(9999, 12, 31, tzinfo=UTC), limit=2**70) == ["a", "b", "c", "d"]

    async def test_what_is_held_is_not_due_until_its_lease_ends(self) -> None:
        async with self.store() as store:
            for name in ("held", "free", "short"):
                await begin(store, name, Terms(due=START))
            await store.claim("held", owner="ann", hold=LONG)
            await store.claim("free", owner="ann")
            await store.claim("short", owner="ann", hold=SHORT)
            assert await store.due(START, limit=1) != ["held"]
            await asyncio.sleep(2 * SHORT)
            assert sorted(await store.due(START)) == ["free", "short"]
            await store.renew("ann", 0)
            assert sorted(await store.due(START)) == ["free", "held", "short"]

    async def test_every_append_says_anew_what_is_owed(self) -> None:
        async with self.store() as store:
            await begin(store, "session_a", Terms(due=START))
            hour = timedelta(hours=1)
            terms = Terms(due=START + hour)
            await store.append("session_a", said("session_a", 2, "2"), expected=1, epoch=1, terms=terms)
            assert await store.due(START) == []
            assert await store.due(START + hour) == ["session_a"]
            terms = Terms(owner="ann", hold=LONG, due=START)
            await store.append("session_a", said("session_a", 3, "3"), expected=2, epoch=1, terms=terms)
            assert await store.due(START + hour) == []
            await store.append("session_a", said("session_a", 4, "4"), expected=3, epoch=1)
            assert await store.due(START + hour) == []

    async def test_who_waits_is_woken_by_a_write_of_anybody(self) -> None:
        async with self.store() as one, self.store() as other:
            await begin(one, "session_a")
            for n, writer in enumerate((other, one, other), 2):
                waiting = asyncio.ensure_future(written(one, n))
                await asyncio.sleep(SHORT)
                await writer.append("session_a", said("session_a", n, f"{n}"), expected=n - 1, epoch=1)
                await waiting

    async def test_a_write_between_looking_and_waiting_is_not_slept_through(self) -> None:
        async with self.store() as one, self.store() as other:
            seen = await one.woken(0)
            for n, writer in enumerate((other, one, other)):
                assert len(await one.read("session_a")) == n
                await writer.append("session_a", said("session_a", n + 1, f"{n}"), expected=n, epoch=1)
                async with asyncio.timeout(PATIENCE):
                    seen = await one.woken(10 * PATIENCE, seen)

    async def test_who_was_busy_while_another_was_woken_is_woken_by_the_same_write(self) -> None:
        async with self.store() as one, self.store() as other:
            for n, writer in enumerate((other, one)):
                busy = await one.woken(0)
                waiting = asyncio.ensure_future(written(one, n + 1))
                await asyncio.sleep(SHORT)
                await writer.append("session_a", said("session_a", n + 1, f"{n}"), expected=n, epoch=1)
                await waiting
                async with asyncio.timeout(PATIENCE):
                    await one.woken(10 * PATIENCE, busy)

    async def test_everybody_who_waits_is_woken(self) -> None:
        async with self.store() as one, self.store() as other:
            waiting = [asyncio.ensure_future(written(one, 1)) for _ in range(5)]
            await asyncio.sleep(SHORT)
            await begin(other, "session_a")
            await asyncio.gather(*waiting)

    async def test_waiting_ends_with_its_time_and_is_not_a_busy_loop(self) -> None:
        async with self.store() as store:
            await begin(store, "session_a")
            async with asyncio.timeout(PATIENCE):
                for seconds in (0, -1, SHORT):
                    await store.woken(seconds)
            times, seen = 0, await store.woken(0)
            try:
                async with asyncio.timeout(5 * SHORT):
                    while times < 100:
                        seen = await store.woken(LONG, seen)
                        times += 1
            except TimeoutError:
                pass
            assert times < 20

    async def test_closing_ends_waiting(self) -> None:
        async with self.store() as store:
            waiting = asyncio.ensure_future(store.woken(LONG))
            await asyncio.sleep(SHORT)
            await store.close()
            async with asyncio.timeout(PATIENCE):
                await waiting

    async def test_those_who_hold_a_session_are_known_as_long_as_they_do(self) -> None:
        async with self.store() as one, self.store() as other:
            held = [("ann", LONG), ("ann", LONG), ("bob", LONG), ("eve", SHORT), ("", LONG), ("joe", 0.0)]
            for number, (owner, hold) in enumerate(held):
                await begin(one, f"session_{number}")
                await one.claim(f"session_{number}", owner=owner, hold=hold)
            await begin(one, "session_z", Terms(owner="zoe", hold=LONG, due=START))
            await asyncio.sleep(2 * SHORT)
            assert sorted(await other.owners()) == ["ann", "bob", "zoe"]
            await other.renew("ann", 0.0)
            await one.append("session_z", said("session_z", 2, "2"), expected=1, epoch=1)
            assert await one.owners() == ["bob"]

    async def test_a_snapshot_takes_the_place_of_one_that_is_not_newer(self) -> None:
        """Also of one at the same event: that is how one that cannot be used is replaced."""
        async with self.store() as store:
            assert await store.load_snapshot("session_a") is None
            await begin(store, "session_a")
            await begin(store, "session_b")
            assert await store.load_snapshot("session_a") is None
            first, useless = (
                Snapshot(sequence=100, version=9, body=b""),
                Snapshot(sequence=200, version=8, body=b"?"),
            )
            second = Snapshot(sequence=200, version=7, body=b"\x00\xff" * 1_000_000)
            for snapshot in (first, useless, second):
                await store.save_snapshot("session_a", snapshot)
                assert await store.load_snapshot("session_a") == snapshot
            await store.save_snapshot("session_a", Snapshot(sequence=199, version=9, body=b"late"))
            assert await store.load_snapshot("session_a") == second
            assert await store.load_snapshot("session_b") is None
        async with self.store() as store:
            assert await store.load_snapshot("session_a") == second

    async def test_a_snapshot_of_a_session_that_does_not_exist_is_passed_over(self) -> None:
        async with self.store() as store:
            for name in ("session_a", "", "\udc80", "a\x00b"):
                await store.save_snapshot(name, Snapshot(sequence=1, version=1, body=b"x"))
                assert await store.load_snapshot(name) is None
            await begin(store, "session_a")
            assert await store.load_snapshot("session_a") is None


async def begin(store: Store, session_id: str, terms: Terms = FREE) -> None:
    """A session with one event."""
    await store.append(session_id, said(session_id, 1, "one"), expected=0, epoch=1, terms=terms)


async def claim_refused(store: Store, session_id: str, *, owner: str, hold: float = LONG) -> SessionHeld:
    """The error that this claim must end in."""
    try:
        epoch = await store.claim(session_id, owner=owner, hold=hold)
    except SessionHeld as error:
        return error
    raise AssertionError(f"{owner!r} got epoch {epoch} of {session_id}, which somebody holds")


async def taken_over(store: Store, session_id: str, *, owner: str, hold: float = LONG) -> int:
    """The epoch that this owner gets as soon as nobody holds the session."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await store.claim(session_id, owner=owner, hold=hold)
            except SessionHeld as error:
                await asyncio.sleep(min(error.seconds, SHORT))


async def written(store: Store, events: int) -> None:
    """Look and wait in turns until `session_a` has so many events; be woken, rather than wait it out."""
    async with asyncio.timeout(PATIENCE):
        seen = await store.woken(0)
        while len(await store.read("session_a")) < events:
            seen = await store.woken(10 * PATIENCE, seen)
