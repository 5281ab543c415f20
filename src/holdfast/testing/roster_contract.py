"""What every store that keeps a roster promises about it: a part of `StoreContract`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from unittest import SkipTest

from holdfast.errors import UsageError
from holdfast.store import Listing, Rostering, Store
from holdfast.testing.account_contract import AccountContract
from holdfast.testing.said import refused

AT = datetime(2026, 2, 28, 23, 59, 59, 123_456, tzinfo=UTC)


class RosterContract(AccountContract):
    """Which agents and harnesses are out of use. Skipped for a store that is no `Rostering`."""

    async def test_a_listing_takes_the_place_of_the_one_before_and_is_kept(self) -> None:
        async with self.store() as store:
            roster = rostering(store)
            assert await roster.roster() == []
            archived = listing("archived", by="ann", reason="moved\n☂")
            assert await roster.enlist(archived)
            assert await roster.enlist(listing("archived", kind="harness"))
            assert await roster.roster() == [archived, listing("archived", kind="harness")]
        async with self.store() as store:
            roster = rostering(store)
            assert await roster.roster() == [archived, listing("archived", kind="harness")]
            assert await roster.enlist(listing("active"))
            assert [it.status for it in await roster.roster()] == ["active", "archived"]

    async def test_what_is_deleted_stays_so(self) -> None:
        async with self.store() as store:
            roster = rostering(store)
            assert await roster.enlist(listing("deleted", by="ann"))
            for status in ("active", "archived", "deleted"):
                assert not await roster.enlist(listing(status, by="bob"))
            assert await roster.roster() == [listing("deleted", by="ann")]

    async def test_of_many_who_delete_at_once_one_did(self) -> None:
        async with self.store() as store:
            roster = rostering(store)
            done = await asyncio.gather(*[roster.enlist(listing("deleted", by=str(n))) for n in range(8)])
            assert done.count(True) == 1
            (kept,) = await roster.roster()
            assert done[int(kept.by)]

    async def test_text_that_no_row_can_hold_is_refused_and_nothing_is_kept(self) -> None:
        async with self.store() as store:
            roster = rostering(store)
            for wrong in ("a\x00b", "\udc80", "x" * 1_001):
                for field in ("name", "by", "reason"):
                    with refused(UsageError):
                        await roster.enlist(listing("archived", **{field: wrong}))
            with refused(UsageError):
                await roster.enlist(listing("archived", name=""))
            assert await roster.roster() == []


def rostering(store: Store) -> Rostering:
    """The store, which must keep a roster; else the test is skipped."""
    if not isinstance(store, Rostering):
        raise SkipTest(f"{type(store).__name__} keeps no roster")
    return store


def listing(status: Any, **fields: Any) -> Listing:
    """What became of the agent `greeter`."""
    return Listing(**{"kind": "agent", "name": "greeter", "status": status, "at": AT, **fields})
