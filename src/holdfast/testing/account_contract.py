"""What every store that keeps accounts promises about them: a part of `StoreContract`."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from unittest import SkipTest

from holdfast.errors import AccountExceeded, SequenceConflict, StaleEpoch, UsageError
from holdfast.store import Account, Accounting, Entry, Store, Terms
from holdfast.testing.lease_contract import begin
from holdfast.testing.letter_contract import LetterContract
from holdfast.testing.said import refused, said, texts

TINY = Decimal("0.000000000000000000001")


class AccountContract(LetterContract):
    """What many sessions share and use up. Skipped for a store that is no `Accounting`."""

    async def test_an_account_that_nothing_was_entered_on_stands_at_nothing(self) -> None:
        async with self.store() as store:
            books = accounting(store)
            assert await books.account("nobody") == Account(name="nobody")
            assert await books.accounts() == []
            for wrong in ("", "a\x00b", "\udc80", "x" * 1_001):
                with refused(UsageError):
                    await books.account(wrong)

    async def test_what_is_reserved_is_settled_with_what_was_used_and_once(self) -> None:
        async with self.store() as store:
            books = accounting(store)
            await begin(store, "session_a")
            await enter(store, 2, reserve("one", "5", ceiling="10"), reserve("two", "2.5", ceiling="10"))
            assert await books.account("ann") == standing(reserved="7.5", keys=("one", "two"))
            await enter(store, 3, reserve("one", "9", ceiling="10"))
            assert await books.account("ann") == standing(reserved="7.5", keys=("one", "two"))
            await enter(store, 4, settle("one", "1.25"))
            await enter(store, 5, settle("one", "4"), settle("nobody", "4"))
            assert await books.account("ann") == standing(used="1.25", reserved="2.5", keys=("two",))
            assert await books.accounts("a") == [standing(used="1.25", reserved="2.5")]

    async def test_an_append_that_would_go_beyond_a_ceiling_writes_nothing_at_all(self) -> None:
        async with self.store() as store:
            books = accounting(store)
            await begin(store, "session_a")
            await enter(store, 2, reserve("one", "6", ceiling="10"))
            beyond = enter(store, 3, settle("one", "6"), reserve("two", "4.5", ceiling="10"))
            (said_so,) = await asyncio.gather(beyond, return_exceptions=True)
            assert isinstance(said_so, AccountExceeded)
            assert (said_so.account, said_so.limit, said_so.used, said_so.asked) == (
                "ann",
                Decimal(10),
                Decimal(6),
                Decimal("4.5"),
            )
            assert await books.account("ann") == standing(reserved="6", keys=("one",))
            assert await texts(store, "session_a") == ["one", "2"]
            await enter(store, 3, reserve("two", "4", ceiling="10"))
            with refused(AccountExceeded):
                await enter(store, 4, reserve("three", "0", ceiling="10"))
            await enter(store, 4, reserve("three", "0", ceiling="10.1"))

    async def test_what_is_settled_is_never_refused(self) -> None:
        async with self.store() as store:
            await begin(store, "session_a")
            await enter(store, 2, reserve("one", "6", ceiling="10"))
            await enter(store, 3, settle("one", "60"))
            assert await accounting(store).account("ann") == standing(used="60")

    async def test_an_append_that_is_refused_for_its_place_enters_nothing(self) -> None:
        async with self.store() as store:
            await begin(store, "session_a")
            await store.claim("session_a")
            terms = Terms(entries=(spend("4"), reserve("one", "2")))
            for expected, epoch, why in ((1, 1, StaleEpoch), (4, 2, SequenceConflict), (0, 1, StaleEpoch)):
                events = said("session_a", expected + 1, "no")
                with refused(why):
                    await store.append("session_a", events, expected=expected, epoch=epoch, terms=terms)
            assert await accounting(store).account("ann") == standing()

    async def test_sums_are_exact_however_small_and_however_large(self) -> None:
        async with self.store() as store:
            await begin(store, "session_a")
            large = Decimal("1000000000000")
            await enter(store, 2, Entry(kind="spend", account="ann", amount=large))
            for n in range(3, 6):
                await enter(store, n, Entry(kind="spend", account="ann", amount=TINY))
            found = await accounting(store).account("ann")
            assert f"{found.used:f}" == "1000000000000.000000000000000000003"

    async def test_amounts_that_are_none_are_refused_before_anything_is_accepted(self) -> None:
        async with self.store() as store:
            await begin(store, "session_a")
            for wrong in (
                spend("-1"),
                spend("NaN"),
                spend("Infinity"),
                reserve("", "1"),
                reserve("a", "1", ceiling="NaN"),
            ):
                with refused(UsageError):
                    await enter(store, 2, wrong)
            assert await texts(store, "session_a") == ["one"]

    async def test_entries_by_themselves_are_made_all_or_none_and_may_be_made_twice(self) -> None:
        async with self.store() as store:
            books = accounting(store)
            for _ in range(2):
                await books.enter([reserve("one", "6", ceiling="10"), reserve("two", "1", ceiling="10")])
            assert await books.account("ann") == standing(reserved="7", keys=("one", "two"))
            with refused(AccountExceeded):
                await books.enter([settle("two", "1"), reserve("three", "4", ceiling="10")])
            assert (await books.account("ann")).keys == ("one", "two")
            for _ in range(2):
                await books.enter([settle("one", "2"), reserve("three", "4", ceiling="10")])
            assert await books.account("ann") == standing(used="2", reserved="5", keys=("three", "two"))
            with refused(UsageError):
                await books.enter([spend("1")])

    async def test_a_raised_account_lets_more_through(self) -> None:
        async with self.store() as store:
            books = accounting(store)
            await begin(store, "session_a")
            with refused(AccountExceeded):
                await enter(store, 2, reserve("one", "6", ceiling="5"))
            assert await books.raise_account("ann", Decimal("1.5")) == standing(raised="1.5")
            await enter(store, 2, reserve("one", "6", ceiling="5"))
            assert (await books.raise_account("ann", Decimal(-1))).raised == Decimal("0.5")

    async def test_what_is_settled_and_set_aside_anew_at_once_is_what_is_set_aside(self) -> None:
        async with self.store() as store:
            books = accounting(store)
            await begin(store, "session_a")
            await enter(store, 2, reserve("one", "5"))
            await enter(store, 3, settle("one", "4"), reserve("one", "0.5"))
            assert await books.account("ann") == standing(used="4", reserved="0.5", keys=("one",))
            await books.enter([settle("one", "0"), reserve("one", "2")])
            assert await books.account("ann") == standing(used="4", reserved="2", keys=("one",))

    async def test_accounts_are_found_by_the_beginning_of_their_names_whatever_is_in_them(self) -> None:
        names = ["a\\b", "a\\\\b", "a%_b", "á b", "👩\u2028"]
        async with self.store() as store:
            books = accounting(store)
            await books.enter([reserve("wait\\1", "1", of=name) for name in names])
            for name in names:
                assert [it.name for it in await books.accounts(name)] == [name]
            assert [it.name for it in await books.accounts("a\\")] == ["a\\\\b", "a\\b"]
            first, *others = await books.holding("wait\\")
            assert [first.name, *[it.name for it in others]] == sorted(names)
            assert await books.holding("wait\\", after=first.name) == others
            for nobody in ("\udc80", "a\x00"):
                assert await books.accounts(nobody) == await books.holding(nobody) == []

    async def test_an_amount_that_is_none_raises_nothing(self) -> None:
        async with self.store() as store:
            books = accounting(store)
            for amount in ("NaN", "Infinity", "-Infinity", "sNaN"):
                with refused(UsageError):
                    await books.raise_account("ann", Decimal(amount))
            assert await books.account("ann") == standing()

    async def test_accounts_with_something_set_aside_are_found_by_the_beginning_of_its_key(self) -> None:
        async with self.store() as store:
            books = accounting(store)
            assert await books.holding("wait:") == []
            for name in ("ann", "bob", "cyd"):
                await books.enter([reserve("wait:1", "0", of=name), reserve("waits", "3", of=name)])
            await books.enter([reserve("wait:2", "1", of="bob"), reserve("turn", "1", of="dan")])
            await books.raise_account("bob", Decimal(2))
            ann, bob, cyd = await books.holding("wait:")
            assert ann == Account(name="ann", reserved=Decimal(3), keys=("wait:1",))
            assert bob == Account(
                name="bob", reserved=Decimal(4), raised=Decimal(2), keys=("wait:1", "wait:2")
            )
            assert await books.holding("wait:", limit=2) == [ann, bob]
            assert await books.holding("wait:", after="bob") == [cyd]
            assert await books.holding("wait:", limit=0) == await books.holding("wait:", after="cyd") == []
            await books.enter([settle("wait:1", "0")])
            assert [it.name for it in await books.holding("wait:")] == ["bob", "cyd"]

    async def test_of_sessions_that_reserve_at_once_only_as_many_as_fit_go_on(self) -> None:
        async with self.store() as one, self.store() as other:
            names = [f"session_{n}" for n in range(12)]
            for name in names:
                await begin(one, name)
            under_way = [
                store.append(
                    name,
                    said(name, 2, "x"),
                    expected=1,
                    epoch=1,
                    terms=Terms(entries=(reserve(name, "3", ceiling="10"),)),
                )
                for name, store in zip(names, [one, other] * 6, strict=True)
            ]
            results = await asyncio.gather(*under_way, return_exceptions=True)
            assert [type(it) for it in results if it is not None] == [AccountExceeded] * 9
            found = await accounting(other).account("ann")
            assert (found.reserved, len(found.keys)) == (Decimal(9), 3)
            written = {name for name in names if await texts(one, name) == ["one", "x"]}
            assert written == set(found.keys)


def accounting(store: Store) -> Accounting:
    """The store, if it keeps accounts."""
    if not isinstance(store, Accounting):
        raise SkipTest("this store keeps no accounts")
    return store


def reserve(key: str, amount: str, *, ceiling: str | None = None, of: str = "ann") -> Entry:
    """Set this aside on Ann's account, or on another."""
    most = None if ceiling is None else Decimal(ceiling)
    return Entry(kind="reserve", account=of, key=key, amount=Decimal(amount), ceiling=most)


def settle(key: str, amount: str) -> Entry:
    """What was used of it."""
    return Entry(kind="settle", account="ann", key=key, amount=Decimal(amount))


def spend(amount: str) -> Entry:
    """Use this up at once."""
    return Entry(kind="spend", account="ann", amount=Decimal(amount))


def standing(
    *, used: str = "0", reserved: str = "0", raised: str = "0", keys: tuple[str, ...] = ()
) -> Account:
    """Ann's account."""
    return Account(
        name="ann", used=Decimal(used), reserved=Decimal(reserved), raised=Decimal(raised), keys=keys
    )


async def enter(store: Store, sequence: int, *entries: Entry) -> None:
    """Append one event to session A with these entries."""
    accounting(store)
    events = said("session_a", sequence, str(sequence))
    await store.append("session_a", events, expected=sequence - 1, epoch=1, terms=Terms(entries=entries))
