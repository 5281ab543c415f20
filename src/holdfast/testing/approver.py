"""A person who answers asks as a script says.

clerk = ScriptedApprover(approve("refund", cents=500), deny("refund", reason="too much"), ignore("wipe"))
await clerk.answer(session)     # every ask that is open now
clerk.verify()                  # every answer was of use
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec import Struct

from holdfast.errors import UnknownAsk
from holdfast.events import AskOpened
from holdfast.session import Session


class Answer(Struct, frozen=True, kw_only=True):
    """What is said to an ask about this tool (any, when empty) whose arguments are these (and others perhaps)."""

    verdict: Literal["approved", "denied", "ignored"]
    tool: str = ""
    arguments: dict[str, Any] = {}
    reason: str = ""

    def fits(self, ask: AskOpened) -> bool:
        """Whether this is the answer to that ask."""
        if self.tool not in ("", ask.tool):
            return False
        if not self.arguments:
            return True
        given = msgspec.json.decode(ask.arguments)
        return all(name in given and given[name] == value for name, value in self.arguments.items())


def approve(tool: str = "", /, *, reason: str = "", **arguments: Any) -> Answer:
    """Let it run."""
    return Answer(verdict="approved", tool=tool, arguments=arguments, reason=reason)


def deny(tool: str = "", /, *, reason: str = "", **arguments: Any) -> Answer:
    """Refuse it; the model reads the reason."""
    return Answer(verdict="denied", tool=tool, arguments=arguments, reason=reason)


def ignore(tool: str = "", /, **arguments: Any) -> Answer:
    """Never say anything, so that the ask stays open or expires."""
    return Answer(verdict="ignored", tool=tool, arguments=arguments)


class ScriptedApprover:
    """Answers asks: the first of its answers that fits is given, as often as it is asked for.

    An ask that no answer fits fails the test, and so does, in `verify`, an answer that was never given. `by` is who
    it says it is.
    """

    def __init__(self, *answers: Answer, by: str = "the scripted approver") -> None:
        self._answers = answers
        self._by = by
        self._given: set[int] = set()
        self._choose: Callable[[AskOpened], Answer] = self._first

    @classmethod
    def rule(
        cls, choose: Callable[[AskOpened], Answer], *, by: str = "the scripted approver"
    ) -> ScriptedApprover:
        """Whatever this function says of the ask."""
        approver = cls(by=by)
        approver._choose = choose
        return approver

    async def answer(self, session: Session) -> int:
        """Answer what the session asks now; how many answers were recorded. Raises `StoreError`."""
        return sum([await self._answer(session, ask) for ask in tuple(session.state.asks.values())])

    async def _answer(self, session: Session, ask: AskOpened) -> bool:
        chosen = self._choose(ask)
        if chosen.verdict == "ignored":
            return False
        say = session.approve if chosen.verdict == "approved" else session.deny
        try:
            await say(ask.ask_id, by=self._by, reason=chosen.reason)
        except UnknownAsk:  # it expired, or the turn ended, meanwhile
            return False
        return True

    def _first(self, ask: AskOpened) -> Answer:
        for place, candidate in enumerate(self._answers):
            if candidate.fits(ask):
                self._given.add(place)
                return candidate
        raise AssertionError(
            f"the scripted approver has no answer to {ask.tool}({ask.arguments}) ({ask.reason}); add one to its script"
        )

    def verify(self) -> None:
        """Raise `AssertionError` when an answer was never given."""
        left = [answer for place, answer in enumerate(self._answers) if place not in self._given]
        if left:
            listed = ", ".join(
                f"{it.verdict} {it.tool or 'anything'} {it.arguments or ''}".strip() for it in left
            )
            raise AssertionError(f"the scripted approver was never asked about: {listed}")
