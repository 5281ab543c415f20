"""One Hypothesis state machine for the whole contract of a store: another store must do what the memory store does.

Every step is asked of both, and both must give the same answer: the same value, or the same error. The other store is
open twice, as in two processes, and each step goes through either of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from functools import partial
from operator import sub
from typing import Any, NamedTuple, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from holdfast.errors import HoldfastError, SessionHeld, StoreClosed
from holdfast.events import Event, UnknownFact
from holdfast.store import Entry, Snapshot, Store, Terms, accounting_of, digest_of
from holdfast.stores.memory import MemoryStore
from holdfast.testing.letter_contract import letter
from holdfast.testing.said import START, event, said

T = TypeVar("T")

Ask = Callable[[Store, int], Awaitable[object]]
"""What is asked of a store; the number is 0 for the reference and 1 for the other."""

HOUR = timedelta(hours=1)
TIMES = [START, START + HOUR, START - HOUR, (START + 2 * HOUR).astimezone(timezone(timedelta(hours=9)))]
FAR = datetime(9999, 12, 31, tzinfo=UTC)
HUGE = 2**70

FIRST = ["a", "s\x00\\0"]
"""Sessions that are there from the beginning; most steps are about them."""
LATER = ["b", "Ünï👩"]
NAMES = st.sampled_from([*FIRST * 4, *LATER])
OWNERS = st.sampled_from(["ann", "ann", "bob", ""])
HOLDS = st.sampled_from([0.0, 100.0, 100.0, 1_000.0])
"""No sum of the times that pass below comes near to one of these: a lease has ended for both stores or for none."""
PASSING = st.sampled_from([70.0, 400.0])
TEXTS = st.sampled_from(["hello", "", "a\x00b\u2028", "👩‍👩‍👧", "x" * 3_000])
DUES = st.sampled_from([*TIMES, None])
"""Mostly some time: whether somebody holds a session shows in whether it is due."""
MOSTLY_RIGHT = st.sampled_from([0] * 12 + [-1, 1, -HUGE, 70_000, HUGE])
"""Added to what would be right."""
LETTERS = st.lists(st.sampled_from([0, 0, 1, 1, 2, 3, -1, HUGE]), max_size=4)
"""Letters by how many were left after them; some were never there."""
PAGES = st.sampled_from([-1, 0, 1, 2, 3, 1_000, HUGE])
SNAPSHOTS = st.builds(
    Snapshot,
    sequence=st.integers(1, 3),
    version=st.integers(1, 3),
    body=st.sampled_from([b"", b"\x00\xff", b"folded" * 1_000]),
)
SIDE = st.booleans()
"""Through which of its two connections the other store is asked."""


def _account(name: str, store: Store, which: int) -> Awaitable[object]:
    return accounting_of(store).account(name)


class Try(NamedTuple):
    """An append: how far off it is, what it says, and when."""

    late: int
    stale: int
    words: list[str]
    at: datetime
    owner: str
    hold: float
    due: datetime | None
    taken: list[int]
    entries: list[Entry]


AMOUNTS = st.sampled_from([Decimal(0), Decimal("0.1"), Decimal(3), Decimal("3.0000000001")])
MORE = st.sampled_from([Decimal(2), Decimal("0.5"), Decimal(-1)])
CEILINGS = st.sampled_from([None, Decimal(1), Decimal(7), Decimal(1_000)])
ENTRIES = st.lists(
    st.builds(
        Entry,
        kind=st.sampled_from(["reserve", "reserve", "settle", "spend"]),
        account=st.sampled_from(["ann", "acme:Ünï"]),
        key=st.sampled_from(["one", "two", "👩"]),
        amount=AMOUNTS,
        ceiling=CEILINGS,
    ),
    max_size=3,
)
FEW_ENTRIES = st.one_of(st.just([]), st.just([]), ENTRIES)

TRIES = st.builds(
    Try,
    late=MOSTLY_RIGHT,
    stale=MOSTLY_RIGHT,
    words=st.lists(TEXTS, min_size=1, max_size=3),
    at=st.sampled_from(TIMES),
    owner=OWNERS,
    hold=HOLDS,
    due=DUES,
    taken=LETTERS,
    entries=FEW_ENTRIES,
)


class SideBySide(RuleBasedStateMachine):
    """Subclass it: override `another`, `pass_time` and, where there is something to clean up, `clean_up`."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.reference = MemoryStore()
        self.others: list[Store] = []
        self.numbers: list[tuple[int, int]] = []
        """Of every letter that was ever left, the older first: the one each store gave it."""
        self.side = False
        self.closed = 0

    def another(self) -> Store:
        """A store that is not open, in the one place that this machine has for it."""
        raise NotImplementedError

    async def pass_time(self, seconds: float) -> None:
        """Let the leases in the other store be so much older."""
        raise NotImplementedError

    async def clean_up(self) -> None:
        """Both are closed."""

    @initialize()
    def begin(self) -> None:
        self.others = [self.another(), self.another()]
        self.run(self.open())
        for name in FIRST:
            self.same(partial(begun, name, said(name, 1, "one", "two")))

    def teardown(self) -> None:
        try:
            if self.others:
                for name in (*FIRST, *LATER):
                    self.compare_content(name, False)
        finally:
            self.run(self.close())
            self.run(self.clean_up())
            self.runner.close()

    async def open(self) -> None:
        for store in (self.reference, *self.others):
            await store.open()

    async def close(self) -> None:
        for store in (self.reference, *self.others):
            await store.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def same(self, ask: Ask, side: bool = False) -> object:
        """Ask both. They must agree; what they say."""

        async def both() -> tuple[object, object]:
            return await said_by(ask, self.reference, 0), await said_by(ask, self.others[side], 1)

        expected, found = self.run(both())
        assert found == expected, f"{found!r}, and not {expected!r}"
        return found

    async def letters_to(self, name: str, store: Store, which: int) -> object:
        """The letters to a session, each by its place among all that were ever left."""
        places = {numbers[which]: place for place, numbers in enumerate(self.numbers)}
        return [(places[each.number], each.event) for each in await store.letters(name)]

    def numbers_of(self, later: Sequence[int], which: int) -> tuple[int, ...]:
        """What this store calls the letters that so many were left after."""
        left = self.numbers[::-1]
        return tuple(left[each][which] if 0 <= each < len(left) else each for each in later)

    @invariant()
    def both_look_the_same(self) -> None:
        """But for their events, which are compared where they change, and at the end."""
        if self.others:
            self.side = not self.side
            self.same(self.looks, self.side)

    async def looks(self, store: Store, which: int) -> list[object]:
        mail = [store.posted(owner) for owner in ("ann", "bob")]
        letters = [self.letters_to(name, store, which) for name in (*FIRST, *LATER)]
        work = [store.due(now) for now in (START, FAR)]
        heads, posted, left, due, owners = await asyncio.gather(
            store.sessions(),
            asyncio.gather(*mail),
            asyncio.gather(*letters),
            asyncio.gather(*work),
            store.owners(),
        )
        return [heads, [sorted(names) for names in posted], left, due, sorted(owners)]

    def compare_content(self, name: str, side: bool) -> None:
        self.same(lambda store, _: store.read(name), side)

    async def tried(self, name: str, tries: Sequence[Try]) -> list[Callable[[Store, int], Awaitable[None]]]:
        """What to ask for these appends to a session, each of which follows on from the one before."""
        head = await self.reference.head(name)
        end, epoch = (head.sequence, head.epoch) if head else (0, 1)
        asks = []
        for each in tries:
            expected = max(end + each.late, 0)
            end += 0 if each.late else len(each.words)
            asks.append(self._append(name, each, expected, max(epoch + each.stale, 0)))
        return asks

    def _append(
        self, name: str, each: Try, expected: int, epoch: int
    ) -> Callable[[Store, int], Awaitable[None]]:
        events = said(name, expected + 1, *each.words, at=each.at)

        def append(store: Store, which: int) -> Awaitable[None]:
            taken = self.numbers_of(each.taken, which)
            terms = Terms(
                owner=each.owner, hold=each.hold, due=each.due, taken=taken, entries=tuple(each.entries)
            )
            return store.append(name, events, expected=expected, epoch=epoch, terms=terms)

        return append

    @rule(name=NAMES, each=TRIES, side=SIDE)
    def append(self, name: str, each: Try, side: bool) -> None:
        (ask,) = self.run(self.tried(name, [each]))
        self.same(ask, side)
        self.compare_content(name, side)
        if each.entries:
            self.compare_accounts(not side)

    @rule(name=NAMES, tries=st.lists(TRIES, min_size=2, max_size=4), side=SIDE)
    def append_without_waiting(self, name: str, tries: list[Try], side: bool) -> None:
        asks = self.run(self.tried(name, tries))

        async def together(store: Store, which: int) -> object:
            under_way = [ask(store, which) for ask in asks]
            return [named(each) for each in await asyncio.gather(*under_way, return_exceptions=True)]

        self.same(together, side)
        self.compare_content(name, side)

    @rule(entries=ENTRIES, side=SIDE)
    def enter(self, entries: list[Entry], side: bool) -> None:
        self.same(lambda store, _: accounting_of(store).enter(entries), side)
        self.compare_accounts(not side)

    @rule(name=st.sampled_from(["ann", "acme:Ünï"]), amount=MORE, side=SIDE)
    def raise_account(self, name: str, amount: Decimal, side: bool) -> None:
        self.same(lambda store, _: accounting_of(store).raise_account(name, amount), side)
        self.compare_accounts(not side)

    def compare_accounts(self, side: bool) -> None:
        for name in ("ann", "acme:Ünï"):
            self.same(partial(_account, name), side)
        self.same(lambda store, _: accounting_of(store).accounts("a"), side)
        self.same(lambda store, _: accounting_of(store).holding(""), side)

    @rule(name=NAMES, after=PAGES, limit=PAGES, side=SIDE)
    def read(self, name: str, after: int, limit: int, side: bool) -> None:
        self.same(lambda store, _: store.read(name, after=after, limit=limit), side)
        self.same(lambda store, _: store.head(name), side)

    @rule(name=NAMES, owner=OWNERS, hold=HOLDS, side=SIDE)
    def claim(self, name: str, owner: str, hold: float, side: bool) -> None:
        self.same(lambda store, _: store.claim(name, owner=owner, hold=hold), side)

    @rule(owner=OWNERS, hold=HOLDS, side=SIDE)
    def renew(self, owner: str, hold: float, side: bool) -> None:
        self.same(lambda store, _: store.renew(owner, hold), side)

    @rule(seconds=PASSING)
    def let_time_pass(self, seconds: float) -> None:
        self.reference._ahead += seconds
        self.run(self.pass_time(seconds))

    @rule(now=st.sampled_from([*TIMES, FAR]), limit=PAGES, offset=PAGES, side=SIDE)
    def page_through(self, now: datetime, limit: int, offset: int, side: bool) -> None:
        self.same(lambda store, _: store.due(now, limit=limit), side)
        self.same(lambda store, _: store.sessions(limit=limit, offset=offset), side)

    @rule(name=NAMES, texts=st.lists(TEXTS, min_size=1, max_size=3), side=SIDE)
    def post(self, name: str, texts: list[str], side: bool) -> None:
        async def newest(store: Store) -> int:
            return (await store.letters(name))[-1].number

        for text in texts:
            if self.same(partial(posted, name, letter(name, text)), side) is None:
                numbers = (self.run(newest(self.reference)), self.run(newest(self.others[not side])))
                assert not self.numbers or min(map(sub, numbers, self.numbers[-1])) > 0
                self.numbers.append(numbers)

    @rule(name=NAMES, later=LETTERS, stale=MOSTLY_RIGHT, side=SIDE)
    def discard(self, name: str, later: list[int], stale: int, side: bool) -> None:
        head = self.run(self.reference.head(name))
        epoch = (head.epoch if head else 1) + stale
        self.same(lambda store, which: store.discard(name, self.numbers_of(later, which), epoch=epoch), side)

    @rule(name=NAMES, snapshots=st.lists(SNAPSHOTS, min_size=1, max_size=3), side=SIDE)
    def save_snapshots(self, name: str, snapshots: list[Snapshot], side: bool) -> None:
        for snapshot in snapshots:
            self.same(partial(kept, name, snapshot), side)
            self.same(lambda store, _: store.load_snapshot(name), not side)

    @rule(data=st.sampled_from([b"", b"\x00\xff", b"x" * 100_000]), put=st.booleans(), side=SIDE)
    def keep_a_blob(self, data: bytes, put: bool, side: bool) -> None:
        if put:
            self.same(lambda store, _: store.put_blob(data), side)
        self.same(lambda store, _: store.get_blob(digest_of(data)), not side)

    @precondition(lambda self: self.closed < 2)  # it takes longer than all the rest
    @rule(side=SIDE)
    def close_and_open_again(self, side: bool) -> None:
        self.closed += 1
        for ask in IMPOSSIBLE:
            assert isinstance(self.same(ask, side), Refusal)
        self.run(self.close())
        for ask in ASKS:
            error = self.same(ask, side)
            assert isinstance(error, Refusal)
            assert error.kind is StoreClosed
        self.run(self.open())


class Refusal(NamedTuple):
    """An error, as far as all stores must agree on it."""

    kind: type[BaseException]
    owner: str
    seconds: int


def named(outcome: object) -> object:
    """The value, or what all stores must agree on in an error."""
    if not isinstance(outcome, BaseException):
        return outcome
    if not isinstance(outcome, HoldfastError):
        raise outcome
    assert str(outcome)
    if isinstance(outcome, SessionHeld):
        return Refusal(type(outcome), outcome.owner, round(outcome.seconds / 30))
    return Refusal(type(outcome), "", 0)


async def said_by(ask: Ask, store: Store, which: int) -> object:
    """The answer of one store."""
    try:
        return await ask(store, which)
    except HoldfastError as error:
        return named(error)


async def begun(name: str, events: list[Event], store: Store, _: int) -> None:
    await store.append(name, events, expected=0, epoch=1, terms=Terms(due=START))


async def kept(name: str, snapshot: Snapshot, store: Store, _: int) -> None:
    await store.save_snapshot(name, snapshot)


async def posted(name: str, left: Event, store: Store, _: int) -> None:
    await store.post(name, left)


def one(name: str, sequence: int, at: datetime = START) -> list[Event]:
    return said(name, sequence, "no", at=at)


NAIVE = START.replace(tzinfo=None)
LONE = UnknownFact(data="\ud800")
NEW = "a new session"

ASKS: list[Ask] = [
    lambda store, _: store.append("a", one("a", 1), expected=0, epoch=1),
    lambda store, _: store.read("a"),
    lambda store, _: store.head("a"),
    lambda store, _: store.claim("a"),
    lambda store, _: store.renew("ann", 1),
    lambda store, _: store.due(START),
    lambda store, _: store.post("a", letter("a", "no")),
    lambda store, _: store.letters("a"),
    lambda store, _: store.posted("ann"),
    lambda store, _: store.owners(),
    lambda store, _: store.discard("a", [1], epoch=1),
    lambda store, _: store.save_snapshot("a", Snapshot(sequence=1, version=1, body=b"")),
    lambda store, _: store.load_snapshot("a"),
    lambda store, _: store.sessions(),
    lambda store, _: store.put_blob(b"no"),
    lambda store, _: store.get_blob(digest_of(b"")),
]
"""Everything a store can be asked."""

IMPOSSIBLE: list[Ask] = [
    lambda store, _: store.append(NEW, [], expected=0, epoch=1),
    lambda store, _: store.append(NEW, one(NEW, 2), expected=0, epoch=1),
    lambda store, _: store.append(NEW, one("a", 1), expected=0, epoch=1),
    lambda store, _: store.append(NEW, one(NEW, 1, NAIVE), expected=0, epoch=1),
    lambda store, _: store.append(NEW, one(NEW, 0), expected=-1, epoch=1),
    lambda store, _: store.append(NEW, [event(NEW, 1, LONE)], expected=0, epoch=1),
    lambda store, _: store.append(NEW, one(NEW, 1), expected=0, epoch=1, terms=Terms(hold=-1)),
    lambda store, _: store.append(NEW, one(NEW, 1), expected=0, epoch=1, terms=Terms(due=NAIVE)),
    lambda store, _: store.append("\udc80", one("\udc80", 1), expected=0, epoch=1),
    lambda store, _: store.claim("a", owner="ann", hold=-1),
    lambda store, _: store.claim("a", owner="\udc80", hold=1),
    lambda store, _: store.renew("ann", float("nan")),
    lambda store, _: store.due(NAIVE),
    lambda store, _: store.post("a", letter("b", "no")),
    lambda store, _: store.post("a", *one("a", 1)),
    lambda store, _: store.post("a", *one("a", 0, NAIVE)),
    lambda store, _: store.post("a", event("a", 0, LONE)),
    lambda store, _: store.post("nobody", letter("nobody", "no")),
    lambda store, _: store.discard("nobody", [1], epoch=1),
    lambda store, _: store.discard("\udc80", [1], epoch=1),
    lambda store, _: store.claim("nobody"),
    lambda store, _: store.claim("\udc80"),
    lambda store, _: store.get_blob("\udc80"),
]
"""What every store refuses, whatever is in it."""
