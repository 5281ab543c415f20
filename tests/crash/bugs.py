"""Bugs to plant in a fork server, which must be found: what cannot fail proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from holdfast.events import Fact, ToolStarted
from holdfast.ids import new_id
from holdfast.journal import Journal
from holdfast.state import State
from holdfast.turn import decide, tell


def claim_not_flushed() -> None:
    """Tools run although their claim is not durable yet."""
    stage, flush = Journal.stage, Journal.flush

    def staged(self: Journal, *facts: Fact, **options: Any) -> None:
        stage(self, *facts, **options)
        self.claiming = bool(facts) and all(isinstance(fact, ToolStarted) for fact in facts)  # type: ignore[attr-defined]

    async def flushed(self: Journal) -> None:
        if not getattr(self, "claiming", False):
            await flush(self)

    Journal.stage = staged  # type: ignore[method-assign]
    Journal.flush = flushed  # type: ignore[method-assign]


def run_again() -> None:
    """A call that was cut off runs again, whatever its effect."""
    how = decide.how

    def careless(*given: Any) -> Any:
        needed = how(*given)
        return "run" if needed == "doubt" else needed

    decide.how = careless


def keys_forgotten() -> None:
    """An input that is sent again with its key is another input."""
    State.keys = property(lambda self: {}, lambda self, keys: None)  # type: ignore[assignment]
    tell.new_turn = lambda *_: new_id("turn")


def always_in_doubt() -> None:
    """Whatever was cut off is in doubt, although it could be run again or asked about."""
    how = decide.how

    def timid(call: Any, *given: Any) -> Any:
        needed = how(call, *given)
        return "doubt" if call.dispatched and needed in ("run", "reconcile") else needed

    decide.how = timid


BUGS: dict[str, Callable[[], None]] = {
    "claim not flushed": claim_not_flushed,
    "run again": run_again,
    "keys forgotten": keys_forgotten,
    "always in doubt": always_in_doubt,
}
"""What each does, by name."""
