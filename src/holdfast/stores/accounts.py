"""Accounts: what entries make of them, the same in every store that counts here; and accounts in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

from holdfast.errors import AccountExceeded
from holdfast.facts.budgets import EXACT, NOTHING, exact_sum
from holdfast.store import Account, Entry
from holdfast.stores.accept import exceeded


class Page:
    """One account: what is used, what was added to its ceilings, and what each key has set aside."""

    __slots__ = ("held", "raised", "used")

    def __init__(self, used: Decimal = NOTHING, raised: Decimal = NOTHING) -> None:
        self.used = used
        self.raised = raised
        self.held: dict[str, Decimal] = {}

    def copy(self) -> Page:
        """Another page like it."""
        page = Page(self.used, self.raised)
        page.held = dict(self.held)
        return page

    @property
    def reserved(self) -> Decimal:
        """All that is set aside."""
        return exact_sum(self.held.values())

    def enter(self, entry: Entry) -> None:
        """Make this entry. Raises `AccountExceeded` when it does not fit."""
        if entry.kind == "settle":
            if self.held.pop(entry.key, None) is not None:
                self.used = EXACT.add(self.used, entry.amount)
            return
        if entry.kind == "reserve" and entry.key in self.held:
            return
        if refused := exceeded(entry, EXACT.add(self.used, self.reserved), self.raised):
            raise refused
        if entry.kind == "reserve":
            self.held[entry.key] = entry.amount
        else:
            self.used = EXACT.add(self.used, entry.amount)

    def as_account(self, name: str, *, keys: str | None = "") -> Account:
        """As it is shown, with the keys that begin so; None: without."""
        shown = () if keys is None else tuple(sorted(it for it in self.held if it.startswith(keys)))
        return Account(name=name, used=self.used, reserved=self.reserved, raised=self.raised, keys=shown)


def after(entries: Sequence[Entry], find: Callable[[str], Page]) -> dict[str, Page]:
    """The pages of these accounts after these entries, one after another. Raises `AccountExceeded`."""
    pages: dict[str, Page] = {}
    for entry in entries:
        if entry.account not in pages:
            pages[entry.account] = find(entry.account).copy()
        pages[entry.account].enter(entry)
    return pages


class Accounts:
    """Accounts by name, in memory."""

    def __init__(self) -> None:
        self._pages: dict[str, Page] = {}

    def enter(self, entries: Sequence[Entry]) -> AccountExceeded | None:
        """Make these entries, or say why none of them is made."""
        try:
            self._pages.update(after(entries, lambda name: self._pages.get(name, _BLANK)))
        except AccountExceeded as refused:
            return refused
        return None

    def account(self, name: str) -> Account:
        """See `Accounting.account`."""
        return self._pages.get(name, _BLANK).as_account(name)

    def accounts(self, prefix: str, limit: int) -> list[Account]:
        """See `Accounting.accounts`."""
        names = sorted(name for name in self._pages if name.startswith(prefix))
        return [self._pages[name].as_account(name, keys=None) for name in names[:limit]]

    def holding(self, prefix: str, after: str, limit: int) -> list[Account]:
        """See `Accounting.holding`."""
        held = {name: page for name, page in self._pages.items() if page.held and name > after}
        names = sorted(name for name, page in held.items() if any(it.startswith(prefix) for it in page.held))
        return [held[name].as_account(name, keys=prefix) for name in names[:limit]]

    def raise_account(self, name: str, amount: Decimal) -> Account:
        """See `Accounting.raise_account`."""
        page = self._pages.setdefault(name, Page())
        page.raised = EXACT.add(page.raised, amount)
        return page.as_account(name)


_BLANK = Page()
