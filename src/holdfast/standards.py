"""Standards: what a runtime holds every turn to, beside its store: what it may depend on, and what it runs under."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Literal

from holdfast.agent import Agent, Harness
from holdfast.drift import Drift, check_choice
from holdfast.drift import OnDrift as OnDrift
from holdfast.errors import UsageError
from holdfast.journal import Journal
from holdfast.proof.documents import DOCUMENTS, Documents
from holdfast.resolve import Names
from holdfast.roster import DEPENDENCIES as DEPENDENCIES
from holdfast.roster import Dependencies, Roster
from holdfast.store import Listing, Store

Status = Literal["active", "archived", "deleted"]


class Standards:
    """The roster of a store, the documents of its manifests, and what happens to a turn that has drifted."""

    def __init__(
        self, store: Store, now: Callable[[], datetime], names: Names, documents: Documents, on_drift: OnDrift
    ) -> None:
        self._now = now
        self._names = names
        self._documents = documents
        self._on_drift = check_choice(on_drift)
        self.roster = Roster(store, now)

    def lend(self, journal: Journal, layers: Iterable[str]) -> dict[Any, Any]:
        """What a session of layers with these names is lent, so that its turns can be held to them."""
        state = journal.state
        own = [f"harness {state.harness}"] if state.harness else []
        own += [f"agent {state.agent}"] if state.agent else []
        names = [it for it in layers if it.startswith(("agent ", "harness "))]
        return {DOCUMENTS: self._documents, DEPENDENCIES: Dependencies(self.roster, [*names, *own])}

    def drift(self, journal: Journal, on_drift: OnDrift | None) -> Drift:
        """What becomes of this session's turns whose manifest has changed."""
        found = Drift(journal, journal.scope[DEPENDENCIES], self._documents, self._names, self._on_drift)
        found.always(on_drift)
        return found

    async def enlist(self, it: Agent | Harness, status: Status, by: str, reason: str) -> None:
        """See `Runtime.archive` and `Runtime.restore`."""
        if not isinstance(it, Agent | Harness):
            raise UsageError(
                f"{it!r} is no Agent and no Harness; give one with the name that is meant: Agent(name=...)"
            )
        kind: Literal["agent", "harness"] = "agent" if isinstance(it, Agent) else "harness"
        if it.name == kind:
            raise UsageError(
                f"every {kind} without a name of its own goes by {it.name!r}, so none of them can be put out of use "
                f"alone; give this one a name: {kind.title()}(name=...)"
            )
        listing = Listing(
            kind=kind,
            name=it.name,
            status=status,
            at=self._now(),
            by=by,
            reason=reason,
        )
        await self.roster.enlist(listing)
