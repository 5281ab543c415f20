"""Drift: a turn that was begun under one manifest, where its layers make another one now.

That happens when a program is changed and started again while a turn is under way, and when two versions of it work on
one store. What the turn does then is the caller's choice: `continue`, `pin` or `refuse`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, get_args

from msgspec import Struct, structs

from holdfast.errors import CannotPin, ManifestDrifted, UsageError
from holdfast.facts.drift import Drifted as Drifted
from holdfast.facts.drift import OnDrift as OnDrift
from holdfast.journal import Journal
from holdfast.manifest import Manifest
from holdfast.proof.difference import Change, diff, in_short
from holdfast.proof.documents import Documents
from holdfast.proof.pinning import Names, pinned
from holdfast.roster import Dependencies


class DriftReport(Struct, frozen=True, kw_only=True):
    """What has changed since a turn was begun."""

    session_id: str
    turn_id: str
    before: str
    """The digest of the manifest that it ran under so far."""
    after: str
    """The digest of the manifest that its layers make now."""
    changes: tuple[Change, ...] = ()
    known: bool = True
    """Whether the document of `before` is in the store: without it, nobody can say what changed."""

    def __str__(self) -> str:
        what = "; ".join(map(str, self.changes)) or (
            "nothing" if self.known else "what, the store does not know"
        )
        return (
            f"turn {self.turn_id} was begun under {self.before}, and its layers make {self.after} now: {what}"
        )


class Drift:
    """What becomes of one session's turns whose manifest has changed."""

    def __init__(
        self,
        journal: Journal,
        dependencies: Dependencies,
        documents: Documents,
        names: Names,
        choice: OnDrift,
    ) -> None:
        self._dependencies = dependencies
        self._journal = journal
        self._documents = documents
        self._names = names
        self._choice = choice
        self._said: tuple[str, OnDrift, str] | None = None
        """The turn that somebody decided about, how, and who."""

    async def check_available(self) -> None:
        """Raise `AgentUnavailable` when what the session stands on is out of use."""
        await self._dependencies.check()

    async def under(self, today: Manifest) -> Manifest:
        """What whatever is owed now is done under. Raises `ManifestDrifted`."""
        await self._dependencies.roster.fresh()
        turn = self._journal.state.turn
        return today if turn is None or turn.manifest == today.digest else await self.settle(today)

    def always(self, choice: OnDrift | None) -> None:
        """From here on this becomes of every turn that has drifted."""
        self._choice = check_choice(choice) if choice is not None else self._choice

    def decide(self, choice: OnDrift, by: str) -> None:
        """Somebody says what becomes of the turn under way."""
        if (turn := self._journal.state.turn) is not None:
            self._said = turn.id, choice, by

    @property
    def choice(self) -> OnDrift:
        """What becomes of the turn under way, if its manifest has changed."""
        return self._decided()[0]

    def _decided(self) -> tuple[OnDrift, str]:
        turn = self._journal.state.turn
        if self._said is not None and turn is not None and self._said[0] == turn.id:
            return self._said[1:]
        return self._choice, ""

    async def check(self, today: Manifest) -> None:
        """Raise `ManifestDrifted` when the turn under way cannot go on here; before anything is claimed."""
        if self._differs(today) and self.choice != "continue":
            await self._judge(today)

    async def settle(self, today: Manifest) -> Manifest:
        """What the turn under way goes on under. Raises `ManifestDrifted`; the session is then free for others."""
        if not self._differs(today):
            return today
        try:
            report, manifest = await self._judge(today)
        except ManifestDrifted:
            await self._journal.give_back()
            raise
        choice, by = self._decided()
        if choice != "pin" or self._journal.running.drifted != report.after:  # else it was said before
            fact = Drifted(
                before=report.before,
                after=report.after,
                choice=choice,
                changes=in_short(report.changes),
                by=by,
                layers=today.written,
            )
            self._journal.stage(fact)
        return manifest

    def _differs(self, today: Manifest) -> bool:
        turn = self._journal.state.turn
        return turn is not None and turn.manifest != today.with_output(turn.contract).digest

    async def _judge(self, today: Manifest) -> tuple[DriftReport, Manifest]:
        """What changed, and what the turn goes on under. Raises `ManifestDrifted`."""
        turn, choice = self._journal.running, self.choice
        typed = today.with_output(turn.contract)
        await self._documents.keep(typed)
        body = await self._documents.get(turn.manifest)
        report = DriftReport(
            session_id=self._journal.state.session_id,
            turn_id=turn.id,
            before=turn.manifest,
            after=typed.digest,
            changes=tuple(diff(body, typed)) if body is not None else (),
            known=body is not None,
        )
        if choice == "refuse":
            raise ManifestDrifted(f"{report}. It stays owed; {_HOW}", report)
        return report, (today if choice == "continue" else self._pin(report, body, today))

    def _pin(self, report: DriftReport, body: bytes | None, today: Manifest) -> Manifest:
        """The manifest that the turn was begun under, made again. Raises `CannotPin`."""
        if body is None:
            raise CannotPin(f"{report}. So it cannot be pinned; {_HOW}", report)
        manifest, missing = pinned(body, today, self._names)
        if missing:
            what = "; ".join(map(str, missing))
            raise CannotPin(
                f"turn {report.turn_id} cannot go on under {report.before}, as this program cannot make it again: "
                f"{what}. It stays owed; {_HOW}",
                structs.replace(report, changes=tuple(missing)),
            )
        return manifest


class Resuming(Protocol):
    """What drives a session."""

    @property
    def journal(self) -> Journal: ...

    @property
    def drift(self) -> Drift | None: ...

    @property
    def manifest(self) -> Callable[[], Awaitable[Manifest]]: ...


async def may_resume(runner: Resuming, by: str, on_drift: OnDrift | None) -> None:
    """Take note of what somebody decided about the turn under way. Raises `ManifestDrifted` when it cannot go on here:
    nothing is claimed, and whoever can go on with it may."""
    if runner.drift is None:
        return
    if on_drift is not None and not by:
        raise UsageError("say who decides that the turn goes on although its manifest has changed: by=...")
    if on_drift is None and runner.drift.choice == "continue":
        return
    await runner.journal.refresh()
    if on_drift is not None:
        runner.drift.decide(check_choice(on_drift), by)
    if runner.journal.state.due() is not None:
        await runner.drift.check(await runner.manifest())


def check_choice(choice: OnDrift) -> OnDrift:
    """Raise `UsageError` for what is none."""
    if choice not in (known := get_args(OnDrift)):
        raise UsageError(f"on_drift is {choice!r}; it is one of {', '.join(known)}")
    return choice


_HOW = 'a program of the version that began it goes on with it, and so does session.resume(by=..., on_drift="continue")'
